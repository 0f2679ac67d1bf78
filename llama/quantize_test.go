package llama

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gotransplant/internal/panel"
	"gotransplant/model"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// TestNormalFloats: the sixteen values made from quantiles are those that the paper's appendix prints.
func TestNormalFloats(t *testing.T) {
	want := [16]float32{-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
		-0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634,
		0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1}
	if got := normalFloats(); got != want {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// formats are both, by name.
func formats() map[string]format { return map[string]format{"int8": int8Format, "nf4": nf4Format} }

// encodedRow encodes and decodes values.
func encodedRow(f format, values []float32) (r row, back []float32) {
	in := len(values)
	r = row{values, make([]byte, f.codes(in)), make([]float32, f.groups(in))}
	f.encode(r)
	back = make([]float32, in)
	f.decode(row{back, r.codes, r.scales})
	return r, back
}

// TestRoundTrip: every value comes back as the nearest that its scale allows, whatever the width of the row.
func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for name, f := range formats() {
		for _, in := range []int{1, 2, 63, 64, 65, 128, 200} {
			values := make([]float32, in)
			for i := range values {
				values[i] = float32(r.NormFloat64())
			}
			coded, back := encodedRow(f, values)
			for i, v := range values {
				best := math.Inf(1)
				if name == "int8" {
					for c := -127; c <= 127; c++ {
						best = min(best, math.Abs(float64(v)-float64(float32(c)*coded.scales[0])))
					}
				} else {
					for _, c := range nf4Values {
						best = min(best, math.Abs(float64(v)-float64(c*coded.scales[i/nf4Block])))
					}
				}
				if got := math.Abs(float64(v) - float64(back[i])); !(got <= best+1e-6) {
					t.Errorf("%s, %d of %d: %v came back as %v, %g away, and %g can be had", name, i, in, v, back[i], got, best)
				}
			}
		}
	}
}

// TestSmallAndEmptyRows: zeros stay zeros, the largest magnitude stays what it is, and numbers too small to be scaled
// become zero without a NaN.
func TestSmallAndEmptyRows(t *testing.T) {
	for name, f := range formats() {
		for _, c := range []struct{ values, want []float32 }{
			{[]float32{0, 0, 0}, []float32{0, 0, 0}},
			{[]float32{-3, 0, 1.5}, []float32{-3, 0, 1.5}},
			{[]float32{math.SmallestNonzeroFloat32, 0}, nil},
			{[]float32{1e38, -1e38}, []float32{1e38, -1e38}},
		} {
			_, back := encodedRow(f, c.values)
			for i, v := range back {
				if v-v != 0 {
					t.Errorf("%s: %v came back as %v", name, c.values, back)
				}
				if c.want != nil && math.Abs(float64(v)-float64(c.want[i])) > 0.13*math.Abs(float64(c.want[i])) {
					t.Errorf("%s: %v came back as %v, want %v", name, c.values, back, c.want)
				}
			}
		}
	}
}

// sampleRow are values as weights have them, with all that is special among them: zeros, the smallest and largest numbers, and
// the middles between the values of codes.
func sampleRow(r *rand.Rand, n int) []float32 {
	special := []float32{0, float32(math.Copysign(0, -1)), 1, -1, 1.5, math.SmallestNonzeroFloat32, 1e-30, -1e-38}
	for i := range 15 {
		special = append(special, (nf4Values[i]+nf4Values[i+1])/2, -(nf4Values[i]+nf4Values[i+1])/2)
	}
	values := make([]float32, n)
	for i := range values {
		if values[i] = float32(r.NormFloat64()); r.IntN(3) == 0 {
			values[i] = special[r.IntN(len(special))]
		}
	}
	return values
}

// TestVectors: rows are encoded, decoded and compared in AVX2 with the bits that one value after the other gives, whatever
// their width.
func TestVectors(t *testing.T) {
	if !vectors {
		t.Skip("no AVX2, or built without GOEXPERIMENT=simd")
	}
	defer func() { vectors = true }()
	r := rand.New(rand.NewPCG(5, 6))
	for name, f := range formats() {
		for _, in := range []int{1, 8, 31, 32, 63, 64, 65, 127, 200, 512, 1376} {
			for _, scale := range []float32{1, 1e-30, 1e30} {
				values := sampleRow(r, in)
				for i := range values {
					values[i] *= scale
				}
				type outcome struct {
					row
					back    []float32
					lost    loss
					largest float32
				}
				got, want := outcome{}, outcome{}
				for o, with := range map[*outcome]bool{&got: true, &want: false} {
					vectors = with
					o.row, o.back = encodedRow(f, values)
					o.lost.add(values, o.back)
					o.largest = largestMagnitude(values)
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s, %d values times %g: got\n%v\nwant\n%v", name, in, scale, got, want)
				}
			}
		}
	}
}

// TestVectorsNotFinite: what is no number, and infinity, is found wherever it stands in a row.
func TestVectorsNotFinite(t *testing.T) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		for at := range 75 {
			values := make([]float32, 75)
			values[at] = bad
			if m := largestMagnitude(values); m-m == 0 {
				t.Errorf("%v at %d of 75: the largest magnitude is %v", bad, at, m)
			}
		}
	}
}

