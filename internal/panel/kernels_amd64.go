//go:build goexperiment.simd

package panel

import "simd/archsimd"

// avx512 says which of two kernels is called, the one in AVX-512 or the one in AVX2 and FMA. They write the same bits.
var avx512 = archsimd.X86.AVX512()

// gemm8x2 is c = A b for the 8 rows of a tile a [k][8] and two panels b0 and b1 [k][16]: c0 and c1 [8][16]. With add the
// products are added to c. next is a tile that will be wanted soon; a itself, if there is none.
//
//go:noescape
func gemm8x2(k int, a, b0, b1, c0, c1 *float32, add bool, next *float32)

// gemm8x1 is gemm8x2 for one panel.
//
//go:noescape
func gemm8x1(k int, a, b, c *float32, add bool)

// threes says whether there are gemm8x3 and half8x3.
var threes = avx512

// gemm8x3 is gemm8x2 for three panels of b, bStride elements apart, and of c, cStride apart.
//
//go:noescape
func gemm8x3(k int, a, b *float32, bStride int, c *float32, cStride int, add bool, next *float32)

// ask has the processor fetch [8][16] elements from a on.
//
//go:noescape
func ask(a *float32)

// half8x2 is gemm8x2 in bfloat16: a [k][8][2], b0 and b1 [k][16][2], k counting pairs.
//
//go:noescape
func half8x2(k int, a, b0, b1 *uint16, c0, c1 *float32, add bool, next *uint16)

// half8x1 is half8x2 for one panel.
//
//go:noescape
func half8x1(k int, a, b *uint16, c *float32, add bool)

// half8x3 is half8x2 for three panels of b, bStride elements apart, and of c, cStride apart.
//
//go:noescape
func half8x3(k int, a, b *uint16, bStride int, c *float32, cStride int, add bool, next *uint16)

// scores16 is c = Aᵀ b for panels a [k][16] and b [k][16]: c [16][16], a row for every column of a.
//
//go:noescape
func scores16(k int, a, b, c *float32)

// scores16Half is scores16 in bfloat16: a and b [k][16][2], k counting pairs of rows.
//
//go:noescape
func scores16Half(k int, a, b *uint16, c *float32)

// mix16Half is mix16 in bfloat16: a row of a panel of A is 8 pairs, and b has 8n pairs of rows, bStride elements apart, of 16
// pairs each. Only with add are the products added to c.
//
//go:noescape
func mix16Half(n int, offsets *int, a, b *uint16, bStride int, c *float32, cStride int, add bool)

// mix16 is c += A b, A being 16 rows of n panels that start offsets[i] elements behind a: row r of panel i is the 16
// elements from offsets[i]+16r on. b has 16n rows, bStride elements apart; c has 16 rows, cStride apart.
//
//go:noescape
func mix16(n int, offsets *int, a, b *float32, bStride int, c *float32, cStride int)

// mix8 is mix16 for 8 rows.
//
//go:noescape
func mix8(n int, offsets *int, a, b *float32, bStride int, c *float32, cStride int)

// twos says whether there are scores16x2 and mix8x2.
var twos = avx512

// scores16x2 is scores16 for two panels b0 and b1.
//
//go:noescape
func scores16x2(k int, a, b0, b1, c0, c1 *float32)

// mix8x2 is mix8 for b0 and b1, both bStride elements from row to row, and c0 and c1.
//
//go:noescape
func mix8x2(n int, offsets *int, a, b0, b1 *float32, bStride int, c0, c1 *float32, cStride int)

// dot4x4 is c += A Bᵀ over n panels for 4 rows of either: panels of A are aStride elements apart, those of B bStride, and
// rows within them 16. c has 4 rows of 4 elements, cStride apart.
//
//go:noescape
func dot4x4(n int, a *float32, aStride int, b *float32, bStride int, c *float32, cStride int)

// turn16 writes the transpose of 16 rows of 16 elements, rows being fromStride and toStride elements apart. lanes are
// the tables of turnLanes.
//
//go:noescape
func turn16(from *float32, fromStride int, to *float32, toStride int, lanes *[8][16]uint32)

// turnBlocks8 turns n 8x8 blocks, stride elements apart, and writes them side by side.
//
//go:noescape
func turnBlocks8(tiles *float32, stride, n int, to *float32, lanes *[4][16]uint32)

// turnHalfBlocks8 is turnBlocks8 for blocks of pairs of bfloat16.
//
//go:noescape
func turnHalfBlocks8(tiles *uint16, stride, n int, to *uint16, lanes *[2][32]uint16)
