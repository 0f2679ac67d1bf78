package transplant

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"gotransplant/llama"

	"github.com/gomlx/compute/dtypes"
)

// captured are states of a case's chooser by site and layer, of the positions given, one after the other.
func captured(t *testing.T, m *Method, c Case, positions []int32, sites ...llama.Site) map[llama.Site]map[int][]float64 {
	t.Helper()
	all := make(map[llama.Site]map[int][]float64)
	take := func(s llama.State) error {
		values := slices.Clone(s.Wide)
		for _, v := range s.Narrow {
			values = append(values, float64(v))
		}
		if all[s.Site] == nil {
			all[s.Site] = make(map[int][]float64)
		}
		all[s.Site][s.Layer] = append(all[s.Site][s.Layer], values...)
		return nil
	}
	if err := m.Capture(c, &llama.Capture{Sites: sites, Source: positions, Take: take}); err != nil {
		t.Fatal(err)
	}
	return all
}

// every are all positions of a prompt.
func every(c Case) (positions []int32) {
	for p := range c.Choose {
		positions = append(positions, int32(p))
	}
	return positions
}

// TestCapturedChooserIsScored: what is read behind the last layer at the last position is what the case is scored by, for
// all ways to choose layers, on both kernels.
func TestCapturedChooserIsScored(t *testing.T) {
	for _, dir := range goldenDirs() {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			onBoth(t, dir, func(t *testing.T, g golden) {
				m := g.method(t, dtypes.Float32)
				for name, layers := range layerSets(m.layers()) {
					m.Layers = layers
					c := g.cases[0]
					want, err := m.Evaluate([]Case{c})
					if err != nil {
						t.Fatal(err)
					}
					last := []int32{int32(len(c.Choose) - 1)}
					logits := captured(t, m, c, last, llama.SiteLogits)[llama.SiteLogits][llama.NoLayer]
					narrow := make([]float32, len(logits))
					for i, v := range logits {
						narrow[i] = float32(v)
					}
					for i, id := range m.Labels {
						if got := logProb(narrow, id); math.Abs(got-want[0].LogProb[i]) > 1e-5 {
							t.Errorf("%s: log-probability of label %d: got %v, scored %v", name, i+1, got, want[0].LogProb[i])
						}
					}
				}
			})
		})
	}
}

// TestCapturedChooserSeesMovedStates: up to the first moved position, and in layer 0 everywhere, the chooser is as it is
// without a transplant; behind it, from the first transplanted layer on, it is not. At the moved positions its own states
// go on as they are: in a model transplanted in layer 0 alone, nobody reads them there.
func TestCapturedChooserSeesMovedStates(t *testing.T) {
	onBoth(t, goldenDirs()[0], func(t *testing.T, g golden) {
		m := g.method(t, dtypes.Float32)
		c := g.cases[0]
		with := captured(t, m, c, every(c), llama.SiteResidPre, llama.SiteK, llama.SiteResidPost)
		m.NoTransplant = true
		without := captured(t, m, c, every(c), llama.SiteResidPre, llama.SiteK, llama.SiteResidPost)
		width := len(with[llama.SiteResidPre][0]) / len(c.Choose)
		for _, site := range []llama.Site{llama.SiteResidPre, llama.SiteK} {
			if !slices.Equal(with[site][0], without[site][0]) {
				t.Errorf("%s of layer 0 differs from that without a transplant", site)
			}
		}
		first := min(moved(c.Spans[0]).Start, moved(c.Spans[1]).Start)
		for p := range c.Choose {
			a, b := with[llama.SiteResidPost][0][p*width:(p+1)*width], without[llama.SiteResidPost][0][p*width:(p+1)*width]
			near := 0.0
			for i := range a {
				near = max(near, math.Abs(a[i]-b[i]))
			}
			if (p < first) != (near < 1e-5) {
				t.Errorf("position %d, the first moved being %d: %g from the stream without a transplant after layer 0", p, first, near)
			}
		}
	})
}

// TestCapturedPartIsTheWhole: states of some positions and layers are those of all.
func TestCapturedPartIsTheWhole(t *testing.T) {
	onBoth(t, goldenDirs()[0], func(t *testing.T, g golden) {
		m := g.method(t, dtypes.Float32)
		c := g.cases[1]
		all := captured(t, m, c, every(c), llama.SiteZ)[llama.SiteZ]
		some := captured(t, m, c, []int32{3, int32(len(c.Choose) - 2)}, llama.SiteZ)[llama.SiteZ]
		for layer, z := range all {
			width := len(z) / len(c.Choose)
			want := append(slices.Clone(z[3*width:4*width]), z[(len(c.Choose)-2)*width:(len(c.Choose)-1)*width]...)
			if !slices.Equal(some[layer], want) {
				t.Errorf("layer %d: states of two positions are not those of all", layer)
			}
		}
	})
}
