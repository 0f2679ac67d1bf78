package panel

import (
	"fmt"
	"math"
)

// Rows are vectors one after the other: row i is the Size elements from i*Stride on. Stride is a multiple of Lanes, and
// what lies between Size and Stride may be overwritten with anything. A Matrix is for many tokens, Rows for few; what
// is computed on either has the same bits.
type Rows struct {
	Size, Stride int
	Data         []float32
}

// NewRows are n rows of zeros.
func NewRows(n, size int) Rows {
	stride := Padded(size)
	return Rows{size, stride, make([]float32, n*stride)}
}

// rowsIn are n rows that hold anything, in memory that grows as needed.
func rowsIn(memory *[]float32, n, size int) Rows {
	stride := Padded(size)
	*memory = sized(*memory, n*stride)
	return Rows{size, stride, *memory}
}

// Row is the i-th of the rows.
func (r Rows) Row(i int) []float32 { return r.Data[i*r.Stride : i*r.Stride+r.Size : (i+1)*r.Stride] }

// Count is the number of rows.
func (r Rows) Count() int { return len(r.Data) / r.Stride }

// First are the first n of the rows.
func (r Rows) First(n int) Rows { return Rows{r.Size, r.Stride, r.Data[:n*r.Stride]} }

// Tiles is the number of tiles that MultiplyRows may take in parts.
func (w *Weight) Tiles() int { return tileCount(w.Out) }

// TileBytes is the size of a tile in memory.
func (w *Weight) TileBytes() int { return int(w.Bytes()) / w.Tiles() }

// RowOperand are rows that weights multiply: as they are or rounded to bfloat16, as an Operand.
type RowOperand struct {
	Rows
	halves []uint16 // row i from i*Stride on
}

// ExactRows are rows as an operand in float32.
func ExactRows(r Rows) RowOperand { return RowOperand{Rows: r} }

// RoundedRowsIn32 are rows rounded to bfloat16 as RoundedIn32 rounds a matrix, held in to, which has no fewer elements than r.Data.
func RoundedRowsIn32(r Rows, to []float32) RowOperand {
	to = to[:len(r.Data)]
	roundTo(to, r.Data)
	return ExactRows(Rows{r.Size, r.Stride, to})
}

// RoundedRows are rows as an operand in bfloat16, held in to, which has as many elements as they have.
func RoundedRows(r Rows, to []uint16) RowOperand {
	for i := range r.Count() {
		half := to[i*r.Stride:][:pairs(r.Size)*2]
		half[len(half)-1] = 0
		for j, v := range r.Row(i) {
			half[j] = toBits(v)
		}
	}
	return RowOperand{r, to}
}

// from are the rows' elements from the k-th on, an even number.
func (x RowOperand) from(k int) RowOperand {
	if x.halves != nil {
		x.halves = x.halves[k:]
	} else {
		x.Data = x.Data[k:]
	}
	return x
}

// MultiplyRows is y = W x for every row x [In] and y [Out], or y += W x with add, as far as tiles from..to of W say it:
// elements 8*from to 8*to of y.
func (w *Weight) MultiplyRows(s *Scratch, x RowOperand, y Rows, add bool, from, to int) {
	defer w.alive()
	if x.Size != w.In || y.Size != w.Out || x.Count() < y.Count() || to > w.Tiles() || x.halves != nil && !w.isHalf() {
		panic(fmt.Sprintf("panel: weight of %d x %d, float32 %t: tiles %d to %d of %d rows of %d, rounded %t, give %d rows of %d",
			w.Out, w.In, !w.isHalf(), from, to, x.Count(), x.Size, x.halves != nil, y.Count(), y.Size))
	}
	if w.coded != nil {
		w.multiplyCodes(s, x, y, add, from, to)
		return
	}
	deep := w.In
	if y.Count() > 1 && !(amx && x.halves != nil) { // a few tiles of all of a long row would not wait in the cache for the next row
		deep = stretch(w.In, deepest)
	}
	for k := 0; k < w.In; k += deep {
		t := tiled{full: w.tiles, half: w.half, at: w.place(0, k), stride: w.place(tileRows, 0)}
		t.times(min(deep, w.In-k), from, to, x.from(k), y.Data, y.Stride, y.Count(), add || k > 0)
	}
}

// few is the number of columns up to which MultiplyColumns takes them one by one: from there on a panel is as quick.
const few = 6