// TestWidenBF16: every bfloat16 becomes the float32 that safetensors.Decode makes of it, for numbers of values that are not
// whole vectors too.
func TestWidenBF16(t *testing.T) {
	raw := make([]byte, 2<<16)
	for i := range 1 << 16 {
		binary.LittleEndian.PutUint16(raw[2*i:], uint16(i))
	}
	for _, n := range []int{1 << 16, 1, 7, 9, 4095} {
		got, want := make([]float32, n), make([]float32, n)
		if err := (content{dtype: safetensors.BF16}).decode(got, raw[:2*n]); err != nil {
			t.Fatal(err)
		}
		if err := safetensors.Decode(want, safetensors.BF16, raw[:2*n]); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				t.Fatalf("%#04x of %d: got %v, want %v", i, n, got[i], want[i])
			}
		}
	}
}

// wideConfig has projections over one block and a half, and over several.
func wideConfig() model.Config {
	c := smallConfig(false)
	c.HiddenSize, c.IntermediateSize, c.HeadDim = 96, 130, 16
	return c
}

// quantizedPair are an engine over quantised weights and one over the float32 values that these stand for.
func quantizedPair(t *testing.T, c model.Config, as Storage, compute dtypes.DType) (quantized, plain *Engine) {
	t.Helper()
	return quantizedEngines(t, c, as, Options{Compute: compute, Residual: dtypes.Float64})
}

// quantizedEngines is quantizedPair with options; it skips where panels cannot.
func quantizedEngines(t *testing.T, c model.Config, as Storage, o Options) (quantized, plain *Engine) {
	t.Helper()
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	values := randomValues(c)
	for _, s := range c.Specs("F32") {
		if isProjection(s.Name) { // rounding must not grow from product to product
			for i := range values[s.Name] {
				values[s.Name][i] *= float32(1 / (0.4 * math.Sqrt(float64(s.Shape[1]))))
			}
		}
	}
	w, err := DeferMade(goBackend(t), c, safetensors.F32, as, func(_ int, s safetensors.Spec) ([]byte, error) {
		made, err := safetensors.FromFloat32s(s.Name, s.DType, s.Shape, values[s.Name])
		return made.Data, err
	})
	fatal(err)
	if err := PanelsCan(w, o); o.Panels && err != nil {
		t.Skip("panels: ", err)
	}
	quantized, err = NewEngine(w, o)
	fatal(err)
	f := formats()[as.String()]
	w, err = NewWeights(goBackend(t), c, func(name string, shape []int) []float32 {
		v := values[name]
		if !isProjection(name) {
			return v
		}
		var back []float32
		for i := range shape[0] {
			_, one := encodedRow(f, v[i*shape[1]:][:shape[1]])
			back = append(back, one...)
		}
		return back
	})
	fatal(err)
	plain, err = NewEngine(w, o)
	fatal(err)
	return quantized, plain
}

// sums adds to every projection a row of its own, so that it has something to train.
func sums(t *testing.T, e *Engine) Overlay {
	t.Helper()
	var overlay Overlay
	r := rand.New(rand.NewPCG(5, 6))
	for layer := range e.Weights.Config.NumHiddenLayers {
		extras := make(map[string]Extra)
		for _, proj := range Projections() {
			out := e.Weights.tensors[partName(layer, proj)].Shape().Dim(0)
			v := make([]float32, out)
			for i := range v {
				v[i] = float32(r.NormFloat64() * 0.1)
			}
			extra, err := FromFloat32(e.backend, v, 1, out)
			if err != nil {
				t.Fatal(err)
			}
			extras[proj] = Extra{Signature: "sum", Values: []*tensors.Tensor{extra}, Apply: func(x, y *Node, values []*Node) *Node {
				s := ReduceAndKeep(x, ReduceSum, -1) // [N, 1]
				return Add(y, ConvertDType(Mul(ConvertDType(s, dtypes.Float32), values[0]), y.DType()))
			}}
		}
		overlay = append(overlay, extras)
	}
	return overlay
}

