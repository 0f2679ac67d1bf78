#include "textflag.h"
#include "elementwise_arm64.h"

// Kernels that go row by row of a panel: 16 lanes, 4 registers in float32 and 8 in float64. Most read and write more than they
// compute, so a loop is one row: pairs of registers are loaded and stored, and the pointer moves with the last of them.

// A row in float64.
#define WIDE0(p) \
	FLDPQ (p), (F0, F1);   \
	FLDPQ 32(p), (F2, F3); \
	FLDPQ 64(p), (F4, F5); \
	FLDPQ 96(p), (F6, F7)

#define WIDE16(p) \
	FLDPQ (p), (F16, F17);   \
	FLDPQ 32(p), (F18, F19); \
	FLDPQ 64(p), (F20, F21); \
	FLDPQ 96(p), (F22, F23)

#define WIDE24(p) \
	FLDPQ (p), (F24, F25);   \
	FLDPQ 32(p), (F26, F27); \
	FLDPQ 64(p), (F28, F29); \
	FLDPQ 96(p), (F30, F31)

#define STOREWIDE16(p) \
	FSTPQ (F16, F17), (p);   \
	FSTPQ (F18, F19), 32(p); \
	FSTPQ (F20, F21), 64(p); \
	FSTPQ (F22, F23), 96(p)

// V0-V3 into V8-V15.
#define WIDEN0TO8 \
	FCVTL(0, 8);   \
	FCVTL2(0, 9);  \
	FCVTL(1, 10);  \
	FCVTL2(1, 11); \
	FCVTL(2, 12);  \
	FCVTL2(2, 13); \
	FCVTL(3, 14);  \
	FCVTL2(3, 15)

// V0-V7 into V0-V3.
#define NARROW0 \
	FCVTN(0, 0);  \
	FCVTN2(1, 0); \
	FCVTN(2, 1);  \
	FCVTN2(3, 1); \
	FCVTN(4, 2);  \
	FCVTN2(5, 2); \
	FCVTN(6, 3);  \
	FCVTN2(7, 3)

// An operation on each of V16-V23 and one register, or others, and on V0-V7 and V16-V23.
#define ALONG16(OP, m) \
	OP(m, 16, 16); OP(m, 17, 17); OP(m, 18, 18); OP(m, 19, 19); \
	OP(m, 20, 20); OP(m, 21, 21); OP(m, 22, 22); OP(m, 23, 23)

#define EACH0(OP) \
	OP(16, 0, 0); OP(17, 1, 1); OP(18, 2, 2); OP(19, 3, 3); \
	OP(20, 4, 4); OP(21, 5, 5); OP(22, 6, 6); OP(23, 7, 7)

#define EACH16(OP) \
	OP(24, 16, 16); OP(25, 17, 17); OP(26, 18, 18); OP(27, 19, 19); \
	OP(28, 20, 20); OP(29, 21, 21); OP(30, 22, 22); OP(31, 23, 23)

// func normalizeNEON(x []float64, gain []float32, eps float64, y []float32, inverse []float64)
// The sums of squares are 8 chains, 8 loads for 8 products: half of what the multipliers could do, which the loads would not allow.
TEXT ·normalizeNEON(SB), NOSPLIT, $0-104
	MOVD   x_base+0(FP), R0
	MOVD   gain_base+24(FP), R1
	MOVD   gain_len+32(FP), R2
	FMOVD  eps+48(FP), F25
	MOVD   y_base+56(FP), R3
	MOVD   inverse_base+80(FP), R4
	SCVTFD R2, F24
	FMOVD  $1.0, F26
	VDUP   V24.D[0], V24.D2
	VDUP   V25.D[0], V25.D2
	VDUP   V26.D[0], V26.D2
	ZERO(V16, V17, V18, V19)
	ZERO(V20, V21, V22, V23)
	MOVD   R0, R5
	CBZ    R2, mean
	MOVD   R2, R6

square:
	WIDE0(R5)
	VFMLA V0.D2, V0.D2, V16.D2
	VFMLA V1.D2, V1.D2, V17.D2
	VFMLA V2.D2, V2.D2, V18.D2
	VFMLA V3.D2, V3.D2, V19.D2
	VFMLA V4.D2, V4.D2, V20.D2
	VFMLA V5.D2, V5.D2, V21.D2
	VFMLA V6.D2, V6.D2, V22.D2
	VFMLA V7.D2, V7.D2, V23.D2
	ADD   $128, R5
	SUBS  $1, R6
	BNE   square

