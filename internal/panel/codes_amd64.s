//go:build goexperiment.simd

#include "textflag.h"

// First the products of 4 tiles kept as codes with one row, decoded on the way. As in row1x4, the sum of an output runs over
// k, one product after the other, and what a code stands for is rounded before it is multiplied. AVX2 and FMA suffice.

// AX, R9, R10 and R11 are 4 tiles, BX the row, Y0-Y3 the sums, Y12-Y15 the tiles' scales, CX counts.
#define CODES1X4 \
	MOVQ    k+0(FP), DX;         \
	MOVQ    a+8(FP), AX;         \
	MOVQ    aStride+16(FP), R8;  \
	MOVQ    x+24(FP), BX;        \
	MOVQ    c+32(FP), DI;        \
	MOVQ    by+40(FP), SI;       \
	MOVQ    byStride+48(FP), R12; \
	MOVBLZX add+56(FP), CX;      \
	LEAQ    (AX)(R8*1), R9;      \
	LEAQ    (AX)(R8*2), R10;     \
	LEAQ    (R9)(R8*2), R11;     \
	LEAQ    (R12)(R12*2), R13;   \
	VMOVUPS 0(SI), Y12;          \
	VMOVUPS 0(SI)(R12*1), Y13;   \
	VMOVUPS 0(SI)(R12*2), Y14;   \
	VMOVUPS 0(SI)(R13*1), Y15;   \
	VPXOR   Y0, Y0, Y0;          \
	VPXOR   Y1, Y1, Y1;          \
	VPXOR   Y2, Y2, Y2;          \
	VPXOR   Y3, Y3, Y3

#define LOADSUMS \
	VMOVUPS 0(DI), Y0;  \
	VMOVUPS 32(DI), Y1; \
	VMOVUPS 64(DI), Y2; \
	VMOVUPS 96(DI), Y3

#define STORESUMS \
	VMOVUPS Y0, 0(DI);  \
	VMOVUPS Y1, 32(DI); \
	VMOVUPS Y2, 64(DI); \
	VMOVUPS Y3, 96(DI)

// Both codes of a byte: the numbers of the halves of the table in Y10 and Y11 that they choose, the half by their highest
// bit, which moves to where a blend looks for it.
#define NIBBLES(at, by, sum) \
	VPMOVZXBD   at, Y4;              \
	VPSRLD      $4, Y4, Y7;          \
	VPERMPS     Y10, Y4, Y5;         \
	VPERMPS     Y11, Y4, Y6;         \
	VPSLLD      $28, Y4, Y4;         \
	VBLENDVPS   Y4, Y6, Y5, Y5;      \
	VMULPS      by, Y5, Y5;          \
	VFMADD231PS Y5, Y8, sum;         \
	VPERMPS     Y10, Y7, Y5;         \
	VPERMPS     Y11, Y7, Y6;         \
	VPSLLD      $28, Y7, Y7;         \
	VBLENDVPS   Y7, Y6, Y5, Y5;      \
	VMULPS      by, Y5, Y5;          \
	VFMADD231PS Y5, Y9, sum

// VCVTNE2PS2BF16 Z2, Z1, Z0 (AVX512_BF16, EVEX.512.F2.0F38.W0 72 /r): Z2 rounded to bfloat16, and Z1 behind it.
#define ROUND BYTE $0x62; BYTE $0xF2; BYTE $0x77; BYTE $0x48; BYTE $0x72; BYTE $0xC2

// 4 rows of a tile at a time: AX are codes, Z4 the scales twice, and Z2 and Z1 what is to be rounded and put in place.
#define HALVES \
	MOVQ            n+0(FP), DX;     \
	MOVQ            codes+8(FP), AX; \
	MOVQ            to+16(FP), DI;   \
	MOVQ            by+24(FP), SI;   \
	MOVQ            lanes+32(FP), BX; \
	VMOVDQU16       (BX), Z3;        \
	VBROADCASTF64X4 (SI), Z4

