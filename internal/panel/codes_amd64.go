//go:build goexperiment.simd

package panel

import "simd/archsimd"

// What codes stand for is looked up and multiplied 8 rows of a tile at a time, in AVX2 alone: in AVX-512 it took nine
// tenths of the time for codes of eight bits and six tenths for those of four, either of which is a few hundredths of a
// product's.

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
	// A shift by a number would take it through an instruction of SSE, which is slow between those of AVX.
	four := archsimd.BroadcastUint32x8(4)
	value := func(code archsimd.Uint32x8) archsimd.Float32x8 { // of the lower 4 bits, of which the highest chooses the half
		return high.Permute(code).Merge(low.Permute(code), zero.Greater(code.ShiftAllLeft(28).AsInt32x8())).Mul(by)
	}
	i := 0
	for ; i+16 <= len(codes); i += 16 {
		first, second := bytes8(codes[i:])
		a, b := first.ExtendLo8ToUint32(), second.ExtendLo8ToUint32()
		rows := (*[32]float32)(to[2*i:])
		value(a).Store((*[8]float32)(rows[:8]))
		value(a.ShiftRight(four)).Store((*[8]float32)(rows[8:]))
		value(b).Store((*[8]float32)(rows[16:]))
		value(b.ShiftRight(four)).Store((*[8]float32)(rows[24:]))
	}
	archsimd.ClearAVXUpperBits()
	for r, code := range codes[i:] {
		to[2*i+r] = table[code&15] * scales[r]
		to[2*i+tileRows+r] = table[code>>4] * scales[r]
	}
}

// row1x4Int8 is row1x4 for tiles of codes [k][8]; by are their scales [8], byStride bytes apart.
//
//go:noescape
func row1x4Int8(k int, a *byte, aStride int, x, c, by *float32, byStride int, add bool)

// row1x4Nibbles is row1x4Int8 for codes [k][8] of pairs, and rows of as many pairs.
//
//go:noescape
func row1x4Nibbles(k int, a *byte, aStride int, x, c, by *float32, byStride int, add bool, table *[16]float32)

// int8Halves and nibbleHalves write what codes of 4n rows of a tile stand for, rounded to bfloat16 by the instruction that
// comes with products of such: [2n][8][2]. What is so small that these products take it for zero becomes zero.
//
//go:noescape
func int8Halves(n int, codes *byte, to *uint16, by *float32, lanes *[32]uint16)

//go:noescape
func nibbleHalves(n int, codes *byte, to *uint16, by *float32, lanes *[32]uint16, table *[16]float32)

// int8Lanes make pairs of neighbours of rows of 8 that follow each other, nibbleLanes of those whose first are followed by
// all of the second.
var int8Lanes, nibbleLanes = func() (one, other [32]uint16) {
	for i := range one {
		one[i], other[i] = uint16(i/16*16+i%2*8+i%16/2), uint16(i%2*16+i/2)
	}
	return one, other
}()

// toHalfTile writes what codes of n rows of a tile stand for, rounded to bfloat16: [n/2][8][2].
func (c Coding) toHalfTile(to []uint16, codes []byte, n int, scales *[tileRows]float32) {
	done := 0
	if fours := n / 4; fours > 0 && HalfAvailable() {
		if c.Table != nil {
			nibbleHalves(fours, &codes[0], &to[0], &scales[0], &nibbleLanes, c.Table)
		} else {
			int8Halves(fours, &codes[0], &to[0], &scales[0], &int8Lanes)
		}
		done = 4 * fours
	}
	for ; done < n; done += 4 {
		var rows [4 * tileRows]float32
		m := min(4, n-done)
		c.toTile(rows[:], codes[c.width(done)*tileRows:][:c.width(m)*tileRows], scales)
		roundTile(to[done*tileRows:][:pairs(m)*2*tileRows], rows[:])
	}
}

// roundTile rounds the values [n][8] to bfloat16: [n/2][8][2].
func roundTile(to []uint16, from []float32) {
	half, one, odd := archsimd.BroadcastUint32x8(0x7fff), archsimd.BroadcastUint32x8(1), archsimd.BroadcastUint32x8(0xffff0000)
	sixteen := archsimd.BroadcastUint32x8(16) // see fromNibbles
	round := func(row []float32) archsimd.Uint32x8 { return upper(load32(row).AsUint32x8(), half, one, sixteen) }
	for i := 0; i < len(to); i += 2 * tileRows {
		rows := (*[2 * tileRows]float32)(from[i:])
		even, next := round(rows[:tileRows]), round(rows[tileRows:])
		even.ShiftRight(sixteen).Or(next.And(odd)).AsUint16x16().Store((*[16]uint16)(to[i:]))
	}
	archsimd.ClearAVXUpperBits()
}
