#include "textflag.h"
#include "neon_arm64.h"

// Row r of A times 8 columns of B.
#define MIXROW(i, r) \
	FMLAE4((16+r), i, 24, (2*r)); \
	FMLAE4((16+r), i, 25, (2*r+1))

// One step for 8 rows and 8 columns: element i of the rows' registers, which hold four steps.
#define MIXSTEP(i) \
	VLD1.P (R1)(R8), [V24.S4, V25.S4]; \
	MIXROW(i, 0);                      \
	MIXROW(i, 1);                      \
	MIXROW(i, 2);                      \
	MIXROW(i, 3);                      \
	MIXROW(i, 4);                      \
	MIXROW(i, 5);                      \
	MIXROW(i, 6);                      \
	MIXROW(i, 7)

// func mix16(n int, offsets *int, a, b *float32, bStride int, c *float32, cStride int)
TEXT ·mix16(SB), NOSPLIT, $0-56
	MOVD $2, R25
	B    mix<>(SB)

// func mix8(n int, offsets *int, a, b *float32, bStride int, c *float32, cStride int)
TEXT ·mix8(SB), NOSPLIT, $0-56
	MOVD $1, R25
	B    mix<>(SB)

// mix is mix8 and mix16, R25 times 8 rows. These and 8 columns are 16 registers of sums; 8 of the others hold four steps
// of the rows: 79 instructions for 64 multiply-adds.
TEXT mix<>(SB), NOSPLIT, $0-56
	MOVD  n+0(FP), R12
	MOVD  offsets+8(FP), R10
	MOVD  a+16(FP), R11
	MOVD  b+24(FP), R13
	MOVD  bStride+32(FP), R8
	MOVD  c+40(FP), R14
	MOVD  cStride+48(FP), R9
	LSL   $2, R8
	LSL   $2, R9

stretch: // of the panels, which stay in a first-level cache while all parts of the sums pass by
	MOVD $16, R2
	CMP  R2, R12
	CSEL LT, R12, R2, R2
	MOVD R11, R19
	MOVD R14, R20
	MOVD R25, R21

rows:
	MOVD $0, R22

columns:
	ADD  R22, R13, R1
	ADD  R22, R20, R3
	MOVD R10, R4
	MOVD R2, R6
	MOVD   R3, R5
	VLD1.P (R5)(R9), [V0.S4, V1.S4]
	VLD1.P (R5)(R9), [V2.S4, V3.S4]
	VLD1.P (R5)(R9), [V4.S4, V5.S4]
	VLD1.P (R5)(R9), [V6.S4, V7.S4]
	VLD1.P (R5)(R9), [V8.S4, V9.S4]
	VLD1.P (R5)(R9), [V10.S4, V11.S4]
	VLD1.P (R5)(R9), [V12.S4, V13.S4]
	VLD1.P (R5)(R9), [V14.S4, V15.S4]

panel:
	MOVD.P 8(R4), R0
	ADD    R0<<2, R19, R0
	MOVD   $4, R7

four:
	FMOVQ 0(R0), F16
	FMOVQ 64(R0), F17
	FMOVQ 128(R0), F18
	FMOVQ 192(R0), F19
	FMOVQ 256(R0), F20
	FMOVQ 320(R0), F21
	FMOVQ 384(R0), F22
	FMOVQ 448(R0), F23
	MIXSTEP(0)
	MIXSTEP(1)
	MIXSTEP(2)
	MIXSTEP(3)
	ADD   $16, R0
	SUBS  $1, R7
	BNE   four
	SUBS  $1, R6
	BNE   panel
	VST1.P [V0.S4, V1.S4], (R3)(R9)
	VST1.P [V2.S4, V3.S4], (R3)(R9)
	VST1.P [V4.S4, V5.S4], (R3)(R9)
	VST1.P [V6.S4, V7.S4], (R3)(R9)
	VST1.P [V8.S4, V9.S4], (R3)(R9)
	VST1.P [V10.S4, V11.S4], (R3)(R9)
	VST1.P [V12.S4, V13.S4], (R3)(R9)
	VST1.P [V14.S4, V15.S4], (R3)(R9)
	EOR    $32, R22
	CBNZ   R22, columns
	ADD    $512, R19
	ADD    R9<<3, R20
	SUBS   $1, R21
	BNE    rows
	MOVD   R4, R10
	SUB    $32, R1, R13
	SUBS   R2, R12
	BNE    stretch
	RET

