package lora

import (
	"math"
	"math/rand/v2"
	"testing"
)

// near fails when got is not want within a relative tolerance.
func near(t *testing.T, name string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*math.Abs(want)) {
		t.Errorf("%s: got %v, want %v within %g, relatively", name, got, want, tolerance)
	}
}

// TestSpectrumAgainstDense: norms of the whole matrix, by other ways than singular values: Σσ² is the sum of its squares,
// Σσ⁴ that of its Gram matrix's, and power iteration finds σ1.
func TestSpectrumAgainstDense(t *testing.T) {
	for _, rank := range []int{1, 2, 3, 7, 15} { // 15 is more than any side
		a := filled(t, rank, uint64(rank))
		for _, m := range a.Modules() {
			w, s := dense(a, m.Layer, m.Proj), a.Spectrum(m.Layer, m.Proj)
			gram := make([]float64, m.In*m.In) // wᵀw
			var squares float64
			for o := range m.Out {
				row := w[o*m.In : (o+1)*m.In]
				squares += dot(row, row)
				for i, v := range row {
					for j, u := range row {
						gram[i*m.In+j] += v * u
					}
				}
			}
			near(t, m.Name()+" Frobenius norm", s.Frobenius(), math.Sqrt(squares), 1e-12)
			var fourth float64
			for _, v := range s {
				fourth += v * v * v * v
			}
			near(t, m.Name()+" sum of fourth powers", fourth, dot(gram, gram), 1e-12)
			x := make([]float64, m.In)
			for i := range x {
				x[i] = 1 + float64(i)/3
			}
			for range 3000 {
				y := make([]float64, m.In)
				for i := range y {
					y[i] = dot(gram[i*m.In:(i+1)*m.In], x)
				}
				n := length(y)
				for i := range y {
					x[i] = y[i] / n
				}
			}
			y := make([]float64, m.In)
			for i := range y {
				y[i] = dot(gram[i*m.In:(i+1)*m.In], x)
			}
			near(t, m.Name()+" spectral norm", s.Spectral(), math.Sqrt(length(y)), 1e-9)
			if want := min(rank, m.In, m.Out); len(s) < want {
				t.Errorf("%s: got %d singular values, want at least %d", m.Name(), len(s), want)
			}
		}
	}
}

// TestSingularOfKnown: a product of rotations and a diagonal has the diagonal's values, tiny ones included.
func TestSingularOfKnown(t *testing.T) {
	want := []float64{1000, 3, 3, 1e-6, 0}
	rng := rand.New(rand.NewPCG(1, 1))
	a := make([][]float64, len(want))
	for j := range a {
		a[j] = make([]float64, 9)
		a[j][j] = want[j]
	}
	for range 20 {
		v := make([]float64, 9)
		for i := range v {
			v[i] = rng.NormFloat64()
		}
		for _, column := range a {
			mirror(column, v)
		}
		i, j := rng.IntN(5), rng.IntN(4)
		if j >= i {
			j++
		}
		sin, cos := math.Sincos(rng.Float64())
		for k := range a[i] {
			a[i][k], a[j][k] = cos*a[i][k]-sin*a[j][k], sin*a[i][k]+cos*a[j][k]
		}
	}
	got := singular(a)
	for i, v := range want {
		if !(math.Abs(got[i]-v) <= 1e-12*1000) {
			t.Errorf("singular value %d: got %v, want %v", i, got[i], v)
		}
	}
}

func TestEffectiveRank(t *testing.T) {
	cases := []struct {
		name string
		s    Spectrum
		want float64
	}{
		{"nothing", Spectrum{0, 0}, 0},
		{"none", nil, 0},
		{"one", Spectrum{5, 0, 0}, 1},
		{"three alike", Spectrum{2, 2, 2}, 3},
		{"energies 3 to 1", Spectrum{math.Sqrt(3), 1}, math.Exp(-0.75*math.Log(0.75) - 0.25*math.Log(0.25))},
		{"sizes do not count", Spectrum{3e200, 3e200}, 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := c.s.EffectiveRank(); !(math.Abs(got-c.want) <= 1e-12) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	if got := (Spectrum{}).Spectral(); got != 0 {
		t.Errorf("no singular values: got spectral norm %v, want 0", got)
	}
	if got := filled(t, 2, 1).Spectrum(3, "q_proj"); got != nil {
		t.Errorf("where no adapter stands: got %v, want nothing", got)
	}
}

// TestCompare: against the whole matrices, for adapters of different ranks, and for one and itself.
func TestCompare(t *testing.T) {
	first, second := filled(t, 2, 1), filled(t, 5, 2)
	for _, m := range first.Modules() {
		one, two := dense(first, m.Layer, m.Proj), dense(second, m.Layer, m.Proj)
		c, ok := Compare(first, second, m.Layer, m.Proj)
		if !ok {
			t.Fatalf("%s: not compared", m.Name())
		}
		difference := make([]float64, len(one))
		for i := range one {
			difference[i] = one[i] - two[i]
		}
		near(t, m.Name()+" first", c.First, length(one), 1e-12)
		near(t, m.Name()+" second", c.Second, length(two), 1e-12)
		near(t, m.Name()+" distance", c.Distance, length(difference), 1e-12)
		cosine, _ := c.Cosine()
		if want := dot(one, two) / length(one) / length(two); !(math.Abs(cosine-want) <= 1e-12) {
			t.Errorf("%s: got cosine %v, want %v", m.Name(), cosine, want)
		}
		relative, _ := c.Relative()
		near(t, m.Name()+" relative distance", relative, length(difference)/length(one), 1e-12)
		same, _ := Compare(first, first, m.Layer, m.Proj)
		if cosine, ok := same.Cosine(); !ok || !(cosine > 1-1e-14) || !(same.Distance <= 1e-14*same.First) {
			t.Errorf("%s with itself: got cosine %v, distance %v, want 1 and 0", m.Name(), cosine, same.Distance)
		}
	}
	if _, ok := Compare(first, second, 1, "q_proj"); ok {
		t.Error("compared where neither stands")
	}
	idle := mustNew(t, Options{Rank: 2, Alpha: 1, Targets: Targets{Names: []string{"q_proj"}}}, smallConfig(), 1)
	c, ok := Compare(idle, second, 0, "q_proj")
	if _, angle := c.Cosine(); !ok || angle || c.First != 0 {
		t.Errorf("with an adapter that changes nothing: got %+v, %t and an angle %t", c, ok, angle)
	}
	if _, ok := c.Relative(); ok {
		t.Error("a distance relative to nothing")
	}
}

// TestComparable lists every projection that disagrees.
func TestComparable(t *testing.T) {
	c := smallConfig()
	c.HiddenSize = 10
	other := mustNew(t, Options{Rank: 1, Alpha: 1, Targets: Targets{Names: []string{"q_proj", "down_proj"}}}, c, 1)
	wantError(t, Comparable(filled(t, 1, 1), other), "layers.0.self_attn.q_proj: [12, 8]", "[12, 10]",
		"layers.0.mlp.down_proj: [8, 12]", "[10, 12]")
	if err := Comparable(filled(t, 1, 1), filled(t, 2, 2)); err != nil {
		t.Errorf("the same base: got %v", err)
	}
}
