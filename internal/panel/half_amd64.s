//go:build goexperiment.simd

#include "textflag.h"
#include "sums_amd64.h"

// VDPBF16PS adds to every float32 lane of a sum the products of two pairs of bfloat16. Go's assembler does not know it
// (AVX512_BF16, EVEX.512.F3.0F38.W0 52 /r), so it is spelt out for the registers that the kernels use: sums Z0-Z7 of the
// panel in Z16 and sums Z8-Z15 of the panel in Z17, with the row in Z18-Z25.
#define DOT0_0 BYTE $0x62; BYTE $0xB2; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xC2
#define DOT1_0 BYTE $0x62; BYTE $0x32; BYTE $0x76; BYTE $0x40; BYTE $0x52; BYTE $0xC2
#define DOT0_1 BYTE $0x62; BYTE $0xB2; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xCB
#define DOT1_1 BYTE $0x62; BYTE $0x32; BYTE $0x76; BYTE $0x40; BYTE $0x52; BYTE $0xCB
#define DOT0_2 BYTE $0x62; BYTE $0xB2; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xD4
#define DOT1_2 BYTE $0x62; BYTE $0x32; BYTE $0x76; BYTE $0x40; BYTE $0x52; BYTE $0xD4
#define DOT0_3 BYTE $0x62; BYTE $0xB2; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xDD
#define DOT1_3 BYTE $0x62; BYTE $0x32; BYTE $0x76; BYTE $0x40; BYTE $0x52; BYTE $0xDD
#define DOT0_4 BYTE $0x62; BYTE $0xB2; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xE6
#define DOT1_4 BYTE $0x62; BYTE $0x32; BYTE $0x76; BYTE $0x40; BYTE $0x52; BYTE $0xE6
#define DOT0_5 BYTE $0x62; BYTE $0xB2; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xEF
#define DOT1_5 BYTE $0x62; BYTE $0x32; BYTE $0x76; BYTE $0x40; BYTE $0x52; BYTE $0xEF
#define DOT0_6 BYTE $0x62; BYTE $0x92; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xF0
#define DOT1_6 BYTE $0x62; BYTE $0x12; BYTE $0x76; BYTE $0x40; BYTE $0x52; BYTE $0xF0
#define DOT0_7 BYTE $0x62; BYTE $0x92; BYTE $0x7E; BYTE $0x40; BYTE $0x52; BYTE $0xF9
#define DOT1_7 BYTE $0x62; BYTE $0x12; BYTE $0x76; BYTE $0x40; BYTE $0x52; BYTE $0xF9

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