#define STOREHALVES \
	ROUND;                \
	VPERMW    Z0, Z3, Z0; \
	VMOVDQU16 Z0, (DI);   \
	ADDQ      $64, DI

// func row1x4Int8(k int, a *byte, aStride int, x, c, by *float32, byStride int, add bool)
TEXT ·row1x4Int8(SB), NOSPLIT, $0-57
	CODES1X4
	TESTL CX, CX
	JZ    start
	LOADSUMS

start:
	XORQ CX, CX // 4 times the element

next:
	VBROADCASTSS (BX)(CX*1), Y8
	VPMOVSXBD    (AX)(CX*2), Y4
	VPMOVSXBD    (R9)(CX*2), Y5
	VPMOVSXBD    (R10)(CX*2), Y6
	VPMOVSXBD    (R11)(CX*2), Y7
	VCVTDQ2PS    Y4, Y4
	VCVTDQ2PS    Y5, Y5
	VCVTDQ2PS    Y6, Y6
	VCVTDQ2PS    Y7, Y7
	VMULPS       Y12, Y4, Y4
	VMULPS       Y13, Y5, Y5
	VMULPS       Y14, Y6, Y6
	VMULPS       Y15, Y7, Y7
	VFMADD231PS  Y4, Y8, Y0
	VFMADD231PS  Y5, Y8, Y1
	VFMADD231PS  Y6, Y8, Y2
	VFMADD231PS  Y7, Y8, Y3
	ADDQ         $4, CX
	DECQ         DX
	JNZ          next
	STORESUMS
	VZEROUPPER
	RET

// func row1x4Nibbles(k int, a *byte, aStride int, x, c, by *float32, byStride int, add bool, table *[16]float32)
TEXT ·row1x4Nibbles(SB), NOSPLIT, $0-72
	CODES1X4
	MOVQ    table+64(FP), SI
	VMOVUPS 0(SI), Y10
	VMOVUPS 32(SI), Y11
	TESTL   CX, CX
	JZ      start
	LOADSUMS

start:
	XORQ CX, CX // 8 times the pair

next:
	VBROADCASTSS 0(BX)(CX*1), Y8
	VBROADCASTSS 4(BX)(CX*1), Y9
	NIBBLES((AX)(CX*1), Y12, Y0)
	NIBBLES((R9)(CX*1), Y13, Y1)
	NIBBLES((R10)(CX*1), Y14, Y2)
	NIBBLES((R11)(CX*1), Y15, Y3)
	ADDQ $8, CX
	DECQ DX
	JNZ  next
	STORESUMS
	VZEROUPPER
	RET

// func int8Halves(n int, codes *byte, to *uint16, by *float32, lanes *[32]uint16)
TEXT ·int8Halves(SB), NOSPLIT, $0-40
	HALVES

next:
	VPMOVSXBD 0(AX), Z2
	VPMOVSXBD 16(AX), Z1
	VCVTDQ2PS Z2, Z2
	VCVTDQ2PS Z1, Z1
	VMULPS    Z4, Z2, Z2
	VMULPS    Z4, Z1, Z1
	STOREHALVES
	ADDQ      $32, AX
	DECQ      DX
	JNZ       next
	VZEROUPPER
	RET

// func nibbleHalves(n int, codes *byte, to *uint16, by *float32, lanes *[32]uint16, table *[16]float32)
TEXT ·nibbleHalves(SB), NOSPLIT, $0-48
	HALVES
	MOVQ    table+40(FP), SI
	VMOVUPS (SI), Z5

next:
	VPMOVZXBD (AX), Z2
	VPSRLD    $4, Z2, Z1
	VPERMPS   Z5, Z2, Z2
	VPERMPS   Z5, Z1, Z1
	VMULPS    Z4, Z2, Z2
	VMULPS    Z4, Z1, Z1
	STOREHALVES
	ADDQ      $16, AX
	DECQ      DX
	JNZ       next
	VZEROUPPER
	RET
