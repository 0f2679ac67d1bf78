package llama

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
)

// gainedChange is what changes one projection in the tests of gains: value / over (W + scale B A).
type gainedChange struct {
	Factors
	value, over []float32
}

// parts are what has a gradient, in the order of a backward pass.
func (c gainedChange) parts() map[string][]float32 {
	return map[string][]float32{"A": c.A, "B": c.B, "value": c.value}
}

// gainedChanges are random ones for all projections, by layer. One value is 0 where vanishing names the projection.
func gainedChanges(e *Engine, vanishing string) []map[string]gainedChange {
	r := rand.New(rand.NewPCG(5, 6))
	sizes := make(map[string][]int)
	for _, spec := range e.Weights.Config.Specs("F32") {
		sizes[spec.Name] = spec.Shape
	}
	all := make([]map[string]gainedChange, e.Weights.Config.NumHiddenLayers)
	for layer := range all {
		all[layer] = make(map[string]gainedChange)
		for i, proj := range Projections() {
			out, in, rank := sizes[partName(layer, proj)][0], sizes[partName(layer, proj)][1], 2+i%3
			draw := func(n int, mean, spread float64) []float32 {
				v := make([]float32, n)
				for i := range v {
					v[i] = float32(mean + spread*r.NormFloat64())
				}
				return v
			}
			c := gainedChange{Factors{draw(rank*in, 0, 0.2), draw(out*rank, 0, 0.2), rank, 0.5}, draw(out, 1, 0.3), draw(out, 1.2, 0.1)}
			if proj == vanishing {
				c.value[1] = 0
			}
			all[layer][proj] = c
		}
	}
	return all
}

// overlayOf puts changes where an engine needs them.
func overlayOf(t *testing.T, e *Engine, changes []map[string]gainedChange) Overlay {
	t.Helper()
	overlay := make(Overlay, len(changes))
	for layer, byProj := range changes {
		overlay[layer] = make(map[string]Extra)
		for proj, c := range byProj {
			if e.Panels() {
				l := e.NewLowRank(c.A, c.B, c.Rank, c.Scale)
				l.SetGain(c.value, c.over)
				overlay[layer][proj] = Extra{LowRank: l}
				continue
			}
			overlay[layer][proj] = c.extra(t, e)
		}
	}
	t.Cleanup(func() {
		for _, extras := range overlay {
			for _, x := range extras {
				free(slices.Concat(x.Values, x.Fixed)...)
			}
		}
	})
	return overlay
}

// extra is the change as graphs take it.
func (c gainedChange) extra(t *testing.T, e *Engine) Extra {
	t.Helper()
	kept := Recoverable(c.value, c.over)
	x := Extra{Signature: fmt.Sprint(c.Rank, kept)}
	for _, m := range []struct {
		values []float32
		dims   []int
	}{{c.A, []int{c.Rank, -1}}, {c.B, []int{-1, c.Rank}}, {c.value, []int{-1}}, {c.over, []int{-1}}} {
		for i, d := range m.dims {
			if d < 0 {
				m.dims[i] = len(m.values) / max(1, m.dims[len(m.dims)-1-i]*min(1, len(m.dims)-1))
			}
		}
		v, err := e.Upload(m.values, m.dims...)
		if err != nil {
			t.Fatal(err)
		}
		x.Values = append(x.Values, v)
	}
	x.Values, x.Fixed = x.Values[:3], x.Values[3:]
	sum := func(x, y *Node, values []*Node) *Node {
		contract := func(x, w *Node) *Node { // x wᵀ
			return Dot(x, ConvertDType(w, x.DType())).General([]int{1}, nil, []int{1}, nil)
		}
		return Add(y, ConvertDType(MulScalar(contract(contract(x, values[0]), values[1]), c.Scale), y.DType()))
	}
	row := func(x *Node, like *Node) *Node { return InsertAxes(ConvertDType(x, like.DType()), 0) }
	x.Apply = func(x, y *Node, v []*Node) *Node { return Mul(sum(x, y, v), row(Div(v[2], v[3]), y)) }
	if kept {
		x.Back = func(x, y, output *Node, v []*Node) *Node {
			still := StopGradient(v[2])
			z := Mul(sum(x, y, v), row(Div(still, v[3]), y))
			return Add(z, Mul(StopGradient(ConvertDType(output, y.DType())), row(Div(Sub(v[2], still), still), y)))
		}
	}
	return x
}

