package lora

import (
	"gotransplant/internal/matmul"

	"github.com/gomlx/gomlx/core/graph"
)

// Apply builds y + scale * (x Aᵀ) Bᵀ, a linear map's output y [N, out] corrected by an adapter. x is [N, in] in the
// compute dtype, y in that or a wider one; a [r, in] and b [out, r] are the float32 masters, cast to it, so their gradients are float32.
func Apply(x, y, a, b *graph.Node, scale float64) *graph.Node {
	// [N, in] . [r, in] -> [N, r]
	low := matmul.Differentiable(x, graph.ConvertDType(a, x.DType())).General([]int{-1}, nil, []int{-1}, nil)
	// B transposed: a contraction over as few as r numbers would miss the Go backend's vector kernels, both ways.
	up := graph.Transpose(graph.ConvertDType(b, x.DType()), 0, 1) // [r, out]
	correction := matmul.Differentiable(low, up).Product()        // [N, r] . [r, out] -> [N, out]
	return graph.Add(y, graph.ConvertDType(graph.MulScalar(correction, scale), y.DType()))
}