// The 16 lanes of a row of A times those of a row of B, added to four registers.
#define DOT(a0, a1, a2, a3, b0, b1, b2, b3, s0, s1, s2, s3) \
	VFMLA a0.S4, b0.S4, s0.S4; \
	VFMLA a1.S4, b1.S4, s1.S4; \
	VFMLA a2.S4, b2.S4, s2.S4; \
	VFMLA a3.S4, b3.S4, s3.S4

// Those four registers become one, as in AVX-512: first the upper and the lower eight lanes.
#define REDUCE(s) \
	FADD4((s+2), s, s);         \
	FADD4((s+3), (s+1), (s+1)); \
	FADD4((s+1), s, s)

// func dot4x4(n int, a *float32, aStride int, b *float32, bStride int, c *float32, cStride int)
TEXT ·dot4x4(SB), NOSPLIT, $0-56
	MOVD n+0(FP), R0
	MOVD a+8(FP), R1
	MOVD aStride+16(FP), R2
	MOVD b+24(FP), R3
	MOVD bStride+32(FP), R4
	MOVD c+40(FP), R5
	MOVD cStride+48(FP), R6
	LSL  $2, R2
	LSL  $2, R4
	LSL  $2, R6
	MOVD $2, R7

// Two rows of A with two of B are 16 registers of sums, and read every row twice. A quarter of the lanes of all rows would be
// 16 as well and load half as much, but read every row four times, and panels often lie powers of two apart, where they push
// each other out of a cache.

rows:
	MOVD R3, R8
	MOVD R5, R9
	MOVD $2, R10

columns:
	MOVD R0, R11
	MOVD R1, R12
	MOVD R8, R13
	ZERO8(V0, V1, V2, V3, V4, V5, V6, V7)
	ZERO8(V8, V9, V10, V11, V12, V13, V14, V15)

step: // 28 instructions for 16 multiply-adds
	FLDPQ 0(R12), (F16, F17)
	FLDPQ 32(R12), (F18, F19)
	FLDPQ 0(R13), (F24, F25)
	FLDPQ 32(R13), (F26, F27)
	DOT(V16, V17, V18, V19, V24, V25, V26, V27, V0, V1, V2, V3)
	FLDPQ 64(R13), (F28, F29)
	FLDPQ 96(R13), (F30, F31)
	DOT(V16, V17, V18, V19, V28, V29, V30, V31, V4, V5, V6, V7)
	FLDPQ 64(R12), (F20, F21)
	FLDPQ 96(R12), (F22, F23)
	DOT(V20, V21, V22, V23, V24, V25, V26, V27, V8, V9, V10, V11)
	DOT(V20, V21, V22, V23, V28, V29, V30, V31, V12, V13, V14, V15)
	ADD   R2, R12
	ADD   R4, R13
	SUBS  $1, R11
	BNE   step
	REDUCE(0)
	REDUCE(4)
	REDUCE(8)
	REDUCE(12)
	FADDP4(4, 0, 0)
	FADDP4(12, 8, 8)
	FADDP4(8, 0, 0)
	ADD   R6, R9, R14
	VLD1  (R9), V1.D[0]
	VLD1  (R14), V1.D[1]
	FADD4(1, 0, 0)
	VST1  V0.D[0], (R9)
	VST1  V0.D[1], (R14)
	ADD   $128, R8
	ADD   $8, R9
	SUBS  $1, R10
	BNE   columns
	ADD   $128, R1
	ADD   R6<<1, R5
	SUBS  $1, R7
	BNE   rows
	RET