// sweep runs a stream forward and backward and returns, by name, everything that comes out of it.
func sweep(t *testing.T, e *Engine, remat bool) map[string][]float64 {
	t.Helper()
	out := make(map[string][]float64)
	read := func(name string, x *tensors.Tensor) {
		t.Helper()
		wide := ConvertDType
		exec := MustNewExec(goBackend(t), func(x *Node) *Node { return wide(x, dtypes.Float64) })
		local, err := x.LocalClone()
		if err != nil {
			t.Fatal(err)
		}
		out[name] = tensors.MustCopyFlatData[float64](exec.MustCall(local)[0])
	}
	seq, targets := batch(e.Weights.Config)
	s, err := e.NewStream(seq, StreamOptions{Keep: true, Remat: remat, Overlay: sums(t, e)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	layers := e.Weights.Config.NumHiddenLayers
	for layer := range layers {
		kv, err := s.Forward(layer, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		read(fmt.Sprintf("keys of layer %d", layer), kv.K)
		read(fmt.Sprintf("values of layer %d", layer), kv.V)
	}
	read("residual stream", s.x)
	scores, err := s.Score(targets, true)
	if err != nil {
		t.Fatal(err)
	}
	out["losses"] = scores.Loss
	dx := scores.DX
	for layer := layers - 1; layer >= 0; layer-- {
		var g Gradients
		if dx, g, err = s.Backward(layer, dx, KV{}, true); err != nil {
			t.Fatal(err)
		}
		if len(g.Params) != len(Projections()) {
			t.Fatalf("layer %d: %d gradients, want %d, none of them a base weight's", layer, len(g.Params), len(Projections()))
		}
		for i, proj := range []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"} {
			read(fmt.Sprintf("gradient of what was added to %s of layer %d", proj, layer), g.Params[i])
		}
		read(fmt.Sprintf("gradient of the stream before layer %d", layer), dx)
	}
	return out
}

// TestQuantizedBlock: a block over codes is the block over the numbers they stand for: what it gives, what it exports,
// its gradients, with grouped heads and rows that are no multiple of a block. In bfloat16 it is about as far from
// the float32 block as that over plain numbers is.
func TestQuantizedBlock(t *testing.T) {
	for _, as := range []Storage{Int8, NF4} {
		for size, c := range map[string]model.Config{"small": smallConfig(false), "wide": wideConfig()} {
			t.Run(fmt.Sprintf("%s %s", as, size), func(t *testing.T) {
				quantized, plain := quantizedPair(t, c, as, dtypes.Float32)
				narrow, plainNarrow := quantizedPair(t, c, as, dtypes.BFloat16)
				got, want := sweep(t, quantized, false), sweep(t, plain, false)
				again := sweep(t, quantized, true)
				gotNarrow, wantNarrow := sweep(t, narrow, false), sweep(t, plainNarrow, false)
				for name, w := range want {
					if d := distance64(got[name], w); !(d <= 1e-5) {
						t.Errorf("%s: relative distance %g, want at most 1e-5", name, d)
					}
					if d := distance64(again[name], got[name]); d != 0 {
						t.Errorf("%s: relative distance %g when blocks are run again, want 0", name, d)
					}
					limit := 2*distance64(wantNarrow[name], w) + 0.002
					if d := distance64(gotNarrow[name], w); !(d <= limit) {
						t.Errorf("%s in bfloat16: relative distance %g, want at most %g", name, d, limit)
					}
				}
			})
		}
	}
}

// TestQuantizedPanels: panels over codes give the bits of panels over the numbers that the codes stand for: losses and
// gradients with additions and gains, blocks run again, decoded tokens, one row and several, and the norms of changed rows.
func TestQuantizedPanels(t *testing.T) {
	small := smallConfig(true)
	small.HiddenSize, small.IntermediateSize, small.HeadDim = 25, 41, 8
	for _, as := range []Storage{Int8, NF4} {
		for size, c := range map[string]model.Config{"small": small, "wide": wideConfig()} {
			for _, kind := range []dtypes.DType{dtypes.Float32, dtypes.BFloat16} {
				t.Run(fmt.Sprintf("%s %s %s", as, size, kind), func(t *testing.T) {
					o := Options{Compute: kind, Residual: dtypes.Float64, Panels: true}
					quantized, plain := quantizedEngines(t, c, as, o)
					changes := gainedChanges(plain, "o_proj")
					for _, remat := range []bool{false, true} {
						loss, grads := gainedLoss(t, quantized, changes, StreamOptions{Remat: remat}, true)
						wantLoss, want := gainedLoss(t, plain, changes, StreamOptions{Remat: remat}, true)
						if loss != wantLoss {
							t.Errorf("loss %v, want %v", loss, wantLoss)
						}
						for layer, byPart := range want {
							for i, g := range byPart {
								if !slices.Equal(bitsOf(grads[layer][i]), bitsOf(g)) {
									t.Errorf("layer %d, gradient %d: got %v, want %v", layer, i, grads[layer][i], g)
								}
							}
						}
					}
					for _, prompts := range [][][]int32{{{1, 2, 3}}, {{1, 2}, {3}, {4, 5, 6}, {7}, {8, 9}}} {
						_, got := greedy(t, newDecoder(t, quantized, overlayOf(t, quantized, changes), prompts...), 4)
						_, want := greedy(t, newDecoder(t, plain, overlayOf(t, plain, changes), prompts...), 4)
						for row := range want {
							sameSteps(t, fmt.Sprintf("row %d of %d", row, len(want)), got[row], want[row])
						}
					}
					sameRowNorms(t, quantized, plain, changes)
				})
			}
		}
	}
}

// sameRowNorms compares the norms of changed rows, of which one is nearly taken away.
func sameRowNorms(t *testing.T, a, b *Engine, changes []map[string]gainedChange) {
	t.Helper()
	for _, proj := range Projections() {
		c := changes[1][proj]
		copy(c.A[:len(c.A)/c.Rank], rowOf(b.panels.layers[1].projections[proj], 3))
		clear(c.B[3*c.Rank : 4*c.Rank])
		c.B[3*c.Rank] = float32(-0.9999 / c.Scale)
		got, err := a.RowNorms(1, proj, c.Factors)
		if err != nil {
			t.Fatal(err)
		}
		want, err := b.RowNorms(1, proj, c.Factors)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(bitsOf(got), bitsOf(want)) {
			t.Errorf("%s: norms of rows %v, want %v", proj, got, want)
		}
	}
}

// rowOf is row o of w.
func rowOf(w *panel.Weight, o int) []float32 {
	row := make([]float32, w.In)
	w.Row(o, row)
	return row
}

// TestQuantizedPanelsKeepNoMore: codes and scales are all that panels keep of a projection.
func TestQuantizedPanelsKeepNoMore(t *testing.T) {
	c := wideConfig()
	for as, want := range map[Storage]int64{Int8: 130*96 + 4*136, NF4: 130*96/2 + 4*136*2} {
		quantized, _ := quantizedEngines(t, c, as, Options{Compute: dtypes.Float32, Residual: dtypes.Float64, Panels: true})
		up := quantized.panels.layers[0].projections["up_proj"] // [130, 96], the last of 17 tiles filled up
		if got := up.Bytes(); got < want || got > want+6*96 {
			t.Errorf("%s: %d bytes, want %d and the tile's end", as, got, want)
		}
	}
}

// TestLookups: both forms of the lookup, of which the Go backend takes one, give the values of every byte.
func TestLookups(t *testing.T) {
	for name, lookup := range map[string]func(*Node) *Node{"pairs": lookupPairs, "joined": lookupJoined} {
		exec := MustNewExec(goBackend(t), func(g *Graph) *Node {
			return lookup(ConvertDType(IotaFull(g, shapes.Make(dtypes.Int32, 256, 1)), dtypes.Uint8))
		})
		got := tensors.MustCopyFlatData[float32](exec.MustCall()[0])
		if !slices.Equal(got, nf4Pairs()) {
			t.Errorf("%s: got %v", name, got)
		}
	}
	if got, want := nf4Pairs()[2*0x3e:2*0x3e+2], []float32{nf4Values[0xe], nf4Values[3]}; !slices.Equal(got, want) {
		t.Errorf("byte 3e: got %v, want %v", got, want)
	}
}

// distance64 is |got - want| / |want|.
func distance64(got, want []float64) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var difference, size float64
	for i, w := range want {
		difference += (got[i] - w) * (got[i] - w)
		size += w * w
	}
	return math.Sqrt(difference / size)
}

// TestQuantizedWeightsStay: no gradient and no optimizer reaches weights that are kept as codes.
func TestQuantizedWeightsStay(t *testing.T) {
	c := smallConfig(false)
	for _, as := range []Storage{Int8, NF4} {
		quantized, _ := quantizedPair(t, c, as, dtypes.Float32)
		w := quantized.Weights
		_, err := NewEngine(w, Options{Compute: dtypes.Float32, Residual: dtypes.Float64, TrainBase: true})
		if err == nil || !strings.Contains(err.Error(), as.String()) {
			t.Errorf("%s: got error %v from an engine that trains the base, want one that names the storage", as, err)
		}
		name := partName(0, "q_proj")
		err = w.Set(name, make([]float32, w.tensors[name].Shape().Size()))
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got error %v from Set, want one that names %s", as, err, name)
		}
	}
}
