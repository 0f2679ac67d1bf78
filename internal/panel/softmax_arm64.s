#include "textflag.h"
#include "elementwise_arm64.h"

// Kernels with exponentials, a row of 16 lanes at a time: four chains of operations side by side, and the processor begins the
// next row while they wait. Of the 84 instructions of EXPONENTIAL and RAISE, for 16 elements, 32 are multiply-adds, 20 copy a
// constant that a multiply-add will overwrite, and 8 look for a far n.
//
// V24 holds log2(e), ln 2 in two parts and exp7, V25 a factor of the scores, V26-V30 exp6 to exp2, V31 ones. R10 is the place of
// far in the table, R11 the bits of near². V0-V3 are the row, V4-V15 are overwritten, V16-V23 belong to the kernel.

#define CONSTANTS \
	MOVD    $·exponentialTable(SB), R10; \
	FMOVQ.P 16(R10), F24;                \
	VLD1R.P 4(R10), [V26.S4];            \
	VLD1R.P 4(R10), [V27.S4];            \
	VLD1R.P 4(R10), [V28.S4];            \
	VLD1R.P 4(R10), [V29.S4];            \
	VLD1R.P 4(R10), [V30.S4];            \
	VLD1R.P 4(R10), [V31.S4];            \
	MOVWU.P 4(R10), R11

#define BYSCALE \
	FMULE4(25, 0, 0, 0); \
	FMULE4(25, 0, 1, 1); \
	FMULE4(25, 0, 2, 2); \
	FMULE4(25, 0, 3, 3)

// q = p r + c, in two sets of registers by turns.
#define STEP(c, p0, p1, p2, p3, q0, q1, q2, q3) \
	VMOV  c.B16, q0.B16;       \
	VMOV  c.B16, q1.B16;       \
	VMOV  c.B16, q2.B16;       \
	VMOV  c.B16, q3.B16;       \
	VFMLA V0.S4, p0.S4, q0.S4; \
	VFMLA V1.S4, p1.S4, q1.S4; \
	VFMLA V2.S4, p2.S4, q2.S4; \
	VFMLA V3.S4, p3.S4, q3.S4

// EXPONENTIAL makes V0-V3 the p and V4-V7 the n whose p times 2 to the n is e to the power of V0-V3. Where flags say higher, n
// may be too far for RAISE: the squares of each four n add up to more than near²; what is no number is higher too.
#define EXPONENTIAL \
	FMULE4(24, 0, 0, 4);                             \
	FMULE4(24, 0, 1, 5);                             \
	FMULE4(24, 0, 2, 6);                             \
	FMULE4(24, 0, 3, 7);                             \
	FRINTN4(4, 4);                                   \
	FRINTN4(5, 5);                                   \
	FRINTN4(6, 6);                                   \
	FRINTN4(7, 7);                                   \
	FMLSE4(24, 1, 4, 0);                             \
	FMLSE4(24, 1, 5, 1);                             \
	FMLSE4(24, 1, 6, 2);                             \
	FMLSE4(24, 1, 7, 3);                             \
	FMUL4(4, 4, 12);                                 \
	FMLSE4(24, 2, 4, 0);                             \
	FMLSE4(24, 2, 5, 1);                             \
	FMLSE4(24, 2, 6, 2);                             \
	FMLSE4(24, 2, 7, 3);                             \
	VFMLA V5.S4, V5.S4, V12.S4;                      \
	VMOV  V26.B16, V8.B16;                           \
	VMOV  V26.B16, V9.B16;                           \
	VMOV  V26.B16, V10.B16;                          \
	VMOV  V26.B16, V11.B16;                          \
	VFMLA V6.S4, V6.S4, V12.S4;                      \
	FMLAE4(24, 3, 0, 8);                             \
	FMLAE4(24, 3, 1, 9);                             \
	FMLAE4(24, 3, 2, 10);                            \
	FMLAE4(24, 3, 3, 11);                            \
	VFMLA V7.S4, V7.S4, V12.S4;                      \
	FMAXV4(12, 12);                                  \
	FMOVS F12, R12;                                  \
	STEP(V27, V8, V9, V10, V11, V12, V13, V14, V15); \
	STEP(V28, V12, V13, V14, V15, V8, V9, V10, V11); \
	STEP(V29, V8, V9, V10, V11, V12, V13, V14, V15); \
	STEP(V30, V12, V13, V14, V15, V8, V9, V10, V11); \
	FMUL4(0, 0, 12);                                 \
	FMUL4(1, 1, 13);                                 \
	FMUL4(2, 2, 14);                                 \
	FMUL4(3, 3, 15);                                 \
	EACH(FADD4, 31, 31, 31, 31);                     \
	VFMLA V12.S4, V8.S4, V0.S4;                      \
	VFMLA V13.S4, V9.S4, V1.S4;                      \
	VFMLA V14.S4, V10.S4, V2.S4;                     \
	VFMLA V15.S4, V11.S4, V3.S4;                     \
	CMPW  R11, R12

