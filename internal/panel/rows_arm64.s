#include "textflag.h"
#include "neon_arm64.h"
#include "sums_arm64.h"

// Products of the tiles of a weight with single rows, as in rows_amd64.s: the sum of an output runs over k, one product after
// the other.

// One row. R1-R4 are 4 tiles, R5 the row, R0 counts. A register of sums takes a product every 4 cycles, so that the 8 of 4 tiles
// take 2 a cycle: 32 bytes of weights in float32, or 16 in bfloat16, which is about what a core gets from memory.
#define HEAD1 \
	MOVD  k+0(FP), R0;        \
	MOVD  a+8(FP), R1;        \
	MOVD  aStride+16(FP), R8; \
	MOVD  x+24(FP), R5;       \
	MOVD  c+32(FP), R6;       \
	MOVBU add+40(FP), R7;     \
	ADD   R8, R1, R2;         \
	ADD   R8, R2, R3;         \
	ADD   R8, R3, R4;         \
	ZERO1X4

// Four rows. R5, R10, R11 and R12 are the rows, R6, R13, R14 and R15 where the sums go. There are registers for the sums of two
// tiles with them, and these 16 keep 4 units busy: V0-V3 of the first row, the first tile's before the second's, and so on.
#define HEAD4 \
	MOVD  a+8(FP), R1;        \
	MOVD  aStride+16(FP), R8; \
	MOVD  c+40(FP), R6;       \
	MOVD  cStride+48(FP), R9; \
	MOVBU add+56(FP), R7;     \
	ADD   R8, R1, R2;         \
	ADD   R8, R2, R3;         \
	ADD   R8, R3, R4;         \
	ADD   R9, R6, R13;        \
	ADD   R9, R13, R14;       \
	ADD   R9, R14, R15

// The rows from their first element on.
#define ROWS4 \
	MOVD k+0(FP), R0;        \
	MOVD x+24(FP), R5;       \
	MOVD xStride+32(FP), R9; \
	ADD  R9, R5, R10;        \
	ADD  R9, R10, R11;       \
	ADD  R9, R11, R12

// The other two tiles, after which there are none.
#define OTHERTILES \
	MOVD R3, R1;        \
	MOVD R4, R2;        \
	MOVD ZR, R4;        \
	ADD  $64, R6, R6;   \
	ADD  $64, R13, R13; \
	ADD  $64, R14, R14; \
	ADD  $64, R15, R15

#define ZERO4X2 \
	ZERO4(V0, V1, V2, V3);   \
	ZERO4(V4, V5, V6, V7);   \
	ZERO4(V8, V9, V10, V11); \
	ZERO4(V12, V13, V14, V15)

#define LOAD4X2 \
	VLD1 (R6), [V0.S4, V1.S4, V2.S4, V3.S4];    \
	VLD1 (R13), [V4.S4, V5.S4, V6.S4, V7.S4];   \
	VLD1 (R14), [V8.S4, V9.S4, V10.S4, V11.S4]; \
	VLD1 (R15), [V12.S4, V13.S4, V14.S4, V15.S4]

#define STORE4X2 \
	VST1 [V0.S4, V1.S4, V2.S4, V3.S4], (R6);    \
	VST1 [V4.S4, V5.S4, V6.S4, V7.S4], (R13);   \
	VST1 [V8.S4, V9.S4, V10.S4, V11.S4], (R14); \
	VST1 [V12.S4, V13.S4, V14.S4, V15.S4], (R15)

#define LOAD4X1 \
	VLD1 (R6), [V0.S4, V1.S4];    \
	VLD1 (R13), [V4.S4, V5.S4];   \
	VLD1 (R14), [V8.S4, V9.S4];   \
	VLD1 (R15), [V12.S4, V13.S4]

#define STORE4X1 \
	VST1 [V0.S4, V1.S4], (R6);    \
	VST1 [V4.S4, V5.S4], (R13);   \
	VST1 [V8.S4, V9.S4], (R14);   \
	VST1 [V12.S4, V13.S4], (R15)

// The next two elements of every row, or the next one.
#define TWO4 \
	FMOVD.P 8(R5), F16;  \
	FMOVD.P 8(R10), F17; \
	FMOVD.P 8(R11), F18; \
	FMOVD.P 8(R12), F19

#define ONE4 \
	FMOVS.P 4(R5), F16;  \
	FMOVS.P 4(R10), F17; \
	FMOVS.P 4(R11), F18; \
	FMOVS.P 4(R12), F19

