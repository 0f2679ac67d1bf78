//go:build goexperiment.simd

package panel

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"gotransplant/internal/guard"
)

// fma is a b + c, rounded once to float32. The product of two bfloat16 is exact in float64; what the sum loses there decides on
// which side of a tie it lies.
func fma(a, b, c float32) float32 {
	p, q := float64(a)*float64(b), float64(c)
	sum := p + q
	rest := sum - p
	if lost := (p - (sum - rest)) + (q - rest); lost != 0 && math.Float64bits(sum)&1 == 0 {
		sum = math.Nextafter(sum, math.Inf(int(math.Copysign(1, lost))))
	}
	return float32(sum)
}

// modelDot is c + Σ a b as AMX adds it up: 32 at a time, even and odd numbers apart.
func modelDot(a, b []float32, c float32) float32 {
	for k := 0; k < len(a); k += dotDepth {
		var even, odd float32
		for i := k; i < min(k+dotDepth, len(a)); i += 2 {
			even = fma(a[i], b[i], even)
			if i+1 < len(a) {
				odd = fma(a[i+1], b[i+1], odd)
			}
		}
		c += even + odd
	}
	return c
}

func TestFMA(t *testing.T) {
	for _, c := range []struct{ a, b, c, want float32 }{
		{3, 5, 7, 22},
		{1 + 0x1p-7, 1 + 0x1p-7, 0x1p-60, 1 + 0x1p-6 + 0x1p-14},
		{0x1p-30, 0x1p-30, 1 + 0x1p-23, 1 + 0x1p-23}, // far below half of the last place
		{0x1p-24, 1, 1, 1},                    // a tie, to even
		{0x1p-24, 1 + 0x1p-7, 1, 1 + 0x1p-23}, // just above it
		{-0x1p-25, 1, 1, 1},                   // a tie below 1, where places are half as large
	} {
		if got := fma(c.a, c.b, c.c); got != c.want {
			t.Errorf("%v * %v + %v = %v, want %v", c.a, c.b, c.c, got, c.want)
		}
	}
}

// TestDotProducts: products on AMX are those of its description, for columns, rows and transposed weights, whether they fill its
// registers or not.
func TestDotProducts(t *testing.T) {
	if !amx {
		t.Skip("no AMX")
	}
	r := rand.New(rand.NewPCG(31, 1))
	for _, c := range []struct{ out, in, panels int }{
		{32, 32, 2}, {16, 64, 1}, {8, 96, 3}, {3, 5, 1}, {24, 16, 4}, {33, 31, 1}, {48, 1030, 3}, {100, 546, widest + 3}, {1, 1, 1}, {72, 34, 2},
	} {
		name := fmt.Sprintf("%d x %d, %d panels", c.out, c.in, c.panels)
		weight, x, before := random(r, c.out, c.in).halved(), random(r, c.in, c.panels*Lanes).halved(), random(r, c.out, c.panels*Lanes)
		want := newMatrix(c.out, c.panels)
		for j := range c.panels * Lanes {
			column, outcome := x.transposed()[j:j+1].flat(), make([]float32, c.out)
			for o := range outcome {
				outcome[o] = modelDot(weight[o:o+1].flat(), column, float32(before[o][j]))
			}
			want.SetColumn(j, outcome)
		}
		w, turned := NewRoundedWeight(c.out, c.in, weight.flat()), NewRoundedWeight(c.in, c.out, weight.transposed().flat())
		got, gotTurned := before.packed(), before.packed()
		w.Multiply(&Scratch{}, rounding(x), got, true)
		turned.MultiplyTransposed(&Scratch{}, rounding(x), gotTurned, true)
		for i, v := range want.Data {
			if got.Data[i] != v || gotTurned.Data[i] != v {
				t.Fatalf("%s: element %d: got %v, and of the transpose %v, want %v", name, i, got.Data[i], gotTurned.Data[i], v)
			}
		}
		parts, partsTurned := before.packed(), before.packed() // as several cores would divide the tiles
		for first, n := 0, 1; first < w.Tiles(); first, n = first+n, n%5+1 {
			end := min(first+n, w.Tiles())
			w.multiply(&Scratch{}, rounding(x), parts, true, first, end)
			turned.multiplyTransposed(&Scratch{}, rounding(x), partsTurned, true, first, end)
		}
		if !slices.Equal(parts.Data, want.Data) || !slices.Equal(partsTurned.Data, want.Data) {
			t.Errorf("%s: in parts of one to five tiles the product is another", name)
		}
		rows, sums := x.laid(c.panels*Lanes), before.laid(c.panels*Lanes)
		operand := RoundedRows(rows, slices.Repeat([]uint16{toBits(float32(math.NaN()))}, len(rows.Data)))
		w.MultiplyRows(&Scratch{}, operand, sums, true, 0, w.Tiles())
		same(t, name+", rows", sums, want)
	}
}

// TestHalves: rows are rounded as single numbers are, in pairs, and the last of an odd number beside zeros.
func TestHalves(t *testing.T) {
	if !avx512 {
		t.Skip("no AVX-512")
	}
	r := rand.New(rand.NewPCG(31, 2))
	for rows := 1; rows <= 5; rows++ {
		from := wild(r, rows*Lanes)
		for i := range from {
			if i%7 == 0 { // a tie
				from[i] = math.Float32frombits(r.Uint32()&0x3fff0000 | 0x8000)
			}
		}
		got, want := make([]uint16, pairs(rows)*2*Lanes), make([]uint16, pairs(rows)*2*Lanes)
		for i, v := range from {
			want[i/(2*Lanes)*2*Lanes+i%Lanes*2+i/Lanes%2] = toBits(v)
		}
		toHalves(got, from)
		if !slices.Equal(got, want) {
			t.Errorf("%d rows: got %04x, want %04x", rows, got, want)
		}
		if rows > 1 {
			if err := guard.Do("", func() error { toHalves(got[:rows/2*2*Lanes-1], from); return nil }); err == nil {
				t.Errorf("%d rows: no panic where there is no room for them", rows)
			}
		}
	}
}

// TestIntel: the processor's maker is the one that the system names.
func TestIntel(t *testing.T) {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Skip(err)
	}
	if got, want := intel(), bytes.Contains(text, []byte("GenuineIntel")); got != want {
		t.Errorf("Intel's: %t, want %t", got, want)
	}
}
