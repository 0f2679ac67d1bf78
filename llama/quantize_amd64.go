//go:build goexperiment.simd

package llama

import "simd/archsimd"

// The functions of this file do the first values of a row, in AVX2, and say how many they did: none on a processor that lacks
// it. The rest, and all in a build without them, is done one value after the other, with the same outcome to the bit.

// vectors says that the processor has AVX2. A variable, for tests of what is done without.
var vectors = archsimd.X86.AVX2()

type (
	values8 = archsimd.Float32x8
	bits8   = archsimd.Uint32x8
)

func load8(values []float32) values8     { return archsimd.LoadFloat32x8((*[8]float32)(values)) }
func store8(values []float32, v values8) { v.Store((*[8]float32)(values)) }
func all8(v float32) values8             { return archsimd.BroadcastFloat32x8(v) }

// magnitude8 are the bits without the sign.
func magnitude8(v values8) bits8 { return v.AsUint32x8().And(archsimd.BroadcastUint32x8(0x7FFFFFFF)) }

// widenBF16 is safetensors.Decode for bfloat16.
func widenBF16(values []float32, raw []byte) (done int) {
	if !vectors {
		return 0
	}
	for ; done+8 <= len(values); done += 8 {
		bits := archsimd.LoadUint8x16((*[16]byte)(raw[2*done:])).AsUint16x8()
		store8(values[done:], bits.ExtendToUint32().ShiftAllLeft(16).AsFloat32x8())
	}
	archsimd.ClearAVXUpperBits()
	return done
}

// largestBits are those of the largest magnitude.
func largestBits(values []float32) (done int, bits uint32) {
	if !vectors {
		return 0, 0
	}
	var a, b, c, d bits8
	for ; done+32 <= len(values); done += 32 {
		v := (*[32]float32)(values[done:])
		a, b = a.Max(magnitude8(load8(v[:8]))), b.Max(magnitude8(load8(v[8:16])))
		c, d = c.Max(magnitude8(load8(v[16:24]))), d.Max(magnitude8(load8(v[24:])))
	}
	var lanes [8]uint32
	a.Max(b).Max(c.Max(d)).Store(&lanes)
	archsimd.ClearAVXUpperBits()
	for _, l := range lanes {
		bits = max(bits, l)
	}
	return done, bits
}

// bytePlaces move the lowest byte of every lane of the j-th of four registers to where it belongs among those of all four,
// in either half of a register; laneOrder then brings the halves together.
var (
	bytePlaces = func() (places [4][32]int8) {
		for j := range places {
			for i := range places[j] {
				if places[j][i] = -1; i%16/4 == j {
					places[j][i] = int8(i % 4 * 4)
				}
			}
		}
		return places
	}()
	laneOrder = [8]uint32{0, 4, 1, 5, 2, 6, 3, 7}
)

// encodeInt8s is the rounding of int8Format, values times scale being from -127 to 127.
func encodeInt8s(codes []byte, values []float32, scale float32) (done int) {
	if !vectors {
		return 0
	}
	by, half, offset := all8(scale), all8(128.5), archsimd.BroadcastInt32x8(128)
	p0, p1 := archsimd.LoadInt8x32(&bytePlaces[0]), archsimd.LoadInt8x32(&bytePlaces[1])
	p2, p3 := archsimd.LoadInt8x32(&bytePlaces[2]), archsimd.LoadInt8x32(&bytePlaces[3])
	order := archsimd.LoadUint32x8(&laneOrder)
	code := func(values []float32, places archsimd.Int8x32) archsimd.Uint8x32 {
		return load8(values).Mul(by).Add(half).ConvertToInt32().Sub(offset).AsUint8x32().PermuteOrZeroGrouped(places)
	}
	for ; done+32 <= len(values); done += 32 {
		v := (*[32]float32)(values[done:])
		all := code(v[:8], p0).Or(code(v[8:16], p1)).Or(code(v[16:24], p2).Or(code(v[24:], p3)))
		all.AsUint32x8().Permute(order).AsUint8x32().Store((*[32]byte)(codes[done:]))
	}
	archsimd.ClearAVXUpperBits()
	return done
}

// decodeInt8s is int8Format's.
func decodeInt8s(values []float32, codes []byte, scale float32) (done int) {
	if !vectors {
		return 0
	}
	by := all8(scale)
	for ; done+16 <= len(codes); done += 16 {
		both := archsimd.LoadUint8x16((*[16]byte)(codes[done:]))
		wide := both.AsUint64x2()
		v := (*[16]float32)(values[done:])
		store8(v[:8], both.AsInt8x16().ExtendLo8ToInt32().ConvertToFloat32().Mul(by))
		store8(v[8:], wide.InterleaveHi(wide).AsInt8x16().ExtendLo8ToInt32().ConvertToFloat32().Mul(by))
	}
	archsimd.ClearAVXUpperBits()
	return done
}

