//go:build goexperiment.simd

package panel

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"simd/archsimd"
	"slices"
	"testing"
)

// TestMain runs every test with the kernels that this processor is given and, if these are in AVX-512, with those in AVX2.
func TestMain(m *testing.M) {
	if m.Run() == 0 && avx512 {
		fmt.Println("the same with the kernels in AVX2:")
		avx512 = false
		m.Run()
	}
}

// TestWithoutAVX512 runs the tests on an emulated processor that has AVX2 and FMA and refuses everything of AVX-512.
func TestWithoutAVX512(t *testing.T) {
	const marker = "PANEL_TEST_EMULATED"
	emulator, err := exec.LookPath("qemu-x86_64")
	if err != nil || testing.Short() || !avx512 || os.Getenv(marker) != "" {
		t.Skip("needs qemu-x86_64, and a processor with AVX-512 that is not itself the test; not in -short")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(emulator, "-cpu", "Haswell", self, "-test.v")
	child.Env = append(os.Environ(), marker+"=1")
	out, err := child.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestMultiply")) {
		t.Errorf("%v:\n%s", err, out)
	}
}

// TestHalfNeedsAVX512: products in bfloat16 have kernels in AVX-512 alone, whatever else the processor has.
func TestHalfNeedsAVX512(t *testing.T) {
	if got := HalfAvailable(); got && !avx512 {
		t.Errorf("products in bfloat16 available with kernels in %s: %t, want false", Instructions(), got)
	}
}

