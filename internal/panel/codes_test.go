package panel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// quarters is a table of 16 values, 0 among them.
func quarters() *[16]float32 {
	var table [16]float32
	for i := range table {
		table[i] = float32(i-7) / 7.25
	}
	return &table
}

// codings are both kinds, by name; their scales are for a row, or for blocks that pieces of a product do and do not cut.
func codings() map[string]Coding {
	return map[string]Coding{"int8": {}, "int8 in blocks": {Block: 24}, "4 bits": {Table: quarters(), Block: 64},
		"4 bits a row": {Table: quarters()}}
}

// inCodes makes a weight of random codes, and the values that these stand for, as float32 products. Rows of codes are 3
// bytes longer than the weight needs.
func inCodes(r *rand.Rand, out, in int, c Coding) (w *Weight, values []float32) {
	const more = 3
	width, blocks, block := c.width(in), c.blocks(in), c.Block
	if block == 0 {
		block = in
	}
	codes, scales := make([]byte, out*(width+more)), make([]float32, out*blocks)
	for i := range codes {
		codes[i] = byte(r.Uint32())
	}
	for i := range scales {
		scales[i] = r.Float32()
	}
	for o := range out {
		row := codes[o*(width+more):][:width+more]
		if c.Table != nil && in%2 != 0 {
			row[width-1] = row[width-1]&15 | 7<<4 // a zero behind the last
		}
		for i := range in {
			v := float32(int8(row[min(i, width-1)]))
			if c.Table != nil {
				v = c.Table[row[i/2]>>(i%2*4)&15]
			}
			values = append(values, v*scales[o*blocks+i/block])
		}
	}
	w = NewCoded(out, in, c)
	first := tileCount(out) / 2 * tileRows
	w.SetCodes(first, codes[first*(width+more):], scales[first*blocks:])
	if first > 0 {
		w.SetCodes(0, codes[:first*(width+more)], scales[:first*blocks])
	}
	return w, values
}

// TestCodes: a weight kept as codes does what one does that keeps the values that these stand for, bit for bit, whatever
// its size and however many columns or rows it multiplies.
func TestCodes(t *testing.T) {
	need(t)
	for name, coding := range codings() {
		for _, rounded := range []bool{false, true} {
			coding.Rounded = rounded
			r := rand.New(rand.NewPCG(11, 1))
			for _, c := range []struct{ out, in, panels int }{
				{8, 4, 1}, {16, 512, 2}, {40, 513, 3}, {5, 7, 1}, {13, 1376, 4}, {40, 9, 5}, {1376, 64, 2}, {3, 130, 3},
				{515, 66, 2}, {16, 24, widest + 3}, {9, 1, 2},
			} {
				coded, values := inCodes(r, c.out, c.in, coding)
				plain := NewWeight(c.out, c.in, values)
				if rounded {
					plain = NewRoundedWeight(c.out, c.in, values)
				}
				name := fmt.Sprintf("%s, rounded=%t, %d x %d", name, rounded, c.out, c.in)
				coded.KeepTransposed() // which it does not
				if got, want := coded.Bytes(), coding.Bytes(c.out, c.in); got != want {
					t.Errorf("%s: takes %d bytes, said to take %d", name, got, want)
				}
				sameRows(t, name, coded, plain)
				x, y := random(r, c.in, c.panels*Lanes).packed(), random(r, c.out, c.panels*Lanes).packed()
				sameProducts(t, name, [2]*Weight{coded, plain}, Exact(x), Exact(y))
				if rounded {
					in32 := func(m Matrix) Operand { return RoundedIn32(m, make([]float32, len(m.Data))) }
					sameProducts(t, name+", operands rounded in float32", [2]*Weight{coded, plain}, in32(x), in32(y))
				}
				if rounded && HalfAvailable() {
					half := func(m Matrix) Operand { return Rounded(m, make([]uint16, Halves(m))) }
					sameProducts(t, name+", operands too", [2]*Weight{coded, plain}, half(x), half(y))
				}
			}
		}
	}
}

