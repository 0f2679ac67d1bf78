package panel

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"unsafe"
)

// tileRows is the height of a tile: the rows of a weight that one kernel call multiplies.
const tileRows = 8

// Weight is a matrix [Out, In] that multiplies the columns of a Matrix. It is kept in tiles of 8 rows, the last filled up
// with zeros: as float32 [Out/8][In][8], as bfloat16 in pairs of neighbours, [Out/8][In/2][8][2], or as codes, decoded
// piece by piece when they multiply.
type Weight struct {
	Out, In int
	tiles   []float32
	half    []uint16 // bfloat16 bits, when tiles is nil
	coded   *coded   // when both are nil

	transposed *Weight // [In, Out], where it is kept as well
}

// tileCount is the number of tiles of n rows, pairs that of pairs of n elements.
func tileCount(n int) int { return (n + tileRows - 1) / tileRows }
func pairs(n int) int     { return (n + 1) / 2 }

// place is where element (o, i) lies.
func (w *Weight) place(o, i int) int {
	if w.tiles != nil {
		return (o/tileRows*w.In+i)*tileRows + o%tileRows
	}
	return ((o/tileRows*pairs(w.In)+i/2)*tileRows+o%tileRows)*2 + i%2
}

// NewWeight packs values [out, in], row-major.
func NewWeight(out, in int, values []float32) *Weight {
	w := NewZeros(out, in, false)
	w.Set(values)
	return w
}

// NewZeros is a weight of zeros, kept as bfloat16 or as float32, for SetRows and SetHalfRows.
func NewZeros(out, in int, half bool) *Weight {
	if half {
		return newHalf(out, in)
	}
	w := &Weight{Out: out, In: in}
	w.tiles = roomFor[float32](w, tileCount(out)*tileRows*in)
	return w
}

// Bytes is the memory that the values take.
func (w *Weight) Bytes() int64 {
	n := int64(4*len(w.tiles) + 2*len(w.half))
	if w.coded != nil {
		n += int64(len(w.coded.codes) + 4*len(w.coded.scales))
	}
	if w.transposed != nil {
		n += w.transposed.Bytes()
	}
	return n
}

// NewHalfWeight packs bfloat16 bits [out, in], row-major.
func NewHalfWeight(out, in int, bits []uint16) *Weight {
	w := newHalf(out, in)
	w.inTiles(func(from, to int) { w.SetHalfRows(from, bits[from*in:to*in]) })
	return w
}

// alone is the number of elements below which a weight is packed by its caller alone, as most matrices of adapters are.
const alone = 1 << 16

// inTiles does work for the rows of tiles of a weight, in parts on all processors.
func (w *Weight) inTiles(work func(from, to int)) {
	rows := w.Out
	if w.Out*w.In < alone {
		work(0, rows)
		return
	}
	var s Scratch
	s.Share(NewCores(runtime.GOMAXPROCS(0) - 1))
	s.Each(tileCount(rows), func(_ *Scratch, first, end int) { work(first*tileRows, min(end*tileRows, rows)) })
}

// SetHalfRows replaces rows from the first-th on, a multiple of 8, by bfloat16 bits [rows, In]: rows that end at a multiple of
// 8 or at the last. The weight is kept as bfloat16 and has no transposed copy. Calls for different rows may run at once.
func (w *Weight) SetHalfRows(first int, bits []uint16) {
	defer w.alive()
	if w.In%2 == 0 {
		both := func(s []uint16) []uint32 { return unsafe.Slice((*uint32)(unsafe.Pointer(&s[0])), len(s)/2) }
		packTiles(both(w.half[w.place(first, 0):]), both(bits), w.In/2)
		return
	}
	for o := 0; o*w.In < len(bits); o++ {
		for i, v := range bits[o*w.In : (o+1)*w.In] {
			w.half[w.place(first+o, i)] = v
		}
	}
}

// SetRows is SetHalfRows for values [rows, In], which a weight kept as bfloat16 rounds.
func (w *Weight) SetRows(first int, values []float32) {
	defer w.alive()
	if w.tiles != nil {
		packTiles(w.tiles[w.place(first, 0):], values, w.In)
		return
	}
	for o := 0; o*w.In < len(values); o++ {
		to := w.half[w.place(first+o, 0):]
		for i, v := range values[o*w.In : (o+1)*w.In] {
			to[i/2*2*tileRows+i%2] = toBits(v)
		}
	}
}