// bothSets calls run with the kernels in AVX-512 and with those in AVX2 and fails unless it returns the same bits, or
// no number, of which there are many, in the same places.
func bothSets(t *testing.T, name string, run func() []float32) {
	t.Helper()
	if !archsimd.X86.AVX512() { // nothing to compare with, but it has to run
		run()
		return
	}
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
		if math.Float32bits(got[i]) != math.Float32bits(v) && (v == v || got[i] == got[i]) {
			t.Fatalf("%s: element %d: in AVX2 %v (%08x), in AVX-512 %v (%08x)", name, i, got[i], math.Float32bits(got[i]), v,
				math.Float32bits(v))
		}
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
	need(t)
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

// set is a kernel or a function made of some, run on what r draws.
type set struct {
	name string
	run  func(r *rand.Rand) []float32
}

// wild draws n numbers of all sizes, with zeros of both signs, infinities, the smallest and no number among them.
func wild(r *rand.Rand, n int) []float32 {
	s := draw(r, n)
	special := []float64{0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.NaN(), math.SmallestNonzeroFloat32, 1e-39, -1e38, 87, -87, -100}
	for i := range s {
		switch k := r.IntN(60); {
		case k < len(special):
			s[i] = float32(special[k])
		case k < 30:
			s[i] *= float32(math.Exp(30 * r.NormFloat64()))
		}
	}
	return s
}

func widened(s []float32) []float64 {
	w := make([]float64, len(s))
	for i, v := range s {
		w[i] = float64(v) * 1.00000001
	}
	return w
}

// narrowed are the upper and lower halves of the bits of s.
func narrowed(s []float64) []float32 {
	var bits []float32
	for _, v := range s {
		b := math.Float64bits(v)
		bits = append(bits, math.Float32frombits(uint32(b>>32)), math.Float32frombits(uint32(b)))
	}
	return bits
}

func asFloats(s []uint16) []float32 {
	f := make([]float32, len(s))
	for i, v := range s {
		f[i] = float32(v)
	}
	return f
}

// elementSets are the kernels that go element by element; values draws their factors.
func elementSets(values func(r *rand.Rand, n int) []float32) []set {
	const rows = 11
	const n = rows * Lanes
	return []set{
		{"normalize", func(r *rand.Rand) []float32 {
			y, inverse := make([]float32, n), make([]float64, Lanes)
			normalize(widened(values(r, n)), values(r, rows), 1e-5, y, inverse)
			return append(y, narrowed(inverse)...)
		}},
		{"normalizeGradient", func(r *rand.Rand) []float32 {
			dx := widened(values(r, n))
			normalizeGradient(values(r, n), values(r, rows), widened(values(r, n)), widened(values(r, Lanes)), dx)
			return narrowed(dx)
		}},
		{"addWide", func(r *rand.Rand) []float32 {
			x := widened(values(r, n))
			addWide(x, values(r, n))
			return narrowed(x)
		}},
		{"narrowTo", func(r *rand.Rand) []float32 {
			y := make([]float32, n)
			narrowTo(y, widened(values(r, n)))
			return y
		}},
		{"rotate", func(r *rand.Rand) []float32 {
			x := values(r, 2*n)
			rotate(x[:n-Lanes], values(r, n), values(r, n), false)
			rotate(x[n:2*n-Lanes], values(r, n), values(r, n), true)
			return x
		}},
		{"swiglu", func(r *rand.Rand) []float32 {
			h := make([]float32, n)
			swiglu(values(r, n), values(r, n), h)
			return h
		}},
		{"swigluGradient", func(r *rand.Rand) []float32 {
			gate, up := values(r, n), values(r, n)
			swigluGradient(values(r, n), gate, up)
			return append(gate, up...)
		}},
		{"scaleRows", func(r *rand.Rand) []float32 {
			x := values(r, n)
			scaleRows(x, values(r, Lanes))
			return x
		}},
		{"addTo", func(r *rand.Rand) []float32 {
			x := values(r, n)
			addTo(x, values(r, n))
			return x
		}},
		{"scaleBy", func(r *rand.Rand) []float32 {
			x := values(r, n)
			scaleBy(x, 0.3)
			return x
		}},
		{"exponentials", func(r *rand.Rand) []float32 {
			x := values(r, n)
			exponentials(x, 0.7, 0.3)
			return x
		}},
		{"gain", func(r *rand.Rand) []float32 {
			x := values(r, n)
			gain(x, values(r, rows))
			return x
		}},
		{"addProducts", func(r *rand.Rand) []float32 {
			sums := values(r, n)
			addProducts(values(r, n), values(r, n), sums)
			return sums
		}},
		{"difference", func(r *rand.Rand) []float32 {
			y := make([]float32, n)
			difference(widened(values(r, n)), widened(values(r, n)), y)
			return y
		}},
	}
}

// TestElementSets: on ordinary numbers and on the others.
func TestElementSets(t *testing.T) {
	need(t)
	for name, values := range map[string]func(r *rand.Rand, n int) []float32{"normal": draw, "wild": wild} {
		for _, s := range elementSets(values) {
			for seed := range uint64(20) {
				bothSets(t, fmt.Sprintf("%s of %s numbers, seed %d", s.name, name, seed), func() []float32 {
					return s.run(rand.New(rand.NewPCG(13, seed)))
				})
			}
		}
	}
}

// TestExponentialSets: over the whole range of float32, some million numbers of it.
func TestExponentialSets(t *testing.T) {
	need(t)
	const step, n = 2039, 1 << 16
	for from := uint64(0); from < 1<<32; from += step * n {
		bothSets(t, fmt.Sprintf("from bits %08x", from), func() []float32 {
			x := make([]float32, n)
			for i := range x {
				x[i] = math.Float32frombits(uint32(from + uint64(i)*step))
			}
			exponentials(x, 0, 1)
			return x
		})
	}
}

// kernelSets are the kernels on tiles and panels.
func kernelSets() []set {
	const rows, panels = 24, 5
	const n = rows * Lanes * panels
	kernels := []set{
		{"scores16", func(r *rand.Rand) []float32 {
			c := make([]float32, Lanes*Lanes)
			scores16(rows, &draw(r, n)[0], &draw(r, n)[0], &c[0])
			return c
		}},
		{"dot4x4", func(r *rand.Rand) []float32 {
			c := draw(r, 4*9)
			dot4x4(panels, &draw(r, n)[0], rows*Lanes, &draw(r, n)[0], 6*Lanes, &c[0], 9)
			return c
		}},
		{"turn16", func(r *rand.Rand) []float32 {
			to := draw(r, 16*40)
			turn16(&draw(r, 16*24)[0], 24, &to[0], 40, &turnLanes)
			return to
		}},
		{"turnBlocks", func(r *rand.Rand) []float32 {
			to := draw(r, 4*64)
			turnBlocks(draw(r, 4*100), 100, 3, to)
			return to
		}},
		{"turnHalfBlocks", func(r *rand.Rand) []float32 {
			tiles, to := make([]uint16, 4*100), make([]uint16, 4*64)
			for i := range tiles {
				tiles[i] = uint16(r.Uint32())
			}
			turnHalfBlocks(tiles, 100, 3, to)
			return asFloats(to)
		}},
		{"fromHalves", func(r *rand.Rand) []float32 {
			from, to := make([]uint16, 5*16), make([]float32, 5*16)
			for i := range from {
				from[i] = uint16(r.Uint32())
			}
			fromHalves(to, from)
			return to
		}},
		{"largest", func(r *rand.Rand) []float32 {
			return []float32{largest(draw(r, n)), largest(draw(r, Lanes)), largest(wild(r, n))}
		}},
	}
	for _, add := range []bool{false, true} {
		mixed := func(mix func(n int, offsets *int, a, b *float32, bStride int, c *float32, cStride int, add bool)) func(r *rand.Rand) []float32 {
			return func(r *rand.Rand) []float32 {
				c, offsets := draw(r, 16*20), [3]int{0, rows * Lanes, 3 * rows * Lanes}
				mix(3, &offsets[0], &draw(r, n)[0], &draw(r, 48*24)[0], 24, &c[0], 20, add)
				return c
			}
		}
		kernels = append(kernels, set{fmt.Sprintf("mix16, add=%t", add), mixed(mix16)}, set{fmt.Sprintf("mix8, add=%t", add), mixed(mix8)})
	}
	return kernels
}

func TestKernelSets(t *testing.T) {
	need(t)
	for _, s := range kernelSets() {
		bothSets(t, s.name, func() []float32 { return s.run(rand.New(rand.NewPCG(14, 1))) })
	}
}

// TestRowSets: products of tiles in float32 and bfloat16 with 1 and 4 rows, for even and odd depths.
func TestRowSets(t *testing.T) {
	need(t)
	for _, k := range []int{1, 2, 3, 8, 65} {
		for _, tiles := range []int{1, 4, 5} {
			for _, half := range []bool{false, true} {
				for _, add := range []bool{false, true} {
					name := fmt.Sprintf("k=%d, %d tiles, bfloat16 %t, add=%t", k, tiles, half, add)
					bothSets(t, name, func() []float32 {
						r := rand.New(rand.NewPCG(15, uint64(k)))
						w := NewWeight(tiles*tileRows, k, draw(r, tiles*tileRows*k))
						if half {
							w = NewRoundedWeight(tiles*tileRows, k, draw(r, tiles*tileRows*k))
						}
						x, y := NewRows(6, k), NewRows(6, tiles*tileRows)
						copy(x.Data, draw(r, len(x.Data)))
						copy(y.Data, draw(r, len(y.Data)))
						w.MultiplyRows(&Scratch{}, ExactRows(x), y, add, 0, tiles)
						return y.Data
					})
				}
			}
		}
	}
}

// TestAttentionSets: a head with hidden keys and its gradients, and the softmax of no numbers.
func TestAttentionSets(t *testing.T) {
	need(t)
	for _, dim := range []int{8, 16, 24, 64} {
		bothSets(t, fmt.Sprintf("dim %d", dim), func() []float32 {
			a := newAttending(dim, false)
			z, dq, dk, dv := a.run()
			return slices.Concat(z.Data, dq.Data, dk, dv, a.Maximum, a.Inverse)
		})
	}
	masks := newAttending(8, false).Sight.Bits
	for seed := range uint64(20) {
		bothSets(t, fmt.Sprintf("softmax of wild numbers, seed %d", seed), func() []float32 {
			r := rand.New(rand.NewPCG(16, seed))
			n := len(masks) * Lanes * Lanes
			scores, dp, maximum, inverse := wild(r, n), wild(r, n), make([]float32, Lanes), make([]float32, Lanes)
			again := slices.Clone(scores)
			softmax(scores, masks, 0.3, maximum, inverse)
			softmaxGradient(again, dp, masks, 0.3, maximum, inverse)
			return slices.Concat(scores, maximum, inverse, again, dp)
		})
	}
}
