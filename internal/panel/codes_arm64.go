package panel

// halvesToRows writes n pairs of rows [n][8][2] in bfloat16 as float32: [2n][8].
//
//go:noescape
func halvesToRows(n int, from *uint16, to *float32)

// rowsToHalves rounds n pairs of rows to bfloat16: it is the inverse of halvesToRows.
//
//go:noescape
func rowsToHalves(n int, from *float32, to *uint16)

// int8ToRows writes what codes [n][8] stand for: [n][8].
//
//go:noescape
func int8ToRows(n int, codes *byte, to, by *float32)

// nibblesToRows writes what codes [n][8] of pairs stand for: [2n][8].
//
//go:noescape
func nibblesToRows(n int, codes *byte, to, by *float32, table *[16]float32)

// row1x4Int8 and row1x4Nibbles are explained in codes_amd64.go.
//
//go:noescape
func row1x4Int8(k int, a *byte, aStride int, x, c, by *float32, byStride int, add bool)

//go:noescape
func row1x4Nibbles(k int, a *byte, aStride int, x, c, by *float32, byStride int, add bool, table *[16]float32)

// fromHalves writes pairs of rows [n/2][8][2] in bfloat16 as float32: [n][8].
func fromHalves(to []float32, from []uint16) {
	if n := len(from); n > 0 {
		halvesToRows(n/(2*tileRows), &from[0], &to[:n][0])
	}
}

// fromInt8 writes what codes [n][8] stand for: [n][8].
func fromInt8(to []float32, codes []byte, scales *[tileRows]float32) {
	if n := len(codes); n > 0 {
		int8ToRows(n/tileRows, &codes[0], &to[:n][0], &scales[0])
	}
}

// fromNibbles writes what codes [n/2][8], two in a byte, stand for: [n][8].
func fromNibbles(to []float32, codes []byte, table *[16]float32, scales *[tileRows]float32) {
	if n := len(codes); n > 0 {
		nibblesToRows(n/tileRows, &codes[0], &to[:2*n][0], &scales[0], table)
	}
}

// toHalfTile writes what codes of n rows of a tile stand for, rounded to bfloat16: [n/2][8][2].
func (c Coding) toHalfTile(to []uint16, codes []byte, n int, scales *[tileRows]float32) {
	const most = 32
	for done := 0; done < n; done += most {
		var rows [most * tileRows]float32
		m := min(most, n-done)
		c.toTile(rows[:], codes[c.width(done)*tileRows:][:c.width(m)*tileRows], scales)
		rowsToHalves(pairs(m), &rows[0], &to[done*tileRows:][:pairs(m)*2*tileRows][0])
	}
}
