//go:build goexperiment.simd

#include "textflag.h"
#include "parts_avx2_amd64.h"

// The products of rows_amd64.s with 4 rows in AVX2, two tiles at a time, so that a tile is read once. BX, BX+R12, BX+2*R12 and
// BX+R13 are the rows, DI, DI+SI, DI+2*SI and DI+R8 where the sums go.

#define HEAD \
	MOVQ    k+0(FP), DX;         \
	MOVQ    a+8(FP), AX;         \
	MOVQ    aStride+16(FP), R8;  \
	MOVQ    x+24(FP), BX;        \
	MOVQ    xStride+32(FP), R12; \
	MOVQ    c+40(FP), DI;        \
	MOVQ    cStride+48(FP), SI;  \
	MOVBLZX add+56(FP), CX;      \
	LEAQ    (AX)(R8*1), R9;      \
	LEAQ    (AX)(R8*2), R10;     \
	LEAQ    (R9)(R8*2), R11;     \
	LEAQ    (R12)(R12*2), R13;   \
	LEAQ    (SI)(SI*2), R8;      \
	VPCMPEQD Y15, Y15, Y15;      \
	VPSLLD  $16, Y15, Y15

// Back to the first element, for the other two tiles.
#define OTHERTILES \
	MOVQ k+0(FP), DX;  \
	MOVQ x+24(FP), BX; \
	MOVQ R10, AX;      \
	MOVQ R11, R9;      \
	ADDQ $64, DI

#define ZEROSUMS \
	ZERO4(Y0, Y1, Y2, Y3); \
	ZERO4(Y4, Y5, Y6, Y7)

// The sums of the first row and both tiles are Y0 and Y1, and so on.
#define LOADSUMS \
	VMOVUPS 0(DI), Y0;         \
	VMOVUPS 32(DI), Y1;        \
	VMOVUPS 0(DI)(SI*1), Y2;   \
	VMOVUPS 32(DI)(SI*1), Y3;  \
	VMOVUPS 0(DI)(SI*2), Y4;   \
	VMOVUPS 32(DI)(SI*2), Y5;  \
	VMOVUPS 0(DI)(R8*1), Y6;   \
	VMOVUPS 32(DI)(R8*1), Y7

#define STORESUMS \
	VMOVUPS Y0, 0(DI);         \
	VMOVUPS Y1, 32(DI);        \
	VMOVUPS Y2, 0(DI)(SI*1);   \
	VMOVUPS Y3, 32(DI)(SI*1);  \
	VMOVUPS Y4, 0(DI)(SI*2);   \
	VMOVUPS Y5, 32(DI)(SI*2);  \
	VMOVUPS Y6, 0(DI)(R8*1);   \
	VMOVUPS Y7, 32(DI)(R8*1)

// Element at of a row times both tiles' w0 and w1.
#define SPREAD2(at, x, w0, w1, s0, s1) \
	VBROADCASTSS at, x;      \
	VFMADD231PS  w0, x, s0;  \
	VFMADD231PS  w1, x, s1

#define FMA4X2(at, w0, w1) \
	SPREAD2(at(BX), Y12, w0, w1, Y0, Y1);        \
	SPREAD2(at(BX)(R12*1), Y13, w0, w1, Y2, Y3); \
	SPREAD2(at(BX)(R12*2), Y12, w0, w1, Y4, Y5); \
	SPREAD2(at(BX)(R13*1), Y13, w0, w1, Y6, Y7)

// The same for one tile and the sums Y0, Y2, Y4 and Y6.
#define SPREAD1(at, x, w, sum) \
	VBROADCASTSS at, x;     \
	VFMADD231PS  w, x, sum

#define FMA4X1(at, w) \
	SPREAD1(at(BX), Y12, w, Y0);        \
	SPREAD1(at(BX)(R12*1), Y13, w, Y2); \
	SPREAD1(at(BX)(R12*2), Y12, w, Y4); \
	SPREAD1(at(BX)(R13*1), Y13, w, Y6)

