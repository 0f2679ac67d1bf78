package panel

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

const bitsFile = "testdata/bits"

var writeBits = flag.Bool("write-bits", false, "write "+bitsFile+" instead of comparing with it")

// TestBits: every kernel writes the bits that those in AVX-512 wrote when the file was made, on any processor.
func TestBits(t *testing.T) {
	need(t)
	got := map[string]string{}
	var names []string
	for _, s := range sets() {
		digest := sha256.New()
		for seed := range uint64(3) {
			result := s.run(rand.New(rand.NewPCG(21, seed)))
			for i, v := range result {
				if v != v { // one of many that are no number
					result[i] = float32(math.NaN())
				}
			}
			if err := binary.Write(digest, binary.LittleEndian, result); err != nil || len(result) == 0 {
				t.Fatalf("%s: %d elements: %v", s.name, len(result), err)
			}
		}
		got[s.name] = fmt.Sprintf("%x", digest.Sum(nil)[:8])
		names = append(names, s.name)
	}
	if *writeBits {
		var text strings.Builder
		for _, name := range names {
			fmt.Fprintf(&text, "%s %s\n", got[name], name)
		}
		if err := os.WriteFile(bitsFile, []byte(text.String()), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	file, err := os.Open(bitsFile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	seen := 0
	for lines := bufio.NewScanner(file); lines.Scan(); seen++ {
		if want, name, _ := strings.Cut(lines.Text(), " "); got[name] != want {
			t.Errorf("%s: digest %q, want %q", name, got[name], want)
		}
	}
	if seen != len(names) {
		t.Errorf("%s has %d digests, want %d", bitsFile, seen, len(names))
	}
}

// sets are all of them.
func sets() []set {
	return slices.Concat(gemmSets(), elementSets("normal", draw), elementSets("wild", wild), exponentialSets(), kernelSets(), rowSets(),
		codeSets(), attentionSets())
}

// draw are n normal numbers.
func draw(r *rand.Rand, n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(r.NormFloat64())
	}
	return s
}

// set is a kernel or a function made of some, run on what r draws: the bits of its result are the same in whatever
// instructions it is written.
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
			s[i] *= float32(math.Ldexp(1, int(40*r.NormFloat64())))
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
		if v != v { // one of many that are no number
			b = math.Float64bits(math.NaN())
		}
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

// gemmSets are products of a tile with one and two panels, for depths that do and do not fill the steps of either loop.
func gemmSets() (all []set) {
	for _, k := range []int{1, 2, 3, 4, 5, 7, 8, 127, 128, 129, 131, 300, 512} {
		for _, add := range []bool{false, true} {
			for panels := 1; panels <= 2; panels++ {
				all = append(all, set{fmt.Sprintf("gemm8x%d, k=%d, add=%t", panels, k, add), func(r *rand.Rand) []float32 {
					a, b, c := draw(r, k*tileRows), draw(r, 2*k*Lanes), draw(r, 2*tileRows*Lanes)
					if panels == 2 {
						gemm8x2(k, &a[0], &b[0], &b[k*Lanes], &c[0], &c[tileRows*Lanes], add, &a[0])
					} else {
						gemm8x1(k, &a[0], &b[0], &c[0], add)
					}
					return c
				}})
			}
		}
	}
	return all
}

// elementSets are the kernels that go element by element; values draws their factors.
func elementSets(kind string, values func(r *rand.Rand, n int) []float32) []set {
	const rows = 11
	const n = rows * Lanes
	return []set{
		{kind + " normalize", func(r *rand.Rand) []float32 {
			y, inverse := make([]float32, n), make([]float64, Lanes)
			normalize(widened(values(r, n)), values(r, rows), 1e-5, y, inverse)
			return append(y, narrowed(inverse)...)
		}},
		{kind + " normalizeGradient", func(r *rand.Rand) []float32 {
			dx := widened(values(r, n))
			normalizeGradient(values(r, n), values(r, rows), widened(values(r, n)), widened(values(r, Lanes)), dx)
			return narrowed(dx)
		}},
		{kind + " addWide", func(r *rand.Rand) []float32 {
			x := widened(values(r, n))
			addWide(x, values(r, n))
			return narrowed(x)
		}},
		{kind + " narrowTo", func(r *rand.Rand) []float32 {
			y := make([]float32, n)
			narrowTo(y, widened(values(r, n)))
			return y
		}},
		{kind + " rotate", func(r *rand.Rand) []float32 {
			x := values(r, 2*n)
			rotate(x[:n-Lanes], values(r, n), values(r, n), false)
			rotate(x[n:2*n-Lanes], values(r, n), values(r, n), true)
			return x
		}},
		{kind + " swiglu", func(r *rand.Rand) []float32 {
			h := make([]float32, n)
			swiglu(values(r, n), values(r, n), h)
			return h
		}},
		{kind + " swigluGradient", func(r *rand.Rand) []float32 {
			gate, up := values(r, n), values(r, n)
			swigluGradient(values(r, n), gate, up)
			return append(gate, up...)
		}},
		{kind + " scaleRows", func(r *rand.Rand) []float32 {
			x := values(r, n)
			scaleRows(x, values(r, Lanes))
			return x
		}},
		{kind + " addTo", func(r *rand.Rand) []float32 {
			x := values(r, n)
			addTo(x, values(r, n))
			return x
		}},
		{kind + " roundTo", func(r *rand.Rand) []float32 {
			to := make([]float32, n)
			roundTo(to, values(r, n))
			return to
		}},
		{kind + " scaleBy", func(r *rand.Rand) []float32 {
			x := values(r, n)
			scaleBy(x, 0.3)
			return x
		}},
		{kind + " exponentials", func(r *rand.Rand) []float32 {
			x := values(r, n)
			exponentials(x, 0.7, 0.3)
			return x
		}},
		{kind + " gain", func(r *rand.Rand) []float32 {
			x := values(r, n)
			gain(x, values(r, rows))
			return x
		}},
		{kind + " addProducts", func(r *rand.Rand) []float32 {
			sums := values(r, n)
			addProducts(values(r, n), values(r, n), sums)
			return sums
		}},
		{kind + " difference", func(r *rand.Rand) []float32 {
			y := make([]float32, n)
			difference(widened(values(r, n)), widened(values(r, n)), y)
			return y
		}},
	}
}

// exponentialSets is e to the x over the whole range of float32, some million numbers of it.
func exponentialSets() []set {
	return []set{{"the range of exponentials", func(r *rand.Rand) (all []float32) {
		const step, n = 4079, 1 << 20
		x := make([]float32, n)
		from := r.Uint32N(step)
		for i := range x {
			x[i] = math.Float32frombits(from + uint32(i)*step)
		}
		exponentials(x, 0, 1)
		return x
	}}, {"exponentials, one in a row far from 1", func(r *rand.Rand) []float32 {
		x := draw(r, 2*Lanes*Lanes)
		for i := range Lanes {
			x[i*Lanes+i], x[(Lanes+i)*Lanes+i] = 90, -90
		}
		exponentials(x, 0, 1)
		return x
	}}}
}

// kernelSets are the kernels on tiles and panels.
func kernelSets() []set {
	const rows, panels = 24, 5
	const n = rows * Lanes * panels
	kernels := []set{
		{"scores16", func(r *rand.Rand) []float32 {
			a, b, c := draw(r, n), draw(r, n), draw(r, Lanes*Lanes)
			scores16(rows, &a[0], &b[0], &c[0])
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
	kernels = append(kernels, set{"largest of zeros", func(r *rand.Rand) (all []float32) {
		for range 40 {
			x := draw(r, 2*Lanes)
			for i := range x {
				x[i] = float32(math.Copysign(0, float64(x[i])))
			}
			all = append(all, largest(x))
		}
		return all
	}})
	for _, many := range []struct {
		name  string
		count int
	}{{"", 3}, {" of 35 panels", 35}} {
		mixed := func(mix func(n int, offsets *int, a, b *float32, bStride int, c *float32, cStride int)) func(r *rand.Rand) []float32 {
			return func(r *rand.Rand) []float32 {
				c, offsets := draw(r, 16*20), make([]int, many.count)
				for i := range offsets {
					offsets[i] = i * (i + 1) / 2 % panels * rows * Lanes
				}
				mix(many.count, &offsets[0], &draw(r, n)[0], &draw(r, many.count*Lanes*24)[0], 24, &c[0], 20)
				return c
			}
		}
		kernels = append(kernels, set{"mix16" + many.name, mixed(mix16)}, set{"mix8" + many.name, mixed(mix8)})
	}
	return kernels
}

// rowSets are products of tiles in float32 and bfloat16 with 1, 4 and more rows, for even and odd depths.
func rowSets() (all []set) {
	for _, k := range []int{1, 2, 3, 8, 65} {
		for _, tiles := range []int{1, 4, 5} {
			for _, half := range []bool{false, true} {
				for _, add := range []bool{false, true} {
					all = append(all, set{fmt.Sprintf("rows, k=%d, %d tiles, bfloat16 %t, add=%t", k, tiles, half, add), func(r *rand.Rand) []float32 {
						w := NewWeight(tiles*tileRows, k, draw(r, tiles*tileRows*k))
						if half {
							w = NewRoundedWeight(tiles*tileRows, k, draw(r, tiles*tileRows*k))
						}
						x, y := NewRows(6, k), NewRows(6, tiles*tileRows)
						copy(x.Data, draw(r, len(x.Data)))
						copy(y.Data, draw(r, len(y.Data)))
						w.MultiplyRows(&Scratch{}, ExactRows(x), y, add, 0, tiles)
						return y.Data
					}})
				}
			}
		}
	}
	return all
}

// codeSets are products of tiles of codes with panels and with a single row.
func codeSets() (all []set) {
	kinds := codings()
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		for _, in := range []int{1, 7, 64, 130} {
			all = append(all, set{fmt.Sprintf("%s, k=%d", kind, in), func(r *rand.Rand) []float32 {
				w, _ := inCodes(r, 40, in, kinds[kind])
				columns := newMatrix(40, 3)
				w.Multiply(&Scratch{}, Exact(Matrix{in, 3, draw(r, in*3*Lanes)}), columns, false)
				x, y := NewRows(1, in), NewRows(1, 40)
				copy(x.Data, draw(r, len(x.Data)))
				w.MultiplyRows(&Scratch{}, ExactRows(x), y, false, 0, 5)
				return slices.Concat(columns.Data, y.Data)
			}})
		}
	}
	return all
}

// attentionSets are a head with hidden keys and its gradients, and the softmax of numbers without a head.
func attentionSets() (all []set) {
	for _, dim := range []int{8, 16, 24, 64} {
		all = append(all, set{fmt.Sprintf("attention, dim %d", dim), func(*rand.Rand) []float32 {
			a := newAttending(dim, false)
			return a.run(len(a.sights)).bits()
		}})
	}
	for _, wilder := range []bool{true, false} {
		kind, values := "normal", draw
		if wilder {
			kind, values = "wild", wild
		}
		all = append(all, set{"softmax of " + kind + " numbers", func(r *rand.Rand) []float32 {
			masks := newAttending(8, false).sights[0].Bits
			n := len(masks) * Lanes * Lanes
			scores, dp, maximum, inverse := values(r, n), values(r, n), make([]float32, Lanes), make([]float32, Lanes)
			again := slices.Clone(scores)
			softmax(scores, masks, 0.3, maximum, inverse)
			softmaxGradient(again, dp, masks, 0.3, maximum, inverse)
			return slices.Concat(scores, maximum, inverse, again, dp)
		}})
	}
	return all
}
