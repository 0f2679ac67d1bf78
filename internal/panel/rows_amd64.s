//go:build goexperiment.simd

#include "textflag.h"
#include "avx2_amd64.h"

// Products of the tiles of a weight with single rows. The sum of an output runs over k as in gemm8x2 or, for rows in
// bfloat16, half8x2, one product or pair of products after the other, so that its bits are the same.
//
// FULL: float32 tiles [k][8]. HALF: bfloat16 tiles [k/2][8][2], widened on the way. DOT: such tiles and rows in bfloat16,
// k being the number of pairs.

// One row. AX, R9, R10 and R11 are 4 tiles, BX the row, Y0-Y3 the sums.
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
	VPXOR   Y3, Y3, Y3;         \
	VPCMPEQD Y15, Y15, Y15;     \
	VPSLLD  $16, Y15, Y15

#define LOAD1X4 \
	VMOVUPS 0(DI), Y0;  \
	VMOVUPS 32(DI), Y1; \
	VMOVUPS 64(DI), Y2; \
	VMOVUPS 96(DI), Y3

#define STORE1X4 \
	VMOVUPS Y0, 0(DI);  \
	VMOVUPS Y1, 32(DI); \
	VMOVUPS Y2, 64(DI); \
	VMOVUPS Y3, 96(DI)

#define FORWARD4(size) \
	ADDQ $size, AX;  \
	ADDQ $size, R9;  \
	ADDQ $size, R10; \
	ADDQ $size, R11

#define FULL1(at, sum) VFMADD231PS at, Y8, sum

#define HALF1(at, sum) \
	VMOVDQU     at, Y4;      \
	VPSLLD      $16, Y4, Y5; \
	VPAND       Y15, Y4, Y4; \
	VFMADD231PS Y5, Y8, sum; \
	VFMADD231PS Y4, Y9, sum

#define HALF1LAST(at, sum) \
	VMOVDQU     at, Y4;      \
	VPSLLD      $16, Y4, Y5; \
	VFMADD231PS Y5, Y8, sum

// VDPBF16PS (EVEX.F3.0F38.W0 52 /r), which Go's assembler does not know: the pairs in Y8 and Y12-Y15 into Y0-Y3.
#define DOT1_0 BYTE $0x62; BYTE $0xD2; BYTE $0x3E; BYTE $0x28; BYTE $0x52; BYTE $0xC4
#define DOT1_1 BYTE $0x62; BYTE $0xD2; BYTE $0x3E; BYTE $0x28; BYTE $0x52; BYTE $0xCD
#define DOT1_2 BYTE $0x62; BYTE $0xD2; BYTE $0x3E; BYTE $0x28; BYTE $0x52; BYTE $0xD6
#define DOT1_3 BYTE $0x62; BYTE $0xD2; BYTE $0x3E; BYTE $0x28; BYTE $0x52; BYTE $0xDF

// Four rows. BX, BX+R12, BX+2*R12 and BX+R13 are the rows, DI, DI+SI, DI+2*SI and DI+R8 where the sums go: Z0 and Z1 of
// the first row, two tiles side by side in each, and so on; or Y0-Y3 of one tile.
#define HEAD4 \
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
	VPXORQ  Z0, Z0, Z0;          \
	VPXORQ  Z1, Z1, Z1;          \
	VPXORQ  Z2, Z2, Z2;          \
	VPXORQ  Z3, Z3, Z3;          \
	VPXORQ  Z4, Z4, Z4;          \
	VPXORQ  Z5, Z5, Z5;          \
	VPXORQ  Z6, Z6, Z6;          \
	VPXORQ  Z7, Z7, Z7;          \
	VPTERNLOGD $255, Z31, Z31, Z31; \
	VPSLLD  $16, Z31, Z31

#define LOAD4X4 \
	VMOVUPS 0(DI), Z0;         \
	VMOVUPS 64(DI), Z1;        \
	VMOVUPS 0(DI)(SI*1), Z2;   \
	VMOVUPS 64(DI)(SI*1), Z3;  \
	VMOVUPS 0(DI)(SI*2), Z4;   \
	VMOVUPS 64(DI)(SI*2), Z5;  \
	VMOVUPS 0(DI)(R8*1), Z6;   \
	VMOVUPS 64(DI)(R8*1), Z7

#define STORE4X4 \
	VMOVUPS Z0, 0(DI);         \
	VMOVUPS Z1, 64(DI);        \
	VMOVUPS Z2, 0(DI)(SI*1);   \
	VMOVUPS Z3, 64(DI)(SI*1);  \
	VMOVUPS Z4, 0(DI)(SI*2);   \
	VMOVUPS Z5, 64(DI)(SI*2);  \
	VMOVUPS Z6, 0(DI)(R8*1);   \
	VMOVUPS Z7, 64(DI)(R8*1)

