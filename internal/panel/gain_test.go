package panel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func TestGain(t *testing.T) {
	need(t)
	r := rand.New(rand.NewPCG(1, 2))
	const rows, panels = 11, 3
	x, by := random(r, rows, panels*Lanes), random(r, 1, rows).flat()
	m, vectors := x.packed(), NewRows(panels*Lanes, rows)
	for i := range panels * Lanes {
		m.Column(i, vectors.Row(i))
	}
	Gain(m, by)
	GainRows(vectors, by)
	column := make([]float32, rows)
	for i := range panels * Lanes {
		m.Column(i, column)
		for j, v := range column {
			if want := float32(x[j][i]) * by[j]; v != want || vectors.Row(i)[j] != want {
				t.Fatalf("row %d, column %d: got %v on panels and %v in rows, want %v", j, i, v, vectors.Row(i)[j], want)
			}
		}
	}
}

func TestAddProductsAndDifference(t *testing.T) {
	need(t)
	r := rand.New(rand.NewPCG(1, 2))
	a, b := random(r, 5, Lanes), random(r, 5, Lanes)
	sums, y := b.packed().Data, newMatrix(5, 1)
	AddProducts(a.packed().Data, b.packed().Data, sums)
	Difference(a.wide().Data, b.wide().Data, y.Data)
	for i := range a {
		for j := range a[i] {
			at := i*Lanes + j
			if want := a[i][j]*b[i][j] + b[i][j]; math.Abs(float64(sums[at])-want) > 1e-6 {
				t.Errorf("[%d][%d]: got the sum %v, want %v", i, j, sums[at], want)
			}
			if want := float32(a[i][j] - b[i][j]); y.Data[at] != want {
				t.Errorf("[%d][%d]: got the difference %v, want %v", i, j, y.Data[at], want)
			}
		}
	}
}

func TestRowSquares(t *testing.T) {
	need(t)
	r := rand.New(rand.NewPCG(1, 2))
	for _, size := range [][2]int{{8, 6}, {13, 7}, {40, 33}} {
		for _, half := range []bool{false, true} {
			t.Run(fmt.Sprintf("%dx%d, bfloat16 %t", size[0], size[1], half), func(t *testing.T) {
				a := random(r, size[0], size[1])
				w := NewWeight(size[0], size[1], a.flat())
				if half {
					a = a.halved()
					w = NewRoundedWeight(size[0], size[1], a.flat())
				}
				var s Scratch
				s.Share(NewCores(3))
				got := w.RowSquares(&s)
				if len(got) != size[0] {
					t.Fatalf("got %d sums, want %d", len(got), size[0])
				}
				for o, row := range a {
					want := 0.0
					for _, v := range row {
						want += v * v
					}
					if math.Abs(got[o]-want) > 1e-12*want {
						t.Errorf("row %d: got %v, want %v", o, got[o], want)
					}
				}
			})
		}
	}
}
