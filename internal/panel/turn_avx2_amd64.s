//go:build goexperiment.simd

#include "textflag.h"

// Transposes in AVX2. The lower and the upper half of a register take four rows each, so that nothing has to change halves.

// Four columns, col bytes behind the first, of 8 rows R9 bytes apart become four rows R8 bytes apart. SI is row 0, R11 row 4;
// R10 and R12 are three times R9 and R8.
#define COLUMNS4(col, to) \
	VMOVUPS     col(SI), X0;                      \
	VMOVUPS     col(SI)(R9*1), X1;                \
	VMOVUPS     col(SI)(R9*2), X2;                \
	VMOVUPS     col(SI)(R10*1), X3;               \
	VINSERTF128 $1, col(R11), Y0, Y0;             \
	VINSERTF128 $1, col(R11)(R9*1), Y1, Y1;       \
	VINSERTF128 $1, col(R11)(R9*2), Y2, Y2;       \
	VINSERTF128 $1, col(R11)(R10*1), Y3, Y3;      \
	VUNPCKLPS   Y1, Y0, Y4;                       \
	VUNPCKHPS   Y1, Y0, Y5;                       \
	VUNPCKLPS   Y3, Y2, Y6;                       \
	VUNPCKHPS   Y3, Y2, Y7;                       \
	VUNPCKLPD   Y6, Y4, Y0;                       \
	VUNPCKHPD   Y6, Y4, Y1;                       \
	VUNPCKLPD   Y7, Y5, Y2;                       \
	VUNPCKHPD   Y7, Y5, Y3;                       \
	VMOVUPS     Y0, (to);                         \
	VMOVUPS     Y1, (to)(R8*1);                   \
	VMOVUPS     Y2, (to)(R8*2);                   \
	VMOVUPS     Y3, (to)(R12*1)

// turn8 turns 8 rows of 8 from SI to DI.
TEXT turn8<>(SB), NOSPLIT, $0
	LEAQ (R9)(R9*2), R10
	LEAQ (SI)(R9*4), R11
	LEAQ (R8)(R8*2), R12
	LEAQ (DI)(R8*4), R13
	COLUMNS4(0, DI)
	COLUMNS4(16, R13)
	RET

// func turn16AVX2(from *float32, fromStride int, to *float32, toStride int, lanes *[8][16]uint32)
TEXT ·turn16AVX2(SB), NOSPLIT, $0-40
	MOVQ from+0(FP), SI
	MOVQ fromStride+8(FP), R9
	MOVQ to+16(FP), DI
	MOVQ toStride+24(FP), R8
	SHLQ $2, R9
	SHLQ $2, R8
	CALL turn8<>(SB)
	ADDQ $32, SI
	LEAQ (DI)(R8*8), DI
	CALL turn8<>(SB)
	LEAQ (SI)(R9*8), SI
	ADDQ $32, DI
	CALL turn8<>(SB)
	SUBQ $32, SI
	MOVQ to+16(FP), DI
	ADDQ $32, DI
	CALL turn8<>(SB)
	VZEROUPPER
	RET

// func turnBlocks8AVX2(tiles *float32, stride, n int, to *float32, lanes *[4][16]uint32)
TEXT ·turnBlocks8AVX2(SB), NOSPLIT, $0-40
	MOVQ tiles+0(FP), SI
	MOVQ stride+8(FP), AX
	MOVQ n+16(FP), DX
	MOVQ to+24(FP), DI
	SHLQ $2, AX
	MOVQ $32, R8
	MOVQ $32, R9

block:
	PREFETCHT0 256(SI)
	PREFETCHT0 320(SI)
	PREFETCHT0 384(SI)
	PREFETCHT0 448(SI)
	CALL turn8<>(SB)
	ADDQ AX, SI
	ADDQ $256, DI
	DECQ DX
	JNZ  block
	VZEROUPPER
	RET

// swapMiddle are the bytes of two pairs of bfloat16, a and b of the one and c and d of the other, as a, c, b, d.
DATA swapMiddle<>+0(SB)/8, $0x0706030205040100
DATA swapMiddle<>+8(SB)/8, $0x0f0e0b0a0d0c0908
DATA swapMiddle<>+16(SB)/8, $0x0706030205040100
DATA swapMiddle<>+24(SB)/8, $0x0f0e0b0a0d0c0908
GLOBL swapMiddle<>(SB), RODATA|NOPTR, $32

// Four columns of a block in bfloat16, col bytes behind the first: two pairs of neighbours from either of 4 rows of pairs.
#define PAIRS2(col, to) \
	VMOVUPS     col(SI), X0;              \
	VMOVUPS     (col+32)(SI), X1;         \
	VINSERTF128 $1, (col+64)(SI), Y0, Y0; \
	VINSERTF128 $1, (col+96)(SI), Y1, Y1; \
	VPSHUFB     Y15, Y0, Y0;              \
	VPSHUFB     Y15, Y1, Y1;              \
	VPUNPCKLQDQ Y1, Y0, Y2;               \
	VPUNPCKHQDQ Y1, Y0, Y3;               \
	VMOVUPS     Y2, to(DI);               \
	VMOVUPS     Y3, (to+32)(DI)

// func turnHalfBlocks8AVX2(tiles *uint16, stride, n int, to *uint16, lanes *[2][32]uint16)
TEXT ·turnHalfBlocks8AVX2(SB), NOSPLIT, $0-40
	MOVQ    tiles+0(FP), SI
	MOVQ    stride+8(FP), R8
	MOVQ    n+16(FP), DX
	MOVQ    to+24(FP), DI
	SHLQ    $1, R8
	VMOVUPS swapMiddle<>(SB), Y15

block:
	PREFETCHT0 128(SI)
	PREFETCHT0 192(SI)
	PAIRS2(0, 0)
	PAIRS2(16, 64)
	ADDQ R8, SI
	ADDQ $128, DI
	DECQ DX
	JNZ  block
	VZEROUPPER
	RET
