//go:build goexperiment.simd

#include "textflag.h"
#include "sums_amd64.h"

// VDPBF16PS adds to every float32 lane of a sum the products of two pairs of bfloat16. Go's assembler does not know it
// (AVX512_BF16, EVEX.512.F3.0F38.W0 52 /r), so it is spelt out for the registers that the kernels use: sums Z0-Z7 of the
// panel in Z16 and sums Z8-Z15 of the panel in Z17, with the row in Z18-Z25.
#define DOT(prefix0, prefix1, registers) BYTE $0x62; BYTE $prefix0; BYTE $prefix1; BYTE $0x40; BYTE $0x52; BYTE $registers

#define DOT0_0 DOT(0xB2, 0x7E, 0xC2)
#define DOT1_0 DOT(0x32, 0x76, 0xC2)
#define DOT0_1 DOT(0xB2, 0x7E, 0xCB)
#define DOT1_1 DOT(0x32, 0x76, 0xCB)
#define DOT0_2 DOT(0xB2, 0x7E, 0xD4)
#define DOT1_2 DOT(0x32, 0x76, 0xD4)
#define DOT0_3 DOT(0xB2, 0x7E, 0xDD)
#define DOT1_3 DOT(0x32, 0x76, 0xDD)
#define DOT0_4 DOT(0xB2, 0x7E, 0xE6)
#define DOT1_4 DOT(0x32, 0x76, 0xE6)
#define DOT0_5 DOT(0xB2, 0x7E, 0xEF)
#define DOT1_5 DOT(0x32, 0x76, 0xEF)
#define DOT0_6 DOT(0x92, 0x7E, 0xF0)
#define DOT1_6 DOT(0x12, 0x76, 0xF0)
#define DOT0_7 DOT(0x92, 0x7E, 0xF9)
#define DOT1_7 DOT(0x12, 0x76, 0xF9)

// The same for three panels, the third in Z18 with sums Z24-Z31, and the rows in Z19-Z22.
#define TRIPLE0_0 DOT(0xB2, 0x7E, 0xC3)
#define TRIPLE1_0 DOT(0x32, 0x76, 0xC3)
#define TRIPLE2_0 DOT(0x22, 0x6E, 0xC3)
#define TRIPLE0_1 DOT(0xB2, 0x7E, 0xCC)
#define TRIPLE1_1 DOT(0x32, 0x76, 0xCC)
#define TRIPLE2_1 DOT(0x22, 0x6E, 0xCC)
#define TRIPLE0_2 DOT(0xB2, 0x7E, 0xD5)
#define TRIPLE1_2 DOT(0x32, 0x76, 0xD5)
#define TRIPLE2_2 DOT(0x22, 0x6E, 0xD5)
#define TRIPLE0_3 DOT(0xB2, 0x7E, 0xDE)
#define TRIPLE1_3 DOT(0x32, 0x76, 0xDE)
#define TRIPLE2_3 DOT(0x22, 0x6E, 0xDE)
#define TRIPLE0_4 DOT(0xB2, 0x7E, 0xE3)
#define TRIPLE1_4 DOT(0x32, 0x76, 0xE3)
#define TRIPLE2_4 DOT(0x22, 0x6E, 0xE3)
#define TRIPLE0_5 DOT(0xB2, 0x7E, 0xEC)
#define TRIPLE1_5 DOT(0x32, 0x76, 0xEC)
#define TRIPLE2_5 DOT(0x22, 0x6E, 0xEC)
#define TRIPLE0_6 DOT(0xB2, 0x7E, 0xF5)
#define TRIPLE1_6 DOT(0x32, 0x76, 0xF5)
#define TRIPLE2_6 DOT(0x22, 0x6E, 0xF5)
#define TRIPLE0_7 DOT(0xB2, 0x7E, 0xFE)
#define TRIPLE1_7 DOT(0x32, 0x76, 0xFE)
#define TRIPLE2_7 DOT(0x22, 0x6E, 0xFE)

#define STEP3(offset, panel) \
	VMOVDQU32    panel(BX), Z16; \
	VMOVDQU32    panel(CX), Z17; \
	VMOVDQU32    panel(R10), Z18; \
	VPBROADCASTD (offset+0)(AX), Z19; \
	TRIPLE0_0; \
	TRIPLE1_0; \
	TRIPLE2_0; \
	VPBROADCASTD (offset+4)(AX), Z20; \
	TRIPLE0_1; \
	TRIPLE1_1; \
	TRIPLE2_1; \
	VPBROADCASTD (offset+8)(AX), Z21; \
	TRIPLE0_2; \
	TRIPLE1_2; \
	TRIPLE2_2; \
	VPBROADCASTD (offset+12)(AX), Z22; \
	TRIPLE0_3; \
	TRIPLE1_3; \
	TRIPLE2_3; \
	VPBROADCASTD (offset+16)(AX), Z19; \
	TRIPLE0_4; \
	TRIPLE1_4; \
	TRIPLE2_4; \
	VPBROADCASTD (offset+20)(AX), Z20; \
	TRIPLE0_5; \
	TRIPLE1_5; \
	TRIPLE2_5; \
	VPBROADCASTD (offset+24)(AX), Z21; \
	TRIPLE0_6; \
	TRIPLE1_6; \
	TRIPLE2_6; \
	VPBROADCASTD (offset+28)(AX), Z22; \
	TRIPLE0_7; \
	TRIPLE1_7; \
	TRIPLE2_7

#define STEP2(offset, panel) \
	VMOVDQU32    panel(BX), Z16;          \
	VMOVDQU32    panel(CX), Z17;          \
	VPBROADCASTD (offset+0)(AX), Z18; \
	DOT0_0;                              \
	DOT1_0;                               \
	VPBROADCASTD (offset+4)(AX), Z19; \
	DOT0_1;                              \
	DOT1_1;                               \
	VPBROADCASTD (offset+8)(AX), Z20; \
	DOT0_2;                              \
	DOT1_2;                               \
	VPBROADCASTD (offset+12)(AX), Z21; \
	DOT0_3;                              \
	DOT1_3;                               \
	VPBROADCASTD (offset+16)(AX), Z22; \
	DOT0_4;                              \
	DOT1_4;                               \
	VPBROADCASTD (offset+20)(AX), Z23; \
	DOT0_5;                              \
	DOT1_5;                               \
	VPBROADCASTD (offset+24)(AX), Z24; \
	DOT0_6;                              \
	DOT1_6;                               \
	VPBROADCASTD (offset+28)(AX), Z25; \
	DOT0_7;                              \
	DOT1_7

#define STEP1(offset, panel) \
	VMOVDQU32    panel(BX), Z16;          \
	VPBROADCASTD (offset+0)(AX), Z18; \
	DOT0_0;                               \
	VPBROADCASTD (offset+4)(AX), Z19; \
	DOT0_1;                               \
	VPBROADCASTD (offset+8)(AX), Z20; \
	DOT0_2;                               \
	VPBROADCASTD (offset+12)(AX), Z21; \
	DOT0_3;                               \
	VPBROADCASTD (offset+16)(AX), Z22; \
	DOT0_4;                               \
	VPBROADCASTD (offset+20)(AX), Z23; \
	DOT0_5;                               \
	VPBROADCASTD (offset+24)(AX), Z24; \
	DOT0_6;                               \
	VPBROADCASTD (offset+28)(AX), Z25; \
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
