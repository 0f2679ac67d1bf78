//go:build goexperiment.simd

#include "textflag.h"
#include "avx2_amd64.h"
#include "strided_amd64.h"
#include "sums_amd64.h"

#define ROW(at, row, sum) \
	VBROADCASTSS at, row;    \
	VFMADD231PS  Z16, row, sum

// What mix16 and mix8 are given.
#define MIXED \
	MOVQ n+0(FP), DX; \
	MOVQ offsets+8(FP), R10; \
	MOVQ a+16(FP), SI; \
	MOVQ b+24(FP), BX; \
	MOVQ bStride+32(FP), R8; \
	MOVQ c+40(FP), DI; \
	MOVQ cStride+48(FP), R9; \
	SHLQ $2, R8; \
	SHLQ $2, R9; \
	MOVQ DI, R12

// func scores16(k int, a, b, c *float32)
TEXT ·scores16(SB), NOSPLIT, $0-32
	WITHOUT(·scores16AVX2)
	MOVQ k+0(FP), DX
	MOVQ a+8(FP), AX
	MOVQ b+16(FP), BX
	MOVQ c+24(FP), DI
	ZERO16

step:
	VMOVUPS (BX), Z16
	ROW(0(AX), Z18, Z0)
	ROW(4(AX), Z19, Z1)
	ROW(8(AX), Z20, Z2)
	ROW(12(AX), Z21, Z3)
	ROW(16(AX), Z22, Z4)
	ROW(20(AX), Z23, Z5)
	ROW(24(AX), Z24, Z6)
	ROW(28(AX), Z25, Z7)
	ROW(32(AX), Z26, Z8)
	ROW(36(AX), Z27, Z9)
	ROW(40(AX), Z28, Z10)
	ROW(44(AX), Z29, Z11)
	ROW(48(AX), Z30, Z12)
	ROW(52(AX), Z31, Z13)
	ROW(56(AX), Z18, Z14)
	ROW(60(AX), Z19, Z15)
	ADDQ $64, AX
	ADDQ $64, BX
	DECQ DX
	JNZ  step
	VMOVUPS Z0, 0(DI)
	VMOVUPS Z1, 64(DI)
	VMOVUPS Z2, 128(DI)
	VMOVUPS Z3, 192(DI)
	VMOVUPS Z4, 256(DI)
	VMOVUPS Z5, 320(DI)
	VMOVUPS Z6, 384(DI)
	VMOVUPS Z7, 448(DI)
	VMOVUPS Z8, 512(DI)
	VMOVUPS Z9, 576(DI)
	VMOVUPS Z10, 640(DI)
	VMOVUPS Z11, 704(DI)
	VMOVUPS Z12, 768(DI)
	VMOVUPS Z13, 832(DI)
	VMOVUPS Z14, 896(DI)
	VMOVUPS Z15, 960(DI)
	VZEROUPPER
	RET

// One element of A times two panels.
#define PAIR(at, row, s0, s1) \
	VBROADCASTSS at, row;      \
	VFMADD231PS  Z16, row, s0; \
	VFMADD231PS  Z17, row, s1

// func scores16x2(k int, a, b0, b1, c0, c1 *float32)
TEXT ·scores16x2(SB), NOSPLIT, $0-48
	MOVQ a+8(FP), R9
	MOVQ c0+32(FP), DI
	MOVQ c1+40(FP), SI
	MOVQ $2, R8

eight: // columns of a
	MOVQ k+0(FP), DX
	MOVQ R9, AX
	MOVQ b0+16(FP), BX
	MOVQ b1+24(FP), CX
	ZERO16