// packBytes is packTiles for bytes: blocks of 8 by 8 are turned in eight registers.
func packBytes(tiles, rows []byte, in int) {
	const all = tileRows
	whole := in / all * all
	for ; len(rows) >= all*in; tiles, rows = tiles[all*in:], rows[all*in:] {
		for i := 0; i < whole; i += all {
			var block [all]uint64
			for r := range block {
				block[r] = binary.LittleEndian.Uint64(rows[r*in+i:])
			}
			turnBytes(&block)
			to := tiles[i*all:][:all*all]
			for r, word := range block {
				binary.LittleEndian.PutUint64(to[r*all:], word)
			}
		}
		for i := whole; i < in; i++ {
			for r := range all {
				tiles[i*all+r] = rows[r*in+i]
			}
		}
	}
	packTiles(tiles, rows, in)
}

// turnBytes transposes a matrix of bytes, of which a word is a row and its lowest byte the first column: in turn the quarters,
// their quarters and the quarters of these change places (Hacker's Delight, Warren 2012, section 7-3).
func turnBytes(m *[tileRows]uint64) {
	exchange := func(a, b int, shift uint, mask uint64) {
		t := (m[a]>>shift ^ m[b]) & mask
		m[a], m[b] = m[a]^t<<shift, m[b]^t
	}
	for i := range 4 {
		exchange(i, i+4, 32, 0x00000000FFFFFFFF)
	}
	for _, i := range [...]int{0, 1, 4, 5} {
		exchange(i, i+2, 16, 0x0000FFFF0000FFFF)
	}
	for i := 0; i < tileRows; i += 2 {
		exchange(i, i+1, 8, 0x00FF00FF00FF00FF)
	}
}

// packTiles writes rows [n, in] as tiles [n/8][in][8].
func packTiles[T float32 | uint32 | byte](tiles, rows []T, in int) {
	const all = tileRows
	for ; len(rows) >= all*in; tiles, rows = tiles[all*in:], rows[all*in:] {
		r0, r1, r2, r3 := rows[:in], rows[in:2*in], rows[2*in:3*in], rows[3*in:4*in]
		r4, r5, r6, r7 := rows[4*in:5*in], rows[5*in:6*in], rows[6*in:7*in], rows[7*in:8*in]
		for i := range in {
			*(*[all]T)(tiles[i*all:]) = [all]T{r0[i], r1[i], r2[i], r3[i], r4[i], r5[i], r6[i], r7[i]}
		}
	}
	for o := 0; o*in < len(rows); o++ {
		for i, v := range rows[o*in : (o+1)*in] {
			tiles[i*all+o] = v
		}
	}
}

// NewRoundedWeight packs values [out, in], row-major, as bfloat16.
func NewRoundedWeight(out, in int, values []float32) *Weight {
	w := newHalf(out, in)
	w.Set(values)
	return w
}

func newHalf(out, in int) *Weight {
	w := &Weight{Out: out, In: in}
	w.half = roomFor[uint16](w, tileCount(out)*tileRows*pairs(in)*2)
	return w
}

// Set replaces all values.
func (w *Weight) Set(values []float32) {
	w.transposed = nil
	if len(values) != w.Out*w.In {
		panic(fmt.Sprintf("panel: %d values for a weight of %d x %d", len(values), w.Out, w.In))
	}
	w.inTiles(func(from, to int) { w.SetRows(from, values[from*w.In:to*w.In]) })
}

// KeepTransposed keeps a transposed copy as well, for MultiplyTransposed: twice the memory, and a tenth less time for some
// 300 columns. A weight kept as codes, which is to be small, gets none.
func (w *Weight) KeepTransposed() {
	defer w.alive()
	if w.coded != nil {
		return
	}
	t := NewZeros(w.In, w.Out, w.tiles == nil)
	var s Scratch
	s.Share(NewCores(runtime.GOMAXPROCS(0) - 1))
	s.Each(tileCount(w.In), func(s *Scratch, first, end int) {
		for i := first; i < end; i++ {
			if w.tiles != nil {
				copy(t.tiles[t.place(i*tileRows, 0):], w.turned(s, i*tileRows, 0, w.Out)[:w.Out*tileRows])
			} else {
				copy(t.half[t.place(i*tileRows, 0):], w.turnedHalf(s, i*tileRows, 0, w.Out)[:pairs(w.Out)*2*tileRows])
			}
		}
	})
	w.transposed = t
}

