package panel

import (
	"fmt"
	"math"
)

// tileRows is the height of a tile: the rows of a weight that one kernel call multiplies.
const tileRows = 8

// Weight is a matrix [Out, In] that multiplies the columns of a Matrix. It is kept in tiles of 8 rows, [Out/8][In][8],
// the last filled up with zeros, as float32 or as bfloat16.
type Weight struct {
	Out, In int
	tiles   []float32
	half    []uint16 // bfloat16 bits, when tiles is nil
}

// tileCount is the number of tiles of n rows.
func tileCount(n int) int { return (n + tileRows - 1) / tileRows }

// place is where element (o, i) lies.
func (w *Weight) place(o, i int) int { return (o/tileRows*w.In+i)*tileRows + o%tileRows }

// NewWeight packs values [out, in], row-major. The weight may be changed by Set.
func NewWeight(out, in int, values []float32) *Weight {
	w := &Weight{Out: out, In: in, tiles: make([]float32, tileCount(out)*tileRows*in)}
	w.Set(values)
	return w
}

// Bytes is the memory that the values take.
func (w *Weight) Bytes() int64 { return int64(4*len(w.tiles) + 2*len(w.half)) }

// Set replaces all values of a float32 weight.
func (w *Weight) Set(values []float32) {
	if len(values) != w.Out*w.In {
		panic(fmt.Sprintf("panel: %d values for a weight of %d x %d", len(values), w.Out, w.In))
	}
	for o := range w.Out {
		to := w.tiles[w.place(o, 0):]
		for i, v := range values[o*w.In : (o+1)*w.In] {
			to[i*tileRows] = v
		}
	}
}

// NewHalfWeight packs bfloat16 bits [out, in], row-major.
func NewHalfWeight(out, in int, bits []uint16) *Weight {
	w := &Weight{Out: out, In: in, half: make([]uint16, tileCount(out)*tileRows*in)}
	for o := range out {
		to := w.half[w.place(o, 0):]
		for i, v := range bits[o*in : (o+1)*in] {
			to[i*tileRows] = v
		}
	}
	return w
}

// fromBits is the value of bfloat16 bits.
func fromBits(half uint16) float32 { return math.Float32frombits(uint32(half) << 16) }

// Row copies row o to a slice of In elements.
func (w *Weight) Row(o int, to []float32) {
	at := w.place(o, 0)
	for i := range to {
		if w.tiles != nil {
			to[i] = w.tiles[at+i*tileRows]
		} else {
			to[i] = fromBits(w.half[at+i*tileRows])
		}
	}
}

// deepest is the longest stretch of a contraction in one kernel call: that many rows of some twenty panels stay in the
// second-level cache while all tiles of a weight pass by.
const deepest = 512

// stretch cuts a contraction of n into the fewest equal stretches of at most deepest, each a multiple of 8.
func stretch(n int) int {
	pieces := (n + deepest - 1) / deepest
	return ((n+pieces-1)/pieces + 7) / 8 * 8
}

// widest is the number of panels that pass a tile before the next tile's turn.
const widest = 24

// Scratch is the memory of one goroutine for the functions of this package. The zero value is ready.
type Scratch struct {
	tile []float32
	over [2 * tileRows * Lanes]float32 // a tile's product, where only a part of it is wanted
	attention
}

// Multiply is y = W x, or y += W x with add: x [In, n], y [Out, n].
func (w *Weight) Multiply(s *Scratch, x, y Matrix, add bool) {
	w.check("x", x, w.In)
	w.check("y", y, w.Out)
	deep := stretch(w.In)
	for from := 0; from < x.Panels; from += widest {
		to := min(from+widest, x.Panels)
		for k := 0; k < w.In; k += deep {
			n := min(deep, w.In-k)
			for t := range tileCount(w.Out) {
				multiplyTile(s, w.tile(s, t, k, n), n, x, k, y, t*tileRows, from, to, add || k > 0)
			}
		}
	}
}

// MultiplyTransposed is x = Wᵀ y, or x += Wᵀ y with add: x [In, n], y [Out, n].
func (w *Weight) MultiplyTransposed(s *Scratch, y, x Matrix, add bool) {
	w.check("x", x, w.In)
	w.check("y", y, w.Out)
	deep := stretch(w.Out)
	for from := 0; from < x.Panels; from += widest {
		to := min(from+widest, x.Panels)
		for k := 0; k < w.Out; k += deep {
			n := min(deep, w.Out-k)
			for i := 0; i < w.In; i += tileRows {
				multiplyTile(s, w.turned(s, i, k, n), n, y, k, x, i, from, to, add || k > 0)
			}
		}
	}
}