step:
	VMOVUPS (BX), Z16
	VMOVUPS (CX), Z17
	PAIR(0(AX), Z18, Z0, Z8)
	PAIR(4(AX), Z19, Z1, Z9)
	PAIR(8(AX), Z20, Z2, Z10)
	PAIR(12(AX), Z21, Z3, Z11)
	PAIR(16(AX), Z22, Z4, Z12)
	PAIR(20(AX), Z23, Z5, Z13)
	PAIR(24(AX), Z24, Z6, Z14)
	PAIR(28(AX), Z25, Z7, Z15)
	ADDQ $64, AX
	ADDQ $64, BX
	ADDQ $64, CX
	DECQ DX
	JNZ  step
	STORE8(DI, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	STORE8(SI, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15)
	ADDQ $512, DI
	ADDQ $512, SI
	ADDQ $32, R9
	DECQ R8
	JNZ  eight
	VZEROUPPER
	RET

// func mix16(n int, offsets *int, a, b *float32, bStride int, c *float32, cStride int)
TEXT ·mix16(SB), NOSPLIT, $0-56
	WITHOUT(·mix16AVX2)
	MIXED
	LOAD16

panels:
	MOVQ (R10), AX
	ADDQ $8, R10
	LEAQ (SI)(AX*4), AX
	MOVQ $16, CX

step:
	VMOVUPS (BX), Z16
	ROW(0(AX), Z18, Z0)
	ROW(64(AX), Z19, Z1)
	ROW(128(AX), Z20, Z2)
	ROW(192(AX), Z21, Z3)
	ROW(256(AX), Z22, Z4)
	ROW(320(AX), Z23, Z5)
	ROW(384(AX), Z24, Z6)
	ROW(448(AX), Z25, Z7)
	ROW(512(AX), Z26, Z8)
	ROW(576(AX), Z27, Z9)
	ROW(640(AX), Z28, Z10)
	ROW(704(AX), Z29, Z11)
	ROW(768(AX), Z30, Z12)
	ROW(832(AX), Z31, Z13)
	ROW(896(AX), Z18, Z14)
	ROW(960(AX), Z19, Z15)
	ADDQ $4, AX
	ADDQ R8, BX
	DECQ CX
	JNZ  step
	DECQ DX
	JNZ  panels
	MOVQ DI, R12
	STORE16
	VZEROUPPER
	RET

// func mix8(n int, offsets *int, a, b *float32, bStride int, c *float32, cStride int)
TEXT ·mix8(SB), NOSPLIT, $0-56
	WITHOUT(·mix8AVX2)
	MIXED
	NEXTLOAD8(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)

panels:
	MOVQ (R10), AX
	ADDQ $8, R10
	LEAQ (SI)(AX*4), AX
	MOVQ $16, CX

step:
	VMOVUPS (BX), Z16
	ROW(0(AX), Z18, Z0)
	ROW(64(AX), Z19, Z1)
	ROW(128(AX), Z20, Z2)
	ROW(192(AX), Z21, Z3)
	ROW(256(AX), Z22, Z4)
	ROW(320(AX), Z23, Z5)
	ROW(384(AX), Z24, Z6)
	ROW(448(AX), Z25, Z7)
	ADDQ $4, AX
	ADDQ R8, BX
	DECQ CX
	JNZ  step
	DECQ DX
	JNZ  panels
	MOVQ DI, R12
	NEXTSTORE8(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	VZEROUPPER
	RET

// func mix8x2(n int, offsets *int, a, b0, b1 *float32, bStride int, c0, c1 *float32, cStride int)
TEXT ·mix8x2(SB), NOSPLIT, $0-72
	MOVQ n+0(FP), DX
	MOVQ offsets+8(FP), R10
	MOVQ a+16(FP), SI
	MOVQ b0+24(FP), BX
	MOVQ b1+32(FP), DI
	MOVQ bStride+40(FP), R8
	MOVQ cStride+64(FP), R9
	SHLQ $2, R8
	SHLQ $2, R9
	MOVQ c0+48(FP), R12
	NEXTLOAD8(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	MOVQ c1+56(FP), R12
	NEXTLOAD8(Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15)

panels:
	MOVQ (R10), AX
	ADDQ $8, R10
	LEAQ (SI)(AX*4), AX
	MOVQ $16, CX

step:
	VMOVUPS (BX), Z16
	VMOVUPS (DI), Z17
	PAIR(0(AX), Z18, Z0, Z8)
	PAIR(64(AX), Z19, Z1, Z9)
	PAIR(128(AX), Z20, Z2, Z10)
	PAIR(192(AX), Z21, Z3, Z11)
	PAIR(256(AX), Z22, Z4, Z12)
	PAIR(320(AX), Z23, Z5, Z13)
	PAIR(384(AX), Z24, Z6, Z14)
	PAIR(448(AX), Z25, Z7, Z15)
	ADDQ $4, AX
	ADDQ R8, BX
	ADDQ R8, DI
	DECQ CX
	JNZ  step
	DECQ DX
	JNZ  panels
	MOVQ c0+48(FP), R12
	NEXTSTORE8(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	MOVQ c1+56(FP), R12
	NEXTSTORE8(Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15)
	VZEROUPPER
	RET

// Four rows of B times one row of A, lane by lane.
#define DOTS(at, s0, s1, s2, s3) \
	VMOVUPS     at, Z20;      \
	VFMADD231PS Z16, Z20, s0; \
	VFMADD231PS Z17, Z20, s1; \
	VFMADD231PS Z18, Z20, s2; \
	VFMADD231PS Z19, Z20, s3

// The lanes of four sums are added up; Y is the ymm, X the xmm of each.
#define REDUCE(z, y, x) \
	VEXTRACTF64X4 $1, z, Y21;   \
	VADDPS        Y21, y, y;    \
	VEXTRACTF32X4 $1, y, X21;   \
	VADDPS        X21, x, x

#define REDUCE4(z0, y0, x0, z1, y1, x1, z2, y2, x2, z3, y3, x3, to) \
	REDUCE(z0, y0, x0);   \
	REDUCE(z1, y1, x1);   \
	REDUCE(z2, y2, x2);   \
	REDUCE(z3, y3, x3);   \
	VHADDPS x1, x0, x0;   \
	VHADDPS x3, x2, x2;   \
	VHADDPS x2, x0, x0;   \
	VADDPS  to, x0, x0;   \
	VMOVUPS x0, to

// func dot4x4(n int, a *float32, aStride int, b *float32, bStride int, c *float32, cStride int)
TEXT ·dot4x4(SB), NOSPLIT, $0-56
	WITHOUT(·dot4x4AVX2)
	MOVQ n+0(FP), DX
	MOVQ a+8(FP), AX
	MOVQ aStride+16(FP), R8
	MOVQ b+24(FP), BX
	MOVQ bStride+32(FP), R9
	MOVQ c+40(FP), DI
	MOVQ cStride+48(FP), R10
	SHLQ $2, R8
	SHLQ $2, R9
	SHLQ $2, R10
	ZERO16

step:
	VMOVUPS 0(BX), Z16
	VMOVUPS 64(BX), Z17
	VMOVUPS 128(BX), Z18
	VMOVUPS 192(BX), Z19
	DOTS(0(AX), Z0, Z1, Z2, Z3)
	DOTS(64(AX), Z4, Z5, Z6, Z7)
	DOTS(128(AX), Z8, Z9, Z10, Z11)
	DOTS(192(AX), Z12, Z13, Z14, Z15)
	ADDQ R8, AX
	ADDQ R9, BX
	DECQ DX
	JNZ  step
	REDUCE4(Z0, Y0, X0, Z1, Y1, X1, Z2, Y2, X2, Z3, Y3, X3, (DI))
	ADDQ R10, DI
	REDUCE4(Z4, Y4, X4, Z5, Y5, X5, Z6, Y6, X6, Z7, Y7, X7, (DI))
	ADDQ R10, DI
	REDUCE4(Z8, Y8, X8, Z9, Y9, X9, Z10, Y10, X10, Z11, Y11, X11, (DI))
	ADDQ R10, DI
	REDUCE4(Z12, Y12, X12, Z13, Y13, X13, Z14, Y14, X14, Z15, Y15, X15, (DI))
	VZEROUPPER
	RET

// Rows a and b of a matrix being transposed exchange the lanes that keep and give say; Z24 is free.
#define SWAP(a, b, keep, give) \
	VMOVAPS    a, Z24;       \
	VPERMT2PS  b, keep, a;   \
	VPERMT2PS  b, give, Z24; \
	VMOVAPS    Z24, b

// func turn16(from *float32, fromStride int, to *float32, toStride int, lanes *[8][16]uint32)
TEXT ·turn16(SB), NOSPLIT, $0-40
	WITHOUT(·turn16AVX2)
	MOVQ from+0(FP), R12
	MOVQ fromStride+8(FP), R9
	MOVQ lanes+32(FP), AX
	SHLQ $2, R9
	VMOVUPS 0(AX), Z16
	VMOVUPS 64(AX), Z17
	VMOVUPS 128(AX), Z18
	VMOVUPS 192(AX), Z19
	VMOVUPS 256(AX), Z20
	VMOVUPS 320(AX), Z21
	VMOVUPS 384(AX), Z22
	VMOVUPS 448(AX), Z23
	LOAD16
	SWAP(Z0, Z8, Z16, Z17)
	SWAP(Z1, Z9, Z16, Z17)
	SWAP(Z2, Z10, Z16, Z17)
	SWAP(Z3, Z11, Z16, Z17)
	SWAP(Z4, Z12, Z16, Z17)
	SWAP(Z5, Z13, Z16, Z17)
	SWAP(Z6, Z14, Z16, Z17)
	SWAP(Z7, Z15, Z16, Z17)
	SWAP(Z0, Z4, Z18, Z19)
	SWAP(Z1, Z5, Z18, Z19)
	SWAP(Z2, Z6, Z18, Z19)
	SWAP(Z3, Z7, Z18, Z19)
	SWAP(Z8, Z12, Z18, Z19)
	SWAP(Z9, Z13, Z18, Z19)
	SWAP(Z10, Z14, Z18, Z19)
	SWAP(Z11, Z15, Z18, Z19)
	SWAP(Z0, Z2, Z20, Z21)
	SWAP(Z1, Z3, Z20, Z21)
	SWAP(Z4, Z6, Z20, Z21)
	SWAP(Z5, Z7, Z20, Z21)
	SWAP(Z8, Z10, Z20, Z21)
	SWAP(Z9, Z11, Z20, Z21)
	SWAP(Z12, Z14, Z20, Z21)
	SWAP(Z13, Z15, Z20, Z21)
	SWAP(Z0, Z1, Z22, Z23)
	SWAP(Z2, Z3, Z22, Z23)
	SWAP(Z4, Z5, Z22, Z23)
	SWAP(Z6, Z7, Z22, Z23)
	SWAP(Z8, Z9, Z22, Z23)
	SWAP(Z10, Z11, Z22, Z23)
	SWAP(Z12, Z13, Z22, Z23)
	SWAP(Z14, Z15, Z22, Z23)
	MOVQ to+16(FP), R12
	MOVQ toStride+24(FP), R9
	SHLQ $2, R9
	STORE16
	VZEROUPPER
	RET
