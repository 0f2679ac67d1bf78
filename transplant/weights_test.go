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
				g := openGolden(t, dir)
				m, plain := g.methodAs(t, dtypes.Float32, c.as), g.method(t, dtypes.Float32)
				got, err := m.Train(g.cases, 1)
				if err != nil {
					t.Fatal(err)
				}
				want, err := plain.Train(g.cases, 1)
				if err != nil {
					t.Fatal(err)
				}
				for i, o := range got.Outcomes {
					for label, p := range o.LogProb {
						within(t, fmt.Sprintf("row %d: log-probability of %d", i+1, label+1), p, want.Outcomes[i].LogProb[label], c.logProb)
					}
				}
				if c.as == llama.Int8 && got.Outcomes[0] == want.Outcomes[0] {
					t.Error("the outcome is the same: these are not other weights")
				}
				t.Log(m.Engine.Weights.Describe())
				all := func(s Sweep) (v []float32) {
					for _, grads := range append(s.Arguer, s.Chooser...) {
						v = append(v, grads...)
					}
					return v
				}
				if d := distance(all(got), all(want)); !(d <= c.gradients) {
					t.Errorf("gradients: relative distance %g, want at most %g", d, c.gradients)
				}
			})
		}
	}
}