func (w *Weight) check(name string, m Matrix, rows int) {
	if m.Rows != rows || len(m.Data) != m.Rows*m.Panels*Lanes {
		panic(fmt.Sprintf("panel: weight of %d x %d: %s has %d rows, %d panels and %d elements", w.Out, w.In, name, m.Rows,
			m.Panels, len(m.Data)))
	}
}

// multiplyTile multiplies a tile [n][8] with rows k..k+n of x into rows r..r+8 of y, for panels from..to.
func multiplyTile(s *Scratch, tile []float32, n int, x Matrix, k int, y Matrix, r, from, to int, add bool) {
	if r+tileRows > y.Rows {
		multiplyPart(s, tile, n, x, k, y, r, from, to, add)
		return
	}
	p := from
	for ; p+1 < to; p += 2 {
		x0, x1 := (p*x.Rows+k)*Lanes, ((p+1)*x.Rows+k)*Lanes
		y0, y1 := (p*y.Rows+r)*Lanes, ((p+1)*y.Rows+r)*Lanes
		gemm8x2(n, &tile[0], &x.Data[x0], &x.Data[x1], &y.Data[y0], &y.Data[y1], add)
	}
	if p < to {
		gemm8x1(n, &tile[0], &x.Data[(p*x.Rows+k)*Lanes], &y.Data[(p*y.Rows+r)*Lanes], add)
	}
}

// multiplyPart is multiplyTile for a last tile of which y has only some rows.
func multiplyPart(s *Scratch, tile []float32, n int, x Matrix, k int, y Matrix, r, from, to int, add bool) {
	for p := from; p < to; p++ {
		rows := y.rows(p, r, y.Rows)
		copy(s.over[:], rows)
		gemm8x1(n, &tile[0], &x.Data[(p*x.Rows+k)*Lanes], &s.over[0], add)
		copy(rows, s.over[:])
	}
}

// tile is rows k..k+n of the t-th tile, in float32: [n][8].
func (w *Weight) tile(s *Scratch, t, k, n int) []float32 {
	at := (t*w.In + k) * tileRows
	if w.tiles != nil {
		return w.tiles[at : at+n*tileRows]
	}
	to := s.space(n * tileRows)
	fromHalf(to, w.half[at:at+n*tileRows])
	return to
}

func (s *Scratch) space(n int) []float32 {
	if len(s.tile) < n {
		s.tile = make([]float32, n)
	}
	return s.tile[:n]
}

// turned is a tile of the transposed weight: its rows i..i+8, which are columns of w, over the outputs k..k+n: [n][8].
// k is a multiple of 8.
func (w *Weight) turned(s *Scratch, i, k, n int) []float32 {
	to := s.space((n+tileRows-1)/tileRows*tileRows*tileRows + tileRows*tileRows)
	first, count := k/tileRows, tileCount(n)
	switch {
	case i+tileRows > w.In:
		w.turnSlowly(to, i, first, count)
	case w.tiles != nil:
		turnBlocks(w.tiles[(first*w.In+i)*tileRows:], w.In*tileRows, count, to)
	default:
		block := to[count*tileRows*tileRows:]
		for t := range count {
			at := ((first+t)*w.In + i) * tileRows
			fromHalf(block, w.half[at:at+tileRows*tileRows])
			turnBlocks(block, 0, 1, to[t*tileRows*tileRows:])
		}
	}
	return to[:n*tileRows]
}

// turnSlowly is turned where fewer than 8 columns are left.
func (w *Weight) turnSlowly(to []float32, i, first, count int) {
	clear(to[:count*tileRows*tileRows])
	for o := range count * tileRows {
		for j := i; j < w.In; j++ {
			at := ((first+o/tileRows)*w.In+j)*tileRows + o%tileRows
			if w.tiles != nil {
				to[o*tileRows+j-i] = w.tiles[at]
			} else {
				to[o*tileRows+j-i] = fromBits(w.half[at])
			}
		}
	}
}

// AddProduct is c += a bᵀ, the sum over all columns: a [n rows], b [m rows], c [n, m] row-major.
func AddProduct(a, b Matrix, c []float32) {
	var tile [16]float32
	for i := 0; i < a.Rows; i += 4 {
		for j := 0; j < b.Rows; j += 4 {
			if i+4 > a.Rows || j+4 > b.Rows {
				dotPart(a, b, i, j, c)
				continue
			}
			dot4x4(a.Panels, &a.Data[i*Lanes], a.Rows*Lanes, &b.Data[j*Lanes], b.Rows*Lanes, &tile)
			for r := range 4 {
				to := c[(i+r)*b.Rows+j:][:4]
				for q := range to {
					to[q] += tile[r*4+q]
				}
			}
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
					sum += v * y[l]
				}
			}
			c[r*b.Rows+q] += sum
		}
	}
}