// pairPlaces move the lowest bytes of the pairs of lanes of the j-th of eight registers to where they belong among those of
// all eight, in either half of a register.
var pairPlaces = func() (places [8][32]int8) {
	for j := range places {
		for i := range places[j] {
			if places[j][i] = -1; i%16/2 == j {
				places[j][i] = int8(i % 2 * 8)
			}
		}
	}
	return places
}()

// nf4Steps are the middles between neighbours of nf4Values with which a value is compared, by the bits of its code that are
// known: first one, then one of two, one of four and one of eight.
var nf4Steps = func() (steps [4][8]float32) {
	for known, step := range []int{8, 4, 2, 1} {
		for i := range 1 << known {
			m := 2*step*i + step - 1
			steps[known][i] = (nf4Values[m] + nf4Values[m+1]) / 2
		}
	}
	return steps
}()

// encodeNibbles is nf4Format's encoding of a block, whose values times scale are from -1 to 1, by bisection. It does all of a
// whole block, and nothing of a part of one.
func encodeNibbles(codes []byte, values []float32, scale float32) (done int) {
	if !vectors || len(values) < nf4Block {
		return 0
	}
	var all archsimd.Uint8x32
	by := all8(scale)
	one, two, four, eight := all8(nf4Steps[0][0]), load8(nf4Steps[1][:]), load8(nf4Steps[2][:]), load8(nf4Steps[3][:])
	for j := range pairPlaces {
		v := load8(values[8*j:]).Mul(by)
		var code archsimd.Int32x8
		code = code.Sub(v.Greater(one).ToInt32x8())
		code = code.Add(code).Sub(v.Greater(two.Permute(code.AsUint32x8())).ToInt32x8())
		code = code.Add(code).Sub(v.Greater(four.Permute(code.AsUint32x8())).ToInt32x8())
		code = code.Add(code).Sub(v.Greater(eight.Permute(code.AsUint32x8())).ToInt32x8())
		pairs := code.AsUint64x4()
		pairs = pairs.Or(pairs.ShiftAllRight(28))
		all = all.Or(pairs.AsUint8x32().PermuteOrZeroGrouped(archsimd.LoadInt8x32(&pairPlaces[j])))
	}
	low, high := all.GetLo().AsUint16x8(), all.GetHi().AsUint16x8()
	low.InterleaveLo(high).AsUint8x16().Store((*[16]byte)(codes))
	low.InterleaveHi(high).AsUint8x16().Store((*[16]byte)(codes[16:]))
	archsimd.ClearAVXUpperBits()
	return nf4Block
}

// decodeNibbles is nf4Format's decoding of a block.
func decodeNibbles(values []float32, codes []byte, scale float32) (done int) {
	if !vectors {
		return 0
	}
	by := all8(scale)
	low, high := load8(nf4Values[:8]), load8(nf4Values[8:])
	var zero archsimd.Int32x8
	value := func(code bits8) values8 { // of the lower 4 bits, of which the highest chooses the half
		return high.Permute(code).Merge(low.Permute(code), zero.Greater(code.ShiftAllLeft(28).AsInt32x8())).Mul(by)
	}
	// A shift by a number would take it through an instruction of SSE, which is slow between those of AVX.
	four := archsimd.BroadcastUint32x8(4)
	decode := func(values *[16]float32, codes archsimd.Uint8x16) { // of the first 8 bytes
		pairs := codes.ExtendLo8ToUint32()
		even, odd := value(pairs).AsUint32x8(), value(pairs.ShiftRight(four)).AsUint32x8()
		first, second := even.InterleaveLoGrouped(odd), even.InterleaveHiGrouped(odd)
		store8(values[:8], first.Select128FromPair(0, 2, second).AsFloat32x8())
		store8(values[8:], first.Select128FromPair(1, 3, second).AsFloat32x8())
	}
	for ; done+32 <= len(values); done += 32 {
		both := archsimd.LoadUint8x16((*[16]byte)(codes[done/2:]))
		wide := both.AsUint64x2()
		decode((*[16]float32)(values[done:]), both)
		decode((*[16]float32)(values[done+16:]), wide.InterleaveHi(wide).AsUint8x16())
	}
	archsimd.ClearAVXUpperBits()
	return done
}

// addFirst is what add does first, to sums that are zero.
func (s *laneSums) addFirst(stored, kept []float32) (done int) {
	if !vectors {
		return 0
	}
	var squares, differences values8
	var worst bits8
	for ; done+8 <= len(stored); done += 8 {
		v := load8(stored[done:])
		d := v.Sub(load8(kept[done:]))
		squares, differences = squares.Add(v.Mul(v)), differences.Add(d.Mul(d))
		worst = worst.Max(magnitude8(d))
	}
	squares.Store(&s.squares)
	differences.Store(&s.differences)
	worst.Store(&s.worst)
	archsimd.ClearAVXUpperBits()
	return done
}
