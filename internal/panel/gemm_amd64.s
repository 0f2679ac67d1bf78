//go:build goexperiment.simd

#include "textflag.h"
#include "sums_amd64.h"

// One step of the contraction for 8 rows and two panels: row r of A is broadcast and multiplied with the 16 columns of
// either panel. Z0-Z7 and Z8-Z15 are the sums, Z16 and Z17 the panels, Z18-Z25 the rows.
#define ROW2(r, offset, row, s0, s1) \
	VBROADCASTSS (offset+4*r)(AX), row; \
	VFMADD231PS  Z16, row, s0;          \
	VFMADD231PS  Z17, row, s1

#define STEP2(offset, panel) \
	VMOVUPS panel(BX), Z16;         \
	VMOVUPS panel(CX), Z17;         \
	ROW2(0, offset, Z18, Z0, Z8);   \
	ROW2(1, offset, Z19, Z1, Z9);   \
	ROW2(2, offset, Z20, Z2, Z10);  \
	ROW2(3, offset, Z21, Z3, Z11);  \
	ROW2(4, offset, Z22, Z4, Z12);  \
	ROW2(5, offset, Z23, Z5, Z13);  \
	ROW2(6, offset, Z24, Z6, Z14);  \
	ROW2(7, offset, Z25, Z7, Z15)

// func gemm8x2(k int, a, b0, b1, c0, c1 *float32, add bool, next *float32)
TEXT ·gemm8x2(SB), NOSPLIT, $0-64
	MOVQ    k+0(FP), DX
	MOVQ    a+8(FP), AX
	MOVQ    b0+16(FP), BX
	MOVQ    b1+24(FP), CX
	MOVQ    c0+32(FP), DI
	MOVQ    c1+40(FP), SI
	MOVBLZX add+48(FP), R8
	MOVQ    next+56(FP), R9
	TESTL   R8, R8
	JNZ     load
	ZERO8(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	ZERO8(Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15)
	JMP     start

load:
	LOAD8(DI, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	LOAD8(SI, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15)

start:
	SUBQ $4, DX
	JL   rest

four:
	PREFETCHT0 0(R9)
	PREFETCHT0 64(R9)
	STEP2(0, 0)
	STEP2(32, 64)
	STEP2(64, 128)
	STEP2(96, 192)
	ADDQ $128, AX
	ADDQ $128, R9
	ADDQ $256, BX
	ADDQ $256, CX
	SUBQ $4, DX
	JGE  four

rest:
	ADDQ $4, DX
	JZ   done

one:
	STEP2(0, 0)
	ADDQ $32, AX
	ADDQ $64, BX
	ADDQ $64, CX
	DECQ DX
	JNZ  one

done:
	STORE8(DI, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	STORE8(SI, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15)
	VZEROUPPER
	RET

// One step for 8 rows and one panel.
#define ROW1(r, offset, row, s0) \
	VBROADCASTSS (offset+4*r)(AX), row; \
	VFMADD231PS  Z16, row, s0

#define STEP1(offset, panel) \
	VMOVUPS panel(BX), Z16;    \
	ROW1(0, offset, Z18, Z0);  \
	ROW1(1, offset, Z19, Z1);  \
	ROW1(2, offset, Z20, Z2);  \
	ROW1(3, offset, Z21, Z3);  \
	ROW1(4, offset, Z22, Z4);  \
	ROW1(5, offset, Z23, Z5);  \
	ROW1(6, offset, Z24, Z6);  \
	ROW1(7, offset, Z25, Z7)

// func gemm8x1(k int, a, b, c *float32, add bool)
TEXT ·gemm8x1(SB), NOSPLIT, $0-33
	MOVQ    k+0(FP), DX
	MOVQ    a+8(FP), AX
	MOVQ    b+16(FP), BX
	MOVQ    c+24(FP), DI
	MOVBLZX add+32(FP), R8
	TESTL   R8, R8
	JNZ     load
	ZERO8(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	JMP     start

load:
	LOAD8(DI, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)

start:
	SUBQ $4, DX
	JL   rest

four:
	STEP1(0, 0)
	STEP1(32, 64)
	STEP1(64, 128)
	STEP1(96, 192)
	ADDQ $128, AX
	ADDQ $256, BX
	SUBQ $4, DX
	JGE  four

rest:
	ADDQ $4, DX
	JZ   done

one:
	STEP1(0, 0)
	ADDQ $32, AX
	ADDQ $64, BX
	DECQ DX
	JNZ  one

done:
	STORE8(DI, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	VZEROUPPER
	RET