mean:
	ALONG16(FDIV2, 24)
	ALONG16(FADD2, 25)
	FSQRT2(16, 16)
	FSQRT2(17, 17)
	FSQRT2(18, 18)
	FSQRT2(19, 19)
	FSQRT2(20, 20)
	FSQRT2(21, 21)
	FSQRT2(22, 22)
	FSQRT2(23, 23)
	FDIV2(16, 26, 16)
	FDIV2(17, 26, 17)
	FDIV2(18, 26, 18)
	FDIV2(19, 26, 19)
	FDIV2(20, 26, 20)
	FDIV2(21, 26, 21)
	FDIV2(22, 26, 22)
	FDIV2(23, 26, 23)
	STOREWIDE16(R4)
	CBZ R2, done

next:
	WIDE0(R0)
	VLD1R.P 4(R1), [V8.S4]
	EACH0(FMUL2)
	NARROW0
	EACH(FMUL4, 8, 8, 8, 8)
	STORE0(R3)
	ADD  $128, R0
	SUBS $1, R2
	BNE  next

done:
	RET

// Half a row of dx += dy gain s + x t, of which t1-t4 and s1-s4 are the registers.
#define GRADIENT(t1, t2, t3, t4, s1, s2, s3, s4) \
	FLDPQ.P 32(R0), (F0, F1);   \
	FLDPQ   32(R2), (F10, F11); \
	FLDPQ.P 64(R2), (F8, F9);   \
	FLDPQ   32(R3), (F14, F15); \
	FLDPQ   (R3), (F12, F13);   \
	FMUL4(2, 0, 0);             \
	FMUL4(2, 1, 1);             \
	FCVTL(0, 4);                \
	FCVTL2(0, 5);               \
	FCVTL(1, 6);                \
	FCVTL2(1, 7);               \
	VFMLA   t1, V8.D2, V12.D2;  \
	VFMLA   t2, V9.D2, V13.D2;  \
	VFMLA   t3, V10.D2, V14.D2; \
	VFMLA   t4, V11.D2, V15.D2; \
	VFMLA   s1, V4.D2, V12.D2;  \
	VFMLA   s2, V5.D2, V13.D2;  \
	VFMLA   s3, V6.D2, V14.D2;  \
	VFMLA   s4, V7.D2, V15.D2;  \
	FSTPQ   (F14, F15), 32(R3); \
	FSTPQ.P (F12, F13), 64(R3)

// func normalizeGradientNEON(dy, gain []float32, x, inverse, dx []float64, share float64)
TEXT ·normalizeGradientNEON(SB), NOSPLIT, $0-128
	MOVD dy_base+0(FP), R0
	MOVD gain_base+24(FP), R1
	MOVD gain_len+32(FP), R4
	MOVD x_base+48(FP), R2
	MOVD inverse_base+72(FP), R5
	CBZ  R4, done
	ZERO(V16, V17, V18, V19)
	ZERO(V20, V21, V22, V23)
	MOVD R0, R6
	MOVD R1, R7
	MOVD R2, R8
	MOVD R4, R9

along:
	VLD1R.P 4(R7), [V4.S4]
	NEXT0(R6)
	WIDE24(R8)
	EACH(FMUL4, 4, 4, 4, 4)
	WIDEN0TO8
	VFMLA V24.D2, V8.D2, V16.D2
	VFMLA V25.D2, V9.D2, V17.D2
	VFMLA V26.D2, V10.D2, V18.D2
	VFMLA V27.D2, V11.D2, V19.D2
	VFMLA V28.D2, V12.D2, V20.D2
	VFMLA V29.D2, V13.D2, V21.D2
	VFMLA V30.D2, V14.D2, V22.D2
	VFMLA V31.D2, V15.D2, V23.D2
	ADD   $128, R8
	SUBS  $1, R9
	BNE   along

	WIDE24(R5)
	EACH16(FMUL2)
	EACH16(FMUL2)
	EACH16(FMUL2)
	FMOVD share+120(FP), F0
	VDUP  V0.D[0], V0.D2
	ALONG16(FMUL2, 0)
	MOVD  dx_base+96(FP), R3

next: // two halves, since t, s and the whole row are more than there are registers
	VLD1R.P 4(R1), [V2.S4]
	GRADIENT(V16.D2, V17.D2, V18.D2, V19.D2, V24.D2, V25.D2, V26.D2, V27.D2)
	GRADIENT(V20.D2, V21.D2, V22.D2, V23.D2, V28.D2, V29.D2, V30.D2, V31.D2)
	SUBS $1, R4
	BNE  next

done:
	RET

// func addWideNEON(x []float64, y []float32)
TEXT ·addWideNEON(SB), NOSPLIT, $0-48
	MOVD x_base+0(FP), R0
	MOVD y_base+24(FP), R1
	MOVD y_len+32(FP), R2
	LSR  $4, R2
	CBZ  R2, done

