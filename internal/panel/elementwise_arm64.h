#include "neon_arm64.h"

// A row of a panel, 16 lanes, to and from registers; NEXT and STORE move on to the row that follows.
#define LOAD0(p)  FLDPQ 32(p), (F2, F3); FLDPQ (p), (F0, F1)
#define LOAD4(p)  FLDPQ 32(p), (F6, F7); FLDPQ (p), (F4, F5)
#define NEXT0(p)  FLDPQ 32(p), (F2, F3); FLDPQ.P 64(p), (F0, F1)
#define NEXT4(p)  FLDPQ 32(p), (F6, F7); FLDPQ.P 64(p), (F4, F5)
#define STORE0(p) FSTPQ (F2, F3), 32(p); FSTPQ.P (F0, F1), 64(p)

// EACH is an operation on each of V0-V3 and another register.
#define EACH(OP, m0, m1, m2, m3) OP(m0, 0, 0); OP(m1, 1, 1); OP(m2, 2, 2); OP(m3, 3, 3)

#define ZERO(a, b, c, d) \
	VEOR a.B16, a.B16, a.B16; \
	VEOR b.B16, b.B16, b.B16; \
	VEOR c.B16, c.B16, c.B16; \
	VEOR d.B16, d.B16, d.B16

// LARGER is m = m > x ? m : x, and x where one of them is no number: registers by number and by name, the last is overwritten.
#define LARGER(x, X, m, M, t, T) \
	FCMGT4(x, m, t); \
	VBIF T.B16, X.B16, M.B16
