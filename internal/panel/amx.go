package panel

import "math"

// AMX multiplies 16 rows of 32 numbers with 32 rows of 16, the latter in pairs: its dot product TDPBF16PS adds up the products of even
// and those of odd numbers of the 32, each in order, then adds the two sums and the outcome to what there is. So a contraction goes by 32
// from its beginning, whatever its cut into stretches, and columns and rows have the same bits.

// HalfAvailable says whether this processor multiplies bfloat16, and faster than float32. Without, nobody may call what is made of such
// products.
func HalfAvailable() bool { return amx || dots }

// Products names what multiplies operands in bfloat16: AMX or AVX512_BF16, or float32, in which those that are rounded are multiplied
// elsewhere. Sums of the three have other bits.
func Products() string {
	switch {
	case amx:
		return "AMX"
	case dots:
		return "AVX512_BF16"
	}
	return "float32"
}

// dotDepth is the number of elements that a dot product of AMX contracts.
const dotDepth = 32

// lineTiles is the number of tiles of a weight that are multiplied together: two registers of 16 rows.
const lineTiles = 4

// lineDepth is the longest stretch of a contraction for which they are: rows of it stay in the first-level cache.
const lineDepth = 256

// tileConfig is what TDPBF16PS and its companions are told of their eight registers: rows, and bytes in each.
type tileConfig struct {
	palette byte
	_       [15]byte // where to begin again after a fault, and nothing
	bytes   [16]uint16
	rows    [16]byte
}

// register says how large one is. One without rows is not to be used.
func (c *tileConfig) register(t, rows, bytes int) {
	if rows > 0 {
		c.rows[t], c.bytes[t] = byte(rows), uint16(bytes)
	}
}

// lined is a weight, or its transpose, whose rows AMX multiplies.
type lined struct {
	*Weight
	turned bool
}

// nearby is the size in bytes of an operand's part that stays in the second-level cache while tiles pass by.
const nearby = 1 << 20

// multiply is Multiply in bfloat16 on AMX for the tiles first to end. Other than in multiply, the sums of a few tiles wait for all
// stretches that an operand can be near for: they are larger than what they are made of.
func (w lined) multiply(s *Scratch, x Operand, y Matrix, add bool, first, end int) {
	const widest = 40 // panels
	groups := (x.Panels + widest - 1) / widest
	for g := range groups {
		from, to := g*x.Panels/groups, (g+1)*x.Panels/groups
		deep := deepest
		if !w.turned { // whose tiles lie close to each other
			deep *= max(nearby/((to-from)*Lanes*2)/deepest, 1)
		}
		for k := 0; k < x.Rows; k += deep {
			n := min(deep, x.Rows-k)
			for t := first; t < end; t += lineTiles {
				w.multiplyFew(s, piece{k, n, from, to, add || k > 0}, x, y, t, min(lineTiles, end-t), end)
			}
		}
	}
}

// multiplyFew multiplies count tiles from the t-th on with the piece p of x, stretch by stretch. From end on no tiles are to follow.
func (w lined) multiplyFew(s *Scratch, p piece, x Operand, y Matrix, t, count, end int) {
	s.lines = sized(s.lines, lineDepth*lineTiles*tileRows)
	deep, last := stretch(p.n, lineDepth), p.k+p.n
	for k := p.k; k < last; k += deep {
		n := min(deep, last-k)
		w.lines(s, t, count, k, n)
		next := soonest{&s.lines[0], 0, 1, -64}
		if k+deep < last {
			next = w.soonest(s, t, k+deep)
		} else if t+lineTiles < end {
			next = w.soonest(s, t+lineTiles, p.k)
		}
		piece{k, n, p.from, p.to, p.add || k > p.k}.multiplyLines(s, next, x, y, t*tileRows, min(count*tileRows, y.Rows-t*tileRows))
	}
}

// lines writes the rows of count tiles from the t-th on to s.lines, as far as rows k..k+n of an operand take them: [n/32][blocks][16][32],
// the last 32 filled up with zeros.
func (w lined) lines(s *Scratch, t, count, k, n int) {
	if w.turned && w.half != nil && count == lineTiles && (t+lineTiles)*tileRows <= w.In {
		w.linesOfColumns(s.lines, t*tileRows, k, n)
		return
	}
	for i := range count {
		var tile []uint16
		if w.turned {
			tile = w.turnedHalf(s, (t+i)*tileRows, k, n)
		} else {
			tile = w.halves(s, t+i, k, n)
		}
		toLines(s.lines[i*tileRows*dotDepth:], tile, (count+1)/2)
	}
}

// linesOfColumns is lines for columns i..i+32.
func (w lined) linesOfColumns(to []uint16, i, k, n int) {
	const each = tileRows * dotDepth // of a tile
	tiles, stride := w.half[w.place(k, i):], w.place(tileRows, 0)
	count := tileCount(n)
	whole := count / lineTiles
	if whole > 0 {
		lines32(whole, &tiles[0], stride, &to[0])
	}
	if count > whole*lineTiles {
		var last [lineTiles * each]uint16
		for t := whole * lineTiles; t < count; t++ {
			copy(last[t%lineTiles*each:][:each], tiles[t*stride:])
		}
		lines32(1, &last[0], each, &to[whole*lineTiles*each])
	}
}

// soonest says where a weight will be read next: from a place on and from three more, stride elements apart; after run lines of 64 bytes
// of each jump bytes further.
type soonest struct {
	from              *uint16
	stride, run, jump int
}

// soonest is where four tiles from the t-th on are read from rows k of an operand on.
func (w lined) soonest(s *Scratch, t, k int) soonest {
	stride := w.place(tileRows, 0)
	switch {
	case w.half == nil:
		return soonest{&s.lines[0], 0, 1, -64}
	case w.turned:
		const bytes = lineTiles * tileRows / 2 * tileRows * 4 // of 32 columns in a tile
		return soonest{&w.half[w.place(k, t*tileRows)], stride, bytes / 64, lineTiles*2*stride - bytes}
	}
	return soonest{&w.half[w.place(t*tileRows, k)], stride, math.MaxInt, 0}
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

// multiplyLines multiplies s.lines with the piece of x into rows r..r+rows of y.
func (p piece) multiplyLines(s *Scratch, next soonest, x Operand, y Matrix, r, rows int) {
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
		linesTimes(&config, dots, blocks, &s.lines[at*blocks*block], p.to-p.from, &panels[at*Lanes], depth, c, y.Rows*Lanes, p.add || at > 0,
			next.from, next.stride, next.run, next.jump)
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