// gainedLoss runs a batch forward, and back if gradients are wanted: the loss, and by layer the gradients in the order of
// Projections, of each A, B and value.
func gainedLoss(t *testing.T, e *Engine, changes []map[string]gainedChange, o StreamOptions, back bool) (loss float64, grads [][][]float32) {
	t.Helper()
	return gainedRun(t, e, overlayOf(t, e, changes), o, back)
}

// gainedRun is gainedLoss with an overlay.
func gainedRun(t *testing.T, e *Engine, overlay Overlay, o StreamOptions, back bool) (loss float64, grads [][][]float32) {
	t.Helper()
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	seq, targets := batch(e.Weights.Config)
	o.Keep, o.Overlay = true, overlay
	s, err := e.NewStream(seq, o)
	fatal(err)
	defer s.Close()
	for layer := range overlay {
		_, err := s.Forward(layer, nil, false)
		fatal(err)
	}
	scores, err := s.Score(targets, back)
	fatal(err)
	for i, l := range scores.Loss {
		loss += l * float64(targets.Weight[i])
	}
	if !back {
		return loss, nil
	}
	grads = make([][][]float32, len(overlay))
	dx := scores.DX
	for layer := len(overlay) - 1; layer >= 0; layer-- {
		var g Gradients
		dx, g, err = s.Backward(layer, dx, KV{}, layer > 0)
		fatal(err)
		grads[layer], err = g.Host()
		fatal(err)
	}
	return loss, grads
}

// gainEngines runs a test on graphs and on panels, over a small random model.
func gainEngines(t *testing.T, run func(t *testing.T, e *Engine)) {
	c := smallConfig(true)
	c.HiddenSize, c.IntermediateSize, c.HeadDim = 24, 40, 8
	values := randomValues(c)
	for _, panels := range []bool{false, true} {
		t.Run(map[bool]string{false: "graphs", true: "panels"}[panels], func(t *testing.T) {
			w, err := NewWeights(goBackend(t), c, func(name string, _ []int) []float32 { return values[name] })
			if err != nil {
				t.Fatal(err)
			}
			o := Options{Compute: dtypes.Float32, Residual: dtypes.Float64, Panels: panels}
			if err := PanelsCan(w, o); panels && err != nil {
				t.Skip("panels: ", err)
			}
			e, err := NewEngine(w, o)
			if err != nil {
				t.Fatal(err)
			}
			run(t, e)
		})
	}
}

// TestGainGradientByFiniteDifferences: along a random direction of each A, B and value, on outputs that were kept, on
// outputs that had to be computed again because a value is 0, and in blocks run again. What stands under the gain stands
// still, as in the gradient.
func TestGainGradientByFiniteDifferences(t *testing.T) {
	cases := []struct{ name, vanishing string }{{"kept", ""}}
	for _, proj := range Projections() {
		cases = append(cases, struct{ name, vanishing string }{"a value of 0 in " + proj, proj})
	}
	for _, c := range cases {
		for _, remat := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, remat=%t", c.name, remat), func(t *testing.T) {
				gainEngines(t, func(t *testing.T, e *Engine) {
					changes := gainedChanges(e, c.vanishing)
					_, grads := gainedLoss(t, e, changes, StreamOptions{Remat: remat}, true)
					for i, proj := range Projections() {
						if c.vanishing != "" && proj != c.vanishing {
							continue
						}
						for j, part := range []string{"A", "B", "value"} {
							checkDirection(t, e, changes, 0, proj, part, grads[0][3*i+j])
						}
					}
				})
			})
		}
	}
}

// checkDirection compares a gradient with the difference that a step along a random direction makes.
func checkDirection(t *testing.T, e *Engine, changes []map[string]gainedChange, layer int, proj, part string, grad []float32) {
	t.Helper()
	values := changes[layer][proj].parts()[part]
	before := slices.Clone(values)
	defer copy(values, before)
	r := rand.New(rand.NewPCG(7, 8))
	direction, want := make([]float64, len(values)), 0.0
	for i := range direction {
		direction[i] = r.NormFloat64()
		want += direction[i] * float64(grad[i])
	}
	const step = 4e-3
	at := func(step float64) float64 {
		for i, v := range before {
			values[i] = float32(float64(v) + step*direction[i])
		}
		loss, _ := gainedLoss(t, e, changes, StreamOptions{}, false)
		return loss
	}
	got := (8*(at(step)-at(-step)) - (at(2*step) - at(-2*step))) / (12 * step) // exact up to the fifth derivative
	if !(math.Abs(got-want) <= 1e-3*math.Abs(want)+1e-3) {
		t.Errorf("%s of %s: the loss changes by %g a step, the gradient says %g", part, proj, got, want)
	}
}

