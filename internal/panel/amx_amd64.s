//go:build goexperiment.simd

#include "textflag.h"
#include "amx_amd64.h"

// func linesTimes(config *tileConfig, k, blocks int, a *uint16, panels int, b *uint16, bStride int, c *float32, cStride int, add bool, next *uint16, nextStride, run, jump int)
TEXT ·linesTimes(SB), NOSPLIT, $8-112
	MOVQ    config+0(FP), AX
	TILECONFIG_AX
	MOVQ    b+40(FP), R10
	MOVQ    bStride+48(FP), R11
	MOVQ    c+56(FP), DI
	MOVQ    cStride+64(FP), R13
	MOVQ    next+80(FP), R8
	MOVQ    nextStride+88(FP), R14
	MOVQ    run+96(FP), AX
	MOVQ    AX, left-8(SP)
	SHLQ    $1, R11
	SHLQ    $2, R13
	SHLQ    $1, R14
	LEAQ    (R14)(R14*2), R15
	MOVQ    $64, R9
	CMPQ    blocks+16(FP), $1
	JEQ     low

	// 32 rows of a: sums of two panels in T0 to T3, a in T4 and T5, b in T6 and T7.
pair:
	SUBQ $2, panels+32(FP)
	JL   single
	MOVQ k+8(FP), DX
	MOVQ a+24(FP), AX
	MOVQ R10, BX
	LEAQ (R10)(R11*1), CX
	LEAQ (DI)(R13*1), SI
	LEAQ (DI)(R13*2), R12
	TILEZERO(0)
	TILEZERO(1)
	TILEZERO(2)
	TILEZERO(3)
	CMPB add+72(FP), $0
	JEQ  pairloop
	TILELOAD(0, 7, 1)
	TILELOAD16(1, 7, 1)
	TILELOAD(2, 6, 1)
	TILELOAD16(3, 6, 1)
pairloop:
	TILELOAD(4, 0, 1)
	TILELOAD(6, 3, 1)
	TILEDOT(0, 4, 6)
	TILELOAD16(5, 0, 1)
	TILEDOT(1, 5, 6)
	TILELOAD(7, 1, 1)
	TILEDOT(2, 4, 7)
	TILEDOT(3, 5, 7)
	PREFETCHT1 (R8)
	PREFETCHT1 (R8)(R14*1)
	PREFETCHT1 (R8)(R14*2)
	PREFETCHT1 (R8)(R15*1)
	ADDQ $64, R8
	DECQ left-8(SP)
	JNZ  asked
	ADDQ jump+104(FP), R8
	MOVQ run+96(FP), R14
	MOVQ R14, left-8(SP)
	MOVQ nextStride+88(FP), R14
	SHLQ $1, R14
asked:
	PREFETCHT0 (R12)
	PREFETCHT0 64(R12)
	PREFETCHT0 (R12)(R13*1)
	PREFETCHT0 64(R12)(R13*1)
	ADDQ $128, R12
	ADDQ $2048, AX
	ADDQ $1024, BX
	ADDQ $1024, CX
	DECQ DX
	JNZ  pairloop
	TILESTORE(0, 7, 1)
	TILESTORE16(1, 7, 1)
	TILESTORE(2, 6, 1)
	TILESTORE16(3, 6, 1)
	LEAQ (R10)(R11*2), R10
	LEAQ (DI)(R13*2), DI
	JMP  pair

single:
	ADDQ $2, panels+32(FP)
	JZ   done
	MOVQ k+8(FP), DX
	MOVQ a+24(FP), AX
	MOVQ R10, BX
	TILEZERO(0)
	TILEZERO(1)
	CMPB add+72(FP), $0
	JEQ  singleloop
	TILELOAD(0, 7, 1)
	TILELOAD16(1, 7, 1)
singleloop:
	TILELOAD(4, 0, 1)
	TILELOAD(6, 3, 1)
	TILEDOT(0, 4, 6)
	TILELOAD16(5, 0, 1)
	TILEDOT(1, 5, 6)
	ADDQ $2048, AX
	ADDQ $1024, BX
	DECQ DX
	JNZ  singleloop
	TILESTORE(0, 7, 1)
	TILESTORE16(1, 7, 1)
	JMP  done

	// Up to 16 rows of a, which are few products.
low:
	MOVQ k+8(FP), DX
	MOVQ a+24(FP), AX
	MOVQ R10, BX
	TILEZERO(0)
	CMPB add+72(FP), $0
	JEQ  lowloop
	TILELOAD(0, 7, 1)
lowloop:
	TILELOAD(4, 0, 1)
	TILELOAD(6, 3, 1)
	TILEDOT(0, 4, 6)
	ADDQ $1024, AX
	ADDQ $1024, BX
	DECQ DX
	JNZ  lowloop
	TILESTORE(0, 7, 1)
	ADDQ R11, R10
	ADDQ R13, DI
	DECQ panels+32(FP)
	JNZ  low

