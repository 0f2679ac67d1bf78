//go:build goexperiment.simd

#include "textflag.h"

// Products of the tiles of a weight with single rows. The sum of an output runs over k one product after the other, as
// in gemm8x2, so that its bits are the same. FULL and HALF say how 8 elements of a tile are read: float32 or bfloat16.

#define FULL(at, y) VMOVUPS at, y

#define HALF(at, y) \
	VPMOVZXWD at, y;    \
	VPSLLD    $16, y, y

// Two tiles side by side in one register.
#define FULL2(at0, at1, y, z) \
	VMOVUPS       at0, y;        \
	VINSERTF64X4  $1, at1, z, z

#define HALF2(at0, at1, y, z) \
	VPMOVZXWD    at0, y;        \
	VPMOVZXWD    at1, Y15;      \
	VINSERTF64X4 $1, Y15, z, z; \
	VPSLLD       $16, z, z

// row1x4 and row1x1: one row and 4 tiles or 1. AX, R9, R10 and R11 are tiles, BX the row.
#define HEAD1 \
	MOVQ    k+0(FP), DX;        \
	MOVQ    a+8(FP), AX;        \
	MOVQ    aStride+16(FP), R8; \
	MOVQ    x+24(FP), BX;       \
	MOVQ    c+32(FP), DI;       \
	MOVBLZX add+40(FP), CX;     \
	LEAQ    (AX)(R8*1), R9;     \
	LEAQ    (AX)(R8*2), R10;    \
	LEAQ    (R9)(R8*2), R11;    \
	VPXOR   Y0, Y0, Y0;         \
	VPXOR   Y1, Y1, Y1;         \
	VPXOR   Y2, Y2, Y2;         \
	VPXOR   Y3, Y3, Y3

#define STEP1X4(READ, at, size) \
	VBROADCASTSS (4*at)(BX), Y8;      \
	READ((size*at)(AX), Y4);          \
	READ((size*at)(R9), Y5);          \
	READ((size*at)(R10), Y6);         \
	READ((size*at)(R11), Y7);         \
	VFMADD231PS  Y4, Y8, Y0;          \
	VFMADD231PS  Y5, Y8, Y1;          \
	VFMADD231PS  Y6, Y8, Y2;          \
	VFMADD231PS  Y7, Y8, Y3

#define BODY1X4(READ, size) \
	TESTL   CX, CX;          \
	JZ      start;           \
	VMOVUPS 0(DI), Y0;       \
	VMOVUPS 32(DI), Y1;      \
	VMOVUPS 64(DI), Y2;      \
	VMOVUPS 96(DI), Y3;      \
start:                       \
	SUBQ $4, DX;             \
	JL   rest;               \
four:                        \
	STEP1X4(READ, 0, size);  \
	STEP1X4(READ, 1, size);  \
	STEP1X4(READ, 2, size);  \
	STEP1X4(READ, 3, size);  \
	ADDQ $(4*size), AX;      \
	ADDQ $(4*size), R9;      \
	ADDQ $(4*size), R10;     \
	ADDQ $(4*size), R11;     \
	ADDQ $16, BX;            \
	SUBQ $4, DX;             \
	JGE  four;               \
rest:                        \
	ADDQ $4, DX;             \
	JZ   done;               \
one:                         \
	STEP1X4(READ, 0, size);  \
	ADDQ $size, AX;          \
	ADDQ $size, R9;          \
	ADDQ $size, R10;         \
	ADDQ $size, R11;         \
	ADDQ $4, BX;             \
	DECQ DX;                 \
	JNZ  one;                \
done:                        \
	VMOVUPS Y0, 0(DI);       \
	VMOVUPS Y1, 32(DI);      \
	VMOVUPS Y2, 64(DI);      \
	VMOVUPS Y3, 96(DI);      \
	VZEROUPPER;              \
	RET

#define BODY1X1(READ, size) \
	TESTL   CX, CX;             \
	JZ      one;                \
	VMOVUPS 0(DI), Y0;          \
one:                            \
	VBROADCASTSS (BX), Y8;      \
	READ((AX), Y4);             \
	VFMADD231PS  Y4, Y8, Y0;    \
	ADDQ $size, AX;             \
	ADDQ $4, BX;                \
	DECQ DX;                    \
	JNZ  one;                   \
	VMOVUPS Y0, 0(DI);          \
	VZEROUPPER;                 \
	RET

// row4x4 and row4x1: four rows and 4 tiles or 1. Rows are at BX, BX+R12, BX+2*R12 and BX+R13.
#define HEAD4 \
	MOVQ    k+0(FP), DX;        \
	MOVQ    a+8(FP), AX;        \
	MOVQ    aStride+16(FP), R8; \
	MOVQ    x+24(FP), BX;       \
	MOVQ    xStride+32(FP), R12;\
	MOVQ    c+40(FP), DI;       \
	MOVQ    cStride+48(FP), SI; \
	MOVBLZX add+56(FP), CX;     \
	LEAQ    (AX)(R8*1), R9;     \
	LEAQ    (AX)(R8*2), R10;    \
	LEAQ    (R9)(R8*2), R11;    \
	LEAQ    (R12)(R12*2), R13;  \
	LEAQ    (SI)(SI*2), R8;        \
	VPXORQ  Z0, Z0, Z0;         \
	VPXORQ  Z1, Z1, Z1;         \
	VPXORQ  Z2, Z2, Z2;         \
	VPXORQ  Z3, Z3, Z3;         \
	VPXORQ  Z4, Z4, Z4;         \
	VPXORQ  Z5, Z5, Z5;         \
	VPXORQ  Z6, Z6, Z6;         \
	VPXORQ  Z7, Z7, Z7

