package panel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// laid lays the first n columns out as rows, with what must not be read between them.
func (a dense) laid(n int) Rows {
	r := NewRows(n, len(a))
	for i := range r.Data {
		r.Data[i] = float32(math.NaN())
	}
	for i := range n {
		for j := range a {
			r.Row(i)[j] = float32(a[j][i])
		}
	}
	return r
}

// same fails unless row i has the bits of column i, for all rows.
func same(t *testing.T, name string, got Rows, want Matrix) {
	t.Helper()
	column := make([]float32, want.Rows)
	for i := range got.Count() {
		want.Column(i, column)
		for j, v := range column {
			if math.Float32bits(got.Row(i)[j]) != math.Float32bits(v) {
				t.Fatalf("%s: row %d, element %d: got %v, want %v", name, i, j, got.Row(i)[j], v)
			}
		}
	}
}

// TestMultiplyRows: rows give the bits that columns give, however many there are and however the tiles are shared out.
func TestMultiplyRows(t *testing.T) {
	need(t)
	r := rand.New(rand.NewPCG(7, 1))
	for _, c := range []struct{ out, in, rows int }{
		{8, 4, 1}, {16, 512, 2}, {24, 513, 3}, {5, 7, 4}, {13, 1376, 5}, {40, 9, 8}, {172, 64, 9}, {512, 64, 16}, {36, 3, 7},
	} {
		w, x := random(r, c.out, c.in), random(r, c.in, Lanes)
		half := make([]uint16, 0, c.out*c.in)
		for _, v := range w.flat() {
			half = append(half, uint16(math.Float32bits(v)>>16))
		}
		exact, rows := x.packed(), x.laid(c.rows)
		kinds := []struct {
			name    string
			weight  *Weight
			columns Operand
			rows    RowOperand
		}{
			{"float32", NewWeight(c.out, c.in, w.flat()), Exact(exact), ExactRows(rows)},
			{"bfloat16 weight", NewHalfWeight(c.out, c.in, half), Exact(exact), ExactRows(rows)},
			{"rounded in float32", NewHalfWeight(c.out, c.in, half), RoundedIn32(exact, make([]float32, len(exact.Data))),
				RoundedRowsIn32(rows, make([]float32, len(rows.Data)))},
			{"bfloat16", NewHalfWeight(c.out, c.in, half), Operand{}, RowOperand{}},
		}
		for _, k := range kinds {
			if k.columns.Rows == 0 {
				if !HalfAvailable() {
					continue
				}
				k.columns = Rounded(exact, make([]uint16, Halves(exact)))
				k.rows = RoundedRows(rows, slices.Repeat([]uint16{toBits(float32(math.NaN()))}, len(rows.Data)))
			}
			var s Scratch
			want, got := newMatrix(c.out, 1), NewRows(c.rows, c.out)
			for _, add := range []bool{false, true} {
				k.weight.Multiply(&s, k.columns, want, add)
				middle := k.weight.Tiles() / 3
				k.weight.MultiplyRows(&s, k.rows, got, add, 0, middle)
				k.weight.MultiplyRows(&s, k.rows, got, add, middle, k.weight.Tiles())
				same(t, fmt.Sprintf("%d x %d, %d rows, %s, add=%t", c.out, c.in, c.rows, k.name, add), got, want)
			}
		}
	}
}

// TestMultiplyColumns: the columns that count have the bits of the whole product, and the others are no NaN that was in y
// before, for few columns and many, with and without a transposed copy.
func TestMultiplyColumns(t *testing.T) {
	need(t)
	r := rand.New(rand.NewPCG(10, 1))
	const out, in, panels = 44, 72, 3
	weight, x, y := random(r, out, in), random(r, in, panels*Lanes), random(r, out, panels*Lanes)
	full := NewWeight(out, in, weight.flat())
	both := NewWeight(out, in, weight.flat())
	both.KeepTransposed()
	for _, columns := range [][]int{{0}, {16}, {0, 16, 32}, {5, 6, 21, 47}, {0, 1, 2, 3, 4, 5, 6, 7, 8}} {
		for _, add := range []bool{false, true} {
			name := fmt.Sprintf("columns %v, add=%t", columns, add)
			in32 := roundings()["rounded in float32"](x)
			compareColumns(t, name+", rounded", columns, add, newMatrix(out, panels), func(y Matrix, some bool) {
				if some {
					full.MultiplyColumns(&Scratch{}, in32, y, add, columns)
				} else {
					full.Multiply(&Scratch{}, in32, y, add)
				}
			})
			compareColumns(t, name, columns, add, newMatrix(out, panels), func(y Matrix, some bool) {
				if some {
					full.MultiplyColumns(&Scratch{}, Exact(x.packed()), y, add, columns)
				} else {
					full.Multiply(&Scratch{}, Exact(x.packed()), y, add)
				}
			})
			for _, w := range []*Weight{full, both} {
				compareColumns(t, name+", transposed", columns, add, newMatrix(in, panels), func(x Matrix, some bool) {
					if some {
						w.MultiplyTransposedColumns(&Scratch{}, Exact(y.packed()), x, add, columns)
					} else {
						w.MultiplyTransposed(&Scratch{}, Exact(y.packed()), x, add)
					}
				})
			}
		}
	}
}

