//go:build goexperiment.simd

package lora

import "simd/archsimd"

// vectors says that the processor has AVX2. A variable, for tests of what is done without.
var vectors = archsimd.X86.AVX2()

// stepFirst does the first elements of a step, four at a time with the bits of one at a time, and says how many: a division
// and a root take four as long as one.
func (e elements) stepFirst(value, grad, m, v []float32) (done int) {
	if !vectors {
		return 0
	}
	all := archsimd.BroadcastFloat64x4
	load := func(s []float32) archsimd.Float64x4 {
		return archsimd.LoadFloat32x4((*[4]float32)(s)).ConvertToFloat64()
	}
	beta1, rest1, beta2, rest2 := all(e.beta1), all(e.rest1), all(e.beta2), all(e.rest2)
	eps, kept, rate, correct2, zero := all(e.eps), all(e.kept), all(e.rate), all(e.correct2), all(0)
	for ; done+4 <= len(value); done += 4 {
		g := load(grad[done:])
		mi := beta1.Mul(load(m[done:])).Add(rest1.Mul(g))
		vi := beta2.Mul(load(v[done:])).Add(rest2.Mul(g).Mul(g))
		mi.ConvertToFloat32().Store((*[4]float32)(m[done:]))
		vi.ConvertToFloat32().Store((*[4]float32)(v[done:]))
		by := rate.Mul(mi).Div(vi.Sqrt().Div(correct2).Add(eps)).Masked(mi.NotEqual(zero))
		load(value[done:]).Mul(kept).Sub(by).ConvertToFloat32().Store((*[4]float32)(value[done:]))
	}
	archsimd.ClearAVXUpperBits()
	return done
}