done:
	TILERELEASE
	RET

// func rowsTimes(config *tileConfig, k int, a *uint16, aStride, tiles int, x *uint16, xStride int, c *float32, cStride int, add bool)
TEXT ·rowsTimes(SB), NOSPLIT, $0-73
	MOVQ    config+0(FP), AX
	TILECONFIG_AX
	MOVQ    a+16(FP), R13
	MOVQ    aStride+24(FP), R12
	MOVQ    xStride+48(FP), R8
	MOVQ    $32, R9
	MOVQ    cStride+64(FP), R10
	SHLQ    $1, R12
	SHLQ    $1, R8
	SHLQ    $2, R10

	// Four tiles at a time: their sums in T0 to T3, the rows in T4.
four:
	SUBQ $4, tiles+32(FP)
	JL   rest
	MOVQ R13, BX
	LEAQ (BX)(R12*1), CX
	LEAQ (CX)(R12*1), SI
	LEAQ (SI)(R12*1), DI
	LEAQ (DI)(R12*1), R13
	TILEZERO(0)
	TILEZERO(1)
	TILEZERO(2)
	TILEZERO(3)
	CMPB add+72(FP), $0
	JEQ  fourstart
	MOVQ c+56(FP), DX
	TILELOAD(0, 2, 2)
	ADDQ $32, DX
	TILELOAD(1, 2, 2)
	ADDQ $32, DX
	TILELOAD(2, 2, 2)
	ADDQ $32, DX
	TILELOAD(3, 2, 2)
fourstart:
	MOVQ x+40(FP), AX
	MOVQ k+8(FP), DX
fourloop:
	TILELOAD(4, 0, 0)
	TILELOAD(5, 3, 1)
	TILEDOT(0, 4, 5)
	TILELOAD(6, 1, 1)
	TILEDOT(1, 4, 6)
	TILELOAD(7, 6, 1)
	TILEDOT(2, 4, 7)
	TILELOAD(5, 7, 1)
	TILEDOT(3, 4, 5)
	ADDQ $64, AX
	ADDQ $512, BX
	ADDQ $512, CX
	ADDQ $512, SI
	ADDQ $512, DI
	DECQ DX
	JNZ  fourloop
	MOVQ c+56(FP), DX
	TILESTORE(0, 2, 2)
	ADDQ $32, DX
	TILESTORE(1, 2, 2)
	ADDQ $32, DX
	TILESTORE(2, 2, 2)
	ADDQ $32, DX
	TILESTORE(3, 2, 2)
	ADDQ $32, DX
	MOVQ DX, c+56(FP)
	JMP  four

rest:
	ADDQ $4, tiles+32(FP)
	JZ   rowsdone
one:
	MOVQ R13, BX
	ADDQ R12, R13
	MOVQ c+56(FP), SI
	TILEZERO(0)
	CMPB add+72(FP), $0
	JEQ  onestart
	TILELOAD(0, 6, 2)
onestart:
	MOVQ x+40(FP), AX
	MOVQ k+8(FP), DX
oneloop:
	TILELOAD(4, 0, 0)
	TILELOAD(5, 3, 1)
	TILEDOT(0, 4, 5)
	ADDQ $64, AX
	ADDQ $512, BX
	DECQ DX
	JNZ  oneloop
	TILESTORE(0, 6, 2)
	ADDQ $32, SI
	MOVQ SI, c+56(FP)
	DECQ tiles+32(FP)
	JNZ  one

rowsdone:
	TILERELEASE
	RET

// func lines8(n int, tile, to *uint16, toStride int)
TEXT ·lines8(SB), NOSPLIT, $0-32
	MOVQ n+0(FP), DX
	MOVQ tile+8(FP), AX
	MOVQ to+16(FP), DI
	MOVQ toStride+24(FP), R8
	SHLQ $1, R8
	VMOVDQU32 ·neighbours(SB), Z31

	// 16 pairs of 8 rows: pairs 2i and 2i+1 in register i. Two neighbours of a row come to lie side by side, then eight numbers
	// (rows 2l in lane l of Z8, Z10, Z12, Z14, rows 2l+1 in Z9 and so on), and then the lanes change places.
