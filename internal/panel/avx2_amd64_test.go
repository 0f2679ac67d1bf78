//go:build goexperiment.simd

package panel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

// TestMain runs every test with the kernels that this processor is given and, if these are in AVX-512, with those in AVX2.
func TestMain(m *testing.M) {
	code := m.Run()
	if avx512 {
		fmt.Println("the same with the kernels in AVX2:")
		avx512 = false
		code = max(code, m.Run())
	}
	os.Exit(code)
}

// bothSets calls run with the kernels in AVX-512 and with those in AVX2 and fails unless it returns the same bits.
func bothSets(t *testing.T, name string, run func() []float32) {
	t.Helper()
	was := avx512
	defer func() { avx512 = was }()
	avx512 = true
	want := run()
	avx512 = false
	got := run()
	if len(got) != len(want) || len(got) == 0 {
		t.Fatalf("%s: %d elements, want %d", name, len(got), len(want))
	}
	for i, v := range want {
		if math.Float32bits(got[i]) != math.Float32bits(v) {
			t.Fatalf("%s: element %d: in AVX2 %v (%08x), in AVX-512 %v (%08x)", name, i, got[i], math.Float32bits(got[i]), v,
				math.Float32bits(v))
		}
	}
}

// needBoth skips unless both sets of kernels can run, and where they have run already.
func needBoth(t *testing.T) {
	t.Helper()
	if !avx512 {
		t.Skip("this compares AVX-512 with AVX2")
	}
}

// draw are n normal numbers.
func draw(r *rand.Rand, n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(r.NormFloat64())
	}
	return s
}

// TestGEMMSets: products of a tile with one and two panels, for depths that do and do not fill the steps of either loop.
func TestGEMMSets(t *testing.T) {
	needBoth(t)
	for _, k := range []int{1, 2, 3, 4, 5, 7, 8, 127, 128, 129, 131, 300, 512} {
		for _, add := range []bool{false, true} {
			r := rand.New(rand.NewPCG(12, uint64(k)))
			a, b, sums := draw(r, k*tileRows), draw(r, 2*k*Lanes), draw(r, 2*tileRows*Lanes)
			run := func(panels int) func() []float32 {
				return func() []float32 {
					c := append([]float32(nil), sums...)
					if panels == 2 {
						gemm8x2(k, &a[0], &b[0], &b[k*Lanes], &c[0], &c[tileRows*Lanes], add, &a[0])
					} else {
						gemm8x1(k, &a[0], &b[0], &c[0], add)
					}
					return c
				}
			}
			bothSets(t, fmt.Sprintf("two panels, k=%d, add=%t", k, add), run(2))
			bothSets(t, fmt.Sprintf("one panel, k=%d, add=%t", k, add), run(1))
		}
	}
}
