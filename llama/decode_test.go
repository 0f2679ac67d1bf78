package llama

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gomlx/compute/dtypes"
)

// decodes runs a test with an engine that computes with graphs and, where it can, one that computes on panels.
func decodes(t *testing.T, dir string, run func(t *testing.T, e *Engine)) {
	t.Helper()
	for _, k := range []struct {
		name   string
		panels bool
	}{{"graphs", false}, {"panels", true}} {
		t.Run(k.name, func(t *testing.T) {
			o := Options{Compute: dtypes.Float32, Residual: dtypes.Float64}
			e := openEngine(t, dir, o)
			o.Panels = k.panels
			if err := PanelsCan(e.Weights, o); k.panels && err != nil {
				t.Skip("panels: ", err)
			}
			if k.panels {
				e = openEngine(t, dir, o)
			}
			run(t, e)
		})
	}
}

// newDecoder is a decoder with these prompts.
func newDecoder(t testing.TB, e *Engine, overlay Overlay, prompts ...[]int32) *Decoder {
	t.Helper()
	d, err := e.NewDecoder(overlay)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	if err := d.Prefill(prompts); err != nil {
		t.Fatal(err)
	}
	return d
}

// greedy continues a decoder's rows by n tokens each, as long as more allows, and returns them with each step's logits.
func greedy(t testing.TB, d *Decoder, n int) (tokens [][]int32, logits [][][]float32) {
	t.Helper()
	tokens, logits = make([][]int32, len(d.rows)), make([][][]float32, len(d.rows))
	for i := range n {
		next := make([]int32, len(d.rows))
		for row := range d.rows {
			next[row] = Greedy(d.Logits(row))
			tokens[row] = append(tokens[row], next[row])
			logits[row] = append(logits[row], slices.Clone(d.Logits(row)))
		}
		if i == n-1 {
			break
		}
		if err := d.Step(next); err != nil {
			t.Fatal(err)
		}
	}
	return tokens, logits
}

// storiesIDs are the 256 ids that the C program wrote after BOS, which is the first of them.
func storiesIDs(t *testing.T) (dir string, ids []int32) {
	t.Helper()
	dir = filepath.Join(sharedDir(t), "models", "stories260K")
	for _, id := range cGolden(t, filepath.Join(dir, "golden_f32.txt"))["greedy -1 256"] {
		ids = append(ids, int32(id))
	}
	if len(ids) != 256 {
		t.Fatalf("got %d reference ids, want 256", len(ids))
	}
	return dir, ids
}

// TestDecodeStories: the greedy continuation of BOS is the C program's.
func TestDecodeStories(t *testing.T) {
	dir, ids := storiesIDs(t)
	decodes(t, dir, func(t *testing.T, e *Engine) {
		tokens, _ := greedy(t, newDecoder(t, e, nil, ids[:1]), len(ids)-1)
		if got := append([]int32{1}, tokens[0]...); !slices.Equal(got, ids) {
			t.Errorf("got %v, want %v", got, ids)
		}
	})
}

func bitsOf(x []float32) []uint32 {
	all := make([]uint32, len(x))
	for i, v := range x {
		all[i] = math.Float32bits(v)
	}
	return all
}

// TestDecodeEqualsRecomputing: after every step the logits are those of a stream over all tokens so far.
func TestDecodeEqualsRecomputing(t *testing.T) {
	dir, ids := storiesIDs(t)
	decodes(t, dir, func(t *testing.T, e *Engine) {
		const from, to = 3, 80 // past the ends of panels and blocks
		_, logits := greedy(t, newDecoder(t, e, nil, ids[:from]), to-from)
		for i, got := range logits[0] {
			s, err := e.NewStream(trunk(ids[:from+i]), StreamOptions{Last: []int32{int32(from + i - 1)}})
			if err != nil {
				t.Fatal(err)
			}
			for layer := range e.Weights.Config.NumHiddenLayers {
				if _, err := s.Forward(layer, nil, false); err != nil {
					t.Fatal(err)
				}
			}
			want, err := s.Logits()
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			if e.Panels() {
				if !slices.Equal(bitsOf(got), bitsOf(want)) {
					t.Fatalf("%d tokens: other bits than those of all tokens computed anew", from+i)
				}
				continue
			}
			largest := max(slices.Max(want), -slices.Min(want))
			for j := range want {
				if d := math.Abs(float64(got[j] - want[j])); !(d <= 1e-5*float64(largest)) {
					t.Fatalf("%d tokens, logit %d: got %v, want %v", from+i, j, got[j], want[j])
				}
			}
		}
	})
}
