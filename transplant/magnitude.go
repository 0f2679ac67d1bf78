package transplant

import (
	"fmt"
	"math"
	"strings"

	"gotransplant/llama"
	"gotransplant/lora"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// newDoRA reads what a DoRA extra hands to its graphs: A, B and M, and the norms, which stand still.
func newDoRA(values []*graph.Node, scale float64) lora.DoRA {
	return lora.DoRA{A: values[0], B: values[1], M: values[2], Norm: values[3], Scale: scale}
}

// rowNorms are those of W + scale B A [out] at one projection, as the adapter is now.
func (r *Role) rowNorms(layer int, proj string) ([]float32, error) {
	a, b, _ := r.Adapter.Pair(layer, proj)
	norms, err := r.engine.RowNorms(layer, proj, llama.Factors{A: a.Value, B: b.Value, Rank: a.Shape[0], Scale: r.Adapter.Scale(layer, proj)})
	if err != nil {
		return nil, err
	}
	for o, n := range norms {
		if !(n > 0) || math.IsInf(float64(n), 0) {
			return nil, fmt.Errorf("row %d of %s has the norm %v with the adapter on it, and no direction for DoRA to keep: "+
				"leave the projection out of the targets", o, proj, n)
		}
	}
	return norms, nil
}

// uploadMagnitude brings a magnitude to the device together with the norms that it stands over.
func (r *Role) uploadMagnitude(m *lora.Param) error {
	norms, err := r.rowNorms(m.Layer, m.Proj)
	if err != nil {
		return fmt.Errorf("upload %s: %w", m.Name(), err)
	}
	extra := r.overlay[m.Layer][m.Proj]
	if extra.LowRank != nil {
		extra.LowRank.SetGain(m.Value, norms)
		return nil
	}
	for _, t := range []struct {
		place  **tensors.Tensor
		values []float32
	}{{&extra.Values[2], m.Value}, {&extra.Fixed[0], norms}} {
		if err := r.put(t.place, t.values, len(t.values)); err != nil {
			return fmt.Errorf("upload %s: %w", m.Name(), err)
		}
	}
	r.chooseBack(m, &extra, llama.Recoverable(m.Value, norms))
	r.overlay[m.Layer][m.Proj] = extra
	return nil
}

// chooseBack has the backward pass take the kept output of a projection for the gradient of its magnitude, where that
// can be told from it. The signature says which, since it names the graphs that are built.
func (r *Role) chooseBack(m *lora.Param, extra *llama.Extra, kept bool) {
	const dora, again = " dora", ", again"
	plain, _, _ := strings.Cut(extra.Signature, dora)
	extra.Signature, extra.Back = plain+dora+again, nil
	if scale := r.Adapter.Scale(m.Layer, m.Proj); kept {
		extra.Signature = plain + dora
		extra.Back = func(x, y, output *graph.Node, values []*graph.Node) *graph.Node {
			return newDoRA(values, scale).ApplyBack(x, y, output)
		}
	}
}
