//go:build goexperiment.simd

package panel

import "simd/archsimd"

// row1x4 is c = x Aᵀ for one row x [k] and 4 tiles of A, [k][8] each and aStride bytes apart: c [32]. With add the
// products are added to c.
//
//go:noescape
func row1x4(k int, a *float32, aStride int, x, c *float32, add bool)

// row1x1 is row1x4 for one tile: c [8].
//
//go:noescape
func row1x1(k int, a *float32, aStride int, x, c *float32, add bool)

// row4x4 is row1x4 for 4 rows of x, xStride bytes apart, and of c, cStride bytes apart.
//
//go:noescape
func row4x4(k int, a *float32, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)

// row4x1 is row4x4 for one tile.
//
//go:noescape
func row4x1(k int, a *float32, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)

// The same for tiles in bfloat16, [k/2][8][2].

//go:noescape
func row1x4Half(k int, a *uint16, aStride int, x, c *float32, add bool)

//go:noescape
func row1x1Half(k int, a *uint16, aStride int, x, c *float32, add bool)

//go:noescape
func row4x4Half(k int, a *uint16, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)

//go:noescape
func row4x1Half(k int, a *uint16, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)

// The same for k pairs of such tiles, [k][8][2], and rows in bfloat16.

//go:noescape
func row1x4Dot(k int, a *uint16, aStride int, x *uint16, c *float32, add bool)

//go:noescape
func row1x1Dot(k int, a *uint16, aStride int, x *uint16, c *float32, add bool)

//go:noescape
func row4x4Dot(k int, a *uint16, aStride int, x *uint16, xStride int, c *float32, cStride int, add bool)

//go:noescape
func row4x1Dot(k int, a *uint16, aStride int, x *uint16, xStride int, c *float32, cStride int, add bool)

// exponentials replaces scores by e to the power of (score - maximum) * scale. Their number is a multiple of Lanes.
func exponentials(scores []float32, maximum, scale float32) {
	if !avx512 {
		exponentialsAVX2(scores, maximum, scale)
		return
	}
	m, by := all(maximum), all(scale)
	for i := 0; i < len(scores); i += Lanes {
		store(scores[i:], exponential(load(scores[i:]).Sub(m).Mul(by)))
	}
	archsimd.ClearAVXUpperBits()
}

// largest of scores, whose number is a multiple of Lanes.
func largest(scores []float32) float32 {
	lanes := eighths(scores)
	best := lanes[0]
	for _, v := range lanes[1:] {
		best = max(best, v)
	}
	return best
}

// eighths are the largest of the scores i, i+8, i+16 and so on, for i from 0 to 7.
func eighths(scores []float32) (lanes [8]float32) {
	if !avx512 {
		return eighthsAVX2(scores)
	}
	m := all(hidden)
	for i := 0; i < len(scores); i += Lanes {
		m = m.Max(load(scores[i:]))
	}
	m.GetLo().Max(m.GetHi()).Store(&lanes)
	archsimd.ClearAVXUpperBits()
	return lanes
}