// MultiplyColumns is Multiply where only some columns of y count, often one. These have the bits that Multiply gives them;
// what the others become is finite where x is. nil are all columns.
func (w *Weight) MultiplyColumns(s *Scratch, x Operand, y Matrix, add bool, columns []int) {
	if columns == nil || len(columns) > few {
		w.Multiply(s, x, y, add)
		return
	}
	w.check(x, w.In, y, w.Out)
	in, out := rowsIn(&s.columns[0], len(columns), w.In), rowsIn(&s.columns[1], len(columns), w.Out)
	factors := Matrix{x.Rows, x.Panels, x.factors}
	for i, c := range columns {
		factors.Column(c, in.Row(i))
		if add {
			y.Column(c, out.Row(i))
		}
	}
	operand := ExactRows(in)
	if x.halves != nil {
		s.columnsHalf = sized(s.columnsHalf, len(in.Data))
		operand = RoundedRows(in, s.columnsHalf)
	}
	s.Each(w.Tiles(), func(s *Scratch, from, to int) { w.MultiplyRows(s, operand, out, add, from, to) })
	if !add {
		clear(y.Data)
	}
	for i, c := range columns {
		y.SetColumn(c, out.Row(i))
	}
}

// MultiplyTransposedColumns is MultiplyColumns for MultiplyTransposed.
func (w *Weight) MultiplyTransposedColumns(s *Scratch, y Operand, x Matrix, add bool, columns []int) {
	if w.transposed == nil {
		w.MultiplyTransposed(s, y, x, add)
		return
	}
	w.transposed.MultiplyColumns(s, y, x, add, columns)
}

// tiled are tiles of a weight, or what is laid out as one in float32: the first begins at at, and they are stride
// elements apart.
type tiled struct {
	full       []float32
	half       []uint16
	at, stride int
}

// times is c[r][8t..8t+8] (+)= Σ_k tile_t[k] x[r][k] for the tiles from..to and n rows.
func (a tiled) times(k, from, to int, x RowOperand, c []float32, cStride, n int, add bool) {
	if amx && x.halves != nil {
		a.dotRows(k, from, to, x, c, cStride, n, add)
		return
	}
	for t := from; t < to; {
		wide := 1
		if t+4 <= to {
			wide = 4
		}
		r := 0
		for ; r+4 <= n; r += 4 {
			a.four(k, t, wide, x, r, &c[r*cStride+t*tileRows], cStride, add)
		}
		for ; r < n; r++ {
			a.one(k, t, wide, x, r, &c[r*cStride+t*tileRows], add)
		}
		t += wide
	}
}

// one is times for tiles t..t+wide and row r.
func (a tiled) one(k, t, wide int, x RowOperand, r int, c *float32, add bool) {
	at, row := a.at+t*a.stride, r*x.Stride
	switch {
	case x.halves != nil && wide == 4:
		row1x4Dot(pairs(k), &a.half[at], 2*a.stride, &x.halves[row], c, add)
	case x.halves != nil:
		row1x1Dot(pairs(k), &a.half[at], 2*a.stride, &x.halves[row], c, add)
	case a.full != nil && wide == 4:
		row1x4(k, &a.full[at], 4*a.stride, &x.Data[row], c, add)
	case a.full != nil:
		row1x1(k, &a.full[at], 4*a.stride, &x.Data[row], c, add)
	case wide == 4:
		row1x4Half(k, &a.half[at], 2*a.stride, &x.Data[row], c, add)
	default:
		row1x1Half(k, &a.half[at], 2*a.stride, &x.Data[row], c, add)
	}
}

// four is one for the rows r..r+4.
func (a tiled) four(k, t, wide int, x RowOperand, r int, c *float32, cStride int, add bool) {
	at, row := a.at+t*a.stride, r*x.Stride
	cStride *= 4
	switch {
	case x.halves != nil && wide == 4:
		row4x4Dot(pairs(k), &a.half[at], 2*a.stride, &x.halves[row], 2*x.Stride, c, cStride, add)
	case x.halves != nil:
		row4x1Dot(pairs(k), &a.half[at], 2*a.stride, &x.halves[row], 2*x.Stride, c, cStride, add)
	case a.full != nil && wide == 4:
		row4x4(k, &a.full[at], 4*a.stride, &x.Data[row], 4*x.Stride, c, cStride, add)
	case a.full != nil:
		row4x1(k, &a.full[at], 4*a.stride, &x.Data[row], 4*x.Stride, c, cStride, add)
	case wide == 4:
		row4x4Half(k, &a.half[at], 2*a.stride, &x.Data[row], 4*x.Stride, c, cStride, add)
	default:
		row4x1Half(k, &a.half[at], 2*a.stride, &x.Data[row], 4*x.Stride, c, cStride, add)
	}
}

// NormalizeRow is Normalize for one row.
func NormalizeRow(x []float64, gain []float32, eps float64, y []float32) {
	sum := 0.0
	for _, v := range x {
		sum = math.FMA(v, v, sum)
	}
	inverse := 1 / math.Sqrt(sum/float64(len(gain))+eps)
	for i, g := range gain {
		y[i] = float32(x[i]*inverse) * g
	}
}

// RotateRow is Rotate for one row; cos and sin [dim/2].
func RotateRow(x, cos, sin []float32, dim int) {
	half := dim / 2
	for ; len(x) >= dim; x = x[dim:] {
		for i, c := range cos {
			a, b, s := x[i], x[half+i], sin[i]
			x[i] = float32(a*c) - float32(b*s) // rounded one by one: a fused product would have other bits
			x[half+i] = float32(b*c) + float32(a*s)
		}
	}
}

