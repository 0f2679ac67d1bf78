package llama

import (
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/gomlx/compute"
)

// TestTryFused: a kernel that runs and computes something else is found out by what comes of ones, forward and back.
func TestTryFused(t *testing.T) {
	nan := float32(math.NaN())
	for _, c := range []struct {
		name           string
		mean, gradient float32
		refused        string
	}{
		{"right", 1, 0, ""},
		{"other values", 0.5, 0, "the mean of ones is 0.5"},
		{"values that are none", nan, 0, "the mean of ones is NaN"},
		{"another gradient", 1, 1, "the mean of ones is 2"},
		{"a gradient that is none", 1, nan, "the mean of ones is NaN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := TryFused(fusing{goBackend(t), c.mean, c.gradient})
			if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
				t.Errorf("got error %v, want %q", err, c.refused)
			}
		})
	}
}

// fusing is a backend that passes for CUDA's, with a kernel for attention that multiplies its queries by mean, and whose gradient
// is a number everywhere.
type fusing struct {
	compute.Backend
	mean, gradient float32
}

func (f fusing) Description() string { return "CUDA in a test" }

func (f fusing) Capabilities() compute.Capabilities {
	c := f.Backend.Capabilities()
	c.Operations = maps.Clone(c.Operations)
	c.Operations[compute.OpTypeFusedScaledDotProductAttention] = true
	c.Operations[compute.OpTypeFusedScaledDotProductAttentionVJP] = true
	return c
}

func (f fusing) Builder(name string) compute.Builder {
	return fusingBuilder{f.Backend.Builder(name), f}
}

type fusingBuilder struct {
	compute.Builder
	fusing fusing
}

func (b fusingBuilder) Main() compute.Function { return fusingFunction{b.Builder.Main(), b.fusing} }

type fusingFunction struct {
	compute.Function
	fusing fusing
}

// times is x multiplied by a number.
func (f fusingFunction) times(x compute.Value, by float32) (compute.Value, error) {
	shape, err := f.Shape(x)
	if err != nil {
		return nil, err
	}
	factor, err := f.Constant([]float32{by})
	if err != nil {
		return nil, err
	}
	if factor, err = f.ConvertDType(factor, shape.DType); err != nil {
		return nil, err
	}
	return f.Mul(x, factor)
}

func (f fusingFunction) FusedScaledDotProductAttention(q, _, _ compute.Value, _ compute.AttentionAxesLayout,
	_ *compute.ScaledDotProductAttentionConfig) (compute.Value, []compute.Value, error) {
	z, err := f.times(q, f.fusing.mean)
	return z, []compute.Value{q}, err
}

func (f fusingFunction) FusedScaledDotProductAttentionVJP(q, _, v compute.Value, _ compute.AttentionAxesLayout,
	_ *compute.ScaledDotProductAttentionConfig, _ compute.Value, _ []compute.Value, _ compute.Value) (dq, dk, dv compute.Value, err error) {
	if dq, err = f.times(q, f.fusing.gradient); err == nil {
		dv, err = f.times(v, 0)
	}
	return dq, dv, dv, err
}