// TestBackIsGivenWhatWasKept: a backward pass hands an extra the outputs that the forward pass has kept, and what o_proj
// added to the residual stream where that holds its last digit.
func TestBackIsGivenWhatWasKept(t *testing.T) {
	c := smallConfig(true)
	values := randomValues(c)
	all := []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"}
	for residual, want := range map[dtypes.DType][]string{dtypes.Float64: all, dtypes.Float32: slices.Concat(all[:3], all[4:])} {
		for _, remat := range []bool{false, true} {
			w, err := NewWeights(goBackend(t), c, func(name string, _ []int) []float32 { return values[name] })
			if err != nil {
				t.Fatal(err)
			}
			e, err := NewEngine(w, Options{Compute: dtypes.Float32, Residual: residual})
			if err != nil {
				t.Fatal(err)
			}
			changes := gainedChanges(e, "")
			overlay := overlayOf(t, e, changes)
			got := make(map[string]bool)
			for proj, x := range overlay[0] {
				back := x.Back
				x.Back = func(x, y, output *Node, values []*Node) *Node {
					got[proj] = true
					return back(x, y, output, values)
				}
				overlay[0][proj] = x
			}
			gainedRun(t, e, overlay, StreamOptions{Remat: remat}, true)
			for _, proj := range Projections() {
				if slices.Contains(want, proj) != got[proj] {
					t.Errorf("residual %s, remat %t: %s was given what was kept: %t", residual, remat, proj, got[proj])
				}
			}
		}
	}
}

// TestRowNorms: those of W + scale B A, on a row that the change nearly takes away too.
func TestRowNorms(t *testing.T) {
	gainEngines(t, func(t *testing.T, e *Engine) {
		values := randomValues(e.Weights.Config)
		for _, proj := range Projections() {
			c := gainedChanges(e, "")[1][proj]
			w := values[partName(1, proj)]
			in, out := len(c.A)/c.Rank, len(c.value)
			const gone = 3
			copy(c.A[:in], w[gone*in:(gone+1)*in])
			clear(c.B[gone*c.Rank : (gone+1)*c.Rank])
			c.B[gone*c.Rank] = float32(-0.9999 / c.Scale)
			for range 2 { // the second time from what is known of W
				got, err := e.RowNorms(1, proj, c.Factors)
				if err != nil || len(got) != out {
					t.Fatalf("%s: %d norms (%v), want %d", proj, len(got), err, out)
				}
				for o, n := range got {
					sum := 0.0
					for i := range in {
						v := float64(w[o*in+i])
						for k := range c.Rank {
							v += c.Scale * float64(c.B[o*c.Rank+k]) * float64(c.A[k*in+i])
						}
						sum += v * v
					}
					if want := math.Sqrt(sum); !(math.Abs(float64(n)-want) <= 1e-6*want) {
						t.Errorf("%s, row %d: got %v, want %v", proj, o, n, want)
					}
				}
			}
		}
	})
}

// TestDecodeWithGains: a step has them, as a stream over all tokens does; on panels with the same bits.
func TestDecodeWithGains(t *testing.T) {
	ids := []int32{1, 326, 281, 301, 308, 342, 369, 366, 362}
	dir := filepath.Join("..", "transplant", "testdata", "golden-small", "model")
	for compute, tolerance := range map[dtypes.DType]float64{dtypes.Float32: 1e-4, dtypes.BFloat16: 0.1} {
		t.Run(compute.String(), func(t *testing.T) {
			decodesIn(t, dir, compute, func(t *testing.T, e *Engine) {
				overlay := overlayOf(t, e, gainedChanges(e, ""))
				d := newDecoder(t, e, overlay, ids[:5])
				for _, id := range ids[5:] {
					if err := d.Step([]int32{id}); err != nil {
						t.Fatal(err)
					}
				}
				want, got := newDecoder(t, e, overlay, ids).Logits(0), d.Logits(0)
				if e.Panels() {
					sameSteps(t, "steps", [][]float32{got}, [][]float32{want})
				}
				near(t, "logits", wideOf(got), wideOf(want), tolerance)
			})
		})
	}
}
