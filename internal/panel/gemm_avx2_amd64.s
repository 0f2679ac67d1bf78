//go:build goexperiment.simd

#include "textflag.h"
#include "parts_avx2_amd64.h"

// gemm8x2 and gemm8x1 in AVX2. Sixteen registers hold no 8 rows of 16 sums, so that a tile goes by in parts: 6 rows with
// either panel, 12 sums that keep both multipliers busy, then the last 2 rows with both.

// Two rows in Y12 and Y13, and both panels.
#define STEP2(offset, panel) \
	VBROADCASTSS (offset+0)(AX), Y12; \
	VBROADCASTSS (offset+4)(AX), Y13; \
	VMOVUPS      (panel)(BX), Y8;     \
	VFMADD231PS  Y8, Y12, Y0;         \
	VFMADD231PS  Y8, Y13, Y4;         \
	VMOVUPS      (panel+32)(BX), Y9;  \
	VFMADD231PS  Y9, Y12, Y1;         \
	VFMADD231PS  Y9, Y13, Y5;         \
	VMOVUPS      (panel)(CX), Y10;    \
	VFMADD231PS  Y10, Y12, Y2;        \
	VFMADD231PS  Y10, Y13, Y6;        \
	VMOVUPS      (panel+32)(CX), Y11; \
	VFMADD231PS  Y11, Y12, Y3;        \
	VFMADD231PS  Y11, Y13, Y7

#define LOAD4(at0, at1, at2, at3, s0, s1, s2, s3) \
	VMOVUPS at0, s0; \
	VMOVUPS at1, s1; \
	VMOVUPS at2, s2; \
	VMOVUPS at3, s3

#define STORE4(at0, at1, at2, at3, s0, s1, s2, s3) \
	VMOVUPS s0, at0; \
	VMOVUPS s1, at1; \
	VMOVUPS s2, at2; \
	VMOVUPS s3, at3

// The parts below take DX steps of the contraction: tile AX, panel BX, sums DI, which count for nothing at first if R8 is 0.
// They leave AX and BX behind what they read.

// rows6 is 6 rows with a panel; half of the tile at R9 is asked for on the way.
TEXT rows6<>(SB), NOSPLIT, $0
	TESTL R8, R8
	JNZ   load
	ZERO4(Y0, Y1, Y2, Y3)
	ZERO4(Y4, Y5, Y6, Y7)
	ZERO4(Y8, Y9, Y10, Y11)
	JMP   start

load:
	LOAD4(0(DI), 32(DI), 64(DI), 96(DI), Y0, Y1, Y2, Y3)
	LOAD4(128(DI), 160(DI), 192(DI), 224(DI), Y4, Y5, Y6, Y7)
	LOAD4(256(DI), 288(DI), 320(DI), 352(DI), Y8, Y9, Y10, Y11)

start:
	SUBQ $4, DX
	JL   rest

four:
	PREFETCHT0 (R9)
	STEP6(0, 0, 4)
	STEP6(32, 64, 4)
	STEP6(64, 128, 4)
	STEP6(96, 192, 4)
	ADDQ $128, AX
	ADDQ $64, R9
	ADDQ $256, BX
	SUBQ $4, DX
	JGE  four

rest:
	ADDQ $4, DX
	JZ   done

one:
	STEP6(0, 0, 4)
	ADDQ $32, AX
	ADDQ $64, BX
	DECQ DX
	JNZ  one

done:
	STORE4(0(DI), 32(DI), 64(DI), 96(DI), Y0, Y1, Y2, Y3)
	STORE4(128(DI), 160(DI), 192(DI), 224(DI), Y4, Y5, Y6, Y7)
	STORE4(256(DI), 288(DI), 320(DI), 352(DI), Y8, Y9, Y10, Y11)
	RET

// rows4 is 4 rows with a panel.
TEXT rows4<>(SB), NOSPLIT, $0
	TESTL R8, R8
	JNZ   load
	ZERO4(Y0, Y1, Y2, Y3)
	ZERO4(Y4, Y5, Y6, Y7)
	JMP   start

load:
	LOAD4(0(DI), 32(DI), 64(DI), 96(DI), Y0, Y1, Y2, Y3)
	LOAD4(128(DI), 160(DI), 192(DI), 224(DI), Y4, Y5, Y6, Y7)