next:
	NEXT0(R1)
	WIDE16(R0)
	WIDEN0TO8
	FADD2(8, 16, 16)
	FADD2(9, 17, 17)
	FADD2(10, 18, 18)
	FADD2(11, 19, 19)
	FADD2(12, 20, 20)
	FADD2(13, 21, 21)
	FADD2(14, 22, 22)
	FADD2(15, 23, 23)
	STOREWIDE16(R0)
	ADD  $128, R0
	SUBS $1, R2
	BNE  next

done:
	RET

// func narrowToNEON(y []float32, x []float64)
TEXT ·narrowToNEON(SB), NOSPLIT, $0-48
	MOVD y_base+0(FP), R0
	MOVD y_len+8(FP), R2
	MOVD x_base+24(FP), R1
	LSR  $4, R2
	CBZ  R2, done

next:
	WIDE0(R1)
	NARROW0
	STORE0(R0)
	ADD  $128, R1
	SUBS $1, R2
	BNE  next

done:
	RET

// func differenceNEON(a, b []float64, y []float32)
TEXT ·differenceNEON(SB), NOSPLIT, $0-72
	MOVD a_base+0(FP), R0
	MOVD b_base+24(FP), R1
	MOVD y_base+48(FP), R2
	MOVD y_len+56(FP), R3
	LSR  $4, R3
	CBZ  R3, done

next:
	WIDE0(R0)
	WIDE16(R1)
	EACH0(FSUB2)
	NARROW0
	STORE0(R2)
	ADD  $128, R0
	ADD  $128, R1
	SUBS $1, R3
	BNE  next

done:
	RET

// func rotateNEON(a, b, cos, sin []float32, inverse bool)
// a c - b s and b c + a s, each product rounded for itself.
TEXT ·rotateNEON(SB), NOSPLIT, $0-97
	MOVD  a_base+0(FP), R0
	MOVD  a_len+8(FP), R4
	MOVD  b_base+24(FP), R1
	MOVD  cos_base+48(FP), R2
	MOVD  sin_base+72(FP), R3
	MOVBU inverse+96(FP), R5
	LSL   $31, R5
	VDUP  R5, V31.S4 // the sign of s
	LSR   $4, R4
	CBZ   R4, done

next:
	LOAD0(R0)
	FLDPQ   32(R1), (F6, F7)
	FLDPQ   (R1), (F4, F5)
	FLDPQ   32(R2), (F10, F11)
	FLDPQ.P 64(R2), (F8, F9)
	FLDPQ   32(R3), (F14, F15)
	FLDPQ.P 64(R3), (F12, F13)
	VEOR V31.B16, V12.B16, V12.B16
	VEOR V31.B16, V13.B16, V13.B16
	VEOR V31.B16, V14.B16, V14.B16
	VEOR V31.B16, V15.B16, V15.B16
	FMUL4(12, 4, 16) // b s
	FMUL4(13, 5, 17)
	FMUL4(14, 6, 18)
	FMUL4(15, 7, 19)
	FMUL4(12, 0, 12) // a s
	FMUL4(13, 1, 13)
	FMUL4(14, 2, 14)
	FMUL4(15, 3, 15)
	EACH(FMUL4, 8, 9, 10, 11)
	FMUL4(8, 4, 4)
	FMUL4(9, 5, 5)
	FMUL4(10, 6, 6)
	FMUL4(11, 7, 7)
	EACH(FSUB4, 16, 17, 18, 19)
	FADD4(12, 4, 4)
	FADD4(13, 5, 5)
	FADD4(14, 6, 6)
	FADD4(15, 7, 7)
	STORE0(R0)
	FSTPQ   (F6, F7), 32(R1)
	FSTPQ.P (F4, F5), 64(R1)
	SUBS $1, R4
	BNE  next

done:
	RET

// func scaleRowsNEON(x, by []float32)
TEXT ·scaleRowsNEON(SB), NOSPLIT, $0-48
	MOVD  x_base+0(FP), R0
	MOVD  x_len+8(FP), R2
	MOVD  by_base+24(FP), R1
	LSR   $4, R2
	CBZ   R2, done
	NEXT4(R1)

next:
	LOAD0(R0)
	EACH(FMUL4, 4, 5, 6, 7)
	STORE0(R0)
	SUBS $1, R2
	BNE  next

done:
	RET

// func gainNEON(x, by []float32)
TEXT ·gainNEON(SB), NOSPLIT, $0-48
	MOVD x_base+0(FP), R0
	MOVD by_base+24(FP), R1
	MOVD by_len+32(FP), R2
	CBZ  R2, done

next:
	VLD1R.P 4(R1), [V4.S4]
	LOAD0(R0)
	EACH(FMUL4, 4, 4, 4, 4)
	STORE0(R0)
	SUBS $1, R2
	BNE  next

