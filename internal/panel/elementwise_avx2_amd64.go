//go:build goexperiment.simd

package panel

import (
	"math"
	"simd/archsimd"
)

// What elementwise_amd64.go and its neighbours do in AVX-512, in AVX2: the 16 lanes of a panel are two times the 8 of a
// register. Sums run lane by lane, so the bits are the same.

// yLanes is the number of elements in float32 of a register of AVX2.
const yLanes = Lanes / 2

type (
	y32 = archsimd.Float32x8
	y64 = archsimd.Float64x4
)

func load32(s []float32) y32     { return archsimd.LoadFloat32x8((*[8]float32)(s)) }
func store32(s []float32, v y32) { v.Store((*[8]float32)(s)) }
func load64(s []float64) y64     { return archsimd.LoadFloat64x4((*[4]float64)(s)) }
func store64(s []float64, v y64) { v.Store((*[4]float64)(s)) }
func all32(x float32) y32        { return archsimd.BroadcastFloat32x8(x) }
func all64(x float64) y64        { return archsimd.BroadcastFloat64x4(x) }
func widen32(v y32) (lo, hi y64) { return v.GetLo().ConvertToFloat64(), v.GetHi().ConvertToFloat64() }
func narrow64(lo, hi y64) (v y32) {
	return v.SetLo(lo.ConvertToFloat32()).SetHi(hi.ConvertToFloat32())
}

// masks32 are the lanes whose bits are set.
func masks32(bits uint16) (low, high archsimd.Mask32x8) {
	all := archsimd.BroadcastInt32x8(int32(bits))
	first, second := archsimd.LoadInt32x8((*[8]int32)(laneBits[:yLanes])), archsimd.LoadInt32x8((*[8]int32)(laneBits[yLanes:]))
	return all.And(first).Equal(first), all.And(second).Equal(second)
}

// exponential32 is exponential of two registers, which share what there is of constants.
func exponential32(x0, x1 y32) (y0, y1 y32) {
	c := all32(math.Log2E)
	n0, n1 := x0.Mul(c).RoundToEven(), x1.Mul(c).RoundToEven()
	c = all32(-ln2Upper)
	r0, r1 := n0.MulAdd(c, x0), n1.MulAdd(c, x1)
	c = all32(-ln2Lower)
	r0, r1 = n0.MulAdd(c, r0), n1.MulAdd(c, r1)
	c, d := all32(exp7), all32(exp6)
	p0, p1 := c.MulAdd(r0, d), c.MulAdd(r1, d)
	c = all32(exp5)
	p0, p1 = p0.MulAdd(r0, c), p1.MulAdd(r1, c)
	c = all32(exp4)
	p0, p1 = p0.MulAdd(r0, c), p1.MulAdd(r1, c)
	c = all32(exp3)
	p0, p1 = p0.MulAdd(r0, c), p1.MulAdd(r1, c)
	c = all32(exp2)
	p0, p1 = p0.MulAdd(r0, c), p1.MulAdd(r1, c)
	c = all32(1)
	p0, p1 = p0.MulAdd(r0.Mul(r0), r0.Add(c)), p1.MulAdd(r1.Mul(r1), r1.Add(c))
	c = all32(near * near)
	if n0.Mul(n0).LessEqual(c).And(n1.Mul(n1).LessEqual(c)).ToBits() != 1<<yLanes-1 {
		return scale32(p0, n0), scale32(p1, n1)
	}
	return p0.AsInt32x8().Add(n0.ConvertToInt32().ShiftAllLeft(23)).AsFloat32x8(),
		p1.AsInt32x8().Add(n1.ConvertToInt32().ShiftAllLeft(23)).AsFloat32x8()
}

