package panel

// Coding is a way to keep values as codes, each of which stands for a number to be multiplied by a scale.
type Coding struct {
	Table   *[16]float32 // what codes of four bits stand for; nil: a code has eight bits and is a whole number with a sign
	Block   int          // neighbours in a row that share a scale, a multiple of 8; 0: all of a row
	Rounded bool         // the values are rounded to bfloat16, and may multiply operands that are
}

// coded are the values of a weight as codes, in tiles of 8 rows. A tile's codes lie as its values would: [In][8], or, the
// codes of two neighbours in a byte, the first's in its lower half, [In/2][8]. So do its scales: [blocks][8].
type coded struct {
	Coding
	codes  []byte
	scales []float32
}

// width is the number of bytes of a row, blocks that of scales, block that of values to a scale.
func (c Coding) width(in int) int {
	if c.Table != nil {
		return pairs(in)
	}
	return in
}

func (c Coding) blocks(in int) int { return (in + c.block(in) - 1) / c.block(in) }

func (c Coding) block(in int) int {
	if c.Block != 0 {
		return c.Block
	}
	return in
}

// NewCoded is a weight kept as codes, for SetCodes.
func NewCoded(out, in int, c Coding) *Weight {
	rows := tileCount(out) * tileRows
	w := &Weight{Out: out, In: in}
	w.coded = &coded{c, roomFor[byte](w, rows*c.width(in)), roomFor[float32](w, rows*c.blocks(in))}
	return w
}

// SetCodes sets rows from the first-th on, a multiple of 8, which end at a multiple of 8 or at the last. Rows of codes
// may be longer than the weight's, and where codes of four bits have an odd number, the one behind the last stands for
// zero. Calls for different rows may run at once.
func (w *Weight) SetCodes(first int, codes []byte, scales []float32) {
	defer w.alive()
	width, blocks := w.coded.width(w.In), w.coded.blocks(w.In)
	rows := len(scales) / blocks
	if stride := len(codes) / rows; stride != width {
		whole := codes
		codes = make([]byte, 0, rows*width)
		for o := range rows {
			codes = append(codes, whole[o*stride:][:width]...)
		}
	}
	packBytes(w.coded.codes[first*width:], codes, width)
	packTiles(w.coded.scales[first*blocks:], scales, blocks)
}

// stretches visits the codes of rows k..k+n of the t-th tile, those that share their scales at a time; from counts from k.
func (w *Weight) stretches(t, k, n int, visit func(from, rows int, codes []byte, scales *[tileRows]float32)) {
	c, blocks, block := w.coded, w.coded.blocks(w.In), w.coded.block(w.In)
	for from := 0; from < n; {
		at := k + from
		rows := min((at/block+1)*block-at, n-from)
		codes := c.codes[(t*c.width(w.In)+c.width(at))*tileRows:][:c.width(rows)*tileRows]
		visit(from, rows, codes, (*[tileRows]float32)(c.scales[(t*blocks+at/block)*tileRows:]))
		from += rows
	}
}

// toTile writes what codes stand for, not rounded to bfloat16: [n][8].
func (c Coding) toTile(to []float32, codes []byte, scales *[tileRows]float32) {
	if c.Table != nil {
		fromNibbles(to, codes, c.Table, scales)
		return
	}
	fromInt8(to, codes, scales)
}

// decode is tile for codes that are not rounded, with room for a row more where n is odd.
func (w *Weight) decode(t, k, n int, to []float32) {
	w.stretches(t, k, n, func(from, rows int, codes []byte, scales *[tileRows]float32) {
		w.coded.toTile(to[from*tileRows:], codes, scales)
	})
}

// decodeHalves is decode in bfloat16: [n/2][8][2].
func (w *Weight) decodeHalves(t, k, n int, to []uint16) {
	w.stretches(t, k, n, func(from, rows int, codes []byte, scales *[tileRows]float32) {
		w.coded.toHalfTile(to[from*tileRows:], codes, rows, scales)
	})
}

