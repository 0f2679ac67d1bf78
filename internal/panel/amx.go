package panel

// AMX multiplies 16 rows of 32 numbers with 32 rows of 16, the latter in pairs: its dot product TDPBF16PS adds up the products of even
// and those of odd numbers of the 32, each in order, then adds the two sums and the outcome to what there is. So a contraction goes by 32
// from its beginning, whatever its cut into stretches, and columns and rows have the same bits.

// dotDepth is the number of elements that a dot product of AMX contracts.
const dotDepth = 32

// lineTiles is the number of tiles of a weight that are multiplied together: two registers of 16 rows.
const lineTiles = 4

// tileConfig is what TDPBF16PS and its companions are told of their eight registers: rows, and bytes in each.
type tileConfig struct {
	palette, start byte
	_              [14]byte
	bytes          [16]uint16
	rows           [16]byte
}

// register says how large one is. One without rows is not to be used.
func (c *tileConfig) register(t, rows, bytes int) {
	if rows > 0 {
		c.rows[t], c.bytes[t] = byte(rows), uint16(bytes)
	}
}

// multiplyLines is Multiply in bfloat16 on AMX for the tiles first to end of a weight, or of its transpose: tile gives rows k..k+n of
// one, [n/2][8][2].
func multiplyLines(s *Scratch, x Operand, y Matrix, add bool, first, end int, tile func(s *Scratch, t, k, n int) []uint16, ahead func(t, k int) (*uint16, int)) {
	inPieces(x.Rows, x.Panels, func(p piece) {
		p.add = p.add || add
		for t := first; t < end; t += lineTiles {
			count := min(lineTiles, end-t)
			blocks := (count + 1) / 2
			s.lines = sized(s.lines, (p.n+dotDepth-1)/dotDepth*blocks*2*tileRows*dotDepth)
			for i := range count {
				toLines(s.lines[i*tileRows*dotDepth:], tile(s, t+i, p.k, p.n), blocks)
			}
			next, stride := &s.lines[0], 0
			if ahead != nil && t+2*lineTiles <= end {
				next, stride = ahead(t+lineTiles, p.k)
			}
			p.multiplyLines(s.lines, x, y, t*tileRows, min(count*tileRows, y.Rows-t*tileRows), next, stride)
		}
	})
}

// toLines writes the rows of a tile [n/2][8][2] among those of blocks of 16: [n/32][blocks][16][32], of which the first 8 of the first
// block are its own. The last 32 are filled up with zeros.
func toLines(to, tile []uint16, blocks int) {
	const each = tileRows * dotDepth
	stride := blocks * 2 * each
	whole := len(tile) / each
	if whole > 0 {
		lines8(whole, &tile[0], &to[0], stride)
	}
	if rest := tile[whole*each:]; len(rest) > 0 {
		var last [each]uint16
		copy(last[:], rest)
		lines8(1, &last[0], &to[whole*stride], stride)
	}
}

// multiplyLines multiplies lines with the piece of x into rows r..r+rows of y.
func (p piece) multiplyLines(lines []uint16, x Operand, y Matrix, r, rows int, next *uint16, stride int) {
	const block = 2 * tileRows
	blocks := (rows + block - 1) / block
	depth := pairs(x.Rows) * Lanes * 2
	panels := x.halves[p.from*depth+p.k*Lanes:]
	c := &y.Data[(p.from*y.Rows+r)*Lanes]
	inDots(p.n, func(at, dots, n int) {
		var config tileConfig
		config.palette = 1
		for i := range 2 {
			mine := min(block, rows-i*block)
			config.register(i, mine, Lanes*4)
			config.register(2+i, mine, Lanes*4)
			config.register(4+i, mine, n*4)
			config.register(6+i, n, Lanes*4)
		}
		linesTimes(&config, dots, blocks, &lines[at*blocks*block], p.to-p.from, &panels[at*Lanes], depth, c, y.Rows*Lanes, p.add || at > 0, next, stride)
	})
}

// inDots cuts a contraction of depth into whole dot products, all of them from at on, and the rest: n pairs each.
func inDots(depth int, visit func(at, dots, n int)) {
	whole := pairs(depth) * 2 / dotDepth
	if whole > 0 {
		visit(0, whole, dotDepth/2)
	}
	if rest := pairs(depth) - whole*dotDepth/2; rest > 0 {
		visit(whole*dotDepth, 1, rest)
	}
}

// dotRows is times on AMX, for 16 rows at a time.
func (a tiled) dotRows(k, from, to int, x RowOperand, c []float32, cStride, n int, add bool) {
	for r := 0; r < n; r += 2 * tileRows {
		rows := min(2*tileRows, n-r)
		inDots(k, func(at, dots, n int) {
			var config tileConfig
			config.palette = 1
			for i := range 4 {
				config.register(i, rows, tileRows*4)
			}
			config.register(4, rows, n*4)
			for i := 5; i < 8; i++ {
				config.register(i, n, tileRows*4)
			}
			rowsTimes(&config, dots, &a.half[a.at+from*a.stride+at*tileRows], a.stride, to-from, &x.halves[r*x.Stride+at], x.Stride,
				&c[r*cStride+from*tileRows], cStride, add || at > 0)
		})
	}
}