// RAISE adds n to the exponent of p.
#define RAISE \
	FCVTZS4X23(4, 4);         \
	FCVTZS4X23(5, 5);         \
	FCVTZS4X23(6, 6);         \
	FCVTZS4X23(7, 7);         \
	VADD V4.S4, V0.S4, V0.S4; \
	VADD V5.S4, V1.S4, V1.S4; \
	VADD V6.S4, V2.S4, V2.S4; \
	VADD V7.S4, V3.S4, V3.S4

// p times 2 to the n, the register of p by number and by name. An infinite n makes it infinite or zero, even if p is no number.
#define SCALE(p, P, n) \
	FMAX4(8, n, 11);             \
	FMIN4(9, 11, 11);            \
	FCVTNS4(11, 11);             \
	VUSHR $2, V11.S4, V12.S4;    \
	VSUB V12.S4, V11.S4, V11.S4; \
	VSUB V12.S4, V11.S4, V11.S4; \
	VSUB V12.S4, V11.S4, V11.S4; \
	VSHL $23, V12.S4, V12.S4;    \
	VSHL $23, V11.S4, V11.S4;    \
	VADD V31.S4, V12.S4, V12.S4; \
	VADD V31.S4, V11.S4, V11.S4; \
	FMUL4(12, p, p);             \
	FMUL4(12, p, p);             \
	FMUL4(12, p, p);             \
	FMUL4(11, p, p);             \
	FACGE4(10, n, 12);           \
	FMAX4(13, n, 11);            \
	VBIT V12.B16, V11.B16, P.B16

// scaled is what a kernel calls instead of RAISE where n may be far: p times 2 to the n, rounded once, as scale32 of
// elementwise_avx2_amd64.go has it.
TEXT scaled<>(SB), NOSPLIT|NOFRAME, $0-0
	VLD1R (R10), [V9.S4]
	FNEG4(9, 8)
	MOVD  $0x7f800000, R12 // infinite
	VDUP  R12, V10.S4
	VEOR  V13.B16, V13.B16, V13.B16
	SCALE(0, V0, 4)
	SCALE(1, V1, 5)
	SCALE(2, V2, 6)
	SCALE(3, V3, 7)
	RET

// func exponentials(scores []float32, maximum, scale float32)
TEXT ·exponentials(SB), NOSPLIT, $0-32
	MOVD  scores_base+0(FP), R0
	MOVD  scores_len+8(FP), R1
	FMOVS maximum+24(FP), F16
	FMOVS scale+28(FP), F25
	VDUP  V16.S[0], V16.S4
	CONSTANTS
	LSR   $4, R1
	CBZ   R1, done

next:
	LOAD0(R0)
	EACH(FSUB4, 16, 16, 16, 16)
	BYSCALE
	EXPONENTIAL
	BHI far
	RAISE

raised:
	STORE0(R0)
	SUBS $1, R1
	BNE  next

done:
	RET

far:
	CALL scaled<>(SB)
	JMP  raised

// The sigmoid of V16-V19, given their exponentials in V0-V3.
#define SIGMOID \
	EACH(FADD4, 31, 31, 31, 31); \
	FDIV4(0, 31, 0);             \
	FDIV4(1, 31, 1);             \
	FDIV4(2, 31, 2);             \
	FDIV4(3, 31, 3)

// The gate at p in V16-V19, its negative in V0-V3.
#define GATE(p) \
	FLDPQ 32(p), (F18, F19); \
	FLDPQ (p), (F16, F17);   \
	FNEG4(16, 0);            \
	FNEG4(17, 1);            \
	FNEG4(18, 2);            \
	FNEG4(19, 3)

// func swigluNEON(gate, up, h []float32)
TEXT ·swigluNEON(SB), NOSPLIT, $0-72
	MOVD gate_base+0(FP), R0
	MOVD up_base+24(FP), R1
	MOVD h_base+48(FP), R2
	MOVD h_len+56(FP), R3
	CONSTANTS
	LSR  $4, R3
	CBZ  R3, done

next:
	GATE(R0)
	ADD $64, R0
	EXPONENTIAL
	BHI far
	RAISE