// decodeTurned is turned for codes that are not rounded. What it leaves in rows behind the weight's last column nobody reads.
func (w *Weight) decodeTurned(s *Scratch, i, k, n int, to []float32) {
	const block = tileRows * tileRows
	count, rows := tileCount(n), min(tileRows, w.In-i)
	blocks := s.values(count * block)
	for t := range count {
		w.decode(k/tileRows+t, i, rows, blocks[t*block:(t+1)*block])
	}
	turnBlocks(blocks, block, count, to)
}

// decodeTurnedHalf is turnedHalf for codes.
func (w *Weight) decodeTurnedHalf(s *Scratch, i, k, n int, to []uint16) {
	const block = tileRows * tileRows
	count, rows := tileCount(n), min(tileRows, w.In-i)
	blocks := s.halves(count * block)
	for t := range count {
		w.decodeHalves(k/tileRows+t, i, rows, blocks[t*block:(t+1)*block])
	}
	turnHalfBlocks(blocks, block, count, to)
}

// values and halves are room for what is decoded before it is turned, or for a few tiles.
func (s *Scratch) values(n int) []float32 {
	if len(s.decoded) < n {
		s.decoded = make([]float32, n)
	}
	return s.decoded[:n]
}

func (s *Scratch) halves(n int) []uint16 {
	if len(s.decodedHalf) < n {
		s.decodedHalf = make([]uint16, n)
	}
	return s.decodedHalf[:n]
}

// multiplyCodes is MultiplyRows for codes, four tiles at a time. For less than four rows they are decoded on the way to the
// product, for more once.
func (w *Weight) multiplyCodes(s *Scratch, x RowOperand, y Rows, add bool, from, to int) {
	t := from
	if !w.coded.Rounded && y.Count() < 4 {
		for ; t+4 <= to; t += 4 {
			for r := range y.Count() {
				w.multiplyRow(t, x.Row(r), y.Data[r*y.Stride+t*tileRows:], add)
			}
		}
	}
	for ; t < to; t += 4 {
		count := min(4, to-t)
		for k := 0; k < w.In; k += deepest {
			n := min(deepest, w.In-k)
			tiles := w.few(s, t, count, k, n, x.halves != nil)
			tiles.times(n, 0, count, x.from(k), y.Data[t*tileRows:], y.Stride, y.Count(), add || k > 0)
		}
	}
}

// few are rows k..k+n of count tiles from the t-th on, one after the other, in bfloat16 if half.
func (w *Weight) few(s *Scratch, t, count, k, n int, half bool) tiled {
	stride := pairs(n) * 2 * tileRows
	tiles := tiled{stride: stride}
	if w.coded.Rounded {
		tiles.half = s.halves(count * stride)
		for i := range count {
			w.decodeHalves(t+i, k, n, tiles.half[i*stride:(i+1)*stride])
		}
		if half {
			return tiles
		}
	}
	tiles.full = s.values(count * stride)
	for i := range count {
		if w.coded.Rounded {
			fromHalves(tiles.full[i*stride:], tiles.half[i*stride:(i+1)*stride])
		} else {
			w.decode(t+i, k, n, tiles.full[i*stride:])
		}
	}
	return tiles
}

// multiplyRow is the product of 4 tiles from the t-th on with a row: c [32].
func (w *Weight) multiplyRow(t int, x, c []float32, add bool) {
	code, width, blocks, block := w.coded, w.coded.width(w.In), w.coded.blocks(w.In), w.coded.block(w.In)
	for k := 0; k < w.In; k += block {
		n := min(block, w.In-k)
		codes, by := code.codes[(t*width+code.width(k))*tileRows:], &code.scales[(t*blocks+k/block)*tileRows]
		if code.Table == nil {
			row1x4Int8(n, &codes[0], width*tileRows, &x[k], &c[0], by, 4*blocks*tileRows, add || k > 0)
			continue
		}
		if n > 1 {
			row1x4Nibbles(n/2, &codes[0], width*tileRows, &x[k], &c[0], by, 4*blocks*tileRows, add || k > 0, code.Table)
		}
		if n%2 != 0 { // of the last pair there is one
			last := [2]float32{x[w.In-1], 0}
			row1x4Nibbles(1, &codes[n/2*tileRows], width*tileRows, &last[0], &c[0], by, 4*blocks*tileRows,
				add || k > 0 || n > 1, code.Table)
		}
	}
}
