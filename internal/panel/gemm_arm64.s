#include "textflag.h"
#include "neon_arm64.h"

// Products of a tile with panels. The 32 registers hold no 8 rows of 32 sums, nor even of 16, so that the columns go by in
// parts: 12 of either panel, 24 registers of sums, then the last 4 of both, 16. Four multipliers need 16 to be busy, since a
// sum is ready again after 4 cycles; with 24 nothing is lost when some are late.

// Element i of a register of the tile, which is one of its rows, times 12 columns of the panel.
#define ROW12(tile, i, s) \
	FMLAE4(tile, i, 26, s);     \
	FMLAE4(tile, i, 27, (s+1)); \
	FMLAE4(tile, i, 28, (s+2))

#define STEP12 \
	VLD1.P 32(R0), [V24.S4, V25.S4];           \
	VLD1.P (R1)(R5), [V26.S4, V27.S4, V28.S4]; \
	ROW12(24, 0, 0);                           \
	ROW12(24, 1, 3);                           \
	ROW12(24, 2, 6);                           \
	ROW12(24, 3, 9);                           \
	ROW12(25, 0, 12);                          \
	ROW12(25, 1, 15);                          \
	ROW12(25, 2, 18);                          \
	ROW12(25, 3, 21)

// The parts below take R2 steps of the contraction: tile R0, panel R1, sums R3, which count for nothing at first if R8 is 0.
// They leave R0 and R1 behind what they read. An odd step is the second half of the first turn.

// part12 is 8 rows with 12 columns of a panel, 56 instructions for 48 multiply-adds; half of the tile at R9 is asked for on
// the way.
TEXT part12<>(SB), NOSPLIT, $0
	MOVD $64, R5
	MOVD R3, R4
	CBNZ R8, load
	ZERO8(V0, V1, V2, V3, V4, V5, V6, V7)
	ZERO8(V8, V9, V10, V11, V12, V13, V14, V15)
	ZERO8(V16, V17, V18, V19, V20, V21, V22, V23)
	B    start

load:
	VLD1.P (R4)(R5), [V0.S4, V1.S4, V2.S4]
	VLD1.P (R4)(R5), [V3.S4, V4.S4, V5.S4]
	VLD1.P (R4)(R5), [V6.S4, V7.S4, V8.S4]
	VLD1.P (R4)(R5), [V9.S4, V10.S4, V11.S4]
	VLD1.P (R4)(R5), [V12.S4, V13.S4, V14.S4]
	VLD1.P (R4)(R5), [V15.S4, V16.S4, V17.S4]
	VLD1.P (R4)(R5), [V18.S4, V19.S4, V20.S4]
	VLD1.P (R4)(R5), [V21.S4, V22.S4, V23.S4]
	MOVD   R3, R4

start:
	MOVD R2, R7
	TBNZ $0, R2, odd

two:
	STEP12

odd:
	PRFM (R9), PLDL1KEEP
	ADD  $32, R9
	STEP12
	SUBS $2, R7
	BGT  two
	VST1.P [V0.S4, V1.S4, V2.S4], (R4)(R5)
	VST1.P [V3.S4, V4.S4, V5.S4], (R4)(R5)
	VST1.P [V6.S4, V7.S4, V8.S4], (R4)(R5)
	VST1.P [V9.S4, V10.S4, V11.S4], (R4)(R5)
	VST1.P [V12.S4, V13.S4, V14.S4], (R4)(R5)
	VST1.P [V15.S4, V16.S4, V17.S4], (R4)(R5)
	VST1.P [V18.S4, V19.S4, V20.S4], (R4)(R5)
	VST1.P [V21.S4, V22.S4, V23.S4], (R4)(R5)
	RET

// Four columns, in a register, times 8 rows.
#define COLUMNS4(columns, s) \
	FMLAE4(24, 0, columns, (s+0)); \
	FMLAE4(24, 1, columns, (s+1)); \
	FMLAE4(24, 2, columns, (s+2)); \
	FMLAE4(24, 3, columns, (s+3)); \
	FMLAE4(25, 0, columns, (s+4)); \
	FMLAE4(25, 1, columns, (s+5)); \
	FMLAE4(25, 2, columns, (s+6)); \
	FMLAE4(25, 3, columns, (s+7))

#define STEP8 \
	VLD1.P  (R0)(R6), [V24.S4, V25.S4]; \
	FMOVQ.P 64(R1), F26;                \
	COLUMNS4(26, 0);                    \
	FMOVQ.P 64(R10), F27;               \
	COLUMNS4(27, 8)

