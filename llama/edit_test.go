package llama

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotransplant/internal/panel"

	"github.com/gomlx/compute/dtypes"
)

func goldenModel() string {
	return filepath.Join("..", "transplant", "testdata", "golden-small", "model")
}

// TestEditWithOwnStates: keys and values from the host, equal to the prompt's own, change nothing; others change every later
// token; in a layer that gets none nothing changes.
func TestEditWithOwnStates(t *testing.T) {
	decodes(t, goldenModel(), func(t *testing.T, e *Engine) {
		prompt := []int32{1, 17, 40, 99, 300, 7, 8, 250, 33, 5, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70}
		positions := []int32{9, 3, -1, 16, 4}
		cfg := e.Weights.Config
		keys, values := ownStates(t, prompt, positions)
		base, _ := greedy(t, newDecoder(t, e, nil, prompt), 4)
		plain := newDecoder(t, e, nil, prompt).Logits(0)
		run := func(change func(layer int, keys, values []float32) bool) ([]float32, []int32) {
			d, err := e.NewDecoder(nil)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			var last KV
			closed := 0
			edit := &Edit{Positions: positions, Close: func() { free(last.K, last.V); closed++ }, States: func(layer int) (*KV, error) {
				free(last.K, last.V)
				k, v := slices.Clone(keys[layer]), slices.Clone(values[layer])
				if last = (KV{}); !change(layer, k, v) {
					return nil, nil
				}
				last = uploaded(t, e, k, v)
				return &last, nil
			}}
			if err := d.PrefillEdited([]Prompt{{prompt, edit}}); err != nil {
				t.Fatal(err)
			}
			if closed != 1 {
				t.Errorf("the edit was closed %d times, want once", closed)
			}
			first := slices.Clone(d.Logits(0))
			tokens, _ := greedy(t, d, 4)
			return first, tokens[0]
		}
		got, tokens := run(func(int, []float32, []float32) bool { return true })
		near(t, "logits with its own states", wideOf(got), wideOf(plain), 1e-4)
		if !slices.Equal(tokens, base[0]) {
			t.Errorf("with its own states: got %v, want %v", tokens, base[0])
		}
		if got, _ = run(func(int, []float32, []float32) bool { return false }); !slices.Equal(bitsOf(got), bitsOf(plain)) && e.Panels() {
			t.Error("an edit of no layer changed bits")
		}
		noise := rand.New(rand.NewPCG(5, 6))
		for _, edited := range []int{0, cfg.NumHiddenLayers - 1} {
			got, _ = run(func(layer int, keys, values []float32) bool {
				for i := range values {
					values[i] += float32(noise.NormFloat64())
				}
				return layer == edited
			})
			if slices.Equal(got, plain) {
				t.Errorf("other values in layer %d changed nothing", edited)
			}
		}
	})
}

// ownStates are the keys, before rotation, and values of a prompt at some positions, by layer. Padding gets what stands at
// position 0.
func ownStates(t *testing.T, prompt, positions []int32) (keys, values [][]float32) {
	t.Helper()
	e := openEngine(t, goldenModel(), Options{Compute: dtypes.Float32, Residual: dtypes.Float64})
	s, err := e.NewStream(trunk(prompt), StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	width := e.Weights.Config.NumKeyValueHeads * e.Weights.Config.HeadDim
	for layer := range e.Weights.Config.NumHiddenLayers {
		kv, err := s.Forward(layer, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		pick := func(all []float64) (some []float32) {
			for _, p := range positions {
				for _, v := range all[int(max(p, 0))*width : int(max(p, 0)+1)*width] {
					some = append(some, float32(v))
				}
			}
			return some
		}
		keys, values = append(keys, pick(flat64(t, kv.K))), append(values, pick(flat64(t, kv.V)))
	}
	return keys, values
}

// uploaded are keys, before rotation, and values of some positions as an edit takes them.
func uploaded(t *testing.T, e *Engine, keys, values []float32) KV {
	t.Helper()
	groups, dim := e.Weights.Config.NumKeyValueHeads, e.Weights.Config.HeadDim
	width := groups * dim
	count := len(keys) / width
	if e.panels != nil {
		columns := func(states []float32) panel.Matrix {
			m := newMatrix(width, panelsOf(count))
			for i := range count {
				for r, v := range states[i*width:][:width] {
					m.Panel(i / panel.Lanes)[r*panel.Lanes+i%panel.Lanes] = v
				}
			}
			return m
		}
		return KV{panels: &panelKV{columns(keys), columns(values)}}
	}
	k, err := e.Upload(keys, 1, count, groups, dim)
	if err != nil {
		t.Fatal(err)
	}
	v, err := e.Upload(values, 1, count, groups, dim)
	if err != nil {
		t.Fatal(err)
	}
	return KV{K: k, V: v}
}

// TestEditRefuses: positions that are none, or named twice.
func TestEditRefuses(t *testing.T) {
	decodes(t, goldenModel(), func(t *testing.T, e *Engine) {
		d, err := e.NewDecoder(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		for _, c := range []struct {
			positions []int32
			want      string
		}{{[]int32{0, 3}, "state 1 is for position 3 of a prompt of 3"}, {[]int32{1, 1}, "position 1 is named twice"}, {[]int32{-2}, "position -2"}} {
			closed := false
			edit := &Edit{Positions: c.positions, Close: func() { closed = true }}
			err := d.PrefillEdited([]Prompt{{[]int32{1, 2, 3}, edit}})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "row 0") || !closed {
				t.Errorf("positions %v: got error %v, closed %t; want %q and closed", c.positions, err, closed, c.want)
			}
		}
	})
}

// TestLive: finished rows are passed over.
func TestLive(t *testing.T) {
	decodes(t, goldenModel(), func(t *testing.T, e *Engine) {
		d := newDecoder(t, e, nil, []int32{1, 2}, []int32{3}, []int32{4, 5, 6})
		d.Finish(1)
		d.Finish(1)
		if !slices.Equal(d.Live(), []int{0, 2}) {
			t.Fatalf("got live rows %v, want 0 and 2", d.Live())
		}
		other := newDecoder(t, e, nil, []int32{1, 2}, []int32{3}, []int32{4, 5, 6})
		if err := d.StepLive([]int32{7, 8}); err != nil {
			t.Fatal(err)
		}
		if err := other.Step([]int32{7, 9, 8}); err != nil {
			t.Fatal(err)
		}
		for _, row := range []int{0, 2} {
			if !slices.Equal(d.Logits(row), other.Logits(row)) {
				t.Errorf("row %d: other logits than by Step", row)
			}
		}
		if err := d.StepLive([]int32{7}); err == nil || !strings.Contains(err.Error(), "1 tokens for 2 rows") {
			t.Errorf("got error %v, want one about the number of tokens", err)
		}
	})
}