#define BODY4X4(READ2, size) \
	TESTL   CX, CX;                   \
	JZ      one;                      \
	VMOVUPS 0(DI), Z0;                \
	VMOVUPS 64(DI), Z1;               \
	VMOVUPS 0(DI)(SI*1), Z2;          \
	VMOVUPS 64(DI)(SI*1), Z3;         \
	VMOVUPS 0(DI)(SI*2), Z4;          \
	VMOVUPS 64(DI)(SI*2), Z5;         \
	VMOVUPS 0(DI)(R8*1), Z6;         \
	VMOVUPS 64(DI)(R8*1), Z7;        \
one:                                  \
	READ2((AX), (R9), Y8, Z8);        \
	READ2((R10), (R11), Y9, Z9);      \
	VBROADCASTSS (BX), Z10;           \
	VBROADCASTSS (BX)(R12*1), Z11;    \
	VBROADCASTSS (BX)(R12*2), Z12;    \
	VBROADCASTSS (BX)(R13*1), Z13;    \
	VFMADD231PS  Z8, Z10, Z0;         \
	VFMADD231PS  Z9, Z10, Z1;         \
	VFMADD231PS  Z8, Z11, Z2;         \
	VFMADD231PS  Z9, Z11, Z3;         \
	VFMADD231PS  Z8, Z12, Z4;         \
	VFMADD231PS  Z9, Z12, Z5;         \
	VFMADD231PS  Z8, Z13, Z6;         \
	VFMADD231PS  Z9, Z13, Z7;         \
	ADDQ $size, AX;                   \
	ADDQ $size, R9;                   \
	ADDQ $size, R10;                  \
	ADDQ $size, R11;                  \
	ADDQ $4, BX;                      \
	DECQ DX;                          \
	JNZ  one;                         \
	VMOVUPS Z0, 0(DI);                \
	VMOVUPS Z1, 64(DI);               \
	VMOVUPS Z2, 0(DI)(SI*1);          \
	VMOVUPS Z3, 64(DI)(SI*1);         \
	VMOVUPS Z4, 0(DI)(SI*2);          \
	VMOVUPS Z5, 64(DI)(SI*2);         \
	VMOVUPS Z6, 0(DI)(R8*1);         \
	VMOVUPS Z7, 64(DI)(R8*1);        \
	VZEROUPPER;                       \
	RET

#define BODY4X1(READ, size) \
	TESTL   CX, CX;                   \
	JZ      one;                      \
	VMOVUPS 0(DI), Y0;                \
	VMOVUPS 0(DI)(SI*1), Y1;          \
	VMOVUPS 0(DI)(SI*2), Y2;          \
	VMOVUPS 0(DI)(R8*1), Y3;         \
one:                                  \
	READ((AX), Y8);                   \
	VBROADCASTSS (BX), Y10;           \
	VBROADCASTSS (BX)(R12*1), Y11;    \
	VBROADCASTSS (BX)(R12*2), Y12;    \
	VBROADCASTSS (BX)(R13*1), Y13;    \
	VFMADD231PS  Y8, Y10, Y0;         \
	VFMADD231PS  Y8, Y11, Y1;         \
	VFMADD231PS  Y8, Y12, Y2;         \
	VFMADD231PS  Y8, Y13, Y3;         \
	ADDQ $size, AX;                   \
	ADDQ $4, BX;                      \
	DECQ DX;                          \
	JNZ  one;                         \
	VMOVUPS Y0, 0(DI);                \
	VMOVUPS Y1, 0(DI)(SI*1);          \
	VMOVUPS Y2, 0(DI)(SI*2);          \
	VMOVUPS Y3, 0(DI)(R8*1);         \
	VZEROUPPER;                       \
	RET

// func row1x4(k int, a *float32, aStride int, x, c *float32, add bool)
TEXT ·row1x4(SB), NOSPLIT, $0-41
	HEAD1
	BODY1X4(FULL, 32)

// func row1x4Half(k int, a *uint16, aStride int, x, c *float32, add bool)
TEXT ·row1x4Half(SB), NOSPLIT, $0-41
	HEAD1
	BODY1X4(HALF, 16)

// func row1x1(k int, a *float32, aStride int, x, c *float32, add bool)
TEXT ·row1x1(SB), NOSPLIT, $0-41
	HEAD1
	BODY1X1(FULL, 32)

// func row1x1Half(k int, a *uint16, aStride int, x, c *float32, add bool)
TEXT ·row1x1Half(SB), NOSPLIT, $0-41
	HEAD1
	BODY1X1(HALF, 16)

// func row4x4(k int, a *float32, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)
TEXT ·row4x4(SB), NOSPLIT, $0-57
	HEAD4
	BODY4X4(FULL2, 32)

// func row4x4Half(k int, a *uint16, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)
TEXT ·row4x4Half(SB), NOSPLIT, $0-57
	HEAD4
	BODY4X4(HALF2, 16)

// func row4x1(k int, a *float32, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)
TEXT ·row4x1(SB), NOSPLIT, $0-57
	HEAD4
	BODY4X1(FULL, 32)

// func row4x1Half(k int, a *uint16, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)
TEXT ·row4x1Half(SB), NOSPLIT, $0-57
	HEAD4
	BODY4X1(HALF, 16)