raised:
	SIGMOID
	NEXT4(R1)
	EACH(FMUL4, 16, 17, 18, 19)
	EACH(FMUL4, 4, 5, 6, 7)
	STORE0(R2)
	SUBS $1, R3
	BNE  next

done:
	RET

far:
	CALL scaled<>(SB)
	JMP  raised

// func swigluGradientNEON(dh, gate, up []float32)
// gate becomes d u s (g (1 - s) + 1), up becomes d g s.
TEXT ·swigluGradientNEON(SB), NOSPLIT, $0-72
	MOVD dh_base+0(FP), R0
	MOVD dh_len+8(FP), R3
	MOVD gate_base+24(FP), R1
	MOVD up_base+48(FP), R2
	CONSTANTS
	LSR  $4, R3
	CBZ  R3, done

next:
	GATE(R1)
	EXPONENTIAL
	BHI far
	RAISE

raised:
	SIGMOID
	NEXT4(R0) // d
	FLDPQ 32(R2), (F10, F11)
	FLDPQ (R2), (F8, F9)
	FMUL4(4, 8, 8) // d u s
	FMUL4(5, 9, 9)
	FMUL4(6, 10, 10)
	FMUL4(7, 11, 11)
	FMUL4(0, 8, 8)
	FMUL4(1, 9, 9)
	FMUL4(2, 10, 10)
	FMUL4(3, 11, 11)
	FMUL4(16, 4, 4) // d g s
	FMUL4(17, 5, 5)
	FMUL4(18, 6, 6)
	FMUL4(19, 7, 7)
	FMUL4(0, 4, 4)
	FMUL4(1, 5, 5)
	FMUL4(2, 6, 6)
	FMUL4(3, 7, 7)
	FSUB4(0, 31, 0) // 1 - s
	FSUB4(1, 31, 1)
	FSUB4(2, 31, 2)
	FSUB4(3, 31, 3)
	VMOV  V31.B16, V12.B16
	VMOV  V31.B16, V13.B16
	VMOV  V31.B16, V14.B16
	VMOV  V31.B16, V15.B16
	VFMLA V16.S4, V0.S4, V12.S4
	VFMLA V17.S4, V1.S4, V13.S4
	VFMLA V18.S4, V2.S4, V14.S4
	VFMLA V19.S4, V3.S4, V15.S4
	FMUL4(12, 8, 0)
	FMUL4(13, 9, 1)
	FMUL4(14, 10, 2)
	FMUL4(15, 11, 3)
	STORE0(R1)
	FSTPQ   (F6, F7), 32(R2)
	FSTPQ.P (F4, F5), 64(R2)
	SUBS $1, R3
	BNE  next

done:
	RET

far:
	CALL scaled<>(SB)
	JMP  raised

// SEE makes V4-V7 masks of the lanes whose bits are set in the 16 that R6 points to, R7 pointing to laneBits.
#define SEE \
	VLD1R.P 2(R6), [V12.H8];      \
	LOAD4(R7);                    \
	VCMTST  V4.S4, V12.S4, V4.S4; \
	VCMTST  V5.S4, V12.S4, V5.S4; \
	VCMTST  V6.S4, V12.S4, V6.S4; \
	VCMTST  V7.S4, V12.S4, V7.S4

// What SEE does not show becomes zero.
#define HIDE \
	VAND V4.B16, V0.B16, V0.B16; \
	VAND V5.B16, V1.B16, V1.B16; \
	VAND V6.B16, V2.B16, V2.B16; \
	VAND V7.B16, V3.B16, V3.B16

// A row of scores at R0, less the maxima at R3, scaled.
#define SCORES \
	LOAD0(R0);               \
	LOAD4(R3);               \
	EACH(FSUB4, 4, 5, 6, 7); \
	BYSCALE

// V16-V19 += V20-V23.
#define ADDPART FADD4(20, 16, 16); FADD4(21, 17, 17); FADD4(22, 18, 18); FADD4(23, 19, 19)

// func softmaxNEON(scores []float32, masks []*[Lanes]uint16, scale, low float32, maximum, inverse []float32)
// R1 and R2 are the masks and their number, R5 and R9 go through them, R8 counts the rows of a panel.
TEXT ·softmaxNEON(SB), NOSPLIT, $0-104
	MOVD  masks_base+24(FP), R1
	MOVD  masks_len+32(FP), R2
	FMOVS scale+48(FP), F25
	FMOVS low+52(FP), F20
	MOVD  maximum_base+56(FP), R3
	MOVD  inverse_base+80(FP), R4
	MOVD  $·laneBits(SB), R7
	CONSTANTS
	VDUP  V20.S[0], V20.S4
	VMOV  V20.B16, V16.B16
	VMOV  V20.B16, V17.B16
	VMOV  V20.B16, V18.B16
	VMOV  V20.B16, V19.B16
	MOVD  scores_base+0(FP), R0
	MOVD  R1, R5
	MOVD  R2, R9
	CBZ   R2, maxima

