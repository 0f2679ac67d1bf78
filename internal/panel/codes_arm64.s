#include "textflag.h"
#include "neon_arm64.h"
#include "sums_arm64.h"

// Products of 4 tiles kept as codes with one row, decoded on the way, and the decoding alone. As in codes_amd64.s, the sum of
// an output runs over k, one product after the other, and what a code stands for is rounded before it is multiplied. It is
// the decoding that takes the time, so the loops are what needs the fewest instructions for it.

// R1-R4 are 4 tiles, R5 the row, R0 counts, V8-V15 the tiles' scales.
#define CODES1X4 \
	MOVD  k+0(FP), R0;         \
	MOVD  a+8(FP), R1;         \
	MOVD  aStride+16(FP), R8;  \
	MOVD  x+24(FP), R5;        \
	MOVD  c+32(FP), R6;        \
	MOVD  by+40(FP), R10;      \
	MOVD  byStride+48(FP), R9; \
	MOVBU add+56(FP), R7;      \
	ADD   R8, R1, R2;          \
	ADD   R8, R2, R3;          \
	ADD   R8, R3, R4;          \
	ADD   R9, R10, R11;        \
	ADD   R9, R11, R12;        \
	ADD   R9, R12, R13;        \
	VLD1  (R10), [V8.S4, V9.S4];   \
	VLD1  (R11), [V10.S4, V11.S4]; \
	VLD1  (R12), [V12.S4, V13.S4]; \
	VLD1  (R13), [V14.S4, V15.S4]; \
	ZERO1X4

// Four codes of eight bits of 16, each to the highest byte of an int32, of which the others are zero: for the 4 registers that
// two rows of a tile fill.
DATA int8Lanes<>+0x00(SB)/8, $0x01FFFFFF00FFFFFF
DATA int8Lanes<>+0x08(SB)/8, $0x03FFFFFF02FFFFFF
DATA int8Lanes<>+0x10(SB)/8, $0x05FFFFFF04FFFFFF
DATA int8Lanes<>+0x18(SB)/8, $0x07FFFFFF06FFFFFF
DATA int8Lanes<>+0x20(SB)/8, $0x09FFFFFF08FFFFFF
DATA int8Lanes<>+0x28(SB)/8, $0x0BFFFFFF0AFFFFFF
DATA int8Lanes<>+0x30(SB)/8, $0x0DFFFFFF0CFFFFFF
DATA int8Lanes<>+0x38(SB)/8, $0x0FFFFFFF0EFFFFFF
GLOBL int8Lanes<>(SB), RODATA|NOPTR, $64

// They are in V16-V19.
#define INT8LANES \
	MOVD $int8Lanes<>(SB), R9; \
	VLD1 (R9), [V16.B16, V17.B16, V18.B16, V19.B16]

// The 8 codes in V21 as they are scaled by by and by+1: V22 and V23. And the 8 behind them: V24 and V25.
#define INT8S(by) \
	VTBL V16.B16, [V21.B16], V22.B16; \
	VTBL V17.B16, [V21.B16], V23.B16; \
	SCVTF4TOP(22, 22);                \
	SCVTF4TOP(23, 23);                \
	FMUL4(by, 22, 22);                \
	FMUL4(by+1, 23, 23)

#define MOREINT8S(by) \
	VTBL V18.B16, [V21.B16], V24.B16; \
	VTBL V19.B16, [V21.B16], V25.B16; \
	SCVTF4TOP(24, 24);                \
	SCVTF4TOP(25, 25);                \
	FMUL4(by, 24, 24);                \
	FMUL4(by+1, 25, 25)

// Two steps of a tile, or one.
#define INT8S1X1(tile, by, sum) \
	VLD1.P 16(tile), [V21.B16]; \
	INT8S(by);                  \
	MOREINT8S(by);              \
	FMA1X1(20, 0, 22, sum);     \
	FMA1X1(20, 1, 24, sum)

#define LASTINT8S1X1(tile, by, sum) \
	FMOVD (tile), F21;      \
	INT8S(by);              \
	FMA1X1(20, 0, 22, sum)

// The table at R9 as four times 16 bytes, the lowest of all its numbers in V16. V21 masks the lower four bits.
#define TABLE \
	VLD4  (R9), [V16.B16, V17.B16, V18.B16, V19.B16]; \
	VMOVI $15, V21.B16

// What 16 codes stand for: their bytes are looked up and put together in two steps. The first four numbers are in d, then e, b
// and a; e may be codes.
#define LOOKUP(codes, a, b, c, d, e) \
	VTBL  codes.B16, [V16.B16], a.B16; \
	VTBL  codes.B16, [V17.B16], b.B16; \
	VTBL  codes.B16, [V18.B16], c.B16; \
	VTBL  codes.B16, [V19.B16], d.B16; \
	VZIP1 b.B16, a.B16, e.B16;         \
	VZIP2 b.B16, a.B16, a.B16;         \
	VZIP1 d.B16, c.B16, b.B16;         \
	VZIP2 d.B16, c.B16, c.B16;         \
	VZIP1 b.H8, e.H8, d.H8;            \
	VZIP2 b.H8, e.H8, e.H8;            \
	VZIP1 c.H8, a.H8, b.H8;            \
	VZIP2 c.H8, a.H8, a.H8

// Two rows of 8 bytes in V22: the numbers of their lower halves in V25 and V26, then V23 and V24, those of their upper halves in
// V30 and V31, then V28 and V29.
#define NIBBLES \
	VAND  V21.B16, V22.B16, V26.B16;            \
	VUSHR $4, V22.B16, V22.B16;                 \
	LOOKUP(V26, V24, V23, V27, V25, V26);       \
	LOOKUP(V22, V29, V28, V27, V30, V31)

