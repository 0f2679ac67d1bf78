//go:build goexperiment.simd

package panel

import "simd/archsimd"

// What codes stand for is looked up and multiplied 8 rows of a tile at a time, in AVX2 alone: 16 rows at a time in AVX-512
// took nine tenths of the time for codes of eight bits and six tenths for those of four, and either is a few hundredths
// of the product's.

// bytes8 are 16 bytes, and the last 8 of them as the first.
func bytes8(codes []byte) (both, second archsimd.Uint8x16) {
	both = archsimd.LoadUint8x16((*[16]byte)(codes))
	wide := both.AsUint64x2()
	return both, wide.InterleaveHi(wide).AsUint8x16()
}

// fromInt8 writes what codes [n][8] stand for: [n][8].
func fromInt8(to []float32, codes []byte, scales *[tileRows]float32) {
	by := archsimd.LoadFloat32x8(scales)
	i := 0
	for ; i+16 <= len(codes); i += 16 {
		first, second := bytes8(codes[i:])
		rows := (*[16]float32)(to[i:])
		first.AsInt8x16().ExtendLo8ToInt32().ConvertToFloat32().Mul(by).Store((*[8]float32)(rows[:8]))
		second.AsInt8x16().ExtendLo8ToInt32().ConvertToFloat32().Mul(by).Store((*[8]float32)(rows[8:]))
	}
	archsimd.ClearAVXUpperBits()
	for ; i < len(codes); i++ {
		to[i] = float32(int8(codes[i])) * scales[i%tileRows]
	}
}

// fromNibbles writes what codes [n/2][8], two in a byte, stand for: [n][8], without the last row if there is no room.
func fromNibbles(to []float32, codes []byte, table *[16]float32, scales *[tileRows]float32) {
	by := archsimd.LoadFloat32x8(scales)
	low, high := archsimd.LoadFloat32x8((*[8]float32)(table[:8])), archsimd.LoadFloat32x8((*[8]float32)(table[8:]))
	var zero archsimd.Int32x8
	value := func(code archsimd.Uint32x8) archsimd.Float32x8 { // of the lower 4 bits, of which the highest chooses the half
		return high.Permute(code).Merge(low.Permute(code), zero.Greater(code.ShiftAllLeft(28).AsInt32x8())).Mul(by)
	}
	i := 0
	for ; i+16 <= len(codes); i += 16 {
		first, second := bytes8(codes[i:])
		a, b := first.ExtendLo8ToUint32(), second.ExtendLo8ToUint32()
		rows := (*[32]float32)(to[2*i:])
		value(a).Store((*[8]float32)(rows[:8]))
		value(a.ShiftAllRight(4)).Store((*[8]float32)(rows[8:]))
		value(b).Store((*[8]float32)(rows[16:]))
		value(b.ShiftAllRight(4)).Store((*[8]float32)(rows[24:]))
	}
	archsimd.ClearAVXUpperBits()
	for r, code := range codes[i:] {
		to[2*i+r] = table[code&15] * scales[r]
		to[2*i+tileRows+r] = table[code>>4] * scales[r]
	}
}

// roundTile rounds values [n][8] to bfloat16: [n/2][8][2].
func roundTile(to []uint16, from []float32) {
	half, one, odd := archsimd.BroadcastUint32x8(0x7fff), archsimd.BroadcastUint32x8(1), archsimd.BroadcastUint32x8(0xffff0000)
	round := func(row []float32) archsimd.Uint32x8 {
		bits := archsimd.LoadFloat32x8((*[8]float32)(row)).AsUint32x8()
		return bits.Add(half).Add(bits.ShiftAllRight(16).And(one))
	}
	for i := 0; i < len(from); i += 2 * tileRows {
		rows := (*[2 * tileRows]float32)(from[i:])
		even, next := round(rows[:tileRows]), round(rows[tileRows:])
		even.ShiftAllRight(16).Or(next.And(odd)).AsUint16x16().Store((*[16]uint16)(to[i:]))
	}
	archsimd.ClearAVXUpperBits()
}