// TestDecodingStaysInPlace: what one to nine rows of codes or of bfloat16 stand for is written, and nothing behind it.
func TestDecodingStaysInPlace(t *testing.T) {
	need(t)
	const behind = 12345
	r := rand.New(rand.NewPCG(11, 2))
	for name, coding := range codings() {
		for n := 1; n <= 9; n++ {
			name := fmt.Sprintf("%s: %d rows", name, n)
			codes, scales := make([]byte, coding.width(n)*tileRows), [tileRows]float32(draw(r, tileRows))
			for i := range codes {
				codes[i] = byte(r.Uint32())
			}
			rows := n
			if coding.Table != nil {
				rows = pairs(n) * 2
			}
			want, rounded := make([]float32, 12*tileRows), make([]float32, 12*tileRows)
			halves, got := make([]uint16, len(want)), make([]float32, len(want))
			for i := range want {
				want[i], rounded[i], halves[i], got[i] = behind, fromBits(behind), behind, behind
				switch k, o := i/tileRows, i%tileRows; {
				case k < rows:
					want[i] = coding.number(codes, k, o) * scales[o]
					rounded[i] = fromBits(toBits(want[i]))
				case k < pairs(n)*2:
					rounded[i] = 0
				}
			}
			coding.toTile(got, codes, &scales)
			sameBits(t, name, got, want)
			coding.toHalfTile(halves, codes, n, &scales)
			fromHalves(got, halves)
			sameBits(t, name+" in bfloat16", got, rounded)
			for i := range got {
				got[i] = behind
			}
			fromHalves(got, halves[:pairs(n)*2*tileRows])
			copy(rounded[pairs(n)*2*tileRows:], want[pairs(n)*2*tileRows:])
			sameBits(t, name+" of bfloat16", got, rounded)
		}
	}
}

// number is what the code of row k and output o of a tile stands for.
func (c Coding) number(codes []byte, k, o int) float32 {
	if c.Table == nil {
		return float32(int8(codes[k*tileRows+o]))
	}
	return c.Table[codes[k/2*tileRows+o]>>(k%2*4)&15]
}

// sameRows compares what two weights say of their rows.
func sameRows(t *testing.T, name string, coded, plain *Weight) {
	t.Helper()
	got, want := make([]float32, plain.In), make([]float32, plain.In)
	for o := range plain.Out {
		coded.Row(o, got)
		plain.Row(o, want)
		sameBits(t, fmt.Sprintf("%s: row %d", name, o), got, want)
	}
	if got, want := coded.RowSquares(&Scratch{}), plain.RowSquares(&Scratch{}); !slices.Equal(got, want) {
		t.Fatalf("%s: squares of rows %v, want %v", name, got, want)
	}
}

// sameProducts compares all kinds of products of two weights with x [In, n] and y [Out, n].
func sameProducts(t *testing.T, name string, weights [2]*Weight, x, y Operand) {
	t.Helper()
	out, in := weights[0].Out, weights[0].In
	for _, p := range []struct {
		name string
		rows int
		run  func(w *Weight, s *Scratch, to Matrix, add bool)
	}{
		{"product", out, func(w *Weight, s *Scratch, to Matrix, add bool) { w.Multiply(s, x, to, add) }},
		{"transposed", in, func(w *Weight, s *Scratch, to Matrix, add bool) { w.MultiplyTransposed(s, y, to, add) }},
		{"columns", out, func(w *Weight, s *Scratch, to Matrix, add bool) { w.MultiplyColumns(s, x, to, add, []int{2, 5, 9}) }},
		{"transposed columns", in, func(w *Weight, s *Scratch, to Matrix, add bool) {
			w.MultiplyTransposedColumns(s, y, to, add, []int{2})
		}},
	} {
		var products [2]Matrix
		for i, w := range weights {
			var s Scratch
			products[i] = newMatrix(p.rows, x.Panels)
			p.run(w, &s, products[i], false)
			p.run(w, &s, products[i], true)
		}
		sameBits(t, name+": "+p.name, products[0].Data, products[1].Data)
	}
	for _, n := range []int{1, 3, 4, 9} {
		var products [2]Rows
		for i, w := range weights {
			rows := NewRows(n, in)
			for j := range n {
				x.Column(j, rows.Row(j))
			}
			operand := ExactRows(rows)
			if x.halves != nil {
				operand = RoundedRows(rows, make([]uint16, len(rows.Data)))
			}
			var s Scratch
			products[i] = NewRows(n, out)
			middle := w.Tiles() / 3
			for _, add := range []bool{false, true} {
				w.MultiplyRows(&s, operand, products[i], add, middle, w.Tiles())
				w.MultiplyRows(&s, operand, products[i], add, 0, middle)
			}
		}
		for i := range n {
			sameBits(t, fmt.Sprintf("%s: row %d of %d", name, i, n), products[0].Row(i), products[1].Row(i))
		}
	}
}

// sameBits fails unless got are want, bit for bit; zeros may differ in their sign.
func sameBits(t *testing.T, name string, got, want []float32) {
	t.Helper()
	for i, v := range want {
		if math.Float32bits(got[i]) != math.Float32bits(v) && (got[i] != 0 || v != 0) {
			t.Fatalf("%s: element %d: got %v, want %v", name, i, got[i], v)
		}
	}
}
