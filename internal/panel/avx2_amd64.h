// The kernels in AVX-512 begin with this: on a processor without, one in AVX2 and FMA takes the same arguments and writes the
// same bits.
#define WITHOUT(kernel) \
	CMPB ·avx512(SB), $0; \
	JNE  2(PC);           \
	JMP  kernel(SB)