start:
	SUBQ $2, DX
	JL   rest

two:
	STEP4(0, 0, 4)
	STEP4(32, 64, 4)
	ADDQ $64, AX
	ADDQ $128, BX
	SUBQ $2, DX
	JGE  two

rest:
	ADDQ $2, DX
	JZ   done
	STEP4(0, 0, 4)
	ADDQ $32, AX
	ADDQ $64, BX

done:
	STORE4(0(DI), 32(DI), 64(DI), 96(DI), Y0, Y1, Y2, Y3)
	STORE4(128(DI), 160(DI), 192(DI), 224(DI), Y4, Y5, Y6, Y7)
	RET

// rows2 is 2 rows with the panels BX and CX; the latter's sums are at SI.
TEXT rows2<>(SB), NOSPLIT, $0
	TESTL R8, R8
	JNZ   load
	ZERO4(Y0, Y1, Y2, Y3)
	ZERO4(Y4, Y5, Y6, Y7)
	JMP   start

load:
	LOAD4(0(DI), 32(DI), 0(SI), 32(SI), Y0, Y1, Y2, Y3)
	LOAD4(64(DI), 96(DI), 64(SI), 96(SI), Y4, Y5, Y6, Y7)

start:
	SUBQ $2, DX
	JL   rest

two:
	STEP2(0, 0)
	STEP2(32, 64)
	ADDQ $64, AX
	ADDQ $128, BX
	ADDQ $128, CX
	SUBQ $2, DX
	JGE  two

rest:
	ADDQ $2, DX
	JZ   done
	STEP2(0, 0)
	ADDQ $32, AX
	ADDQ $64, BX
	ADDQ $64, CX

done:
	STORE4(0(DI), 32(DI), 0(SI), 32(SI), Y0, Y1, Y2, Y3)
	STORE4(64(DI), 96(DI), 64(SI), 96(SI), Y4, Y5, Y6, Y7)
	RET

// func gemm8x2AVX2(k int, a, b0, b1, c0, c1 *float32, add bool, next *float32)
TEXT ·gemm8x2AVX2(SB), NOSPLIT, $0-64
	MOVQ    k+0(FP), R10
	MOVQ    a+8(FP), R11
	MOVQ    b0+16(FP), R12
	MOVQ    b1+24(FP), R13
	MOVBLZX add+48(FP), R8
	MOVQ    next+56(FP), R9

stretch: // of the contraction, whose rows of both panels stay in a first-level cache of 32 kB while three parts pass by
	MOVQ    $128, R15
	CMPQ    R10, R15
	CMOVQLT R10, R15
	MOVQ    R15, DX
	MOVQ    R11, AX
	MOVQ    R12, BX
	MOVQ    c0+32(FP), DI
	CALL    rows6<>(SB)
	MOVQ    R15, DX
	MOVQ    R11, AX
	MOVQ    R13, BX
	MOVQ    c1+40(FP), DI
	CALL    rows6<>(SB)
	MOVQ    R15, DX
	LEAQ    24(R11), AX
	MOVQ    R12, BX
	MOVQ    R13, CX
	MOVQ    c0+32(FP), DI
	MOVQ    c1+40(FP), SI
	ADDQ    $384, DI
	ADDQ    $384, SI
	CALL    rows2<>(SB)
	LEAQ    -24(AX), R11
	MOVQ    BX, R12
	MOVQ    CX, R13
	MOVL    $1, R8
	SUBQ    R15, R10
	JNZ     stretch
	VZEROUPPER
	RET

// func gemm8x1AVX2(k int, a, b, c *float32, add bool)
TEXT ·gemm8x1AVX2(SB), NOSPLIT, $0-33
	MOVBLZX add+32(FP), R8
	MOVQ    k+0(FP), DX
	MOVQ    a+8(FP), AX
	MOVQ    b+16(FP), BX
	MOVQ    c+24(FP), DI
	CALL    rows4<>(SB)
	MOVQ    k+0(FP), DX
	MOVQ    a+8(FP), AX
	MOVQ    b+16(FP), BX
	ADDQ    $16, AX
	ADDQ    $256, DI
	CALL    rows4<>(SB)
	VZEROUPPER
	RET