// scale32 is p times 2 to the n, rounded once, as VSCALEFPS of AVX-512 has it. The power is the product of four, since one
// alone would be neither zero nor infinite before p times it is, and all products but the last are exact.
func scale32(p, n y32) y32 {
	whole := n.Max(all32(-far)).Min(all32(far)).ConvertToInt32()
	quarter := whole.ShiftAllRight(2)
	power := func(n archsimd.Int32x8) y32 {
		return n.Add(archsimd.BroadcastInt32x8(127)).ShiftAllLeft(23).AsFloat32x8()
	}
	q := power(quarter)
	rest := power(whole.Sub(quarter).Sub(quarter).Sub(quarter))
	y := p.Mul(q).Mul(q).Mul(q).Mul(rest)
	infinite, toZero := all32(float32(math.Inf(1))), all32(float32(math.Inf(-1)))
	return infinite.Merge(y.Masked(n.NotEqual(toZero)), n.Equal(infinite))
}

func normalizeAVX2(x []float64, gain []float32, eps float64, y []float32, inverse []float64) {
	count, small, one := all64(float64(len(gain))), all64(eps), all64(1)
	for first := 0; first < Lanes; first += yLanes {
		var s0, s1 y64
		for i := first; i < len(x); i += Lanes {
			a, b := load64(x[i:]), load64(x[i+4:])
			s0, s1 = a.MulAdd(a, s0), b.MulAdd(b, s1)
		}
		s0, s1 = one.Div(s0.Div(count).Add(small).Sqrt()), one.Div(s1.Div(count).Add(small).Sqrt())
		store64(inverse[first:], s0)
		store64(inverse[first+4:], s1)
		for r, g := range gain {
			i := r*Lanes + first
			store32(y[i:], narrow64(load64(x[i:]).Mul(s0), load64(x[i+4:]).Mul(s1)).Mul(all32(g)))
		}
	}
	archsimd.ClearAVXUpperBits()
}

func normalizeGradientAVX2(dy, gain []float32, x []float64, inverse, dx []float64) {
	share := all64(-1 / float64(len(gain)))
	for first := 0; first < Lanes; first += yLanes {
		var t0, t1 y64
		for r, g := range gain {
			i := r*Lanes + first
			a, b := widen32(load32(dy[i:]).Mul(all32(g)))
			t0, t1 = a.MulAdd(load64(x[i:]), t0), b.MulAdd(load64(x[i+4:]), t1)
		}
		s0, s1 := load64(inverse[first:]), load64(inverse[first+4:])
		t0, t1 = t0.Mul(s0).Mul(s0).Mul(s0).Mul(share), t1.Mul(s1).Mul(s1).Mul(s1).Mul(share)
		for r, g := range gain {
			i := r*Lanes + first
			a, b := widen32(load32(dy[i:]).Mul(all32(g)))
			store64(dx[i:], a.MulAdd(s0, load64(x[i:]).MulAdd(t0, load64(dx[i:]))))
			store64(dx[i+4:], b.MulAdd(s1, load64(x[i+4:]).MulAdd(t1, load64(dx[i+4:]))))
		}
	}
	archsimd.ClearAVXUpperBits()
}

func addWideAVX2(x []float64, y []float32) {
	for i := 0; i < len(y); i += yLanes {
		a, b := widen32(load32(y[i:]))
		store64(x[i:], load64(x[i:]).Add(a))
		store64(x[i+4:], load64(x[i+4:]).Add(b))
	}
	archsimd.ClearAVXUpperBits()
}

func narrowToAVX2(y []float32, x []float64) {
	for i := 0; i < len(y); i += yLanes {
		store32(y[i:], narrow64(load64(x[i:]), load64(x[i+4:])))
	}
	archsimd.ClearAVXUpperBits()
}

func rotateAVX2(x, cos, sin []float32, inverse bool) {
	middle := len(x) / 2
	sign := all32(1)
	if inverse {
		sign = all32(-1)
	}
	for i := 0; i < middle; i += yLanes {
		c, s := load32(cos[i:]), load32(sin[i:]).Mul(sign)
		a, b := load32(x[i:]), load32(x[middle+i:])
		store32(x[i:], a.Mul(c).Sub(b.Mul(s)))
		store32(x[middle+i:], b.Mul(c).Add(a.Mul(s)))
	}
	archsimd.ClearAVXUpperBits()
}

func sigmoid32(x0, x1 y32) (y0, y1 y32) {
	var zero y32
	one := all32(1)
	y0, y1 = exponential32(zero.Sub(x0), zero.Sub(x1))
	return one.Div(one.Add(y0)), one.Div(one.Add(y1))
}

