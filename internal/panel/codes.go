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

// width is the number of bytes, and blocks that of scales, of a row.
func (c Coding) width(in int) int {
	if c.Table != nil {
		return pairs(in)
	}
	return in
}

func (c Coding) blocks(in int) int {
	if c.Block == 0 {
		return 1
	}
	return (in + c.Block - 1) / c.Block
}

// NewCoded is a weight kept as codes, for SetCodes.
func NewCoded(out, in int, c Coding) *Weight {
	rows := tileCount(out) * tileRows
	return &Weight{Out: out, In: in, coded: &coded{c, make([]byte, rows*c.width(in)), make([]float32, rows*c.blocks(in))}}
}

// SetCodes sets rows from the first-th on, a multiple of 8, which end at a multiple of 8 or at the last. Rows of codes
// may be longer than the weight's, and where codes of four bits have an odd number, the one behind the last stands for
// zero. Calls for different rows may run at once.
func (w *Weight) SetCodes(first int, codes []byte, scales []float32) {
	width, blocks := w.coded.width(w.In), w.coded.blocks(w.In)
	rows := len(scales) / blocks
	if stride := len(codes) / rows; stride != width {
		whole := codes
		codes = make([]byte, 0, rows*width)
		for o := range rows {
			codes = append(codes, whole[o*stride:][:width]...)
		}
	}
	packTiles(w.coded.codes[first*width:], codes, width)
	packTiles(w.coded.scales[first*blocks:], scales, blocks)
}

// decode writes what rows k..k+n of the t-th tile stand for, not yet rounded: [n][8], and a row of zeros behind it where n is
// odd. k is a multiple of 8.
func (w *Weight) decode(t, k, n int, to []float32) {
	c, blocks, block := w.coded, w.coded.blocks(w.In), w.coded.Block
	if block == 0 {
		block = w.In
	}
	for end := k + n; k < end; {
		next := min((k/block+1)*block, end)
		scales := (*[tileRows]float32)(c.scales[(t*blocks+k/block)*tileRows:])
		codes := c.codes[(t*c.width(w.In)+c.width(k))*tileRows:][:c.width(next-k)*tileRows]
		if c.Table != nil {
			fromNibbles(to, codes, c.Table, scales)
		} else {
			fromInt8(to, codes, scales)
		}
		to, k = to[(next-k)*tileRows:], next
	}
	if n%2 != 0 {
		clear(to[:tileRows])
	}
}

// decoded is tile for codes, not yet rounded: [n][8].
func (w *Weight) decoded(s *Scratch, t, k, n int) []float32 {
	to := s.space(pairs(n) * 2 * tileRows)
	w.decode(t, k, n, to)
	return to
}

// decodedTurned is turned for codes, not yet rounded.
func (w *Weight) decodedTurned(s *Scratch, i, k, n int) []float32 {
	const block = tileRows * tileRows
	count := tileCount(n)
	if len(s.blocks) < count*block {
		s.blocks = make([]float32, count*block)
	}
	rows := min(tileRows, w.In-i)
	if rows < tileRows {
		clear(s.blocks[:count*block])
	}
	for t := range count {
		w.decode(k/tileRows+t, i, rows, s.blocks[t*block:(t+1)*block])
	}
	to := s.space(count * block)
	turnBlocks(s.blocks, block, count, to)
	return to
}

// rounded is a tile in bfloat16, [n/2][8][2], of values [n][8], n even.
func (s *Scratch) rounded(tile []float32) []uint16 {
	if len(s.half) < len(tile) {
		s.half = make([]uint16, len(tile))
	}
	to := s.half[:len(tile)]
	roundTile(to, tile)
	return to
}

// settle rounds values [n][8] where the coding says so.
func (w *Weight) settle(s *Scratch, tile []float32) []float32 {
	if w.coded.Rounded {
		fromHalves(tile, s.rounded(tile))
	}
	return tile
}

// multiplyCodes is MultiplyRows for codes: of four tiles as much at a time as stays in the first cache once decoded.
func (w *Weight) multiplyCodes(s *Scratch, x RowOperand, y Rows, add bool, from, to int) {
	const deep = 128
	for t := from; t < to; t += 4 {
		count := min(4, to-t)
		for k := 0; k < w.In; k += deep {
			n := min(deep, w.In-k)
			part, stride := x.from(k), pairs(n)*2*tileRows
			values := s.space(count * stride)
			for i := range count {
				w.decode(t+i, k, n, values[i*stride:])
			}
			tiles := tiled{stride: stride}
			if x.halves != nil {
				tiles.half = s.rounded(values)
			} else {
				tiles.full = w.settle(s, values)
			}
			tiles.times(n, 0, count, part, y.Data[t*tileRows:], y.Stride, y.Count(), add || k > 0)
		}
	}
}
