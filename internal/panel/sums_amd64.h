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

// The product of a tile with two panels, by the file's STEP2(offset in the tile, offset in the panels): four steps of the
// contraction at a time, with the next tile asked for on the way, then the rest.
#define PRODUCT2 \
	MOVQ    k+0(FP), DX; \
	MOVQ    a+8(FP), AX; \
	MOVQ    b0+16(FP), BX; \
	MOVQ    b1+24(FP), CX; \
	MOVQ    c0+32(FP), DI; \
	MOVQ    c1+40(FP), SI; \
	MOVBLZX add+48(FP), R8; \
	MOVQ    next+56(FP), R9; \
	TESTL   R8, R8; \
	JNZ     load; \
	ZERO8(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7); \
	ZERO8(Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15); \
	JMP     start; \
load: \
	LOAD8(DI, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7); \
	LOAD8(SI, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15); \
start: \
	SUBQ $4, DX; \
	JL   rest; \
four: \
	PREFETCHT0 0(R9); \
	PREFETCHT0 64(R9); \
	STEP2(0, 0); \
	STEP2(32, 64); \
	STEP2(64, 128); \
	STEP2(96, 192); \
	ADDQ $128, AX; \
	ADDQ $128, R9; \
	ADDQ $256, BX; \
	ADDQ $256, CX; \
	SUBQ $4, DX; \
	JGE  four; \
rest: \
	ADDQ $4, DX; \
	JZ   done; \
one: \
	STEP2(0, 0); \
	ADDQ $32, AX; \
	ADDQ $64, BX; \
	ADDQ $64, CX; \
	DECQ DX; \
	JNZ  one; \
done: \
	STORE8(DI, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7); \
	STORE8(SI, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15); \
	VZEROUPPER; \
	RET

// The product of a tile with one panel, by the file's STEP1.
#define PRODUCT1 \
	MOVQ    k+0(FP), DX; \
	MOVQ    a+8(FP), AX; \
	MOVQ    b+16(FP), BX; \
	MOVQ    c+24(FP), DI; \
	MOVBLZX add+32(FP), R8; \
	TESTL   R8, R8; \
	JNZ     load; \
	ZERO8(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7); \
	JMP     start; \
load: \
	LOAD8(DI, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7); \
start: \
	SUBQ $4, DX; \
	JL   rest; \
four: \
	STEP1(0, 0); \
	STEP1(32, 64); \
	STEP1(64, 128); \
	STEP1(96, 192); \
	ADDQ $128, AX; \
	ADDQ $256, BX; \
	SUBQ $4, DX; \
	JGE  four; \
rest: \
	ADDQ $4, DX; \
	JZ   done; \
one: \
	STEP1(0, 0); \
	ADDQ $32, AX; \
	ADDQ $64, BX; \
	DECQ DX; \
	JNZ  one; \
done: \
	STORE8(DI, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7); \
	VZEROUPPER; \
	RET

// The product of a tile with three panels, bStride elements of 2^bShift bytes apart, by the file's STEP3: sums Z0-Z15 and
// Z24-Z31. Of an odd number of panels the last three go this way: one alone has too few sums to keep the multipliers busy.
#define PRODUCT3(bShift) \
	MOVQ    k+0(FP), DX; \
	MOVQ    a+8(FP), AX; \
	MOVQ    b+16(FP), BX; \
	MOVQ    bStride+24(FP), R12; \
	SHLQ    bShift, R12; \
	LEAQ    (BX)(R12*1), CX; \
	LEAQ    (CX)(R12*1), R10; \
	MOVQ    c+32(FP), DI; \
	MOVQ    cStride+40(FP), R12; \
	LEAQ    (DI)(R12*4), SI; \
	LEAQ    (SI)(R12*4), R11; \
	MOVBLZX add+48(FP), R8; \
	MOVQ    next+56(FP), R9; \
	TESTL   R8, R8; \
	JNZ     load; \
	ZERO8(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7); \
	ZERO8(Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15); \
	ZERO8(Z24, Z25, Z26, Z27, Z28, Z29, Z30, Z31); \
	JMP     start; \
load: \
	LOAD8(DI, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7); \
	LOAD8(SI, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15); \
	LOAD8(R11, Z24, Z25, Z26, Z27, Z28, Z29, Z30, Z31); \
start: \
	SUBQ $4, DX; \
	JL   rest; \
four: \
	PREFETCHT0 0(R9); \
	PREFETCHT0 64(R9); \
	STEP3(0, 0); \
	STEP3(32, 64); \
	STEP3(64, 128); \
	STEP3(96, 192); \
	ADDQ $128, AX; \
	ADDQ $128, R9; \
	ADDQ $256, BX; \
	ADDQ $256, CX; \
	ADDQ $256, R10; \
	SUBQ $4, DX; \
	JGE  four; \
rest: \
	ADDQ $4, DX; \
	JZ   done; \
one: \
	STEP3(0, 0); \
	ADDQ $32, AX; \
	ADDQ $64, BX; \
	ADDQ $64, CX; \
	ADDQ $64, R10; \
	DECQ DX; \
	JNZ  one; \
done: \
	STORE8(DI, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7); \
	STORE8(SI, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15); \
	STORE8(R11, Z24, Z25, Z26, Z27, Z28, Z29, Z30, Z31); \
	VZEROUPPER; \
	RET
