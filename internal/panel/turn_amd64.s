//go:build goexperiment.simd

#include "textflag.h"
#include "avx2_amd64.h"

// The blocks of a tile of the transpose lie far apart, where no prefetcher of the processor looks; those of the next tile
// lie right behind them and are asked for in time.

// func turnBlocks8(tiles *float32, stride, n int, to *float32, lanes *[4][16]uint32)
TEXT ·turnBlocks8(SB), NOSPLIT, $0-40
	WITHOUT(·turnBlocks8AVX2)
	MOVQ    tiles+0(FP), AX
	MOVQ    stride+8(FP), R8
	MOVQ    n+16(FP), DX
	MOVQ    to+24(FP), DI
	MOVQ    lanes+32(FP), BX
	SHLQ    $2, R8
	VMOVUPS 0(BX), Z16
	VMOVUPS 64(BX), Z17
	VMOVUPS 128(BX), Z18
	VMOVUPS 192(BX), Z19

block:
	VMOVUPS     0(AX), Z0
	VMOVUPS     64(AX), Z1
	VMOVUPS     128(AX), Z2
	VMOVUPS     192(AX), Z3
	PREFETCHT0  256(AX)
	PREFETCHT0  320(AX)
	PREFETCHT0  384(AX)
	PREFETCHT0  448(AX)
	VMOVAPS     Z0, Z4
	VMOVAPS     Z2, Z5
	VPERMT2PS   Z1, Z16, Z0 // rows 0-3 of the first half
	VPERMT2PS   Z3, Z16, Z2 // and of the second
	VPERMT2PS   Z1, Z17, Z4 // rows 4-7
	VPERMT2PS   Z3, Z17, Z5
	VMOVAPS     Z0, Z6
	VMOVAPS     Z4, Z7
	VPERMT2PS   Z2, Z18, Z0
	VPERMT2PS   Z2, Z19, Z6
	VPERMT2PS   Z5, Z18, Z4
	VPERMT2PS   Z5, Z19, Z7
	VMOVUPS     Z0, 0(DI)
	VMOVUPS     Z6, 64(DI)
	VMOVUPS     Z4, 128(DI)
	VMOVUPS     Z7, 192(DI)
	ADDQ        R8, AX
	ADDQ        $256, DI
	DECQ        DX
	JNZ         block
	VZEROUPPER
	RET

// func turnHalfBlocks8(tiles *uint16, stride, n int, to *uint16, lanes *[2][32]uint16)
TEXT ·turnHalfBlocks8(SB), NOSPLIT, $0-40
	WITHOUT(·turnHalfBlocks8AVX2)
	MOVQ      tiles+0(FP), AX
	MOVQ      stride+8(FP), R8
	MOVQ      n+16(FP), DX
	MOVQ      to+24(FP), DI
	MOVQ      lanes+32(FP), BX
	SHLQ      $1, R8
	VMOVDQU16 0(BX), Z16
	VMOVDQU16 64(BX), Z17

block:
	VMOVDQU16  0(AX), Z0
	VMOVDQU16  64(AX), Z1
	PREFETCHT0 128(AX)
	PREFETCHT0 192(AX)
	VMOVDQA64  Z0, Z2
	VPERMT2W   Z1, Z16, Z0
	VPERMT2W   Z1, Z17, Z2
	VMOVDQU16  Z0, 0(DI)
	VMOVDQU16  Z2, 64(DI)
	ADDQ       R8, AX
	ADDQ       $128, DI
	DECQ       DX
	JNZ        block
	VZEROUPPER
	RET