// LOADCOLUMNS4 and STORECOLUMNS4 are 8 rows of four sums from at on.
#define LOADCOLUMNS4(at, s0, s1, s2, s3, s4, s5, s6, s7) \
	FMOVQ 0(at), s0;   \
	FMOVQ 64(at), s1;  \
	FMOVQ 128(at), s2; \
	FMOVQ 192(at), s3; \
	FMOVQ 256(at), s4; \
	FMOVQ 320(at), s5; \
	FMOVQ 384(at), s6; \
	FMOVQ 448(at), s7

#define STORECOLUMNS4(at, s0, s1, s2, s3, s4, s5, s6, s7) \
	FMOVQ s0, 0(at);   \
	FMOVQ s1, 64(at);  \
	FMOVQ s2, 128(at); \
	FMOVQ s3, 192(at); \
	FMOVQ s4, 256(at); \
	FMOVQ s5, 320(at); \
	FMOVQ s6, 384(at); \
	FMOVQ s7, 448(at)

// part8 is 8 rows, R6 bytes from those of the next step, with 4 columns at R1 and 4 at R10, whose sums are at R3 and R11: 40
// instructions for 32 multiply-adds.
TEXT part8<>(SB), NOSPLIT, $0
	CBNZ R8, load
	ZERO8(V0, V1, V2, V3, V4, V5, V6, V7)
	ZERO8(V8, V9, V10, V11, V12, V13, V14, V15)
	B    start

load:
	LOADCOLUMNS4(R3, F0, F1, F2, F3, F4, F5, F6, F7)
	LOADCOLUMNS4(R11, F8, F9, F10, F11, F12, F13, F14, F15)

start:
	MOVD R2, R7
	TBNZ $0, R2, odd

two:
	STEP8

odd:
	STEP8
	SUBS $2, R7
	BGT  two
	STORECOLUMNS4(R3, F0, F1, F2, F3, F4, F5, F6, F7)
	STORECOLUMNS4(R11, F8, F9, F10, F11, F12, F13, F14, F15)
	RET

// func gemm8x2(k int, a, b0, b1, c0, c1 *float32, add bool, next *float32)
TEXT ·gemm8x2(SB), NOSPLIT, $16-64
	MOVD  k+0(FP), R12
	MOVD  a+8(FP), R13
	MOVD  b0+16(FP), R14
	MOVD  b1+24(FP), R15
	MOVD  c0+32(FP), R19
	MOVD  c1+40(FP), R20
	MOVBU add+48(FP), R8
	MOVD  next+56(FP), R9
	MOVD  $32, R6

stretch: // of the contraction, whose rows of both panels stay in a first-level cache of 64 kB while three parts pass by
	MOVD $256, R2
	CMP  R2, R12
	CSEL LT, R12, R2, R2
	MOVD R13, R0
	MOVD R14, R1
	MOVD R19, R3
	CALL part12<>(SB)
	MOVD R13, R0
	MOVD R15, R1
	MOVD R20, R3
	CALL part12<>(SB)
	MOVD R13, R0
	ADD  $48, R14, R1
	ADD  $48, R15, R10
	ADD  $48, R19, R3
	ADD  $48, R20, R11
	CALL part8<>(SB)
	MOVD R0, R13
	SUB  $48, R1, R14
	SUB  $48, R10, R15
	MOVD $1, R8
	SUBS R2, R12
	BNE  stretch
	RET

// The product of 8 rows, R6 bytes apart, from a on with the columns from and from + 4 of the panel, whose sums are at c.
#define EIGHT(a, from) \
	MOVD a, R0;                  \
	ADD  $(4*from), R13, R1;     \
	ADD  $(4*from+16), R13, R10; \
	ADD  $(4*from), R14, R3;     \
	ADD  $(4*from+16), R14, R11; \
	CALL part8<>(SB)

// func gemm8x1(k int, a, b, c *float32, add bool)
TEXT ·gemm8x1(SB), NOSPLIT, $16-33
	MOVD  k+0(FP), R2
	MOVD  a+8(FP), R12
	MOVD  b+16(FP), R13
	MOVD  c+24(FP), R14
	MOVBU add+32(FP), R8
	MOVD  $32, R6
	EIGHT(R12, 0)
	EIGHT(R12, 8)
	RET

// scores16 is a product like these: 8 columns of a are a tile, whose rows lie further apart.

// func scores16(k int, a, b, c *float32)
TEXT ·scores16(SB), NOSPLIT, $16-32
	MOVD k+0(FP), R2
	MOVD a+8(FP), R12
	MOVD b+16(FP), R13
	MOVD c+24(FP), R14
	MOVD $0, R8
	MOVD $64, R6
	EIGHT(R12, 0)
	EIGHT(R12, 8)
	ADD  $32, R12
	ADD  $512, R14
	EIGHT(R12, 0)
	EIGHT(R12, 8)
	RET