#define LOADSUMS1 \
	VMOVUPS 0(DI), Y0;       \
	VMOVUPS 0(DI)(SI*1), Y2; \
	VMOVUPS 0(DI)(SI*2), Y4; \
	VMOVUPS 0(DI)(R8*1), Y6

#define STORESUMS1 \
	VMOVUPS Y0, 0(DI);       \
	VMOVUPS Y2, 0(DI)(SI*1); \
	VMOVUPS Y4, 0(DI)(SI*2); \
	VMOVUPS Y6, 0(DI)(R8*1)

// full2 is the product with the tiles AX and R9, half2 that with such in bfloat16.
TEXT full2<>(SB), NOSPLIT, $0
	ZEROSUMS
	TESTL CX, CX
	JZ    step
	LOADSUMS

step:
	VMOVUPS (AX), Y8
	VMOVUPS (R9), Y9
	FMA4X2(0, Y8, Y9)
	ADDQ $32, AX
	ADDQ $32, R9
	ADDQ $4, BX
	DECQ DX
	JNZ  step
	STORESUMS
	RET

TEXT half2<>(SB), NOSPLIT, $0
	ZEROSUMS
	TESTL CX, CX
	JZ    start
	LOADSUMS

start:
	SUBQ $2, DX
	JL   rest

next:
	VMOVUPS (AX), Y8
	VMOVUPS (R9), Y9
	VPSLLD  $16, Y8, Y10
	VPSLLD  $16, Y9, Y11
	VPAND   Y15, Y8, Y8
	VPAND   Y15, Y9, Y9
	FMA4X2(0, Y10, Y11)
	FMA4X2(4, Y8, Y9)
	ADDQ $32, AX
	ADDQ $32, R9
	ADDQ $8, BX
	SUBQ $2, DX
	JGE  next

rest:
	ADDQ $2, DX
	JZ   done
	VMOVUPS (AX), Y8
	VMOVUPS (R9), Y9
	VPSLLD  $16, Y8, Y10
	VPSLLD  $16, Y9, Y11
	FMA4X2(0, Y10, Y11)

done:
	STORESUMS
	RET

// func row4x4AVX2(k int, a *float32, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)
TEXT ·row4x4AVX2(SB), NOSPLIT, $0-57
	HEAD
	CALL full2<>(SB)
	OTHERTILES
	CALL full2<>(SB)
	VZEROUPPER
	RET

// func row4x1AVX2(k int, a *float32, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)
TEXT ·row4x1AVX2(SB), NOSPLIT, $0-57
	HEAD
	ZEROSUMS
	TESTL CX, CX
	JZ    step
	LOADSUMS1

step:
	VMOVUPS (AX), Y8
	FMA4X1(0, Y8)
	ADDQ $32, AX
	ADDQ $4, BX
	DECQ DX
	JNZ  step
	STORESUMS1
	VZEROUPPER
	RET

// func row4x4HalfAVX2(k int, a *uint16, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)
TEXT ·row4x4HalfAVX2(SB), NOSPLIT, $0-57
	HEAD
	CALL half2<>(SB)
	OTHERTILES
	CALL half2<>(SB)
	VZEROUPPER
	RET

// func row4x1HalfAVX2(k int, a *uint16, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)
TEXT ·row4x1HalfAVX2(SB), NOSPLIT, $0-57
	HEAD
	ZEROSUMS
	TESTL CX, CX
	JZ    start
	LOADSUMS1

start:
	SUBQ $2, DX
	JL   rest

next:
	VMOVUPS (AX), Y8
	VPSLLD  $16, Y8, Y10
	VPAND   Y15, Y8, Y8
	FMA4X1(0, Y10)
	FMA4X1(4, Y8)
	ADDQ $32, AX
	ADDQ $8, BX
	SUBQ $2, DX
	JGE  next

rest:
	ADDQ $2, DX
	JZ   done
	VMOVUPS (AX), Y8
	VPSLLD  $16, Y8, Y10
	FMA4X1(0, Y10)

done:
	STORESUMS1
	VZEROUPPER
	RET
