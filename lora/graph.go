package lora

import "github.com/gomlx/gomlx/core/graph"

// Apply builds y + scale * (x Aᵀ) Bᵀ, a linear map's output y [N, out] corrected by an adapter. x is [N, in] in the
// compute dtype, y in that or a wider one; a [r, in] and b [out, r] are the float32 masters, cast to it, so their gradients are float32.
func Apply(x, y, a, b *graph.Node, scale float64) *graph.Node {
	// [N, in] . [r, in] -> [N, r]
	low := differentiable(x, graph.ConvertDType(a, x.DType())).General([]int{-1}, nil, []int{-1}, nil)
	// B transposed: a contraction over as few as r numbers would miss the Go backend's vector kernels, both ways.
	up := graph.Transpose(graph.ConvertDType(b, x.DType()), 0, 1) // [r, out]
	correction := differentiable(low, up).Product()               // [N, r] . [r, out] -> [N, out]
	return graph.Add(y, graph.ConvertDType(graph.MulScalar(correction, scale), y.DType()))
}

// differentiable is Dot whose gradient stays in the factors' type on a compiled backend, where sums are kept in float32
// whatever is asked for: GoMLX (v0.28) otherwise converts x and the gradient of y to float32 first.
func differentiable(l, r *graph.Node) *graph.DotBuilder {
	p := graph.Dot(l, r)
	if l.Graph().Backend().String() != "go" && l.DType().IsHalfPrecision() {
		p = p.WithAccumulatorDType(l.DType())
	}
	return p
}
