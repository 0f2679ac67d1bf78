//go:build goexperiment.simd

#include "textflag.h"
#include "avx2_amd64.h"
#include "sums_amd64.h"

// One step of the contraction for 8 rows and two panels: row r of A is broadcast and multiplied with the 16 columns of
// either panel. Z0-Z7 and Z8-Z15 are the sums, Z16 and Z17 the panels, Z18-Z25 the rows.
#define ROW2(r, offset, row, s0, s1) \
	VBROADCASTSS (offset+4*r)(AX), row; \
	VFMADD231PS  Z16, row, s0;          \
	VFMADD231PS  Z17, row, s1

#define STEP2(offset, panel) \
	VMOVUPS panel(BX), Z16;         \
	VMOVUPS panel(CX), Z17;         \
	ROW2(0, offset, Z18, Z0, Z8);   \
	ROW2(1, offset, Z19, Z1, Z9);   \
	ROW2(2, offset, Z20, Z2, Z10);  \
	ROW2(3, offset, Z21, Z3, Z11);  \
	ROW2(4, offset, Z22, Z4, Z12);  \
	ROW2(5, offset, Z23, Z5, Z13);  \
	ROW2(6, offset, Z24, Z6, Z14);  \
	ROW2(7, offset, Z25, Z7, Z15)

// func gemm8x2(k int, a, b0, b1, c0, c1 *float32, add bool, next *float32)
TEXT ·gemm8x2(SB), NOSPLIT, $0-64
	WITHOUT(·gemm8x2AVX2)
	PRODUCT2

// One step for 8 rows and three panels, the third in Z18, with sums Z24-Z31, and the rows in Z19-Z22.
#define ROW3(r, offset, row, s0, s1, s2) \
	VBROADCASTSS (offset+4*r)(AX), row; \
	VFMADD231PS  Z16, row, s0;          \
	VFMADD231PS  Z17, row, s1;          \
	VFMADD231PS  Z18, row, s2

#define STEP3(offset, panel) \
	VMOVUPS panel(BX), Z16;              \
	VMOVUPS panel(CX), Z17;              \
	VMOVUPS panel(R10), Z18;             \
	ROW3(0, offset, Z19, Z0, Z8, Z24);   \
	ROW3(1, offset, Z20, Z1, Z9, Z25);   \
	ROW3(2, offset, Z21, Z2, Z10, Z26);  \
	ROW3(3, offset, Z22, Z3, Z11, Z27);  \
	ROW3(4, offset, Z19, Z4, Z12, Z28);  \
	ROW3(5, offset, Z20, Z5, Z13, Z29);  \
	ROW3(6, offset, Z21, Z6, Z14, Z30);  \
	ROW3(7, offset, Z22, Z7, Z15, Z31)

// func gemm8x3(k int, a, b *float32, bStride int, c *float32, cStride int, add bool, next *float32)
TEXT ·gemm8x3(SB), NOSPLIT, $0-64
	PRODUCT3($2)

// One step for 8 rows and one panel.
#define ROW1(r, offset, row, s0) \
	VBROADCASTSS (offset+4*r)(AX), row; \
	VFMADD231PS  Z16, row, s0

#define STEP1(offset, panel) \
	VMOVUPS panel(BX), Z16;    \
	ROW1(0, offset, Z18, Z0);  \
	ROW1(1, offset, Z19, Z1);  \
	ROW1(2, offset, Z20, Z2);  \
	ROW1(3, offset, Z21, Z3);  \
	ROW1(4, offset, Z22, Z4);  \
	ROW1(5, offset, Z23, Z5);  \
	ROW1(6, offset, Z24, Z6);  \
	ROW1(7, offset, Z25, Z7)

// func gemm8x1(k int, a, b, c *float32, add bool)
TEXT ·gemm8x1(SB), NOSPLIT, $0-33
	WITHOUT(·gemm8x1AVX2)
	PRODUCT1

// func ask(a *float32)
TEXT ·ask(SB), NOSPLIT, $0-8
	MOVQ a+0(FP), AX
	PREFETCHT0 0(AX)
	PREFETCHT0 64(AX)
	PREFETCHT0 128(AX)
	PREFETCHT0 192(AX)
	PREFETCHT0 256(AX)
	PREFETCHT0 320(AX)
	PREFETCHT0 384(AX)
	PREFETCHT0 448(AX)
	RET