#define LOAD4X1 \
	VMOVUPS 0(DI), Y0;       \
	VMOVUPS 0(DI)(SI*1), Y1; \
	VMOVUPS 0(DI)(SI*2), Y2; \
	VMOVUPS 0(DI)(R8*1), Y3

#define STORE4X1 \
	VMOVUPS Y0, 0(DI);       \
	VMOVUPS Y1, 0(DI)(SI*1); \
	VMOVUPS Y2, 0(DI)(SI*2); \
	VMOVUPS Y3, 0(DI)(R8*1)

#define TILES4 \
	VMOVUPS      (AX), Y8;          \
	VINSERTF64X4 $1, (R9), Z8, Z8;  \
	VMOVUPS      (R10), Y9;         \
	VINSERTF64X4 $1, (R11), Z9, Z9

// Element or pair at of the four rows, in all lanes.
#define ROWS4(SPREAD, at, x0, x1, x2, x3) \
	SPREAD at(BX), x0;         \
	SPREAD at(BX)(R12*1), x1;  \
	SPREAD at(BX)(R12*2), x2;  \
	SPREAD at(BX)(R13*1), x3

#define FMA4X4(w0, w1, x0, x1, x2, x3) \
	VFMADD231PS w0, x0, Z0; \
	VFMADD231PS w1, x0, Z1; \
	VFMADD231PS w0, x1, Z2; \
	VFMADD231PS w1, x1, Z3; \
	VFMADD231PS w0, x2, Z4; \
	VFMADD231PS w1, x2, Z5; \
	VFMADD231PS w0, x3, Z6; \
	VFMADD231PS w1, x3, Z7

#define FMA4X1(w, x0, x1, x2, x3) \
	VFMADD231PS w, x0, Y0; \
	VFMADD231PS w, x1, Y1; \
	VFMADD231PS w, x2, Y2; \
	VFMADD231PS w, x3, Y3

// VDPBF16PS: the pairs in Z8, Z9 and Z10-Z13 into Z0-Z7; those in Y8 and Y10-Y13 into Y0-Y3.
#define DOT4X4 \
	BYTE $0x62; BYTE $0xD2; BYTE $0x2E; BYTE $0x48; BYTE $0x52; BYTE $0xC0; \
	BYTE $0x62; BYTE $0xD2; BYTE $0x2E; BYTE $0x48; BYTE $0x52; BYTE $0xC9; \
	BYTE $0x62; BYTE $0xD2; BYTE $0x26; BYTE $0x48; BYTE $0x52; BYTE $0xD0; \
	BYTE $0x62; BYTE $0xD2; BYTE $0x26; BYTE $0x48; BYTE $0x52; BYTE $0xD9; \
	BYTE $0x62; BYTE $0xD2; BYTE $0x1E; BYTE $0x48; BYTE $0x52; BYTE $0xE0; \
	BYTE $0x62; BYTE $0xD2; BYTE $0x1E; BYTE $0x48; BYTE $0x52; BYTE $0xE9; \
	BYTE $0x62; BYTE $0xD2; BYTE $0x16; BYTE $0x48; BYTE $0x52; BYTE $0xF0; \
	BYTE $0x62; BYTE $0xD2; BYTE $0x16; BYTE $0x48; BYTE $0x52; BYTE $0xF9

#define DOT4X1 \
	BYTE $0x62; BYTE $0xD2; BYTE $0x2E; BYTE $0x28; BYTE $0x52; BYTE $0xC0; \
	BYTE $0x62; BYTE $0xD2; BYTE $0x26; BYTE $0x28; BYTE $0x52; BYTE $0xC8; \
	BYTE $0x62; BYTE $0xD2; BYTE $0x1E; BYTE $0x28; BYTE $0x52; BYTE $0xD0; \
	BYTE $0x62; BYTE $0xD2; BYTE $0x16; BYTE $0x28; BYTE $0x52; BYTE $0xD8

// func row1x4(k int, a *float32, aStride int, x, c *float32, add bool)
TEXT ·row1x4(SB), NOSPLIT, $0-41
	HEAD1
	TESTL CX, CX
	JZ    start
	LOAD1X4

start:
	SUBQ $2, DX
	JL   rest