func swigluAVX2(gate, up, h []float32) {
	for i := 0; i < len(h); i += Lanes {
		j := i + yLanes
		g0, g1 := load32(gate[i:]), load32(gate[j:])
		s0, s1 := sigmoid32(g0, g1)
		store32(h[i:], g0.Mul(s0).Mul(load32(up[i:])))
		store32(h[j:], g1.Mul(s1).Mul(load32(up[j:])))
	}
	archsimd.ClearAVXUpperBits()
}

func swigluGradientAVX2(dh, gate, up []float32) {
	one := all32(1)
	gradient := func(at int, g, s y32) {
		d, u := load32(dh[at:]), load32(up[at:])
		store32(gate[at:], d.Mul(u).Mul(s).Mul(one.Sub(s).MulAdd(g, one)))
		store32(up[at:], d.Mul(g).Mul(s))
	}
	for i := 0; i < len(dh); i += Lanes {
		g0, g1 := load32(gate[i:]), load32(gate[i+yLanes:])
		s0, s1 := sigmoid32(g0, g1)
		gradient(i, g0, s0)
		gradient(i+yLanes, g1, s1)
	}
	archsimd.ClearAVXUpperBits()
}

// weights32 are the exponentials of a row of scores, of which a softmax consists, before any is hidden.
func weights32(row []float32, m0, m1, by y32) (p0, p1 y32) {
	return exponential32(load32(row).Sub(m0).Mul(by), load32(row[yLanes:]).Sub(m1).Mul(by))
}

// larger is x where x or m is no number, as from the instruction for AVX-512; Max leaves it to the compiler.
func larger(m, x y32) y32 { return m.Merge(x, m.Greater(x)) }

func softmaxAVX2(scores []float32, masks []*[Lanes]uint16, scale float32, maximum, inverse []float32) {
	m0, m1, low := all32(hidden), all32(hidden), all32(hidden)
	for k, bits := range masks {
		panel := scores[k*Lanes*Lanes:][:Lanes*Lanes]
		for j, b := range bits {
			see0, see1 := masks32(b)
			row := panel[j*Lanes:][:Lanes]
			m0, m1 = larger(m0, load32(row).Merge(low, see0)), larger(m1, load32(row[yLanes:]).Merge(low, see1))
		}
	}
	store32(maximum, m0)
	store32(maximum[yLanes:], m1)
	by := all32(scale)
	var sum0, sum1 y32
	for k, bits := range masks {
		panel := scores[k*Lanes*Lanes:][:Lanes*Lanes]
		var part0, part1 y32
		for j, b := range bits {
			see0, see1 := masks32(b)
			row := panel[j*Lanes:][:Lanes]
			p0, p1 := weights32(row, m0, m1, by)
			p0, p1 = p0.Masked(see0), p1.Masked(see1)
			store32(row, p0)
			store32(row[yLanes:], p1)
			part0, part1 = part0.Add(p0), part1.Add(p1)
		}
		sum0, sum1 = sum0.Add(part0), sum1.Add(part1)
	}
	var zero y32
	one := all32(1)
	some0, some1 := sum0.Greater(zero), sum1.Greater(zero)
	store32(inverse, one.Div(sum0.Merge(one, some0)).Masked(some0))
	store32(inverse[yLanes:], one.Div(sum1.Merge(one, some1)).Masked(some1))
	archsimd.ClearAVXUpperBits()
}