// Element i of the rows times the tiles in w and v, or w alone.
#define FMA4X2(i, w, v) \
	FMA1X1(16, i, w, 0);  \
	FMA1X1(16, i, v, 2);  \
	FMA1X1(17, i, w, 4);  \
	FMA1X1(17, i, v, 6);  \
	FMA1X1(18, i, w, 8);  \
	FMA1X1(18, i, v, 10); \
	FMA1X1(19, i, w, 12); \
	FMA1X1(19, i, v, 14)

#define FMA4X1(i, w) \
	FMA1X1(16, i, w, 0); \
	FMA1X1(17, i, w, 4); \
	FMA1X1(18, i, w, 8); \
	FMA1X1(19, i, w, 12)

// func row1x4(k int, a *float32, aStride int, x, c *float32, add bool)
TEXT ·row1x4(SB), NOSPLIT, $0-41
	HEAD1
	CBZ R7, start
	LOAD1X4

start:
	SUBS $2, R0
	BLT  rest

next: // 16 products in 23 instructions
	FMOVD.P 8(R5), F8
	VLD1.P 64(R1), [V16.S4, V17.S4, V18.S4, V19.S4]
	VLD1.P 64(R2), [V20.S4, V21.S4, V22.S4, V23.S4]
	VLD1.P 64(R3), [V24.S4, V25.S4, V26.S4, V27.S4]
	VLD1.P 64(R4), [V28.S4, V29.S4, V30.S4, V31.S4]
	FMA1X4(8, 0, 16, 20, 24, 28)
	FMA1X4(8, 1, 18, 22, 26, 30)
	SUBS $2, R0
	BGE  next

rest:
	ADDS $2, R0
	BEQ  done
	FMOVS (R5), F8
	VLD1 (R1), [V16.S4, V17.S4]
	VLD1 (R2), [V20.S4, V21.S4]
	VLD1 (R3), [V24.S4, V25.S4]
	VLD1 (R4), [V28.S4, V29.S4]
	FMA1X4(8, 0, 16, 20, 24, 28)

done:
	STORE1X4
	RET

// func row1x1(k int, a *float32, aStride int, x, c *float32, add bool)
TEXT ·row1x1(SB), NOSPLIT, $0-41
	HEAD1
	CBZ  R7, start
	VLD1 (R6), [V0.S4, V1.S4]

start:
	FMOVS.P 4(R5), F8
	VLD1.P 32(R1), [V16.S4, V17.S4]
	FMA1X1(8, 0, 16, 0)
	SUBS $1, R0
	BNE  start
	VST1 [V0.S4, V1.S4], (R6)
	RET

// func row4x4(k int, a *float32, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)
TEXT ·row4x4(SB), NOSPLIT, $0-57
	HEAD4

tiles:
	ROWS4
	ZERO4X2
	CBZ R7, start
	LOAD4X2

start:
	SUBS $2, R0
	BLT  rest

next: // 32 products in 40 instructions
	TWO4
	VLD1.P 64(R1), [V20.S4, V21.S4, V22.S4, V23.S4]
	VLD1.P 64(R2), [V24.S4, V25.S4, V26.S4, V27.S4]
	FMA4X2(0, 20, 24)
	FMA4X2(1, 22, 26)
	SUBS $2, R0
	BGE  next

rest:
	ADDS $2, R0
	BEQ  done
	ONE4
	VLD1 (R1), [V20.S4, V21.S4]
	VLD1 (R2), [V24.S4, V25.S4]
	FMA4X2(0, 20, 24)

done:
	STORE4X2
	CBZ R4, return
	OTHERTILES
	B   tiles

return:
	RET

// func row4x1(k int, a *float32, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)
TEXT ·row4x1(SB), NOSPLIT, $0-57
	HEAD4
	ROWS4
	ZERO4X2
	CBZ R7, start
	LOAD4X1

start:
	SUBS $2, R0
	BLT  rest

next:
	TWO4
	VLD1.P 64(R1), [V20.S4, V21.S4, V22.S4, V23.S4]
	FMA4X1(0, 20)
	FMA4X1(1, 22)
	SUBS $2, R0
	BGE  next

rest:
	ADDS $2, R0
	BEQ  done
	ONE4
	VLD1 (R1), [V20.S4, V21.S4]
	FMA4X1(0, 20)

done:
	STORE4X1
	RET

// func row1x4Half(k int, a *uint16, aStride int, x, c *float32, add bool)
TEXT ·row1x4Half(SB), NOSPLIT, $0-41
	HEAD1
	MASK
	CBZ R7, start
	LOAD1X4

start:
	SUBS $2, R0
	BLT  rest

