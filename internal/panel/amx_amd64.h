// AMX has eight registers of 16 rows of 64 bytes each, T0 to T7 here. Go's assembler does not know its instructions, so they are
// spelt out: base is the low three bits of AX (0), CX (1), DX (2), BX (3), SI (6) or DI (7), stride those of R8 (0) to R11 (3), which
// holds the distance between rows in bytes.
//
// A goroutine is not interrupted within these functions (only between instructions that Go's compiler wrote), and the kernel keeps
// the registers of a thread that waits. They are let go at the end of each, so that nothing is kept for others.
#define TILECONFIG_AX            BYTE $0xC4; BYTE $0xE2; BYTE $0x78; BYTE $0x49; BYTE $0x00
#define TILERELEASE              BYTE $0xC4; BYTE $0xE2; BYTE $0x78; BYTE $0x49; BYTE $0xC0
#define TILEZERO(t)              BYTE $0xC4; BYTE $0xE2; BYTE $0x7B; BYTE $0x49; BYTE $(0xC0+8*t)
#define TILELOAD(t, base, stride)  BYTE $0xC4; BYTE $0xA2; BYTE $0x7B; BYTE $0x4B; BYTE $(0x04+8*t); BYTE $(8*stride+base)
#define TILESTORE(t, base, stride) BYTE $0xC4; BYTE $0xA2; BYTE $0x7A; BYTE $0x4B; BYTE $(0x04+8*t); BYTE $(8*stride+base)

// The same 1024 bytes further on: the next 16 rows of a panel.
#define TILELOAD16(t, base, stride)  BYTE $0xC4; BYTE $0xA2; BYTE $0x7B; BYTE $0x4B; BYTE $(0x84+8*t); BYTE $(8*stride+base); LONG $1024
#define TILESTORE16(t, base, stride) BYTE $0xC4; BYTE $0xA2; BYTE $0x7A; BYTE $0x4B; BYTE $(0x84+8*t); BYTE $(8*stride+base); LONG $1024

// TDPBF16PS: c += a b, for rows a of 32 numbers and 16 rows b of pairs.
#define TILEDOT(c, a, b)         BYTE $0xC4; BYTE $0xE2; BYTE $(0x7A-8*b); BYTE $0x5C; BYTE $(0xC0+8*c+a)