func softmaxGradientAVX2(scores, dp []float32, masks []*[Lanes]uint16, scale float32, maximum, inverse []float32) {
	m0, m1, inv0, inv1, by := load32(maximum), load32(maximum[yLanes:]), load32(inverse), load32(inverse[yLanes:]), all32(scale)
	var mean0, mean1 y32
	for k, bits := range masks {
		panel, dPanel := scores[k*Lanes*Lanes:][:Lanes*Lanes], dp[k*Lanes*Lanes:][:Lanes*Lanes]
		var part0, part1 y32
		for j, b := range bits {
			row, dRow := panel[j*Lanes:][:Lanes], dPanel[j*Lanes:][:Lanes]
			p0, p1 := weights32(row, m0, m1, by)
			see0, see1 := masks32(b)
			p0, p1 = p0.Mul(inv0).Masked(see0), p1.Mul(inv1).Masked(see1)
			store32(row, p0)
			store32(row[yLanes:], p1)
			part0, part1 = p0.MulAdd(load32(dRow), part0), p1.MulAdd(load32(dRow[yLanes:]), part1)
		}
		mean0, mean1 = mean0.Add(part0), mean1.Add(part1)
	}
	for i := 0; i < len(masks)*Lanes*Lanes; i += Lanes {
		j := i + yLanes
		store32(dp[i:], load32(scores[i:]).Mul(load32(dp[i:]).Sub(mean0)).Mul(by))
		store32(dp[j:], load32(scores[j:]).Mul(load32(dp[j:]).Sub(mean1)).Mul(by))
	}
	archsimd.ClearAVXUpperBits()
}

func scaleRowsAVX2(x, by []float32) {
	low, high := load32(by), load32(by[yLanes:])
	for i := 0; i < len(x); i += Lanes {
		store32(x[i:], load32(x[i:]).Mul(low))
		store32(x[i+yLanes:], load32(x[i+yLanes:]).Mul(high))
	}
	archsimd.ClearAVXUpperBits()
}

func addToAVX2(x, y []float32) {
	for i := 0; i < len(x); i += yLanes {
		store32(x[i:], load32(x[i:]).Add(load32(y[i:])))
	}
	archsimd.ClearAVXUpperBits()
}

func scaleByAVX2(x []float32, by float32) {
	s := all32(by)
	for i := 0; i < len(x); i += yLanes {
		store32(x[i:], load32(x[i:]).Mul(s))
	}
	archsimd.ClearAVXUpperBits()
}

func exponentialsAVX2(scores []float32, maximum, scale float32) {
	m, by := all32(maximum), all32(scale)
	for i := 0; i < len(scores); i += Lanes {
		row := scores[i:][:Lanes]
		p0, p1 := weights32(row, m, m, by)
		store32(row, p0)
		store32(row[yLanes:], p1)
	}
	archsimd.ClearAVXUpperBits()
}

func eighthsAVX2(scores []float32) (lanes [yLanes]float32) {
	low, high := all32(hidden), all32(hidden)
	for i := 0; i < len(scores); i += Lanes {
		low, high = larger(low, load32(scores[i:])), larger(high, load32(scores[i+yLanes:]))
	}
	larger(low, high).Store(&lanes)
	archsimd.ClearAVXUpperBits()
	return lanes
}

// fromHalvesAVX2 takes whole pairs of rows.
func fromHalvesAVX2(to []float32, from []uint16) {
	odd := archsimd.BroadcastUint32x8(0xffff0000)
	for i := 0; i < len(from); i += 2 * tileRows {
		both := archsimd.LoadUint16x16((*[16]uint16)(from[i:])).AsUint32x8()
		store32(to[i:], both.ShiftAllLeft(16).AsFloat32x8())
		store32(to[i+tileRows:], both.And(odd).AsFloat32x8())
	}
	archsimd.ClearAVXUpperBits()
}

func gainAVX2(x, by []float32) {
	for r, v := range by {
		row, g := x[r*Lanes:], all32(v)
		store32(row, load32(row).Mul(g))
		store32(row[yLanes:], load32(row[yLanes:]).Mul(g))
	}
	archsimd.ClearAVXUpperBits()
}

func addProductsAVX2(a, b, sums []float32) {
	for i := 0; i < len(sums); i += yLanes {
		store32(sums[i:], load32(a[i:]).MulAdd(load32(b[i:]), load32(sums[i:])))
	}
	archsimd.ClearAVXUpperBits()
}

func differenceAVX2(a, b []float64, y []float32) {
	for i := 0; i < len(y); i += yLanes {
		store32(y[i:], narrow64(load64(a[i:]).Sub(load64(b[i:])), load64(a[i+4:]).Sub(load64(b[i+4:]))))
	}
	archsimd.ClearAVXUpperBits()
}
