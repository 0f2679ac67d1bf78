package panel

// Available says that the kernels run: every processor of this kind has NEON.
func Available() bool { return true }

// Instructions names what the kernels are written in.
func Instructions(bool) string { return "NEON" }

// gemm8x2 is c = A b for the 8 rows of a tile a [k][8] and two panels b0 and b1 [k][16]: c0 and c1 [8][16]. With add the
// products are added to c. next is a tile that will be wanted soon; a itself, if there is none.
//
//go:noescape
func gemm8x2(k int, a, b0, b1, c0, c1 *float32, add bool, next *float32)

// gemm8x1 is gemm8x2 for one panel.
//
//go:noescape
func gemm8x1(k int, a, b, c *float32, add bool)

// scores16 is c = Aᵀ b for panels a [k][16] and b [k][16]: c [16][16], a row for every column of a.
//
//go:noescape
func scores16(k int, a, b, c *float32)

// mix16 is c += A b, A being 16 rows of n panels that start offsets[i] elements behind a: row r of panel i is the 16
// elements from offsets[i]+16r on. b has 16n rows, bStride elements apart; c has 16 rows, cStride apart.
//
//go:noescape
func mix16(n int, offsets *int, a, b *float32, bStride int, c *float32, cStride int)

// mix8 is mix16 for 8 rows.
//
//go:noescape
func mix8(n int, offsets *int, a, b *float32, bStride int, c *float32, cStride int)

// dot4x4 is c += A Bᵀ over n panels for 4 rows of either: panels of A are aStride elements apart, those of B bStride, and
// rows within them 16. c has 4 rows of 4 elements, cStride apart.
//
//go:noescape
func dot4x4(n int, a *float32, aStride int, b *float32, bStride int, c *float32, cStride int)

// turn16 writes the transpose of 16 rows of 16 elements, rows being fromStride and toStride elements apart. lanes are the
// tables of turnLanes, which have no use here.
//
//go:noescape
func turn16(from *float32, fromStride int, to *float32, toStride int, lanes *[8][16]uint32)

// turnBlocks turns n 8x8 blocks, stride elements apart, and writes them side by side.
//
//go:noescape
func turnBlocks(tiles []float32, stride, n int, to []float32)

// turnHalfBlocks is turnBlocks for blocks of pairs of bfloat16.
//
//go:noescape
func turnHalfBlocks(tiles []uint16, stride, n int, to []uint16)

// ask fetches nothing here: what it would give was never measured.
func ask(_ *float32) {}

// threes and twos say that there are no gemm8x3 and half8x3, and no scores16x2 and mix8x2 here.
const threes, twos = false, false

func gemm8x3(int, *float32, *float32, int, *float32, int, bool, *float32)          { panic(missing) }
func scores16x2(int, *float32, *float32, *float32, *float32, *float32)             { panic(missing) }
func mix8x2(int, *int, *float32, *float32, *float32, int, *float32, *float32, int) { panic(missing) }
