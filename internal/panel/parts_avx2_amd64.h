// Parts of a product in AVX2: two registers hold the 16 columns of a panel, and 6 or 4 rows of sums leave room for them.

// A row of A is broadcast and multiplied with the panel in Y12 and Y13.
#define ROW(at, row, s0, s1) \
	VBROADCASTSS at, row;       \
	VFMADD231PS  Y12, row, s0;  \
	VFMADD231PS  Y13, row, s1

// One step of the contraction: rows of A that lie apart bytes from each other, the panel at BX.
#define STEP4(offset, panel, apart) \
	VMOVUPS (panel)(BX), Y12;                  \
	VMOVUPS (panel+32)(BX), Y13;               \
	ROW((offset+0*apart)(AX), Y14, Y0, Y1);    \
	ROW((offset+1*apart)(AX), Y15, Y2, Y3);    \
	ROW((offset+2*apart)(AX), Y14, Y4, Y5);    \
	ROW((offset+3*apart)(AX), Y15, Y6, Y7)

#define STEP6(offset, panel, apart) \
	STEP4(offset, panel, apart);               \
	ROW((offset+4*apart)(AX), Y14, Y8, Y9);    \
	ROW((offset+5*apart)(AX), Y15, Y10, Y11)

#define ZERO4(s0, s1, s2, s3) \
	VXORPS s0, s0, s0; \
	VXORPS s1, s1, s1; \
	VXORPS s2, s2, s2; \
	VXORPS s3, s3, s3
