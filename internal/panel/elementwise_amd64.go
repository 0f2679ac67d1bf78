//go:build goexperiment.simd

package panel

import (
	"math"
	"simd/archsimd"
)

// Available says whether this processor has what the kernels are written in: AVX-512, or AVX2 and FMA.
func Available() bool { return avx512 || archsimd.X86.AVX2() && archsimd.X86.FMA() }

// Instructions names what the kernels in use are written in, those that multiply bfloat16 if half, otherwise float32.
func Instructions(half bool) string {
	switch {
	case half && HalfAvailable():
		return "AVX-512 and " + Products()
	case avx512:
		return "AVX-512"
	}
	return "AVX2"
}

type (
	vec  = archsimd.Float32x16
	vec8 = archsimd.Float64x8
)

func load(s []float32) vec        { return archsimd.LoadFloat32x16((*[16]float32)(s)) }
func store(s []float32, v vec)    { v.Store((*[16]float32)(s)) }
func load8(s []float64) vec8      { return archsimd.LoadFloat64x8((*[8]float64)(s)) }
func store8(s []float64, v vec8)  { v.Store((*[8]float64)(s)) }
func all(x float32) vec           { return archsimd.BroadcastFloat32x16(x) }
func widen(v vec) (lo, hi vec8)   { return v.GetLo().ConvertToFloat64(), v.GetHi().ConvertToFloat64() }
func narrow(lo, hi vec8) (v vec)  { return v.SetLo(lo.ConvertToFloat32()).SetHi(hi.ConvertToFloat32()) }
func seen(v vec, bits uint16) vec { return v.Masked(archsimd.Mask32x16FromBits(bits)) }

// terms are the constants of exponential, each in all lanes: the compiler would move a number from memory and then spread it,
// every time.
var terms = func() (spread [10][Lanes]float32) {
	for i, c := range [...]float32{math.Log2E, -ln2Upper, -ln2Lower, exp7, exp6, exp5, exp4, exp3, exp2, 1} {
		for l := range spread[i] {
			spread[i][l] = c
		}
	}
	return spread
}()

func term(i int) vec { return archsimd.LoadFloat32x16(&terms[i]) }

// exponential is e to the x within 2 units in the last place.
func exponential(x vec) vec {
	n := x.Mul(term(0)).RoundToEvenScaled(0)
	r := n.MulAdd(term(1), x)
	r = n.MulAdd(term(2), r)
	p := term(3)
	p = p.MulAdd(r, term(4))
	p = p.MulAdd(r, term(5))
	p = p.MulAdd(r, term(6))
	p = p.MulAdd(r, term(7))
	p = p.MulAdd(r, term(8))
	p = p.MulAdd(r.Mul(r), r.Add(term(9)))
	return p.Scale(n)
}

func normalize(x []float64, gain []float32, eps float64, y []float32, inverse []float64) {
	if !avx512 {
		normalizeAVX2(x, gain, eps, y, inverse)
		return
	}
	var s0, s1 vec8
	for i := 0; i < len(x); i += Lanes {
		a, b := load8(x[i:]), load8(x[i+8:])
		s0, s1 = a.MulAdd(a, s0), b.MulAdd(b, s1)
	}
	count, small, one := archsimd.BroadcastFloat64x8(float64(len(gain))), archsimd.BroadcastFloat64x8(eps), archsimd.BroadcastFloat64x8(1)
	s0, s1 = one.Div(s0.Div(count).Add(small).Sqrt()), one.Div(s1.Div(count).Add(small).Sqrt())
	store8(inverse, s0)
	store8(inverse[8:], s1)
	for r, g := range gain {
		i := r * Lanes
		v := narrow(load8(x[i:]).Mul(s0), load8(x[i+8:]).Mul(s1))
		store(y[i:], v.Mul(all(g)))
	}
	archsimd.ClearAVXUpperBits()
}

