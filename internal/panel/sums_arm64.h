// Sums of products with rows: a tile's are two registers, those of its rows 0-3 and of its rows 4-7.

#define ZERO4(s0, s1, s2, s3) \
	VEOR s0.B16, s0.B16, s0.B16; \
	VEOR s1.B16, s1.B16, s1.B16; \
	VEOR s2.B16, s2.B16, s2.B16; \
	VEOR s3.B16, s3.B16, s3.B16

// Of one row and 4 tiles: V0-V7, at R6 in memory.
#define ZERO1X4 \
	ZERO4(V0, V1, V2, V3); \
	ZERO4(V4, V5, V6, V7)

#define LOAD1X4 \
	ADD  $64, R6, R9;                              \
	VLD1 (R6), [V0.S4, V1.S4, V2.S4, V3.S4];       \
	VLD1 (R9), [V4.S4, V5.S4, V6.S4, V7.S4]

#define STORE1X4 \
	ADD  $64, R6, R9;                              \
	VST1 [V0.S4, V1.S4, V2.S4, V3.S4], (R6);       \
	VST1 [V4.S4, V5.S4, V6.S4, V7.S4], (R9)

// Element i of x times w and w+1, the two registers of a tile's step.
#define FMA1X1(x, i, w, sum) \
	FMLAE4(x, i, w, sum); \
	FMLAE4(x, i, w+1, sum+1)

// The same for 4 tiles.
#define FMA1X4(x, i, w0, w1, w2, w3) \
	FMA1X1(x, i, w0, 0); \
	FMA1X1(x, i, w1, 2); \
	FMA1X1(x, i, w2, 4); \
	FMA1X1(x, i, w3, 6)

// A pair of bfloat16 is the first one's float32 once it is shifted, and the second one's once V31 has masked it.
#define MASK \
	MOVD $0xffff0000, R9; \
	VDUP R9, V31.S4

#define FIRST2(v0, v1, f0, f1) \
	VSHL $16, v0.S4, f0.S4; \
	VSHL $16, v1.S4, f1.S4

#define SECOND2(v0, v1) \
	VAND V31.B16, v0.B16, v0.B16; \
	VAND V31.B16, v1.B16, v1.B16
