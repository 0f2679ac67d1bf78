//go:build goexperiment.simd

#include "textflag.h"
#include "strided_amd64.h"

// VDPBF16PS, which Go's assembler does not know (see half_amd64.s), of the pairs in Z16 and of those broadcast to one of
// Z18-Z31: DOTi adds to Zi.
#define DOT0 BYTE $0x62; BYTE $0xB2; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xC2
#define DOT1 BYTE $0x62; BYTE $0xB2; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xCB
#define DOT2 BYTE $0x62; BYTE $0xB2; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xD4
#define DOT3 BYTE $0x62; BYTE $0xB2; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xDD
#define DOT4 BYTE $0x62; BYTE $0xB2; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xE6
#define DOT5 BYTE $0x62; BYTE $0xB2; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xEF
#define DOT6 BYTE $0x62; BYTE $0x92; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xF0
#define DOT7 BYTE $0x62; BYTE $0x92; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xF9
#define DOT8 BYTE $0x62; BYTE $0x12; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xC2
#define DOT9 BYTE $0x62; BYTE $0x12; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xCB
#define DOT10 BYTE $0x62; BYTE $0x12; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xD4
#define DOT11 BYTE $0x62; BYTE $0x12; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xDD
#define DOT12 BYTE $0x62; BYTE $0x12; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xE6
#define DOT13 BYTE $0x62; BYTE $0x12; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xEF
#define DOT14 BYTE $0x62; BYTE $0x32; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xF2
#define DOT15 BYTE $0x62; BYTE $0x32; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xFB

// 16 rows of pairs, row bytes apart, times the pairs in Z16.
#define STEP16(row) \
	VPBROADCASTD (0*row)(AX), Z18;  \
	DOT0;                           \
	VPBROADCASTD (1*row)(AX), Z19;  \
	DOT1;                           \
	VPBROADCASTD (2*row)(AX), Z20;  \
	DOT2;                           \
	VPBROADCASTD (3*row)(AX), Z21;  \
	DOT3;                           \
	VPBROADCASTD (4*row)(AX), Z22;  \
	DOT4;                           \
	VPBROADCASTD (5*row)(AX), Z23;  \
	DOT5;                           \
	VPBROADCASTD (6*row)(AX), Z24;  \
	DOT6;                           \
	VPBROADCASTD (7*row)(AX), Z25;  \
	DOT7;                           \
	VPBROADCASTD (8*row)(AX), Z26;  \
	DOT8;                           \
	VPBROADCASTD (9*row)(AX), Z27;  \
	DOT9;                           \
	VPBROADCASTD (10*row)(AX), Z28; \
	DOT10;                          \
	VPBROADCASTD (11*row)(AX), Z29; \
	DOT11;                          \
	VPBROADCASTD (12*row)(AX), Z30; \
	DOT12;                          \
	VPBROADCASTD (13*row)(AX), Z31; \
	DOT13;                          \
	VPBROADCASTD (14*row)(AX), Z18; \
	DOT14;                          \
	VPBROADCASTD (15*row)(AX), Z19; \
	DOT15

// func scores16Half(k int, a, b *uint16, c *float32)
TEXT ·scores16Half(SB), NOSPLIT, $0-32
	MOVQ k+0(FP), DX
	MOVQ a+8(FP), AX
	MOVQ b+16(FP), BX
	MOVQ c+24(FP), R12
	MOVQ $64, R9
	ZERO16

step:
	VMOVDQU32 (BX), Z16
	STEP16(4)
	ADDQ $64, AX
	ADDQ $64, BX
	DECQ DX
	JNZ  step
	STORE16
	VZEROUPPER
	RET

// func mix16Half(n int, offsets *int, a, b *uint16, bStride int, c *float32, cStride int, add bool)
TEXT ·mix16Half(SB), NOSPLIT, $0-57
	MOVQ    n+0(FP), DX
	MOVQ    offsets+8(FP), R10
	MOVQ    a+16(FP), SI
	MOVQ    b+24(FP), BX
	MOVQ    bStride+32(FP), R8
	MOVQ    c+40(FP), DI
	MOVQ    cStride+48(FP), R9
	MOVBLZX add+56(FP), R11
	SHLQ    $1, R8
	SHLQ    $2, R9
	TESTL   R11, R11
	JNZ     load
	ZERO16
	JMP     panels

load:
	MOVQ DI, R12
	LOAD16

panels:
	MOVQ (R10), AX
	ADDQ $8, R10
	LEAQ (SI)(AX*2), AX
	MOVQ $8, CX

step:
	VMOVDQU32 (BX), Z16
	STEP16(32)
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