func normalizeGradient(dy, gain []float32, x []float64, inverse, dx []float64) {
	if !avx512 {
		normalizeGradientAVX2(dy, gain, x, inverse, dx)
		return
	}
	var t0, t1 vec8
	for r, g := range gain {
		i := r * Lanes
		a, b := widen(load(dy[i:]).Mul(all(g)))
		t0, t1 = a.MulAdd(load8(x[i:]), t0), b.MulAdd(load8(x[i+8:]), t1)
	}
	s0, s1 := load8(inverse), load8(inverse[8:])
	share := archsimd.BroadcastFloat64x8(-1 / float64(len(gain)))
	t0, t1 = t0.Mul(s0).Mul(s0).Mul(s0).Mul(share), t1.Mul(s1).Mul(s1).Mul(s1).Mul(share)
	for r, g := range gain {
		i := r * Lanes
		a, b := widen(load(dy[i:]).Mul(all(g)))
		store8(dx[i:], a.MulAdd(s0, load8(x[i:]).MulAdd(t0, load8(dx[i:]))))
		store8(dx[i+8:], b.MulAdd(s1, load8(x[i+8:]).MulAdd(t1, load8(dx[i+8:]))))
	}
	archsimd.ClearAVXUpperBits()
}

func addWide(x []float64, y []float32) {
	if !avx512 {
		addWideAVX2(x, y)
		return
	}
	for i := 0; i < len(y); i += Lanes {
		a, b := widen(load(y[i:]))
		store8(x[i:], load8(x[i:]).Add(a))
		store8(x[i+8:], load8(x[i+8:]).Add(b))
	}
	archsimd.ClearAVXUpperBits()
}

func narrowTo(y []float32, x []float64) {
	if !avx512 {
		narrowToAVX2(y, x)
		return
	}
	for i := 0; i < len(y); i += Lanes {
		store(y[i:], narrow(load8(x[i:]), load8(x[i+8:])))
	}
	archsimd.ClearAVXUpperBits()
}

func rotate(x, cos, sin []float32, inverse bool) {
	if !avx512 {
		rotateAVX2(x, cos, sin, inverse)
		return
	}
	half := len(x) / 2
	sign := all(1)
	if inverse {
		sign = all(-1)
	}
	for i := 0; i < half; i += Lanes {
		c, s := load(cos[i:]), load(sin[i:]).Mul(sign)
		a, b := load(x[i:]), load(x[half+i:])
		store(x[i:], a.Mul(c).Sub(b.Mul(s)))
		store(x[half+i:], b.Mul(c).Add(a.Mul(s)))
	}
	archsimd.ClearAVXUpperBits()
}

func sigmoid(x vec) vec { return term(9).Div(term(9).Add(exponential(vec{}.Sub(x)))) }

func swiglu(gate, up, h []float32) {
	if !avx512 {
		swigluAVX2(gate, up, h)
		return
	}
	for i := 0; i < len(h); i += Lanes {
		g := load(gate[i:])
		store(h[i:], g.Mul(sigmoid(g)).Mul(load(up[i:])))
	}
	archsimd.ClearAVXUpperBits()
}

func swigluGradient(dh, gate, up []float32) {
	if !avx512 {
		swigluGradientAVX2(dh, gate, up)
		return
	}
	one := all(1)
	for i := 0; i < len(dh); i += Lanes {
		d, g, u := load(dh[i:]), load(gate[i:]), load(up[i:])
		s := sigmoid(g)
		store(gate[i:], d.Mul(u).Mul(s).Mul(one.Sub(s).MulAdd(g, one)))
		store(up[i:], d.Mul(g).Mul(s))
	}
	archsimd.ClearAVXUpperBits()
}

