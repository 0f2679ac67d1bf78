//go:build goexperiment.simd

#include "textflag.h"
#include "amx_amd64.h"

// func dotScores(config *tileConfig, n int, offsets *int, depth int, a *uint16, aStride int, b *uint16, c *float32)
TEXT ·dotScores(SB), NOSPLIT, $0-64
	MOVQ config+0(FP), AX
	TILECONFIG_AX
	MOVQ n+8(FP), R12
	MOVQ offsets+16(FP), R13
	MOVQ aStride+40(FP), R8
	MOVQ b+48(FP), CX
	MOVQ c+56(FP), DI
	SHLQ $1, R8
	MOVQ $64, R9

scores:
	MOVQ (R13), AX
	SHLQ $1, AX
	ADDQ a+32(FP), AX
	MOVQ CX, BX
	MOVQ depth+24(FP), DX
	TILEZERO(0)
scoresdeep:
	TILELOAD(1, 0, 0)
	TILELOAD(2, 3, 1)
	TILEDOT(0, 1, 2)
	ADDQ $64, AX
	ADDQ $1024, BX
	DECQ DX
	JNZ  scoresdeep
	TILESTORE(0, 7, 1)
	ADDQ $1024, DI
	ADDQ $8, R13
	DECQ R12
	JNZ  scores
	TILERELEASE
	RET

// func dotMix(config *tileConfig, n int, offsets *int, a, b *uint16, c *float32, add bool)
TEXT ·dotMix(SB), NOSPLIT, $0-49
	MOVQ config+0(FP), AX
	TILECONFIG_AX
	MOVQ n+8(FP), DX
	MOVQ offsets+16(FP), R13
	MOVQ a+24(FP), R12
	MOVQ b+32(FP), BX
	MOVQ c+40(FP), DI
	MOVQ $32, R8
	MOVQ $64, R9
	TILEZERO(0)
	TILEZERO(1)
	CMPB add+48(FP), $0
	JEQ  mix
	TILELOAD(0, 7, 1)
	TILELOAD16(1, 7, 1)

	// Rows of 16 keys are 32 bytes: a block of 16 features is 512.
mix:
	MOVQ (R13), AX
	LEAQ (R12)(AX*2), AX
	TILELOAD(5, 3, 1)
	TILELOAD(4, 0, 0)
	TILEDOT(0, 4, 5)
	ADDQ $512, AX
	TILELOAD(6, 0, 0)
	TILEDOT(1, 6, 5)
	ADDQ $512, BX
	ADDQ $8, R13
	DECQ DX
	JNZ  mix
	TILESTORE(0, 7, 1)
	TILESTORE16(1, 7, 1)
	TILERELEASE
	RET

// func dotSpread(config *tileConfig, n int, offsets *int, a, b *uint16, c *float32, cStride int)
TEXT ·dotSpread(SB), NOSPLIT, $0-56
	MOVQ config+0(FP), AX
	TILECONFIG_AX
	MOVQ n+8(FP), DX
	MOVQ offsets+16(FP), R13
	MOVQ a+24(FP), AX
	MOVQ b+32(FP), BX
	MOVQ c+40(FP), R12
	MOVQ cStride+48(FP), R10
	MOVQ $32, R8
	MOVQ $64, R9
	SHLQ $2, R10
	TILELOAD(6, 3, 1)
	ADDQ $512, BX
	TILELOAD(7, 3, 1)

spread:
	MOVQ (R13), DI
	LEAQ (R12)(DI*4), DI
	LEAQ 64(DI), SI
	TILELOAD(2, 0, 0)
	TILELOAD(0, 7, 2)
	TILEDOT(0, 2, 6)
	TILELOAD(1, 6, 2)
	TILEDOT(1, 2, 7)
	TILESTORE(0, 7, 2)
	TILESTORE(1, 6, 2)
	ADDQ $512, AX
	ADDQ $8, R13
	DECQ DX
	JNZ  spread
	TILERELEASE
	RET