sixteen:
	VPERMD 0(AX), Z31, Z0
	VPERMD 64(AX), Z31, Z1
	VPERMD 128(AX), Z31, Z2
	VPERMD 192(AX), Z31, Z3
	VPERMD 256(AX), Z31, Z4
	VPERMD 320(AX), Z31, Z5
	VPERMD 384(AX), Z31, Z6
	VPERMD 448(AX), Z31, Z7
	VPUNPCKLQDQ Z1, Z0, Z8
	VPUNPCKHQDQ Z1, Z0, Z9
	VPUNPCKLQDQ Z3, Z2, Z10
	VPUNPCKHQDQ Z3, Z2, Z11
	VPUNPCKLQDQ Z5, Z4, Z12
	VPUNPCKHQDQ Z5, Z4, Z13
	VPUNPCKLQDQ Z7, Z6, Z14
	VPUNPCKHQDQ Z7, Z6, Z15
	VSHUFI64X2 $0x88, Z10, Z8, Z16
	VSHUFI64X2 $0x88, Z14, Z12, Z17
	VSHUFI64X2 $0xDD, Z10, Z8, Z18
	VSHUFI64X2 $0xDD, Z14, Z12, Z19
	VSHUFI64X2 $0x88, Z11, Z9, Z20
	VSHUFI64X2 $0x88, Z15, Z13, Z21
	VSHUFI64X2 $0xDD, Z11, Z9, Z22
	VSHUFI64X2 $0xDD, Z15, Z13, Z23
	VSHUFI64X2 $0x88, Z17, Z16, Z0
	VSHUFI64X2 $0x88, Z21, Z20, Z1
	VSHUFI64X2 $0x88, Z19, Z18, Z2
	VSHUFI64X2 $0x88, Z23, Z22, Z3
	VSHUFI64X2 $0xDD, Z17, Z16, Z4
	VSHUFI64X2 $0xDD, Z21, Z20, Z5
	VSHUFI64X2 $0xDD, Z19, Z18, Z6
	VSHUFI64X2 $0xDD, Z23, Z22, Z7
	VMOVDQU32 Z0, 0(DI)
	VMOVDQU32 Z1, 64(DI)
	VMOVDQU32 Z2, 128(DI)
	VMOVDQU32 Z3, 192(DI)
	VMOVDQU32 Z4, 256(DI)
	VMOVDQU32 Z5, 320(DI)
	VMOVDQU32 Z6, 384(DI)
	VMOVDQU32 Z7, 448(DI)
	ADDQ $512, AX
	ADDQ R8, DI
	DECQ DX
	JNZ  sixteen
	VZEROUPPER
	RET

// func lines32(n int, tiles *uint16, stride int, to *uint16)
TEXT ·lines32(SB), NOSPLIT, $0-32
	MOVQ n+0(FP), DX
	MOVQ tiles+8(FP), AX
	MOVQ stride+16(FP), R8
	MOVQ to+24(FP), DI
	SHLQ $1, R8
	LEAQ (R8)(R8*2), R9
	VMOVDQU16 ·fours(SB), Z31

	// Two pairs of columns of 8 rows in each of four tiles: the rows of a column come to lie side by side, a column in a lane, and
	// then the lanes change places.
#define COLUMNS4(from, to) \
	VPERMW from(AX), Z31, Z0; \
	VPERMW from(AX)(R8*1), Z31, Z1; \
	VPERMW from(AX)(R8*2), Z31, Z2; \
	VPERMW from(AX)(R9*1), Z31, Z3; \
	VSHUFI64X2 $0x44, Z1, Z0, Z4; \
	VSHUFI64X2 $0xEE, Z1, Z0, Z5; \
	VSHUFI64X2 $0x44, Z3, Z2, Z6; \
	VSHUFI64X2 $0xEE, Z3, Z2, Z7; \
	VSHUFI64X2 $0x88, Z6, Z4, Z0; \
	VSHUFI64X2 $0xDD, Z6, Z4, Z1; \
	VSHUFI64X2 $0x88, Z7, Z5, Z2; \
	VSHUFI64X2 $0xDD, Z7, Z5, Z3; \
	VMOVDQU16 Z0, (to+0)(DI); \
	VMOVDQU16 Z1, (to+64)(DI); \
	VMOVDQU16 Z2, (to+128)(DI); \
	VMOVDQU16 Z3, (to+192)(DI)

four:
	COLUMNS4(0, 0)
	COLUMNS4(64, 256)
	COLUMNS4(128, 512)
	COLUMNS4(192, 768)
	COLUMNS4(256, 1024)
	COLUMNS4(320, 1280)
	COLUMNS4(384, 1536)
	COLUMNS4(448, 1792)
	LEAQ (AX)(R8*4), AX
	ADDQ $2048, DI
	DECQ DX
	JNZ  four
	VZEROUPPER
	RET

// func vendor() (b, c, d uint32)
TEXT ·vendor(SB), NOSPLIT, $0-12
	XORL AX, AX
	CPUID
	MOVL BX, b+0(FP)
	MOVL CX, c+4(FP)
	MOVL DX, d+8(FP)
	RET