next: // 16 products in 39 instructions: 8 cycles for 32 in 4 units, as many as the 8 sums take for two steps
	FMOVD.P 8(R5), F8
	VLD1.P 32(R1), [V16.S4, V17.S4]
	VLD1.P 32(R2), [V18.S4, V19.S4]
	VLD1.P 32(R3), [V20.S4, V21.S4]
	VLD1.P 32(R4), [V22.S4, V23.S4]
	FIRST2(V16, V17, V24, V25)
	FIRST2(V18, V19, V26, V27)
	FIRST2(V20, V21, V28, V29)
	FIRST2(V22, V23, V9, V10)
	SECOND2(V16, V17)
	SECOND2(V18, V19)
	SECOND2(V20, V21)
	SECOND2(V22, V23)
	FMA1X4(8, 0, 24, 26, 28, 9)
	FMA1X4(8, 1, 16, 18, 20, 22)
	SUBS $2, R0
	BGE  next

rest:
	ADDS $2, R0
	BEQ  done
	FMOVS (R5), F8
	VLD1 (R1), [V16.S4, V17.S4]
	VLD1 (R2), [V18.S4, V19.S4]
	VLD1 (R3), [V20.S4, V21.S4]
	VLD1 (R4), [V22.S4, V23.S4]
	FIRST2(V16, V17, V24, V25)
	FIRST2(V18, V19, V26, V27)
	FIRST2(V20, V21, V28, V29)
	FIRST2(V22, V23, V9, V10)
	FMA1X4(8, 0, 24, 26, 28, 9)

done:
	STORE1X4
	RET

// func row1x1Half(k int, a *uint16, aStride int, x, c *float32, add bool)
TEXT ·row1x1Half(SB), NOSPLIT, $0-41
	HEAD1
	MASK
	CBZ  R7, start
	VLD1 (R6), [V0.S4, V1.S4]

start:
	SUBS $2, R0
	BLT  rest

next:
	FMOVD.P 8(R5), F8
	VLD1.P 32(R1), [V16.S4, V17.S4]
	FIRST2(V16, V17, V24, V25)
	SECOND2(V16, V17)
	FMA1X1(8, 0, 24, 0)
	FMA1X1(8, 1, 16, 0)
	SUBS $2, R0
	BGE  next

rest:
	ADDS $2, R0
	BEQ  done
	FMOVS (R5), F8
	VLD1 (R1), [V16.S4, V17.S4]
	FIRST2(V16, V17, V24, V25)
	FMA1X1(8, 0, 24, 0)

done:
	VST1 [V0.S4, V1.S4], (R6)
	RET

// func row4x4Half(k int, a *uint16, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)
TEXT ·row4x4Half(SB), NOSPLIT, $0-57
	HEAD4
	MASK

tiles:
	ROWS4
	ZERO4X2
	CBZ R7, start
	LOAD4X2

start:
	SUBS $2, R0
	BLT  rest

next: // 32 products in 48 instructions
	TWO4
	VLD1.P 32(R1), [V20.S4, V21.S4]
	VLD1.P 32(R2), [V22.S4, V23.S4]
	FIRST2(V20, V21, V24, V25)
	FIRST2(V22, V23, V26, V27)
	SECOND2(V20, V21)
	SECOND2(V22, V23)
	FMA4X2(0, 24, 26)
	FMA4X2(1, 20, 22)
	SUBS $2, R0
	BGE  next

rest:
	ADDS $2, R0
	BEQ  done
	ONE4
	VLD1 (R1), [V20.S4, V21.S4]
	VLD1 (R2), [V22.S4, V23.S4]
	FIRST2(V20, V21, V24, V25)
	FIRST2(V22, V23, V26, V27)
	FMA4X2(0, 24, 26)

done:
	STORE4X2
	CBZ R4, return
	OTHERTILES
	B   tiles

return:
	RET

// func row4x1Half(k int, a *uint16, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)
TEXT ·row4x1Half(SB), NOSPLIT, $0-57
	HEAD4
	MASK
	ROWS4
	ZERO4X2
	CBZ R7, start
	LOAD4X1

start:
	SUBS $2, R0
	BLT  rest

next:
	TWO4
	VLD1.P 32(R1), [V20.S4, V21.S4]
	FIRST2(V20, V21, V24, V25)
	SECOND2(V20, V21)
	FMA4X1(0, 24)
	FMA4X1(1, 20)
	SUBS $2, R0
	BGE  next

rest:
	ADDS $2, R0
	BEQ  done
	ONE4
	VLD1 (R1), [V20.S4, V21.S4]
	FIRST2(V20, V21, V24, V25)
	FMA4X1(0, 24)

done:
	STORE4X1
	RET
