// Sums in eight registers: a tile's rows of one panel.

#define LOAD8(at, s0, s1, s2, s3, s4, s5, s6, s7) \
	VMOVUPS 0(at), s0;   \
	VMOVUPS 64(at), s1;  \
	VMOVUPS 128(at), s2; \
	VMOVUPS 192(at), s3; \
	VMOVUPS 256(at), s4; \
	VMOVUPS 320(at), s5; \
	VMOVUPS 384(at), s6; \
	VMOVUPS 448(at), s7

#define STORE8(at, s0, s1, s2, s3, s4, s5, s6, s7) \
	VMOVUPS s0, 0(at);   \
	VMOVUPS s1, 64(at);  \
	VMOVUPS s2, 128(at); \
	VMOVUPS s3, 192(at); \
	VMOVUPS s4, 256(at); \
	VMOVUPS s5, 320(at); \
	VMOVUPS s6, 384(at); \
	VMOVUPS s7, 448(at)

#define ZERO8(s0, s1, s2, s3, s4, s5, s6, s7) \
	VPXORQ s0, s0, s0; \
	VPXORQ s1, s1, s1; \
	VPXORQ s2, s2, s2; \
	VPXORQ s3, s3, s3; \
	VPXORQ s4, s4, s4; \
	VPXORQ s5, s5, s5; \
	VPXORQ s6, s6, s6; \
	VPXORQ s7, s7, s7