// Two numbers of registers, scaled.
#define SCALE(by, w) \
	FMUL4(by, w, w);     \
	FMUL4(by+1, w+1, w+1)

// Four steps of a tile, or two.
#define NIBBLES1X1(tile, by, sum) \
	VLD1.P 16(tile), [V22.B16]; \
	NIBBLES;                    \
	SCALE(by, 25);              \
	SCALE(by, 30);              \
	SCALE(by, 23);              \
	SCALE(by, 28);              \
	FMA1X1(20, 0, 25, sum);     \
	FMA1X1(20, 1, 30, sum);     \
	FMA1X1(20, 2, 23, sum);     \
	FMA1X1(20, 3, 28, sum)

#define LASTNIBBLES1X1(tile, by, sum) \
	FMOVD (tile), F22;       \
	NIBBLES;                 \
	SCALE(by, 25);           \
	SCALE(by, 30);           \
	FMA1X1(20, 0, 25, sum);  \
	FMA1X1(20, 1, 30, sum)

// func row1x4Int8(k int, a *byte, aStride int, x, c, by *float32, byStride int, add bool)
TEXT ·row1x4Int8(SB), NOSPLIT, $0-57
	CODES1X4
	INT8LANES
	CBZ R7, start
	LOAD1X4

start:
	SUBS $2, R0
	BLT  rest

next: // 16 products in 71 instructions
	FMOVD.P 8(R5), F20
	INT8S1X1(R1, 8, 0)
	INT8S1X1(R2, 10, 2)
	INT8S1X1(R3, 12, 4)
	INT8S1X1(R4, 14, 6)
	SUBS $2, R0
	BGE  next

rest:
	ADDS $2, R0
	BEQ  done
	FMOVS (R5), F20
	LASTINT8S1X1(R1, 8, 0)
	LASTINT8S1X1(R2, 10, 2)
	LASTINT8S1X1(R3, 12, 4)
	LASTINT8S1X1(R4, 14, 6)

done:
	STORE1X4
	RET

// func row1x4Nibbles(k int, a *byte, aStride int, x, c, by *float32, byStride int, add bool, table *[16]float32)
TEXT ·row1x4Nibbles(SB), NOSPLIT, $0-72
	CODES1X4
	MOVD table+64(FP), R9
	TABLE
	CBZ  R7, start
	LOAD1X4

start:
	SUBS $2, R0
	BLT  rest

next: // 32 products in 175 instructions
	VLD1.P 16(R5), [V20.S4]
	NIBBLES1X1(R1, 8, 0)
	NIBBLES1X1(R2, 10, 2)
	NIBBLES1X1(R3, 12, 4)
	NIBBLES1X1(R4, 14, 6)
	SUBS $2, R0
	BGE  next

rest:
	ADDS $2, R0
	BEQ  done
	FMOVD (R5), F20
	LASTNIBBLES1X1(R1, 8, 0)
	LASTNIBBLES1X1(R2, 10, 2)
	LASTNIBBLES1X1(R3, 12, 4)
	LASTNIBBLES1X1(R4, 14, 6)

done:
	STORE1X4
	RET

// func int8ToRows(n int, codes *byte, to, by *float32)
TEXT ·int8ToRows(SB), NOSPLIT, $0-32
	MOVD n+0(FP), R0
	MOVD codes+8(FP), R1
	MOVD to+16(FP), R2
	MOVD by+24(FP), R3
	VLD1 (R3), [V8.S4, V9.S4]
	INT8LANES
	SUBS $2, R0
	BLT  rest

next:
	VLD1.P 16(R1), [V21.B16]
	INT8S(8)
	MOREINT8S(8)
	VST1.P [V22.S4, V23.S4, V24.S4, V25.S4], 64(R2)
	SUBS $2, R0
	BGE  next

rest:
	ADDS $2, R0
	BEQ  done
	FMOVD (R1), F21
	INT8S(8)
	VST1 [V22.S4, V23.S4], (R2)

done:
	RET

// func nibblesToRows(n int, codes *byte, to, by *float32, table *[16]float32)
TEXT ·nibblesToRows(SB), NOSPLIT, $0-40
	MOVD n+0(FP), R0
	MOVD codes+8(FP), R1
	MOVD to+16(FP), R2
	MOVD by+24(FP), R3
	MOVD table+32(FP), R9
	VLD1 (R3), [V8.S4, V9.S4]
	TABLE
	SUBS $2, R0
	BLT  rest

next:
	VLD1.P 16(R1), [V22.B16]
	NIBBLES
	SCALE(8, 25)
	SCALE(8, 30)
	SCALE(8, 23)
	SCALE(8, 28)
	VST1.P [V25.S4, V26.S4], 32(R2)
	VST1.P [V30.S4, V31.S4], 32(R2)
	VST1.P [V23.S4, V24.S4], 32(R2)
	VST1.P [V28.S4, V29.S4], 32(R2)
	SUBS $2, R0
	BGE  next

rest:
	ADDS $2, R0
	BEQ  done
	FMOVD (R1), F22
	NIBBLES
	SCALE(8, 25)
	SCALE(8, 30)
	VST1.P [V25.S4, V26.S4], 32(R2)
	VST1.P [V30.S4, V31.S4], 32(R2)

done:
	RET

// func halvesToRows(n int, from *uint16, to *float32)
TEXT ·halvesToRows(SB), NOSPLIT, $0-24
	MOVD n+0(FP), R0
	MOVD from+8(FP), R1
	MOVD to+16(FP), R2
	MASK

next:
	VLD1.P 32(R1), [V2.S4, V3.S4]
	FIRST2(V2, V3, V0, V1)
	SECOND2(V2, V3)
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R2)
	SUBS $1, R0
	BNE  next
	RET