// compareColumns runs multiply for all columns and for some, into a matrix that holds a value to add to, or NaN.
func compareColumns(t *testing.T, name string, columns []int, add bool, m Matrix, multiply func(m Matrix, some bool)) {
	t.Helper()
	before := float32(math.NaN())
	if add {
		before = 0.5
	}
	fill := func(m Matrix) Matrix {
		for i := range m.Data {
			m.Data[i] = before
		}
		return m
	}
	want, got := fill(newMatrix(m.Rows, m.Panels)), fill(m)
	multiply(want, false)
	multiply(got, true)
	a, b := make([]float32, m.Rows), make([]float32, m.Rows)
	for c := range m.Panels * Lanes {
		got.Column(c, a)
		want.Column(c, b)
		for i := range a {
			if slices.Contains(columns, c) && math.Float32bits(a[i]) != math.Float32bits(b[i]) {
				t.Fatalf("%s: column %d, element %d: got %v, want %v", name, c, i, a[i], b[i])
			}
			if a[i] != a[i] {
				t.Fatalf("%s: column %d, element %d: got NaN", name, c, i)
			}
		}
	}
}

// TestElementsOfRows: norm, rotation and SwiGLU of rows have the bits of those of columns.
func TestElementsOfRows(t *testing.T) {
	need(t)
	r := rand.New(rand.NewPCG(8, 1))
	const size, dim = 40, 8
	x, gain := random(r, size, Lanes), random(r, 1, size).flat()
	y := newMatrix(size, 1)
	Normalize(x.wide(), gain, 1e-5, y, make([]float64, Lanes))
	rows := NewRows(Lanes, size)
	for j := range Lanes {
		column := make([]float64, size)
		for i := range column {
			column[i] = x[i][j]
		}
		NormalizeRow(column, gain, 1e-5, rows.Row(j))
	}
	same(t, "norm", rows, y)

	cos, sin := random(r, dim/2, Lanes), random(r, dim/2, Lanes)
	turned, rows := x.packed(), x.laid(Lanes)
	Rotate(turned, cos.packed(), sin.packed(), dim, false)
	for j := range Lanes {
		RotateRow(rows.Row(j), cos.laid(Lanes).Row(j), sin.laid(Lanes).Row(j), dim)
	}
	same(t, "rotation", rows, turned)

	up, h, rowsH := random(r, size, Lanes), newMatrix(size, 1), NewRows(Lanes, size)
	SwiGLU(x.packed(), up.packed(), h)
	SwiGLURows(x.laid(Lanes), up.laid(Lanes), rowsH)
	same(t, "SwiGLU", rowsH, h)
}

// TestAttendToCache: attention over keys that were appended one by one has the bits of attention over panels of them, at
// lengths that do and do not fill panels and blocks, for heads of their own and grouped ones.
func TestAttendToCache(t *testing.T) {
	need(t)
	for _, c := range []struct{ groups, perGroup, dim int }{{2, 1, 8}, {2, 2, 8}, {1, 5, 16}, {3, 1, 24}, {2, 4, 64}} {
		r := rand.New(rand.NewPCG(9, uint64(c.dim)))
		const length = 150
		panels := tileCount(length) * tileRows / Lanes
		k, v := random(r, c.groups*c.dim, (panels+1)*Lanes), random(r, c.groups*c.dim, (panels+1)*Lanes)
		q := random(r, c.groups*c.perGroup*c.dim, Lanes)
		queries := q.laid(1)
		scale := float32(1 / math.Sqrt(float64(c.dim)))
		cache := Cache{Groups: c.groups, Dim: c.dim}
		keys, values := k.laid(length), v.laid(length)
		var s CacheScratch
		for n := 1; n <= length; n++ {
			cache.Append(keys.Row(n-1), values.Row(n-1))
			if n%7 != 1 && n%16 != 0 {
				continue
			}
			got := NewRows(1, c.groups*c.perGroup*c.dim)
			for g := range c.groups {
				cache.Attend(&s, queries.Row(0), got.Row(0), g, c.perGroup, scale)
			}
			want := attendToPanels(k.packed(), v.packed(), q.packed(), n, c.perGroup, c.dim, scale)
			same(t, fmt.Sprintf("%+v, %d keys", c, n), got, want)
		}
		if got, want := cache.Bytes(), 3*2*4*CacheKeys*c.groups*c.dim; got != want {
			t.Errorf("%+v: cache of %d keys takes %d bytes, want %d", c, length, got, want)
		}
	}
}

// attendToPanels is z of the query in the first column of q over the first n keys.
func attendToPanels(k, v, q Matrix, n, perGroup, dim int, scale float32) Matrix {
	places := Places{make([]int32, k.Panels*Lanes), make([]int32, k.Panels*Lanes)}
	for i := n; i < len(places.Branch); i++ {
		places.Branch[i] = -1
	}
	var sight Sight
	sight.Append(Places{make([]int32, Lanes), make([]int32, Lanes)}, places, 0)
	z := newMatrix(q.Rows, 1)
	var s Scratch
	unused := make([]float32, Lanes)
	for h := range q.Rows / dim {
		part := func(m Matrix) []float32 { return m.rows(0, h*dim, (h+1)*dim) }
		head := Head{dim, h / perGroup * dim, []Keys{{K: k, V: v, Size: k.Panels}}, scale}
		head.Attend(&s, []Queries{{Sight: sight, Q: part(q), Z: part(z), Maximum: unused, Inverse: unused}})
	}
	return z
}
