package lora

import (
	"fmt"
	"math"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
)

// kindMagnitude is the Kind of the vectors that DoRA trains beside A and B.
const kindMagnitude = "magnitude"

// Magnitude returns the trained row norms m [out] of one projection; ok is false without DoRA, or where the adapter does
// not stand.
func (a *Adapter) Magnitude(layer int, proj string) (m *Param, ok bool) {
	m = a.pairs[target{layer, proj}].m
	return m, m != nil
}

// InitMagnitudes gives a new DoRA adapter its magnitudes: norms returns the norms [out] of the rows of a projection's base
// weight. An adapter that has magnitudes, or needs none, stays as it is.
func (a *Adapter) InitMagnitudes(norms func(layer int, proj string) ([]float32, error)) error {
	if !a.unset {
		return nil
	}
	for _, p := range a.params {
		if p.Kind != kindMagnitude {
			continue
		}
		values, err := norms(p.Layer, p.Proj)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name(), err)
		}
		if len(values) != len(p.Value) {
			return fmt.Errorf("%s: %d norms, want %d", p.Name(), len(values), len(p.Value))
		}
		copy(p.Value, values)
	}
	a.unset = false
	return nil
}

// toMagnitude scales row o of W + scale B A, its norm taken in float64, to its magnitude. Without DoRA it stays as it is.
func (p pair) toMagnitude(row []float64, o int) error {
	if p.m == nil {
		return nil
	}
	var square float64
	for _, v := range row {
		square += float64(v * v)
	}
	if square == 0 {
		return fmt.Errorf("row %d is zero, which has no direction for DoRA to keep", o)
	}
	gain := float64(p.m.Value[o]) / math.Sqrt(square)
	for i := range row {
		row[i] *= gain
	}
	return nil
}

// DoRA is weight-decomposed low-rank adaptation (Liu et al. 2024, arXiv 2402.09353) inside a graph: a projection's rows
// keep the direction of W + Scale B A and have the length M. A [r, in], B [out, r] and M [out] are float32 masters. Norm
// [out], float32, holds the norms of the rows of W + Scale B A; the paper (section 4.3), and PEFT, give it no gradient.
type DoRA struct {
	A, B, M, Norm *graph.Node
	Scale         float64
}

// Apply builds (M / Norm) (y + Scale (x Aᵀ) Bᵀ) for x [N, in] and y [N, out] = x Wᵀ, summed and scaled in float32.
func (d DoRA) Apply(x, y *graph.Node) *graph.Node {
	gain := graph.StopGradient(d.Norm)
	return d.scaled(x, y, graph.Div(d.M, gain))
}

// ApplyBack is Apply in a backward pass which knows what came of it: output [N, out]. The gradient of M is the sum over
// rows of output times its cotangent, divided by M, which must not be near zero; y is then read by nobody. No
// gradient goes on through output, which is made in the same graph where a block is run again: it would be 0, at the cost of
// the products that make it.
func (d DoRA) ApplyBack(x, y, output *graph.Node) *graph.Node {
	constant := graph.StopGradient(d.M)
	z := d.scaled(x, y, graph.Div(constant, graph.StopGradient(d.Norm)))
	change := graph.Div(graph.Sub(d.M, constant), constant) // [out], 0
	known := graph.ConvertDType(graph.StopGradient(output), dtypes.Float32)
	return graph.Add(z, graph.ConvertDType(graph.Mul(known, rowOf(change)), z.DType()))
}

// scaled is gain [out] times y + Scale (x Aᵀ) Bᵀ.
func (d DoRA) scaled(x, y, gain *graph.Node) *graph.Node {
	sum := Apply(x, graph.ConvertDType(y, dtypes.Float32), d.A, d.B, d.Scale) // [N, out]
	return graph.ConvertDType(graph.Mul(sum, rowOf(gain)), y.DType())
}

// rowOf makes [1, out] of [out].
func rowOf(x *graph.Node) *graph.Node { return graph.InsertAxes(x, 0) }