next:
	VBROADCASTSS 0(BX), Y8
	FULL1(0(AX), Y0)
	FULL1(0(R9), Y1)
	FULL1(0(R10), Y2)
	FULL1(0(R11), Y3)
	VBROADCASTSS 4(BX), Y8
	FULL1(32(AX), Y0)
	FULL1(32(R9), Y1)
	FULL1(32(R10), Y2)
	FULL1(32(R11), Y3)
	FORWARD4(64)
	ADDQ $8, BX
	SUBQ $2, DX
	JGE  next

rest:
	ADDQ $2, DX
	JZ   done
	VBROADCASTSS 0(BX), Y8
	FULL1(0(AX), Y0)
	FULL1(0(R9), Y1)
	FULL1(0(R10), Y2)
	FULL1(0(R11), Y3)

done:
	STORE1X4
	VZEROUPPER
	RET

// func row1x1(k int, a *float32, aStride int, x, c *float32, add bool)
TEXT ·row1x1(SB), NOSPLIT, $0-41
	HEAD1
	TESTL CX, CX
	JZ    start
	VMOVUPS (DI), Y0

start:
	VBROADCASTSS (BX), Y8
	FULL1((AX), Y0)
	ADDQ $32, AX
	ADDQ $4, BX
	DECQ DX
	JNZ  start
	VMOVUPS Y0, (DI)
	VZEROUPPER
	RET

// func row4x4(k int, a *float32, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)
TEXT ·row4x4(SB), NOSPLIT, $0-57
	WITHOUT(·row4x4AVX2)
	HEAD4
	TESTL CX, CX
	JZ    start
	LOAD4X4

start:
	TILES4
	ROWS4(VBROADCASTSS, 0, Z10, Z11, Z12, Z13)
	FMA4X4(Z8, Z9, Z10, Z11, Z12, Z13)
	FORWARD4(32)
	ADDQ $4, BX
	DECQ DX
	JNZ  start
	STORE4X4
	VZEROUPPER
	RET

// func row4x1(k int, a *float32, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)
TEXT ·row4x1(SB), NOSPLIT, $0-57
	WITHOUT(·row4x1AVX2)
	HEAD4
	TESTL CX, CX
	JZ    start
	LOAD4X1

start:
	VMOVUPS (AX), Y8
	ROWS4(VBROADCASTSS, 0, Y10, Y11, Y12, Y13)
	FMA4X1(Y8, Y10, Y11, Y12, Y13)
	ADDQ $32, AX
	ADDQ $4, BX
	DECQ DX
	JNZ  start
	STORE4X1
	VZEROUPPER
	RET

// func row1x4Half(k int, a *uint16, aStride int, x, c *float32, add bool)
TEXT ·row1x4Half(SB), NOSPLIT, $0-41
	HEAD1
	TESTL CX, CX
	JZ    start
	LOAD1X4

start:
	SUBQ $2, DX
	JL   rest

next:
	VBROADCASTSS 0(BX), Y8
	VBROADCASTSS 4(BX), Y9
	HALF1((AX), Y0)
	HALF1((R9), Y1)
	HALF1((R10), Y2)
	HALF1((R11), Y3)
	FORWARD4(32)
	ADDQ $8, BX
	SUBQ $2, DX
	JGE  next

rest:
	ADDQ $2, DX
	JZ   done
	VBROADCASTSS (BX), Y8
	HALF1LAST((AX), Y0)
	HALF1LAST((R9), Y1)
	HALF1LAST((R10), Y2)
	HALF1LAST((R11), Y3)

done:
	STORE1X4
	VZEROUPPER
	RET

// func row1x1Half(k int, a *uint16, aStride int, x, c *float32, add bool)
TEXT ·row1x1Half(SB), NOSPLIT, $0-41
	HEAD1
	TESTL CX, CX
	JZ    start
	VMOVUPS (DI), Y0

start:
	SUBQ $2, DX
	JL   rest

next:
	VBROADCASTSS 0(BX), Y8
	VBROADCASTSS 4(BX), Y9
	HALF1((AX), Y0)
	ADDQ $32, AX
	ADDQ $8, BX
	SUBQ $2, DX
	JGE  next

rest:
	ADDQ $2, DX
	JZ   done
	VBROADCASTSS (BX), Y8
	HALF1LAST((AX), Y0)

done:
	VMOVUPS Y0, (DI)
	VZEROUPPER
	RET

// func row4x4Half(k int, a *uint16, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)
TEXT ·row4x4Half(SB), NOSPLIT, $0-57
	WITHOUT(·row4x4HalfAVX2)
	HEAD4
	TESTL CX, CX
	JZ    start
	LOAD4X4

start:
	SUBQ $2, DX
	JL   rest

