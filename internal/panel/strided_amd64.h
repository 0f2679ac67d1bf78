// Sums in sixteen registers, whose rows in memory lie R9 bytes apart, the first at R12.

#define ZERO16 \
	VPXORQ Z0, Z0, Z0;    \
	VPXORQ Z1, Z1, Z1;    \
	VPXORQ Z2, Z2, Z2;    \
	VPXORQ Z3, Z3, Z3;    \
	VPXORQ Z4, Z4, Z4;    \
	VPXORQ Z5, Z5, Z5;    \
	VPXORQ Z6, Z6, Z6;    \
	VPXORQ Z7, Z7, Z7;    \
	VPXORQ Z8, Z8, Z8;    \
	VPXORQ Z9, Z9, Z9;    \
	VPXORQ Z10, Z10, Z10; \
	VPXORQ Z11, Z11, Z11; \
	VPXORQ Z12, Z12, Z12; \
	VPXORQ Z13, Z13, Z13; \
	VPXORQ Z14, Z14, Z14; \
	VPXORQ Z15, Z15, Z15

#define NEXTLOAD(sum) \
	VMOVUPS (R12), sum; \
	ADDQ    R9, R12

#define NEXTSTORE(sum) \
	VMOVUPS sum, (R12); \
	ADDQ    R9, R12

#define NEXTLOAD8(s0, s1, s2, s3, s4, s5, s6, s7) \
	NEXTLOAD(s0); \
	NEXTLOAD(s1); \
	NEXTLOAD(s2); \
	NEXTLOAD(s3); \
	NEXTLOAD(s4); \
	NEXTLOAD(s5); \
	NEXTLOAD(s6); \
	NEXTLOAD(s7)

#define NEXTSTORE8(s0, s1, s2, s3, s4, s5, s6, s7) \
	NEXTSTORE(s0); \
	NEXTSTORE(s1); \
	NEXTSTORE(s2); \
	NEXTSTORE(s3); \
	NEXTSTORE(s4); \
	NEXTSTORE(s5); \
	NEXTSTORE(s6); \
	NEXTSTORE(s7)

#define LOAD16 \
	NEXTLOAD8(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7); \
	NEXTLOAD8(Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15)

#define STORE16 \
	NEXTSTORE8(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7); \
	NEXTSTORE8(Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15)
