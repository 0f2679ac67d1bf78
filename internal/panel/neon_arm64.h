// Instructions of NEON that Go's assembler has no names for. Registers are given by number, the destination last, as in Go.

#define THREE(code, m, n, d) WORD $(code | (m)<<16 | (n)<<5 | (d))
#define TWO(code, n, d) WORD $(code | (n)<<5 | (d))

// Four elements in float32.
#define FADD4(m, n, d)  THREE(0x4E20D400, m, n, d) // d = n + m
#define FSUB4(m, n, d)  THREE(0x4EA0D400, m, n, d) // d = n - m
#define FMUL4(m, n, d)  THREE(0x6E20DC00, m, n, d)
#define FDIV4(m, n, d)  THREE(0x6E20FC00, m, n, d) // d = n / m
#define FADDP4(m, n, d) THREE(0x6E20D400, m, n, d) // sums of neighbours: n's, then m's
#define FCMGT4(m, n, d) THREE(0x6EA0E400, m, n, d) // n > m
#define FMAX4(m, n, d)  THREE(0x4E20F400, m, n, d)
#define FMIN4(m, n, d)  THREE(0x4EA0F400, m, n, d)
#define FMAXV4(n, d)    TWO(0x6E30F800, n, d)      // the largest of four
#define FACGE4(m, n, d) THREE(0x6E20EC00, m, n, d) // |n| >= |m|
#define FNEG4(n, d)     TWO(0x6EA0F800, n, d)
#define FRINTN4(n, d)   TWO(0x4E218800, n, d)      // to the nearest whole number, to even ones from between
#define FCVTNS4(n, d)   TWO(0x4E21A800, n, d)      // to int32
#define SCVTF4TOP(n, d) TWO(0x4F28E400, n, d)      // from int32 / 2^24, exact where that is whole

#define FCVTZS4X23(n, d) TWO(0x4F29FC00, n, d)     // n times 2 to the 23 to int32

// FMLAE4 is d += n times element i of m.
#define FMLAE4(m, i, n, d) WORD $(0x4F801000 | ((i)&1)<<21 | ((i)>>1)<<11 | (m)<<16 | (n)<<5 | (d))
#define FMLSE4(m, i, n, d) WORD $(0x4F805000 | ((i)&1)<<21 | ((i)>>1)<<11 | (m)<<16 | (n)<<5 | (d)) // d -= n times it
#define FMULE4(m, i, n, d) WORD $(0x4F809000 | ((i)&1)<<21 | ((i)>>1)<<11 | (m)<<16 | (n)<<5 | (d)) // d = n times it

// Two elements in float64, and from and to float32.
#define FADD2(m, n, d)  THREE(0x4E60D400, m, n, d)
#define FSUB2(m, n, d)  THREE(0x4EE0D400, m, n, d) // d = n - m
#define FMUL2(m, n, d)  THREE(0x6E60DC00, m, n, d)
#define FDIV2(m, n, d)  THREE(0x6E60FC00, m, n, d) // d = n / m
#define FSQRT2(n, d)    TWO(0x6EE1F800, n, d)
#define FCVTL(n, d)     TWO(0x0E617800, n, d)      // the lower two of n to float64
#define FCVTL2(n, d)    TWO(0x4E617800, n, d)      // the upper two
#define FCVTN(n, d)     TWO(0x0E616800, n, d)      // to the lower two of d, the upper become 0
#define FCVTN2(n, d)    TWO(0x4E616800, n, d)      // to the upper two of d

#define ZERO8(s0, s1, s2, s3, s4, s5, s6, s7) \
	VMOVI $0, s0.B16; \
	VMOVI $0, s1.B16; \
	VMOVI $0, s2.B16; \
	VMOVI $0, s3.B16; \
	VMOVI $0, s4.B16; \
	VMOVI $0, s5.B16; \
	VMOVI $0, s6.B16; \
	VMOVI $0, s7.B16