maxPanel:
	MOVD.P 8(R5), R6
	MOVD   $16, R8

maxRow:
	SEE
	NEXT0(R0)
	VBSL V20.B16, V0.B16, V4.B16
	VBSL V20.B16, V1.B16, V5.B16
	VBSL V20.B16, V2.B16, V6.B16
	VBSL V20.B16, V3.B16, V7.B16
	LARGER(4, V4, 16, V16, 12, V12)
	LARGER(5, V5, 17, V17, 13, V13)
	LARGER(6, V6, 18, V18, 14, V14)
	LARGER(7, V7, 19, V19, 15, V15)
	SUBS $1, R8
	BNE  maxRow
	SUBS $1, R9
	BNE  maxPanel

maxima:
	FSTPQ (F16, F17), (R3)
	FSTPQ (F18, F19), 32(R3)
	ZERO(V16, V17, V18, V19)
	MOVD  scores_base+0(FP), R0
	MOVD  R1, R5
	MOVD  R2, R9
	CBZ   R2, sums

panel:
	MOVD.P 8(R5), R6
	MOVD   $16, R8
	ZERO(V20, V21, V22, V23) // sums of sums: the error of one long sum grows with its length

row:
	SCORES
	EXPONENTIAL
	BHI far
	RAISE

raised:
	SEE
	HIDE
	FADD4(0, 20, 20)
	FADD4(1, 21, 21)
	FADD4(2, 22, 22)
	FADD4(3, 23, 23)
	STORE0(R0)
	SUBS $1, R8
	BNE  row
	ADDPART
	SUBS $1, R9
	BNE  panel

sums: // 1/sum, and zero where the sum is none
	ZERO(V4, V5, V6, V7)
	FCMGT4(4, 16, 4)
	FCMGT4(5, 17, 5)
	FCMGT4(6, 18, 6)
	FCMGT4(7, 19, 7)
	FDIV4(16, 31, 0)
	FDIV4(17, 31, 1)
	FDIV4(18, 31, 2)
	FDIV4(19, 31, 3)
	HIDE
	STORE0(R4)
	RET

far:
	CALL scaled<>(SB)
	JMP  raised

// func softmaxGradientNEON(scores, dp []float32, masks []*[Lanes]uint16, scale float32, maximum, inverse []float32)
// As softmaxNEON; R4 are the inverses, R9 is dp.
TEXT ·softmaxGradientNEON(SB), NOSPLIT, $0-128
	MOVD  scores_base+0(FP), R0
	MOVD  dp_base+24(FP), R9
	MOVD  masks_base+48(FP), R5
	MOVD  masks_len+56(FP), R2
	FMOVS scale+72(FP), F25
	MOVD  maximum_base+80(FP), R3
	MOVD  inverse_base+104(FP), R4
	MOVD  $·laneBits(SB), R7
	CONSTANTS
	CBZ   R2, done
	ZERO(V16, V17, V18, V19)

panel:
	MOVD.P 8(R5), R6
	MOVD   $16, R8
	ZERO(V20, V21, V22, V23)

row:
	SCORES
	EXPONENTIAL
	BHI far
	RAISE

raised:
	LOAD4(R4)
	EACH(FMUL4, 4, 5, 6, 7)
	SEE
	HIDE
	NEXT4(R9)
	VFMLA V4.S4, V0.S4, V20.S4
	VFMLA V5.S4, V1.S4, V21.S4
	VFMLA V6.S4, V2.S4, V22.S4
	VFMLA V7.S4, V3.S4, V23.S4
	STORE0(R0)
	SUBS $1, R8
	BNE  row
	ADDPART // into the means
	SUBS $1, R2
	BNE  panel

	MOVD scores_base+0(FP), R0
	MOVD dp_base+24(FP), R9
	MOVD scores_len+8(FP), R2
	LSR  $4, R2

next: // p (dp - mean) scale
	LOAD0(R9)
	NEXT4(R0)
	EACH(FSUB4, 16, 17, 18, 19)
	EACH(FMUL4, 4, 5, 6, 7)
	BYSCALE
	STORE0(R9)
	SUBS $1, R2
	BNE  next

done:
	RET

far:
	CALL scaled<>(SB)
	JMP  raised
