package llama

import (
	"fmt"

	"gotransplant/internal/guard"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// TryFused runs the fused kernel forward and back on a small example, on a backend that has it: cuDNN, which is behind it, is
// loaded only then.
func TryFused(b compute.Backend) error {
	if !hasFused(b) {
		return nil
	}
	return guard.Do("try fused attention", func() error {
		program, err := NewExec(b, func(x *Node) *Node { // [1, 128, 2, 64]
			half := ConvertDType(x, dtypes.BFloat16)
			z, _ := BackendFusedScaledDotProductAttention(half, half, half,
				compute.AttentionAxesLayoutBSHD, &compute.ScaledDotProductAttentionConfig{Causal: true})
			mean := ReduceAllMean(ConvertDType(z, x.DType()))
			return Add(mean, ReduceAllMax(Abs(Gradient(mean, x)[0]))) // 1 of ones, and a gradient of nearly 0
		})
		if err != nil {
			return err
		}
		defer program.Finalize()
		ones := tensors.FromScalarAndDimensions(float32(1), 1, 128, 2, 64)
		defer ones.MustFinalizeAll()
		out, err := program.Call(ones)
		if err != nil {
			return err
		}
		defer out[0].MustFinalizeAll()
		if got := out[0].Value().(float32); !(got > 0.95 && got < 1.05) {
			return fmt.Errorf("the mean of ones is %v on this device", got)
		}
		return nil
	})
}

// forwardFused is forward by the device's kernel, with a causal mask by index. A backend without one computes all scores
// under the same mask; see Engine.NotFused.
func (a attention) forwardFused(q, k, v *Node) *Node {
	g, d := q.Graph(), q.Shape().Dimensions
	if !g.Backend().Capabilities().Operations[compute.OpTypeFusedScaledDotProductAttention] {
		a.mask = triangle(g, d[1])
		return a.forward(q, k, v)
	}
	qCos, qSin, kCos, kSin := a.tables(d[1])
	z, _ := BackendFusedScaledDotProductAttention(rotate(q, qCos, qSin), rotate(k, kCos, kSin), v,
		compute.AttentionAxesLayoutBSHD, &compute.ScaledDotProductAttentionConfig{Causal: true})
	return Reshape(z, d[0], d[1], d[2]*d[3]) // [B, Q, H*D]
}

// attend is the attention stage by the stream's strategy: z [B, Q, H*D] and, for blockwise attention, lse.
func (a attention) attend(q, k, v *Node) (z, lse *Node) {
	if a.replacement != nil {
		k, v = a.replacement.merge(k, a.inserted.k), a.replacement.merge(v, a.inserted.v)
		a.inserted = nil
	}
	switch {
	case a.last != nil: // a single query needs no more memory than the keys
		return a.forward(q, k, v), nil
	case a.fused:
		return a.forwardFused(q, k, v), nil
	case a.tiles != nil:
		return a.forwardBlockwise(q, k, v)
	}
	return a.forward(q, k, v), nil
}

// differentiate is the gradient of attend on what was kept, in the order of gradient.
func (a attention) differentiate(keep kept, dz *Node) []*Node {
	k, v, moved := keep.k, keep.v, a.inserted
	if a.replacement != nil {
		k, v = a.replacement.merge(k, moved.k), a.replacement.merge(v, moved.v)
		a.inserted = nil
	}
	var grads []*Node
	switch {
	case a.last != nil:
		grads = a.gradient(keep.q, k, v, dz)
	case a.fused: // runs the forward kernel again: its statistics cannot be kept between graphs (GoMLX v0.28)
		grads = pullBack([]*Node{a.forwardFused(keep.q, k, v)}, []*Node{dz}, []*Node{keep.q, k, v})
	case a.tiles != nil:
		grads = a.gradientBlockwise(keep.q, k, v, keep.z, keep.lse, dz)
	default:
		grads = a.gradient(keep.q, k, v, dz)
	}
	if a.replacement == nil {
		return grads
	}
	dk, dMovedK := a.replacement.split(grads[1])
	dv, dMovedV := a.replacement.split(grads[2])
	return []*Node{grads[0], dk, dv, dMovedK, dMovedV}
}