// fromBits is the value of bfloat16 bits, toBits the nearest bfloat16, of two the even one.
func fromBits(half uint16) float32 { return math.Float32frombits(uint32(half) << 16) }
func toBits(v float32) uint16 {
	bits := math.Float32bits(v)
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

// Row copies row o to a slice of In elements.
func (w *Weight) Row(o int, to []float32) {
	defer w.alive()
	if w.coded != nil {
		for i, tile := 0, w.tile(&Scratch{}, o/tileRows, 0, w.In); i < len(to); i++ {
			to[i] = tile[i*tileRows+o%tileRows]
		}
		return
	}
	for i := range to {
		if at := w.place(o, i); w.tiles != nil {
			to[i] = w.tiles[at]
		} else {
			to[i] = fromBits(w.half[at])
		}
	}
}

// Operand is a matrix that weights multiply: as it is or rounded to bfloat16, with sums in float32. Where it has halves,
// weights kept in bfloat16 multiply it twice as fast.
type Operand struct {
	Matrix
	factors []float32 // laid out as Data, which they are unless they were rounded in float32
	halves  []uint16  // [Panels][Rows/2][Lanes][2]
}

// Exact is m as an operand in float32.
func Exact(m Matrix) Operand { return Operand{Matrix: m, factors: m.Data} }

// RoundedIn32 is m rounded to bfloat16 for processors that multiply no such numbers (HalfAvailable): a product of two, which
// float32 holds exactly, is one of float32. The factors are held in to, of the size of m.Data.
func RoundedIn32(m Matrix, to []float32) Operand {
	roundTo(to, m.Data)
	return Operand{Matrix: m, factors: to}
}

// Halves is the number of elements that Rounded needs for m.
func Halves(m Matrix) int { return m.Panels * pairs(m.Rows) * Lanes * 2 }

// Rounded is m as an operand in bfloat16, held in to. m is not to be changed as long as the operand is used.
func Rounded(m Matrix, to []uint16) Operand {
	o := Operand{Matrix: m, factors: m.Data, halves: to}
	n := pairs(m.Rows) * Lanes * 2
	for p := range m.Panels {
		toHalves(o.halves[p*n:(p+1)*n], m.Panel(p))
	}
	return o
}

// deepest is the longest stretch of a contraction in one kernel call: that many rows of some twenty panels stay in the
// second-level cache while all tiles of a weight pass by.
const deepest = 512

// stretch cuts a contraction of n into the fewest equal stretches of at most longest, each a multiple of 32.
func stretch(n, longest int) int {
	pieces := (n + longest - 1) / longest
	return ((n+pieces-1)/pieces + dotDepth - 1) / dotDepth * dotDepth
}

// widest is the number of panels that pass a tile before the next tile's turn.
const widest = 24

// Scratch is the memory of one goroutine for the functions of this package. The zero value is ready.
type Scratch struct {
	tile        []float32
	half        []uint16
	decoded     []float32                     // of codes: a tile before it is turned, or a few tiles
	decodedHalf []uint16                      // the same in bfloat16
	over        [2 * tileRows * Lanes]float32 // a tile's product, where only a part of it is wanted
	attention
	columns     [2][]float32 // of an operand and a product, one after the other
	columnsHalf []uint16
	lines       []uint16 // rows of a weight as AMX takes them
	cores       *Cores   // nil: one processor
	others      []*Scratch
}

// Multiply is y = W x, or y += W x with add: x [In, n], y [Out, n].
func (w *Weight) Multiply(s *Scratch, x Operand, y Matrix, add bool) {
	defer w.alive()
	w.check(x, w.In, y, w.Out)
	s.eachTile(w.Out, x, func(s *Scratch, first, end int) { w.multiply(s, x, y, add, first, end) })
}

// eachTile does work for the tiles of out rows, in parts of as many as are multiplied with x together.
func (s *Scratch) eachTile(out int, x Operand, work func(s *Scratch, first, end int)) {
	together, tiles := 1, tileCount(out)
	if amx && x.halves != nil {
		together = lineTiles
	}
	s.Each((tiles+together-1)/together, func(s *Scratch, first, end int) { work(s, first*together, min(end*together, tiles)) })
}

// multiply is Multiply for the tiles from first to end.
func (w *Weight) multiply(s *Scratch, x Operand, y Matrix, add bool, first, end int) {
	if amx && x.halves != nil {
		lined{w, false}.multiply(s, x, y, add, first, end)
		return
	}
	inPieces(w.In, x.Panels, func(p piece) {
		p.add = p.add || add
		for t := first; t < end; t++ {
			next := min(t+1, end-1)
			if x.halves != nil {
				p.multiplyHalves(s, w.halves(s, t, p.k, p.n), w.nextHalves(next, p.k, p.n), x, y, t*tileRows)
			} else {
				p.multiplyTile(s, w.tile(s, t, p.k, p.n), w.nextTile(next, p.k, p.n), x, y, t*tileRows)
			}
		}
	})
}

// piece is a part of a product that stays in the cache: rows k..k+n of the operand's panels from..to. With add its outcome
// is added to what there is.
type piece struct {
	k, n, from, to int
	add            bool
}

// inPieces walks through a contraction of depth over panels. All pieces but the first of a panel are to be added.
func inPieces(depth, panels int, visit func(piece)) {
	deep := stretch(depth, deepest)
	for from := 0; from < panels; from += widest {
		for k := 0; k < depth; k += deep {
			visit(piece{k, min(deep, depth-k), from, min(from+widest, panels), k > 0})
		}
	}
}

// MultiplyTransposed is x = Wᵀ y, or x += Wᵀ y with add: x [In, n], y [Out, n].
func (w *Weight) MultiplyTransposed(s *Scratch, y Operand, x Matrix, add bool) {
	defer w.alive()
	if w.transposed != nil {
		w.transposed.Multiply(s, y, x, add)
		return
	}
	w.check(y, w.Out, x, w.In)
	s.eachTile(w.In, y, func(s *Scratch, first, end int) { w.multiplyTransposed(s, y, x, add, first, end) })
}

// multiplyTransposed is MultiplyTransposed for the tiles of the transpose from first to end.
func (w *Weight) multiplyTransposed(s *Scratch, y Operand, x Matrix, add bool, first, end int) {
	if amx && y.halves != nil {
		lined{w, true}.multiply(s, y, x, add, first, end)
		return
	}
	inPieces(w.Out, x.Panels, func(p piece) {
		p.add = p.add || add
		for i := first * tileRows; i < min(end*tileRows, w.In); i += tileRows {
			if y.halves != nil {
				p.multiplyHalves(s, w.turnedHalf(s, i, p.k, p.n), nil, y, x, i)
			} else {
				p.multiplyTile(s, w.turned(s, i, p.k, p.n), nil, y, x, i)
			}
		}
	})
}

func (w *Weight) check(x Operand, in int, y Matrix, out int) {
	if x.Rows != in || y.Rows != out || x.Panels != y.Panels {
		panic(fmt.Sprintf("panel: a weight of %d x %d takes %d rows of %d panels to %d of %d", w.Out, w.In, x.Rows, x.Panels,
			y.Rows, y.Panels))
	}
	if x.halves != nil && !w.isHalf() {
		panic(fmt.Sprintf("panel: a weight of %d x %d with values in float32 cannot multiply bfloat16", w.Out, w.In))
	}
}

// isHalf says that the values are bfloat16.
func (w *Weight) isHalf() bool { return w.half != nil || w.coded != nil && w.coded.Rounded }

// soon is what a kernel asks for in advance: the next tile, once a tile, and otherwise what is there already.
func soon[T float32 | uint16](tile, next []T, first bool) *T {
	if first && len(next) > 0 {
		return &next[0]
	}
	return &tile[0]
}

// multiplyTile multiplies a tile [n][8] with the piece of x into rows r..r+8 of y. next is the tile to be asked for meanwhile.
func (p piece) multiplyTile(s *Scratch, tile, next []float32, x Operand, y Matrix, r int) {
	whole := r+tileRows <= y.Rows
	i := p.from
	for ; whole && p.to-i > 1; i += together(p.to - i) {
		p.ask(y, i, r)
		x0, y0, ahead := (i*x.Rows+p.k)*Lanes, (i*y.Rows+r)*Lanes, soon(tile, next, i == p.from)
		if together(p.to-i) == 3 {
			gemm8x3(p.n, &tile[0], &x.factors[x0], x.Rows*Lanes, &y.Data[y0], y.Rows*Lanes, p.add, ahead)
			continue
		}
		x1, y1 := x0+x.Rows*Lanes, y0+y.Rows*Lanes
		gemm8x2(p.n, &tile[0], &x.factors[x0], &x.factors[x1], &y.Data[y0], &y.Data[y1], p.add, ahead)
	}
	for ; i < p.to; i++ {
		at := &x.factors[(i*x.Rows+p.k)*Lanes]
		s.part(y, i, r, func(c *float32) { gemm8x1(p.n, &tile[0], at, c, p.add) })
	}
}

// multiplyHalves is multiplyTile in bfloat16: a tile [n/2][8][2].
func (p piece) multiplyHalves(s *Scratch, tile, next []uint16, x Operand, y Matrix, r int) {
	whole := r+tileRows <= y.Rows
	n, k, rows := pairs(p.n), p.k/2, pairs(x.Rows)
	i := p.from
	for ; whole && p.to-i > 1; i += together(p.to - i) {
		p.ask(y, i, r)
		x0, y0, ahead := (i*rows+k)*Lanes*2, (i*y.Rows+r)*Lanes, soon(tile, next, i == p.from)
		if together(p.to-i) == 3 {
			half8x3(n, &tile[0], &x.halves[x0], rows*Lanes*2, &y.Data[y0], y.Rows*Lanes, p.add, ahead)
			continue
		}
		x1, y1 := x0+rows*Lanes*2, y0+y.Rows*Lanes
		half8x2(n, &tile[0], &x.halves[x0], &x.halves[x1], &y.Data[y0], &y.Data[y1], p.add, ahead)
	}
	for ; i < p.to; i++ {
		at := &x.halves[(i*rows+k)*Lanes*2]
		s.part(y, i, r, func(c *float32) { half8x1(n, &tile[0], at, c, p.add) })
	}
}

// together is how many of the panels that are left pass a tile at once: three, by which a tile's rows are loaded less often, as
// long as no panel is left alone.
func together(left int) int {
	if threes && left >= 3 && left != 4 {
		return 3
	}
	return min(left, 2)
}

// ask has the sums fetched to which the products of the next panels are added, while those from the i-th on are multiplied: a
// kernel could do nothing until they came, from the third-level cache. A short one is over before they do.
func (p piece) ask(y Matrix, i, r int) {
	if !p.add || p.n < 128 {
		return
	}
	i += together(p.to - i)
	for end := i + together(p.to-i); i < end; i++ {
		ask(&y.Data[(i*y.Rows+r)*Lanes])
	}
}

// part lets multiply work on 8 rows of a panel from row r on, of which y may have only the first.
func (s *Scratch) part(y Matrix, p, r int, multiply func(c *float32)) {
	rows := y.rows(p, r, min(r+tileRows, y.Rows))
	if r+tileRows <= y.Rows {
		multiply(&rows[0])
		return
	}
	copy(s.over[:], rows)
	multiply(&s.over[0])
	copy(rows, s.over[:])
}

// tile is rows k..k+n of the t-th tile, in float32: [n][8]. k is a multiple of 8.
func (w *Weight) tile(s *Scratch, t, k, n int) []float32 {
	if w.tiles != nil {
		return w.tiles[w.place(t*tileRows, k):][:n*tileRows]
	}
	to := s.space(pairs(n) * 2 * tileRows)
	if w.isHalf() {
		fromHalves(to, w.halves(s, t, k, n))
	} else {
		w.decode(t, k, n, to)
	}
	return to
}

// nextTile is tile where it can be asked for in advance.
func (w *Weight) nextTile(t, k, n int) []float32 {
	if w.tiles == nil {
		return nil
	}
	return w.tiles[w.place(t*tileRows, k):][:n*tileRows]
}

// halves is tile in bfloat16: [n/2][8][2].
func (w *Weight) halves(s *Scratch, t, k, n int) []uint16 {
	if w.coded == nil {
		return w.halfTile(t, k, n)
	}
	to := s.halfSpace(pairs(n) * 2 * tileRows)
	w.decodeHalves(t, k, n, to)
	return to
}

// nextHalves is halves where it can be asked for in advance.
func (w *Weight) nextHalves(t, k, n int) []uint16 {
	if w.half == nil {
		return nil
	}
	return w.halfTile(t, k, n)
}

// halfTile is tile as it is kept: [n/2][8][2].
func (w *Weight) halfTile(t, k, n int) []uint16 {
	return w.half[w.place(t*tileRows, k):][:pairs(n)*2*tileRows]
}

func (s *Scratch) space(n int) []float32 {
	if len(s.tile) < n {
		s.tile = make([]float32, n)
	}
	return s.tile[:n]
}

func (s *Scratch) halfSpace(n int) []uint16 {
	if len(s.half) < n {
		s.half = make([]uint16, n)
	}
	return s.half[:n]
}

// turned is a tile of the transposed weight: its rows i..i+8, which are columns of w, over the outputs k..k+n: [n][8].
// i and k are multiples of 8.
func (w *Weight) turned(s *Scratch, i, k, n int) []float32 {
	const block = tileRows * tileRows
	first, count := k/tileRows, tileCount(n)
	to := s.space(count * block)
	switch {
	case w.isHalf():
		fromHalves(to, w.turnedHalf(s, i, k, n))
	case w.coded != nil:
		w.decodeTurned(s, i, k, n, to)
	case i+tileRows <= w.In:
		turnBlocks(w.tiles[w.place(k, i):], w.In*tileRows, count, to)
	default:
		clear(to)
		for o := range min(count*tileRows, w.Out-k) {
			for j := i; j < w.In; j++ {
				to[o*tileRows+j-i] = w.tiles[w.place(first*tileRows+o, j)]
			}
		}
	}
	return to
}

// turnedHalf is turned in bfloat16: [n/2][8][2].
func (w *Weight) turnedHalf(s *Scratch, i, k, n int) []uint16 {
	const block = tileRows * tileRows
	count := tileCount(n)
	to := s.halfSpace(count * block)
	if w.coded != nil {
		w.decodeTurnedHalf(s, i, k, n, to)
		return to
	}
	if i+tileRows <= w.In {
		turnHalfBlocks(w.half[w.place(k, i):], pairs(w.In)*2*tileRows, count, to)
		return to
	}
	clear(to)
	for o := range min(count*tileRows, w.Out-k) {
		for j := i; j < w.In; j++ {
			to[(o/2*tileRows+j-i)*2+o%2] = w.half[w.place(k+o, j)]
		}
	}
	return to
}

// AddProduct is c += a bᵀ, the sum over all columns: a [n rows], b [m rows], c [n, m] row-major.
func AddProduct(s *Scratch, a, b Matrix, c []float32) {
	const rows = 4
	s.Each((b.Rows+rows-1)/rows, func(_ *Scratch, first, end int) { addProduct(a, b, c, first*rows, min(end*rows, b.Rows)) })
}

// addProduct is AddProduct for the rows of b from first to end.
func addProduct(a, b Matrix, c []float32, first, end int) {
	for i := 0; i < a.Rows; i += 4 {
		for j := first; j < end; j += 4 {
			if i+4 > a.Rows || j+4 > b.Rows {
				dotPart(a, b, i, j, c)
				continue
			}
			dot4x4(a.Panels, &a.Data[i*Lanes], a.Rows*Lanes, &b.Data[j*Lanes], b.Rows*Lanes, &c[i*b.Rows+j], b.Rows)
		}
	}
}

// dotPart is AddProduct for the rows at the end of a or b that fill no tile.
func dotPart(a, b Matrix, i, j int, c []float32) {
	for r := i; r < min(i+4, a.Rows); r++ {
		for q := j; q < min(j+4, b.Rows); q++ {
			var sum float32
			for p := range a.Panels {
				x, y := a.rows(p, r, r+1), b.rows(p, q, q+1)
				for l, v := range x {
					sum += float32(v * y[l]) // not fused, on any processor
				}
			}
			c[r*b.Rows+q] += sum
		}
	}
}
