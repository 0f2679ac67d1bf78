//go:build goexperiment.simd

package panel

import "simd/archsimd"

func gain(x, by []float32) {
	if !avx512 {
		gainAVX2(x, by)
		return
	}
	for r, v := range by {
		store(x[r*Lanes:], load(x[r*Lanes:]).Mul(all(v)))
	}
	archsimd.ClearAVXUpperBits()
}

func addProducts(a, b, sums []float32) {
	if !avx512 {
		addProductsAVX2(a, b, sums)
		return
	}
	for i := 0; i < len(sums); i += Lanes {
		store(sums[i:], load(a[i:]).MulAdd(load(b[i:]), load(sums[i:])))
	}
	archsimd.ClearAVXUpperBits()
}

func difference(a, b []float64, y []float32) {
	if !avx512 {
		differenceAVX2(a, b, y)
		return
	}
	for i := 0; i < len(y); i += Lanes {
		store(y[i:], narrow(load8(a[i:]).Sub(load8(b[i:])), load8(a[i+8:]).Sub(load8(b[i+8:]))))
	}
	archsimd.ClearAVXUpperBits()
}