func softmax(scores []float32, masks []*[Lanes]uint16, scale float32, maximum, inverse []float32) {
	if !avx512 {
		softmaxAVX2(scores, masks, scale, maximum, inverse)
		return
	}
	m, low := all(hidden), all(hidden)
	for k, bits := range masks {
		panel := scores[k*Lanes*Lanes:][:Lanes*Lanes]
		for j, b := range bits {
			m = m.Max(load(panel[j*Lanes:]).Merge(low, archsimd.Mask32x16FromBits(b)))
		}
	}
	store(maximum, m)
	by := all(scale)
	var sum vec
	for k, bits := range masks {
		panel := scores[k*Lanes*Lanes:][:Lanes*Lanes]
		var part vec // sums of sums: the error of one long sum grows with its length
		for j, b := range bits {
			p := seen(exponential(load(panel[j*Lanes:]).Sub(m).Mul(by)), b)
			store(panel[j*Lanes:], p)
			part = part.Add(p)
		}
		sum = sum.Add(part)
	}
	some := sum.Greater(all(0))
	store(inverse, all(1).Div(sum.Merge(all(1), some)).Masked(some))
	archsimd.ClearAVXUpperBits()
}

func softmaxGradient(scores, dp []float32, masks []*[Lanes]uint16, scale float32, maximum, inverse []float32) {
	if !avx512 {
		softmaxGradientAVX2(scores, dp, masks, scale, maximum, inverse)
		return
	}
	m, inv, by := load(maximum), load(inverse), all(scale)
	var mean vec
	for k, bits := range masks {
		panel, dPanel := scores[k*Lanes*Lanes:][:Lanes*Lanes], dp[k*Lanes*Lanes:][:Lanes*Lanes]
		var part vec
		for j, b := range bits {
			p := seen(exponential(load(panel[j*Lanes:]).Sub(m).Mul(by)).Mul(inv), b)
			store(panel[j*Lanes:], p)
			part = p.MulAdd(load(dPanel[j*Lanes:]), part)
		}
		mean = mean.Add(part)
	}
	for i := 0; i < len(masks)*Lanes*Lanes; i += Lanes {
		store(dp[i:], load(scores[i:]).Mul(load(dp[i:]).Sub(mean)).Mul(by))
	}
	archsimd.ClearAVXUpperBits()
}

func scaleRows(x, by []float32) {
	if !avx512 {
		scaleRowsAVX2(x, by)
		return
	}
	s := load(by)
	for i := 0; i < len(x); i += Lanes {
		store(x[i:], load(x[i:]).Mul(s))
	}
	archsimd.ClearAVXUpperBits()
}

func addTo(x, y []float32) {
	if !avx512 {
		addToAVX2(x, y)
		return
	}
	for i := 0; i < len(x); i += Lanes {
		store(x[i:], load(x[i:]).Add(load(y[i:])))
	}
	archsimd.ClearAVXUpperBits()
}

func scaleBy(x []float32, by float32) {
	if !avx512 {
		scaleByAVX2(x, by)
		return
	}
	s := all(by)
	for i := 0; i < len(x); i += Lanes {
		store(x[i:], load(x[i:]).Mul(s))
	}
	archsimd.ClearAVXUpperBits()
}

// turnTile are the lanes of the two rounds in which an 8x8 block of a tile [k][8] is turned: quarters of four rows are
// gathered from either half of the block, then those that belong to a row are joined.
var turnTile = [4][16]uint32{
	{0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27},
	{4, 12, 20, 28, 5, 13, 21, 29, 6, 14, 22, 30, 7, 15, 23, 31},
	{0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23},
	{8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31},
}

func turnBlocks(tiles []float32, stride, n int, to []float32) {
	turnBlocks8(&tiles[0], stride, n, &to[0], &turnTile)
}

// pairLanes gathers, from two vectors of pairs of neighbours of 8 rows, first the even and then the odd ones' rows.
var pairLanes = [2][16]uint32{
	{0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23},
	{8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31},
}