next:
	TILES4
	VPSLLD $16, Z8, Z16
	VPSLLD $16, Z9, Z17
	VPANDD Z31, Z8, Z18
	VPANDD Z31, Z9, Z19
	ROWS4(VBROADCASTSS, 0, Z10, Z11, Z12, Z13)
	ROWS4(VBROADCASTSS, 4, Z20, Z21, Z22, Z23)
	FMA4X4(Z16, Z17, Z10, Z11, Z12, Z13)
	FMA4X4(Z18, Z19, Z20, Z21, Z22, Z23)
	FORWARD4(32)
	ADDQ $8, BX
	SUBQ $2, DX
	JGE  next

rest:
	ADDQ $2, DX
	JZ   done
	TILES4
	VPSLLD $16, Z8, Z16
	VPSLLD $16, Z9, Z17
	ROWS4(VBROADCASTSS, 0, Z10, Z11, Z12, Z13)
	FMA4X4(Z16, Z17, Z10, Z11, Z12, Z13)

done:
	STORE4X4
	VZEROUPPER
	RET

// func row4x1Half(k int, a *uint16, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)
TEXT ·row4x1Half(SB), NOSPLIT, $0-57
	WITHOUT(·row4x1HalfAVX2)
	HEAD4
	TESTL CX, CX
	JZ    start
	LOAD4X1

start:
	SUBQ $2, DX
	JL   rest

next:
	VMOVUPS (AX), Y8
	VPSLLD $16, Y8, Y16
	VPANDD Y31, Y8, Y18
	ROWS4(VBROADCASTSS, 0, Y10, Y11, Y12, Y13)
	ROWS4(VBROADCASTSS, 4, Y20, Y21, Y22, Y23)
	FMA4X1(Y16, Y10, Y11, Y12, Y13)
	FMA4X1(Y18, Y20, Y21, Y22, Y23)
	ADDQ $32, AX
	ADDQ $8, BX
	SUBQ $2, DX
	JGE  next

rest:
	ADDQ $2, DX
	JZ   done
	VMOVUPS (AX), Y8
	VPSLLD $16, Y8, Y16
	ROWS4(VBROADCASTSS, 0, Y10, Y11, Y12, Y13)
	FMA4X1(Y16, Y10, Y11, Y12, Y13)

done:
	STORE4X1
	VZEROUPPER
	RET

// func row1x4Dot(k int, a *uint16, aStride int, x *uint16, c *float32, add bool)
TEXT ·row1x4Dot(SB), NOSPLIT, $0-41
	HEAD1
	TESTL CX, CX
	JZ    start
	LOAD1X4

start:
	VPBROADCASTD (BX), Y8
	VMOVDQU (AX), Y12
	VMOVDQU (R9), Y13
	VMOVDQU (R10), Y14
	VMOVDQU (R11), Y15
	DOT1_0
	DOT1_1
	DOT1_2
	DOT1_3
	FORWARD4(32)
	ADDQ $4, BX
	DECQ DX
	JNZ  start
	STORE1X4
	VZEROUPPER
	RET

// func row1x1Dot(k int, a *uint16, aStride int, x *uint16, c *float32, add bool)
TEXT ·row1x1Dot(SB), NOSPLIT, $0-41
	HEAD1
	TESTL CX, CX
	JZ    start
	VMOVUPS (DI), Y0

start:
	VPBROADCASTD (BX), Y8
	VMOVDQU (AX), Y12
	DOT1_0
	ADDQ $32, AX
	ADDQ $4, BX
	DECQ DX
	JNZ  start
	VMOVUPS Y0, (DI)
	VZEROUPPER
	RET

// func row4x4Dot(k int, a *uint16, aStride int, x *uint16, xStride int, c *float32, cStride int, add bool)
TEXT ·row4x4Dot(SB), NOSPLIT, $0-57
	HEAD4
	TESTL CX, CX
	JZ    start
	LOAD4X4

start:
	TILES4
	ROWS4(VPBROADCASTD, 0, Z10, Z11, Z12, Z13)
	DOT4X4
	FORWARD4(32)
	ADDQ $4, BX
	DECQ DX
	JNZ  start
	STORE4X4
	VZEROUPPER
	RET

// func row4x1Dot(k int, a *uint16, aStride int, x *uint16, xStride int, c *float32, cStride int, add bool)
TEXT ·row4x1Dot(SB), NOSPLIT, $0-57
	HEAD4
	TESTL CX, CX
	JZ    start
	LOAD4X1

start:
	VMOVUPS (AX), Y8
	ROWS4(VPBROADCASTD, 0, Y10, Y11, Y12, Y13)
	DOT4X1
	ADDQ $32, AX
	ADDQ $4, BX
	DECQ DX
	JNZ  start
	STORE4X1
	VZEROUPPER
	RET
