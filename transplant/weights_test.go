package transplant

import (
	"fmt"
	"path/filepath"
	"testing"

	"gotransplant/llama"

	"github.com/gomlx/compute/dtypes"
)

// TestGoldenWithOtherWeights: how far the references' log-probabilities and adapter gradients move, relatively, when
// the weights are kept in less room. The models are random, and so lose more than trained ones would.
func TestGoldenWithOtherWeights(t *testing.T) {
	for _, dir := range goldenDirs() {
		for _, c := range []struct {
			as                 llama.Storage
			logProb, gradients float64
		}{{llama.Float32, 1e-5, 1e-5}, {llama.Int8, 0.03, 0.25}, {llama.NF4, 0.4, 1.2}} {
			t.Run(filepath.Base(dir)+" "+c.as.String(), func(t *testing.T) {
				onBoth(t, dir, func(t *testing.T, g golden) {
					m, plain := g.methodAs(t, dtypes.Float32, c.as), g.method(t, dtypes.Float32)
					got, want := trained(t, g, m), trained(t, g, plain)
					for i, o := range got.Outcomes {
						for label, p := range o.LogProb {
							within(t, fmt.Sprintf("row %d: log-probability of %d", i+1, label+1), p, want.Outcomes[i].LogProb[label], c.logProb)
						}
					}
					if c.as == llama.Int8 && got.Outcomes[0] == want.Outcomes[0] {
						t.Error("the outcome is the same: these are not other weights")
					}
					t.Log(m.Engine.Weights.Describe())
					if d := distance(got.all(), want.all()); !(d <= c.gradients) {
						t.Errorf("gradients: relative distance %g, want at most %g", d, c.gradients)
					}
				})
			})
		}
	}
}

// TestQuantizedOnPanels: over int8 and nf4 panels give the references' cases the outcomes and gradients that graphs give
// them to rounding, and computing in bfloat16 takes panels no further from float32 than it takes graphs.
func TestQuantizedOnPanels(t *testing.T) {
	for _, dir := range goldenDirs() {
		for _, as := range []llama.Storage{llama.Int8, llama.NF4} {
			t.Run(fmt.Sprint(filepath.Base(dir), " ", as), func(t *testing.T) {
				graphs := openGolden(t, dir)
				panels := graphs
				panels.panels = true
				got := trained(t, panels, panels.methodAs(t, dtypes.Float32, as))
				want := trained(t, graphs, graphs.methodAs(t, dtypes.Float32, as))
				for i, o := range got.Outcomes {
					within(t, fmt.Sprintf("loss of row %d", i+1), o.Loss, want.Outcomes[i].Loss, 1e-5)
				}
				if d := distance(got.all(), want.all()); !(d <= 5e-5) {
					t.Errorf("gradients: relative distance %g, want at most 5e-5", d)
				}
				narrow := trained(t, panels, panels.methodAs(t, dtypes.BFloat16, as))
				limit := distance(trained(t, graphs, graphs.methodAs(t, dtypes.BFloat16, as)).all(), want.all())
				if d := distance(narrow.all(), want.all()); !(d <= limit) {
					t.Errorf("gradients in bfloat16: relative distance %g, want at most the graphs' %g", d, limit)
				}
			})
		}
	}
}

// trained is a step's sweep over all cases.
func trained(t *testing.T, g golden, m *Method) Sweep {
	t.Helper()
	return train(t, m, g.cases)
}

// all are the gradients of both roles.
func (s Sweep) all() (v []float32) {
	for _, grads := range append(s.Arguer, s.Chooser...) {
		v = append(v, grads...)
	}
	return v
}