func fromHalves(to []float32, from []uint16) {
	if !avx512 {
		fromHalvesAVX2(to, from)
		return
	}
	first, second := archsimd.LoadUint32x16(&pairLanes[0]), archsimd.LoadUint32x16(&pairLanes[1])
	odd := archsimd.BroadcastUint32x16(0xffff0000)
	i := 0
	for ; i+32 <= len(from); i += 32 { // two pairs of 8 rows
		both := archsimd.LoadUint16x32((*[32]uint16)(from[i:])).AsUint32x16()
		even, odd := both.ShiftAllLeft(16).AsFloat32x16(), both.And(odd).AsFloat32x16()
		store(to[i:], even.ConcatPermute(odd, first))
		store(to[i+16:], even.ConcatPermute(odd, second))
	}
	archsimd.ClearAVXUpperBits()
	for ; i < len(from); i += 16 {
		for r := range 8 {
			to[i+r], to[i+8+r] = fromBits(from[i+2*r]), fromBits(from[i+2*r+1])
		}
	}
}

// toHalves rounds rows of 16 elements to bfloat16, of two the even one, in pairs of rows.
func toHalves(to []uint16, from []float32) {
	const step = 2 * Lanes
	i := len(from) / step * step
	if i > 0 {
		_ = to[i-1]
		halves(i/step, &from[0], &to[0])
	}
	for l := 0; i+l < len(from); l++ { // the last row has no neighbour
		to[i+2*l], to[i+2*l+1] = toBits(from[i+l]), 0
	}
}

// halves is toHalves for n pairs of rows.
//
//go:noescape
func halves(n int, from *float32, to *uint16)

// upper makes the upper halves of bits of float32 the nearest bfloat16. The others hold 0x7fff, 1 and 16.
func upper(bits, half, one, sixteen archsimd.Uint32x8) archsimd.Uint32x8 {
	return bits.Add(half).Add(bits.ShiftRight(sixteen).And(one))
}

// roundTo rounds elements to bfloat16, of two the even one, in AVX2 alone. Their number is a multiple of 8.
func roundTo(to, from []float32) {
	half, one, mask := archsimd.BroadcastUint32x8(0x7fff), archsimd.BroadcastUint32x8(1), archsimd.BroadcastUint32x8(0xffff0000)
	sixteen := archsimd.BroadcastUint32x8(16) // see fromNibbles
	for i := 0; i < len(from); i += 8 {
		store32(to[i:], upper(load32(from[i:]).AsUint32x8(), half, one, sixteen).And(mask).AsFloat32x8())
	}
	archsimd.ClearAVXUpperBits()
}

// upperHalves are the upper halves of the elements of two vectors, one after the other.
var upperHalves = func() (lanes [32]uint16) {
	for i := range lanes {
		lanes[i] = uint16(2*i + 1)
	}
	return lanes
}()

// roundRows rounds elements in order; their number is a multiple of 2 Lanes.
func roundRows(to []uint16, from []float32) {
	half, one, sixteen := archsimd.BroadcastUint32x16(0x7fff), archsimd.BroadcastUint32x16(1), archsimd.BroadcastUint32x16(16)
	upper := archsimd.LoadUint16x32(&upperHalves)
	round := func(v vec) archsimd.Uint16x32 {
		bits := v.AsUint32x16()
		return bits.Add(half).Add(bits.ShiftRight(sixteen).And(one)).AsUint16x32()
	}
	for i := 0; i < len(from); i += 2 * Lanes {
		round(load(from[i:])).ConcatPermute(round(load(from[i+Lanes:])), upper).Store((*[32]uint16)(to[i:]))
	}
	archsimd.ClearAVXUpperBits()
}

// turnHalfLanes are the elements of an 8x8 block in pairs [4][8][2] as they lie in its transpose.
var turnHalfLanes = func() (lanes [2][32]uint16) {
	for o := range 8 {
		for i := range 8 {
			at := (o/2*8+i)*2 + o%2
			lanes[at/32][at%32] = uint16((i/2*8+o)*2 + i%2)
		}
	}
	return lanes
}()

func turnHalfBlocks(tiles []uint16, stride, n int, to []uint16) {
	turnHalfBlocks8(&tiles[0], stride, n, &to[0], &turnHalfLanes)
}
