//go:build goexperiment.simd

#include "textflag.h"
#include "sums_amd64.h"

// VDPBF16PS adds to every float32 lane of a sum the products of two pairs of bfloat16. Go's assembler does not know it
// (AVX512_BF16, EVEX.512.F3.0F38.W0 52 /r), so it is spelt out for the registers that the kernels use: sums Z0-Z7 of the
// panel in Z16, Z8-Z15 of that in Z17 and Z24-Z31 of that in Z18, with the rows in Z19-Z22.
#define DOT(prefix0, prefix1, registers) BYTE $0x62; BYTE $prefix0; BYTE $prefix1; BYTE $0x40; BYTE $0x52; BYTE $registers

#define DOT0_0 DOT(0xB2, 0x7E, 0xC3)
#define DOT1_0 DOT(0x32, 0x76, 0xC3)
#define DOT2_0 DOT(0x22, 0x6E, 0xC3)
#define DOT0_1 DOT(0xB2, 0x7E, 0xCC)
#define DOT1_1 DOT(0x32, 0x76, 0xCC)
#define DOT2_1 DOT(0x22, 0x6E, 0xCC)
#define DOT0_2 DOT(0xB2, 0x7E, 0xD5)
#define DOT1_2 DOT(0x32, 0x76, 0xD5)
#define DOT2_2 DOT(0x22, 0x6E, 0xD5)
#define DOT0_3 DOT(0xB2, 0x7E, 0xDE)
#define DOT1_3 DOT(0x32, 0x76, 0xDE)
#define DOT2_3 DOT(0x22, 0x6E, 0xDE)
#define DOT0_4 DOT(0xB2, 0x7E, 0xE3)
#define DOT1_4 DOT(0x32, 0x76, 0xE3)
#define DOT2_4 DOT(0x22, 0x6E, 0xE3)
#define DOT0_5 DOT(0xB2, 0x7E, 0xEC)
#define DOT1_5 DOT(0x32, 0x76, 0xEC)
#define DOT2_5 DOT(0x22, 0x6E, 0xEC)
#define DOT0_6 DOT(0xB2, 0x7E, 0xF5)
#define DOT1_6 DOT(0x32, 0x76, 0xF5)
#define DOT2_6 DOT(0x22, 0x6E, 0xF5)
#define DOT0_7 DOT(0xB2, 0x7E, 0xFE)
#define DOT1_7 DOT(0x32, 0x76, 0xFE)
#define DOT2_7 DOT(0x22, 0x6E, 0xFE)

#define STEP3(offset, panel) \
	VMOVDQU32    panel(BX), Z16; \
	VMOVDQU32    panel(CX), Z17; \
	VMOVDQU32    panel(R10), Z18; \
	VPBROADCASTD (offset+0)(AX), Z19; \
	DOT0_0; \
	DOT1_0; \
	DOT2_0; \
	VPBROADCASTD (offset+4)(AX), Z20; \
	DOT0_1; \
	DOT1_1; \
	DOT2_1; \
	VPBROADCASTD (offset+8)(AX), Z21; \
	DOT0_2; \
	DOT1_2; \
	DOT2_2; \
	VPBROADCASTD (offset+12)(AX), Z22; \
	DOT0_3; \
	DOT1_3; \
	DOT2_3; \
	VPBROADCASTD (offset+16)(AX), Z19; \
	DOT0_4; \
	DOT1_4; \
	DOT2_4; \
	VPBROADCASTD (offset+20)(AX), Z20; \
	DOT0_5; \
	DOT1_5; \
	DOT2_5; \
	VPBROADCASTD (offset+24)(AX), Z21; \
	DOT0_6; \
	DOT1_6; \
	DOT2_6; \
	VPBROADCASTD (offset+28)(AX), Z22; \
	DOT0_7; \
	DOT1_7; \
	DOT2_7

#define STEP2(offset, panel) \
	VMOVDQU32    panel(BX), Z16;          \
	VMOVDQU32    panel(CX), Z17;          \
	VPBROADCASTD (offset+0)(AX), Z19; \
	DOT0_0;                              \
	DOT1_0;                               \
	VPBROADCASTD (offset+4)(AX), Z20; \
	DOT0_1;                              \
	DOT1_1;                               \
	VPBROADCASTD (offset+8)(AX), Z21; \
	DOT0_2;                              \
	DOT1_2;                               \
	VPBROADCASTD (offset+12)(AX), Z22; \
	DOT0_3;                              \
	DOT1_3;                               \
	VPBROADCASTD (offset+16)(AX), Z19; \
	DOT0_4;                              \
	DOT1_4;                               \
	VPBROADCASTD (offset+20)(AX), Z20; \
	DOT0_5;                              \
	DOT1_5;                               \
	VPBROADCASTD (offset+24)(AX), Z21; \
	DOT0_6;                              \
	DOT1_6;                               \
	VPBROADCASTD (offset+28)(AX), Z22; \
	DOT0_7;                              \
	DOT1_7

#define STEP1(offset, panel) \
	VMOVDQU32    panel(BX), Z16;          \
	VPBROADCASTD (offset+0)(AX), Z19; \
	DOT0_0;                               \
	VPBROADCASTD (offset+4)(AX), Z20; \
	DOT0_1;                               \
	VPBROADCASTD (offset+8)(AX), Z21; \
	DOT0_2;                               \
	VPBROADCASTD (offset+12)(AX), Z22; \
	DOT0_3;                               \
	VPBROADCASTD (offset+16)(AX), Z19; \
	DOT0_4;                               \
	VPBROADCASTD (offset+20)(AX), Z20; \
	DOT0_5;                               \
	VPBROADCASTD (offset+24)(AX), Z21; \
	DOT0_6;                               \
	VPBROADCASTD (offset+28)(AX), Z22; \
	DOT0_7

// func half8x2(k int, a, b0, b1 *uint16, c0, c1 *float32, add bool, next *uint16)
TEXT ·half8x2(SB), NOSPLIT, $0-64
	PRODUCT2

// func half8x1(k int, a, b *uint16, c *float32, add bool)
TEXT ·half8x1(SB), NOSPLIT, $0-33
	PRODUCT1

// func half8x3(k int, a, b *uint16, bStride int, c *float32, cStride int, add bool, next *uint16)
TEXT ·half8x3(SB), NOSPLIT, $0-64
	PRODUCT3($1)

// func halves(n int, from *float32, to *uint16)
TEXT ·halves(SB), NOSPLIT, $0-24
	MOVQ         n+0(FP), DX
	MOVQ         from+8(FP), AX
	MOVQ         to+16(FP), DI
	MOVL         $0x7FFF, BX
	MOVL         $1, CX
	MOVL         $0xFFFF0000, SI
	VPBROADCASTD BX, Z16
	VPBROADCASTD CX, Z17
	VPBROADCASTD SI, Z18

pair:
	VMOVDQU32  0(AX), Z0
	VMOVDQU32  64(AX), Z1
	VPSRLD     $16, Z0, Z2
	VPSRLD     $16, Z1, Z3
	VPANDD     Z17, Z2, Z2
	VPANDD     Z17, Z3, Z3
	VPADDD     Z16, Z0, Z0
	VPADDD     Z16, Z1, Z1
	VPADDD     Z2, Z0, Z0
	VPADDD     Z3, Z1, Z1
	VPSRLD     $16, Z0, Z0
	VPTERNLOGD $0xF8, Z18, Z1, Z0 // of the second row the upper half
	VMOVDQU32  Z0, 0(DI)
	ADDQ       $128, AX
	ADDQ       $64, DI
	DECQ       DX
	JNZ        pair
	VZEROUPPER
	RET
