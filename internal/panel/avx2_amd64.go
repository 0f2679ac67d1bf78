//go:build goexperiment.simd

package panel

// The kernels in AVX2, to which those in AVX-512 jump where there is no AVX-512. Nothing in Go calls them.

//go:noescape
func gemm8x2AVX2(k int, a, b0, b1, c0, c1 *float32, add bool, next *float32)

//go:noescape
func gemm8x1AVX2(k int, a, b, c *float32, add bool)