// SwiGLURows is SwiGLU for rows.
func SwiGLURows(gate, up, h Rows) { swiglu(gate.Data, up.Data, h.Data) }

// ScaleRows is x *= by.
func ScaleRows(x Rows, by float32) { scaleBy(x.Data, by) }

// CacheKeys is the number of keys of a Cache block.
const CacheKeys = 64

// Cache holds the keys, rotated, and the values of one sequence in one layer, in blocks: Groups heads of Dim features.
// Keys lie in tiles [CacheKeys/8 of 8 keys][Dim][8] a group, values in tiles [Dim/8 of 8 features][CacheKeys][8], so that
// scores and mixtures are products of tiles and rows.
type Cache struct {
	Groups, Dim, Count int
	keys, values       [][]float32 // blocks [Groups*Dim*CacheKeys]
}

// Bytes is what the cache holds of memory.
func (c *Cache) Bytes() int { return 2 * 4 * len(c.keys) * c.Groups * c.Dim * CacheKeys }

// Append adds a key and a value, [Groups*Dim] each.
func (c *Cache) Append(k, v []float32) {
	block, at := c.Count/CacheKeys, c.Count%CacheKeys
	if at == 0 {
		c.keys = append(c.keys, make([]float32, c.Groups*c.Dim*CacheKeys))
		c.values = append(c.values, make([]float32, c.Groups*c.Dim*CacheKeys))
	}
	keys, values := c.keys[block], c.values[block]
	for g := range c.Groups {
		from := g*c.Dim*CacheKeys + at/tileRows*c.Dim*tileRows + at%tileRows
		for d, x := range k[g*c.Dim : (g+1)*c.Dim] {
			keys[from+d*tileRows] = x
		}
	}
	for t := 0; t < c.Groups*c.Dim; t += tileRows {
		copy(values[t*CacheKeys+at*tileRows:][:tileRows], v[t:])
	}
	c.Count++
}

// AppendColumns adds n columns of keys and values from column first on.
func (c *Cache) AppendColumns(k, v Matrix, first, n int) {
	key, value := make([]float32, k.Rows), make([]float32, v.Rows)
	for i := range n {
		k.Column(first+i, key)
		v.Column(first+i, value)
		c.Append(key, value)
	}
}

// CacheScratch is the memory of one goroutine for attention over a Cache. The zero value is ready.
type CacheScratch struct{ scores, inverses []float32 }

// Attend is z = V softmax(Kᵀ q / sqrt(dim)) over all keys, for the heads of one group of the query q [heads*dim]: each
// group has perGroup of them. Sums run in the order in which Attend on panels adds them up.
func (c *Cache) Attend(s *CacheScratch, q, z []float32, group, perGroup int, scale float32) {
	stride := len(c.keys) * CacheKeys
	if len(s.scores) < perGroup*stride || len(s.inverses) < perGroup {
		s.scores, s.inverses = make([]float32, 2*perGroup*stride), make([]float32, perGroup)
	}
	from := group * perGroup * c.Dim
	queries := ExactRows(Rows{c.Dim, c.Dim, q[from:]})
	z = z[from : from+perGroup*c.Dim]
	for b, keys := range c.keys {
		n := min(CacheKeys, c.Count-b*CacheKeys)
		t := tiled{full: keys, at: group * c.Dim * CacheKeys, stride: c.Dim * tileRows}
		t.times(c.Dim, 0, tileCount(n), queries, s.scores[b*CacheKeys:], stride, perGroup, false)
	}
	for h := range perGroup {
		s.inverses[h] = weights(s.scores[h*stride:(h+1)*stride], c.Count, scale)
	}
	for b, values := range c.values {
		n := min(CacheKeys, c.Count-b*CacheKeys)
		t := tiled{full: values, at: group * c.Dim * CacheKeys, stride: CacheKeys * tileRows}
		p := ExactRows(Rows{n, stride, s.scores[b*CacheKeys:]})
		t.times(n, 0, c.Dim/tileRows, p, z, c.Dim, perGroup, b > 0)
	}
	for h, inverse := range s.inverses[:perGroup] {
		for i := range c.Dim {
			z[h*c.Dim+i] *= inverse
		}
	}
}

// weights replaces the first n scores by the exponentials of which a softmax consists, and returns the inverse of their
// sum: of sums over 16 keys each, as on panels.
func weights(scores []float32, n int, scale float32) (inverse float32) {
	whole := scores[:Padded(n)]
	for i := n; i < len(whole); i++ { // nobody reads what comes of these
		whole[i] = whole[0]
	}
	exponentials(whole, largest(whole), scale)
	var sum float32
	for i := 0; i < n; i += Lanes {
		var part float32
		for _, p := range scores[i:min(i+Lanes, n)] {
			part += p
		}
		sum += part
	}
	return 1 / sum
}
