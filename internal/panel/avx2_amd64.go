//go:build goexperiment.simd

package panel

//lint:file-ignore U1000 those in AVX-512 jump to these kernels where there is no AVX-512, and nothing in Go calls them

//go:noescape
func gemm8x2AVX2(k int, a, b0, b1, c0, c1 *float32, add bool, next *float32)

//go:noescape
func gemm8x1AVX2(k int, a, b, c *float32, add bool)

//go:noescape
func scores16AVX2(k int, a, b, c *float32)

//go:noescape
func mix16AVX2(n int, offsets *int, a, b *float32, bStride int, c *float32, cStride int)

//go:noescape
func mix8AVX2(n int, offsets *int, a, b *float32, bStride int, c *float32, cStride int)

//go:noescape
func dot4x4AVX2(n int, a *float32, aStride int, b *float32, bStride int, c *float32, cStride int)

//go:noescape
func turn16AVX2(from *float32, fromStride int, to *float32, toStride int, lanes *[8][16]uint32)

//go:noescape
func turnBlocks8AVX2(tiles *float32, stride, n int, to *float32, lanes *[4][16]uint32)

//go:noescape
func turnHalfBlocks8AVX2(tiles *uint16, stride, n int, to *uint16, lanes *[2][32]uint16)

//go:noescape
func row4x4AVX2(k int, a *float32, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)

//go:noescape
func row4x1AVX2(k int, a *float32, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)

//go:noescape
func row4x4HalfAVX2(k int, a *uint16, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)

//go:noescape
func row4x1HalfAVX2(k int, a *uint16, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)