done:
	RET

// func addToNEON(x, y []float32)
TEXT ·addToNEON(SB), NOSPLIT, $0-48
	MOVD x_base+0(FP), R0
	MOVD x_len+8(FP), R2
	MOVD y_base+24(FP), R1
	LSR  $4, R2
	CBZ  R2, done

next:
	LOAD0(R0)
	NEXT4(R1)
	EACH(FADD4, 4, 5, 6, 7)
	STORE0(R0)
	SUBS $1, R2
	BNE  next

done:
	RET

// UPPER makes the upper half of x the nearest bfloat16, of two the even one, with t's help. V16 holds 0x7fff, V17 1.
#define UPPER(x, t) \
	VUSHR $16, x.S4, t.S4;       \
	VAND  V17.B16, t.B16, t.B16; \
	VADD  V16.S4, x.S4, x.S4;    \
	VADD  t.S4, x.S4, x.S4

#define UPPERCONSTANTS \
	MOVD $0x7fff, R3;  \
	VDUP R3, V16.S4;   \
	MOVD $1, R3;       \
	VDUP R3, V17.S4

// ROUND is UPPER with zeros below: V18 masks them.
#define ROUND(x, t) \
	UPPER(x, t);                \
	VAND V18.B16, x.B16, x.B16

// func roundToNEON(to, from []float32)
TEXT ·roundToNEON(SB), NOSPLIT, $0-48
	MOVD to_base+0(FP), R0
	MOVD from_base+24(FP), R1
	MOVD from_len+32(FP), R2
	UPPERCONSTANTS
	MOVD $0xffff0000, R3
	VDUP R3, V18.S4
	LSR  $4, R2
	CBZ  R2, done

next:
	NEXT0(R1)
	ROUND(V0, V4)
	ROUND(V1, V5)
	ROUND(V2, V6)
	ROUND(V3, V7)
	STORE0(R0)
	SUBS $1, R2
	BNE  next

done:
	RET

// func rowsToHalves(n int, from *float32, to *uint16)
TEXT ·rowsToHalves(SB), NOSPLIT, $0-24
	MOVD n+0(FP), R0
	MOVD from+8(FP), R1
	MOVD to+16(FP), R2
	UPPERCONSTANTS

next:
	NEXT0(R1)
	UPPER(V0, V4)
	UPPER(V1, V5)
	UPPER(V2, V6)
	UPPER(V3, V7)
	VSRI    $16, V0.S4, V2.S4 // the lower half is that of the row before
	VSRI    $16, V1.S4, V3.S4
	FSTPQ.P (F2, F3), 32(R2)
	SUBS    $1, R0
	BNE     next
	RET

// func addProductsNEON(a, b, sums []float32)
TEXT ·addProductsNEON(SB), NOSPLIT, $0-72
	MOVD a_base+0(FP), R1
	MOVD b_base+24(FP), R2
	MOVD sums_base+48(FP), R0
	MOVD sums_len+56(FP), R3
	LSR  $4, R3
	CBZ  R3, done

next:
	LOAD0(R0)
	NEXT4(R1)
	FLDPQ   32(R2), (F10, F11)
	FLDPQ.P 64(R2), (F8, F9)
	VFMLA V8.S4, V4.S4, V0.S4
	VFMLA V9.S4, V5.S4, V1.S4
	VFMLA V10.S4, V6.S4, V2.S4
	VFMLA V11.S4, V7.S4, V3.S4
	STORE0(R0)
	SUBS $1, R3
	BNE  next

done:
	RET

// func largestNEON(scores []float32, low float32) float32
// LARGER has the last of them where one is no number; the last steps, as max of Go has it, no number.
TEXT ·largestNEON(SB), NOSPLIT, $0-36
	MOVD  scores_base+0(FP), R0
	MOVD  scores_len+8(FP), R1
	FMOVS low+24(FP), F16
	VDUP  V16.S[0], V16.S4
	VMOV  V16.B16, V17.B16
	VMOV  V16.B16, V18.B16
	VMOV  V16.B16, V19.B16
	LSR   $4, R1
	CBZ   R1, done

next:
	NEXT0(R0)
	LARGER(0, V0, 16, V16, 20, V20)
	LARGER(1, V1, 17, V17, 21, V21)
	LARGER(2, V2, 18, V18, 22, V22)
	LARGER(3, V3, 19, V19, 23, V23)
	SUBS $1, R1
	BNE  next

done:
	LARGER(18, V18, 16, V16, 20, V20)
	LARGER(19, V19, 17, V17, 21, V21)
	FMAX4(17, 16, 16)
	FMAXV4(16, 16)
	FMOVS F16, ret+32(FP)
	RET
