#include "textflag.h"

// TURN4 turns four rows of four elements, s0-s3, into t0-t3; V28-V31 are free.
#define TURN4(s0, s1, s2, s3, t0, t1, t2, t3) \
	VTRN1 s1.S4, s0.S4, V28.S4;   \
	VTRN2 s1.S4, s0.S4, V29.S4;   \
	VTRN1 s3.S4, s2.S4, V30.S4;   \
	VTRN2 s3.S4, s2.S4, V31.S4;   \
	VTRN1 V30.D2, V28.D2, t0.D2;  \
	VTRN1 V31.D2, V29.D2, t1.D2;  \
	VTRN2 V30.D2, V28.D2, t2.D2;  \
	VTRN2 V31.D2, V29.D2, t3.D2

// func turn16(from *float32, fromStride int, to *float32, toStride int, lanes *[8][16]uint32)
TEXT ·turn16(SB), NOSPLIT, $0-40
	MOVD from+0(FP), R0
	MOVD fromStride+8(FP), R1
	MOVD to+16(FP), R2
	MOVD toStride+24(FP), R3
	LSL  $2, R1
	LSL  $2, R3
	MOVD $4, R4

columns: // four of all rows, which become four rows
	MOVD   R0, R5
	VLD1.P (R5)(R1), [V0.S4]
	VLD1.P (R5)(R1), [V1.S4]
	VLD1.P (R5)(R1), [V2.S4]
	VLD1.P (R5)(R1), [V3.S4]
	VLD1.P (R5)(R1), [V4.S4]
	VLD1.P (R5)(R1), [V5.S4]
	VLD1.P (R5)(R1), [V6.S4]
	VLD1.P (R5)(R1), [V7.S4]
	VLD1.P (R5)(R1), [V8.S4]
	VLD1.P (R5)(R1), [V9.S4]
	VLD1.P (R5)(R1), [V10.S4]
	VLD1.P (R5)(R1), [V11.S4]
	VLD1.P (R5)(R1), [V12.S4]
	VLD1.P (R5)(R1), [V13.S4]
	VLD1.P (R5)(R1), [V14.S4]
	VLD1.P (R5)(R1), [V15.S4]
	TURN4(V0, V1, V2, V3, V0, V16, V20, V24)
	TURN4(V4, V5, V6, V7, V1, V17, V21, V25)
	TURN4(V8, V9, V10, V11, V2, V18, V22, V26)
	TURN4(V12, V13, V14, V15, V3, V19, V23, V27)
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], (R2)(R3)
	VST1.P [V16.S4, V17.S4, V18.S4, V19.S4], (R2)(R3)
	VST1.P [V20.S4, V21.S4, V22.S4, V23.S4], (R2)(R3)
	VST1.P [V24.S4, V25.S4, V26.S4, V27.S4], (R2)(R3)
	ADD    $16, R0
	SUBS   $1, R4
	BNE    columns
	RET

// The blocks of a tile of the transpose lie far apart, where no prefetcher of the processor looks; those of the next tile
// lie right behind them and are asked for in time.

// func turnBlocks(tiles []float32, stride, n int, to []float32)
TEXT ·turnBlocks(SB), NOSPLIT, $0-64
	MOVD tiles_base+0(FP), R0
	MOVD stride+24(FP), R1
	MOVD n+32(FP), R2
	MOVD to_base+40(FP), R3
	LSL  $2, R1

block:
	MOVD   R0, R4
	VLD1.P 64(R4), [V0.S4, V1.S4, V2.S4, V3.S4] // even registers are the first halves of the rows
	VLD1.P 64(R4), [V4.S4, V5.S4, V6.S4, V7.S4]
	VLD1.P 64(R4), [V8.S4, V9.S4, V10.S4, V11.S4]
	VLD1.P 64(R4), [V12.S4, V13.S4, V14.S4, V15.S4]
	PRFM   (R4), PLDL1KEEP
	PRFM   64(R4), PLDL1KEEP
	PRFM   128(R4), PLDL1KEEP
	PRFM   192(R4), PLDL1KEEP
	TURN4(V0, V2, V4, V6, V16, V18, V20, V22)
	TURN4(V8, V10, V12, V14, V17, V19, V21, V23)
	VST1.P [V16.S4, V17.S4, V18.S4, V19.S4], 64(R3)
	VST1.P [V20.S4, V21.S4, V22.S4, V23.S4], 64(R3)
	TURN4(V1, V3, V5, V7, V16, V18, V20, V22)
	TURN4(V9, V11, V13, V15, V17, V19, V21, V23)
	VST1.P [V16.S4, V17.S4, V18.S4, V19.S4], 64(R3)
	VST1.P [V20.S4, V21.S4, V22.S4, V23.S4], 64(R3)
	ADD    R1, R0
	SUBS   $1, R2
	BNE    block
	RET

// TURNPAIRS turns two rows of four pairs, s0 and s1, into four columns of two rows of pairs, t0 and t1; V28 and V29 are free.
#define TURNPAIRS(s0, s1, t0, t1) \
	VUZP1 s1.H8, s0.H8, V28.H8;  \
	VUZP2 s1.H8, s0.H8, V29.H8;  \
	VTRN1 V29.S4, V28.S4, t0.S4; \
	VTRN2 V29.S4, V28.S4, t1.S4

// func turnHalfBlocks(tiles []uint16, stride, n int, to []uint16)
TEXT ·turnHalfBlocks(SB), NOSPLIT, $0-64
	MOVD tiles_base+0(FP), R0
	MOVD stride+24(FP), R1
	MOVD n+32(FP), R2
	MOVD to_base+40(FP), R3
	LSL  $1, R1

block:
	MOVD   R0, R4
	VLD1.P 64(R4), [V0.H8, V1.H8, V2.H8, V3.H8] // even registers are the first halves of the rows
	VLD1.P 64(R4), [V4.H8, V5.H8, V6.H8, V7.H8]
	PRFM   (R4), PLDL1KEEP
	PRFM   64(R4), PLDL1KEEP
	TURNPAIRS(V0, V2, V16, V18)
	TURNPAIRS(V4, V6, V17, V19)
	TURNPAIRS(V1, V3, V20, V22)
	TURNPAIRS(V5, V7, V21, V23)
	VST1.P [V16.H8, V17.H8, V18.H8, V19.H8], 64(R3)
	VST1.P [V20.H8, V21.H8, V22.H8, V23.H8], 64(R3)
	ADD    R1, R0
	SUBS   $1, R2
	BNE    block
	RET
