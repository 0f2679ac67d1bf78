package transplant

import (
	"math"
	"testing"

	"github.com/gomlx/compute/dtypes"
)

// TestRematGivesTheSameBits: gradients computed from blocks that are run again are those of blocks that kept everything,
// bit for bit, and so are the outcomes.
func TestRematGivesTheSameBits(t *testing.T) {
	cases := []struct {
		name   string
		dtype  dtypes.DType
		rows   int
		change func(m *Method)
	}{
		{"all layers", dtypes.Float32, 1, func(*Method) {}},
		{"all layers, bfloat16", dtypes.BFloat16, 1, func(*Method) {}},
		{"micro-batch", dtypes.Float32, 3, func(*Method) {}},
		{"micro-batch, bfloat16", dtypes.BFloat16, 3, func(*Method) {}},
		{"first layer", dtypes.Float32, 2, func(m *Method) { m.Layers = make([]bool, m.layers()); m.Layers[0] = true }},
		{"last layer", dtypes.Float32, 2, func(m *Method) { m.Layers = make([]bool, m.layers()); m.Layers[m.layers()-1] = true }},
		{"shared adapter", dtypes.Float32, 2, func(m *Method) { m.Arguer = m.Chooser }},
		{"no transplant", dtypes.Float32, 2, func(m *Method) { m.NoTransplant = true }},
		{"arguer not trained", dtypes.Float32, 2, func(m *Method) { m.StopGradient = true }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			onBoth(t, smallDir(), func(t *testing.T, g golden) {
				m := g.method(t, c.dtype)
				c.change(m)
				want, err := m.Train(g.cases[:c.rows], 0.5)
				if err != nil {
					t.Fatal(err)
				}
				m.Remat = true
				got, err := m.Train(g.cases[:c.rows], 0.5)
				if err != nil {
					t.Fatal(err)
				}
				for i := range want.Outcomes {
					if got.Outcomes[i] != want.Outcomes[i] {
						t.Errorf("row %d: got %+v, want %+v", i+1, got.Outcomes[i], want.Outcomes[i])
					}
				}
				sameBits(t, "arguer", m.Arguer, got.Arguer, want.Arguer)
				sameBits(t, "chooser", m.Chooser, got.Chooser, want.Chooser)
			})
		})
	}
}

// sameBits compares gradients, and refuses to compare nothing but zeros.
func sameBits(t *testing.T, name string, r *Role, got, want Grads) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d gradients, want %d", name, len(got), len(want))
	}
	nonzero := false
	for i := range want {
		if len(got[i]) != len(want[i]) {
			t.Fatalf("%s: %d values of %s, want %d", name, len(got[i]), r.Adapter.Params()[i].Name(), len(want[i]))
		}
		for j, v := range want[i] {
			nonzero = nonzero || v != 0
			if math.Float32bits(got[i][j]) != math.Float32bits(v) {
				t.Fatalf("%s: gradient of %s[%d]: got %v, want %v", name, r.Adapter.Params()[i].Name(), j, got[i][j], v)
			}
		}
	}
	if len(want) > 0 && !nonzero {
		t.Errorf("%s: all gradients are zero", name)
	}
}
