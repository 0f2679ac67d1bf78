package transplant

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"gotransplant/llama"

	"github.com/gomlx/compute/dtypes"
)

// decode begins rows for cases and returns the decoder.
func decode(t *testing.T, m *Method, cases ...Case) *llama.Decoder {
	t.Helper()
	d, err := m.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	var prompts []llama.Prompt
	for _, c := range cases {
		p, err := m.Prompt(c)
		if err != nil {
			t.Fatal(err)
		}
		prompts = append(prompts, p)
	}
	if err := d.PrefillEdited(prompts); err != nil {
		t.Fatal(err)
	}
	return d
}

// logProb is the log-probability of a token.
func logProb(logits []float32, id int32) float64 {
	maximum, sum := slices.Max(logits), 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v) - float64(maximum))
	}
	return float64(logits[id]) - float64(maximum) - math.Log(sum)
}

// layerSets are ways to choose layers of a model of three.
func layerSets(layers int) map[string][]bool {
	some := make([]bool, layers)
	some[0], some[layers-1] = true, true
	first := make([]bool, layers)
	first[0] = true
	return map[string][]bool{"all layers": nil, "first and last": some, "first": first}
}

// TestDecodedFirstTokenIsTheScore: what a decoder says of the first token behind an edited prompt is what scoring says, and
// the reference.
func TestDecodedFirstTokenIsTheScore(t *testing.T) {
	for _, dir := range goldenDirs() {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			onBoth(t, dir, func(t *testing.T, g golden) {
				m := g.method(t, dtypes.Float32)
				for name, layers := range layerSets(m.layers()) {
					m.Layers = layers
					d := decode(t, m, g.cases...)
					for i, c := range g.cases {
						want := evaluate(t, m, c)[0]
						for j, label := range m.Labels {
							within(t, name+", first token", logProb(d.Logits(i), label), want.LogProb[j], 1e-5)
						}
						if layers == nil {
							within(t, "logprob_1", logProb(d.Logits(i), m.Labels[0]), g.run.Rows[i].LogProb1, 1e-4)
							within(t, "logprob_2", logProb(d.Logits(i), m.Labels[1]), g.run.Rows[i].LogProb2, 1e-4)
						}
					}
				}
			})
		})
	}
}

// TestDecodedTransplantEqualsRecomputing: every later token reads the moved states: its logits are those of the method on a
// chooser's prompt with all tokens so far.
func TestDecodedTransplantEqualsRecomputing(t *testing.T) {
	onBoth(t, smallDir(), func(t *testing.T, g golden) {
		m := g.method(t, dtypes.Float32)
		for name, layers := range layerSets(m.layers()) {
			m.Layers = layers
			cases := slices.Clone(g.cases[:3])
			d := decode(t, m, cases...)
			bare := *m
			bare.NoTransplant = true
			for step := range 5 {
				var next []int32
				for i := range cases {
					want := evaluate(t, m, cases[i])[0]
					id := llama.Greedy(d.Logits(i))
					for j, label := range m.Labels {
						within(t, name+", later token", logProb(d.Logits(i), label), want.LogProb[j], 1e-5)
					}
					if own := evaluate(t, &bare, cases[i])[0]; math.Abs(own.LogProb[0]-want.LogProb[0]) < 1e-4 {
						t.Errorf("%s, token %d: without transplant the same: the test would show nothing", name, step)
					}
					cases[i].Choose = append(slices.Clone(cases[i].Choose), id)
					next = append(next, id)
				}
				if err := d.Step(next); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// TestEditedRowsDoNotMeet: an edited row has the bits it has alone beside others, edited or not.
func TestEditedRowsDoNotMeet(t *testing.T) {
	onBoth(t, smallDir(), func(t *testing.T, g golden) {
		m := g.method(t, dtypes.Float32)
		together := decode(t, m, g.cases[2], g.cases[0], g.cases[1])
		if err := together.Prefill([][]int32{g.cases[3].Choose}); err != nil {
			t.Fatal(err)
		}
		alone := decode(t, m, g.cases[0])
		for range 4 {
			if !slices.Equal(together.Logits(1), alone.Logits(0)) {
				t.Fatal("other bits in a batch than alone")
			}
			next := make([]int32, 4)
			for i := range next {
				next[i] = llama.Greedy(together.Logits(i))
			}
			if err := together.Step(next); err != nil {
				t.Fatal(err)
			}
			if err := alone.Step(next[1:2]); err != nil {
				t.Fatal(err)
			}
		}
	})
}
