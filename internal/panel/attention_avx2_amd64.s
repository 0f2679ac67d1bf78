//go:build goexperiment.simd

#include "textflag.h"
#include "parts_avx2_amd64.h"

// The kernels of attention in AVX2, 6, 6 and 4 of 16 rows at a time.

#define STORE2(s0, s1) \
	VMOVUPS s0, (DI);   \
	VMOVUPS s1, 32(DI); \
	ADDQ    R9, DI

#define STOREROWS4 \
	STORE2(Y0, Y1); \
	STORE2(Y2, Y3); \
	STORE2(Y4, Y5); \
	STORE2(Y6, Y7)

#define STOREROWS6 \
	STOREROWS4;     \
	STORE2(Y8, Y9); \
	STORE2(Y10, Y11)

#define LOAD2(s0, s1) \
	VMOVUPS (R12), s0;   \
	VMOVUPS 32(R12), s1; \
	ADDQ    R9, R12

#define LOADROWS4 \
	LOAD2(Y0, Y1); \
	LOAD2(Y2, Y3); \
	LOAD2(Y4, Y5); \
	LOAD2(Y6, Y7)

// scores6 and scores4 are DX steps for as many columns of A from AX on; they leave DI behind the sums, whose rows lie R9 bytes
// apart.
TEXT scores6<>(SB), NOSPLIT, $0
	ZERO4(Y0, Y1, Y2, Y3)
	ZERO4(Y4, Y5, Y6, Y7)
	ZERO4(Y8, Y9, Y10, Y11)

step:
	STEP6(0, 0, 4)
	ADDQ $64, AX
	ADDQ $64, BX
	DECQ DX
	JNZ  step
	STOREROWS6
	RET

TEXT scores4<>(SB), NOSPLIT, $0
	ZERO4(Y0, Y1, Y2, Y3)
	ZERO4(Y4, Y5, Y6, Y7)

step:
	STEP4(0, 0, 4)
	ADDQ $64, AX
	ADDQ $64, BX
	DECQ DX
	JNZ  step
	STOREROWS4
	RET

#define SCORES(columns, from) \
	MOVQ k+0(FP), DX;   \
	MOVQ a+8(FP), AX;   \
	MOVQ b+16(FP), BX;  \
	ADDQ $(4*from), AX; \
	CALL columns<>(SB)

// func scores16AVX2(k int, a, b, c *float32)
TEXT ·scores16AVX2(SB), NOSPLIT, $0-32
	MOVQ c+24(FP), DI
	MOVQ $64, R9
	SCORES(scores6, 0)
	SCORES(scores6, 6)
	SCORES(scores4, 12)
	VZEROUPPER
	RET

// mix6 and mix4 are as many rows of DX panels, whose offsets R10 are from SI on; the rows of b are R8 bytes apart, those of
// the sums R9. They leave DI behind them.
TEXT mix6<>(SB), NOSPLIT, $0
	MOVQ DI, R12
	LOADROWS4
	LOAD2(Y8, Y9)
	LOAD2(Y10, Y11)

panels:
	MOVQ (R10), AX
	ADDQ $8, R10
	LEAQ (SI)(AX*4), AX
	MOVQ $16, CX

step:
	STEP6(0, 0, 64)
	ADDQ $4, AX
	ADDQ R8, BX
	DECQ CX
	JNZ  step
	DECQ DX
	JNZ  panels
	STOREROWS6
	RET

TEXT mix4<>(SB), NOSPLIT, $0
	MOVQ DI, R12
	LOADROWS4

panels:
	MOVQ (R10), AX
	ADDQ $8, R10
	LEAQ (SI)(AX*4), AX
	MOVQ $16, CX

step:
	STEP4(0, 0, 64)
	ADDQ $4, AX
	ADDQ R8, BX
	DECQ CX
	JNZ  step
	DECQ DX
	JNZ  panels
	STOREROWS4
	RET

#define MIXED \
	MOVQ    a+16(FP), SI;       \
	MOVQ    bStride+32(FP), R8; \
	MOVQ    c+40(FP), DI;       \
	MOVQ    cStride+48(FP), R9; \
	SHLQ    $2, R8;             \
	SHLQ    $2, R9

#define MIX(rows) \
	MOVQ n+0(FP), DX;        \
	MOVQ offsets+8(FP), R10; \
	MOVQ b+24(FP), BX;       \
	CALL rows<>(SB)

// func mix16AVX2(n int, offsets *int, a, b *float32, bStride int, c *float32, cStride int)
TEXT ·mix16AVX2(SB), NOSPLIT, $0-56
	MIXED
	MIX(mix6)
	ADDQ $(6*64), SI
	MIX(mix6)
	ADDQ $(6*64), SI
	MIX(mix4)
	VZEROUPPER
	RET

// func mix8AVX2(n int, offsets *int, a, b *float32, bStride int, c *float32, cStride int)
TEXT ·mix8AVX2(SB), NOSPLIT, $0-56
	MIXED
	MIX(mix4)
	ADDQ $(4*64), SI
	MIX(mix4)
	VZEROUPPER
	RET

// The lanes of a sum are added up as in AVX-512: first the upper and the lower eight.
#define REDUCE(low, high, x) \
	VADDPS       high, low, low;  \
	VEXTRACTF128 $1, low, X9;     \
	VADDPS       X9, x, x

// func dot4x4AVX2(n int, a *float32, aStride int, b *float32, bStride int, c *float32, cStride int)
TEXT ·dot4x4AVX2(SB), NOSPLIT, $0-56
	MOVQ a+8(FP), SI
	MOVQ aStride+16(FP), R8
	MOVQ bStride+32(FP), R9
	MOVQ c+40(FP), DI
	MOVQ cStride+48(FP), R10
	SHLQ $2, R8
	SHLQ $2, R9
	SHLQ $2, R10
	MOVQ $4, CX

row: // of A, with all of B
	MOVQ n+0(FP), DX
	MOVQ SI, AX
	MOVQ b+24(FP), BX
	ZERO4(Y0, Y1, Y2, Y3)
	ZERO4(Y4, Y5, Y6, Y7)

step:
	VMOVUPS     (AX), Y8
	VMOVUPS     32(AX), Y9
	VFMADD231PS 0(BX), Y8, Y0
	VFMADD231PS 32(BX), Y9, Y1
	VFMADD231PS 64(BX), Y8, Y2
	VFMADD231PS 96(BX), Y9, Y3
	VFMADD231PS 128(BX), Y8, Y4
	VFMADD231PS 160(BX), Y9, Y5
	VFMADD231PS 192(BX), Y8, Y6
	VFMADD231PS 224(BX), Y9, Y7
	ADDQ        R8, AX
	ADDQ        R9, BX
	DECQ        DX
	JNZ         step
	REDUCE(Y0, Y1, X0)
	REDUCE(Y2, Y3, X2)
	REDUCE(Y4, Y5, X4)
	REDUCE(Y6, Y7, X6)
	VHADDPS     X2, X0, X0
	VHADDPS     X6, X4, X4
	VHADDPS     X4, X0, X0
	VADDPS      (DI), X0, X0
	VMOVUPS     X0, (DI)
	ADDQ        $64, SI
	ADDQ        R10, DI
	DECQ        CX
	JNZ         row
	VZEROUPPER
	RET
