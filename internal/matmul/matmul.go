// Package matmul builds products in graphs: graph.Dot, with what a backend needs to have them right and to keep their type.
package matmul

import (
	"fmt"
	"sync"

	"gotransplant/internal/guard"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
)

// Of is graph.Dot of l and r, whose dtypes are equal. Its outcome has their dtype unless another is asked for.
//
// GoMLX's Go backend (compute v0.1.4 to v0.1.6) has a kernel for AVX2 that reads sixteen bfloat16 numbers of a row and adds
// up eight of them: where l and r are both contracted along their last axis and there are fewer than 4 Mi multiplications.
// Where that kernel is in use the factors are converted, exactly, and multiplied in float32, on the way back as well.
func Of(l, r *graph.Node) *graph.DotBuilder {
	if l.DType() != dtypes.BFloat16 || !interpreted(l) || !dropsHalf(l.Graph().Backend()) {
		return graph.Dot(l, r)
	}
	wide := graph.Dot(graph.ConvertDType(l, dtypes.Float32), graph.ConvertDType(r, dtypes.Float32))
	return wide.WithAccumulatorDType(dtypes.Float32).WithOutputDType(dtypes.BFloat16)
}

// Differentiable is Of for products that GoMLX differentiates. GoMLX (v0.28) takes the type in which sums are kept,
// float32 for bfloat16, for the type of the gradient's products, and converts both factors to it, whole weights among them.
// XLA keeps the sums of half-precision products in float32 whatever is asked for, so there the type is left as it is.
func Differentiable(l, r *graph.Node) *graph.DotBuilder {
	product := Of(l, r)
	if !interpreted(l) && l.DType().IsHalfPrecision() {
		product = product.WithAccumulatorDType(l.DType())
	}
	return product
}

// interpreted says that x's graph runs on the Go backend.
func interpreted(x *graph.Node) bool { return x.Graph().Backend().String() == "go" }

var tried struct {
	sync.Once
	dropsHalf bool
	err       error
}

// dropsHalf tries the kernel that Of speaks of, once in a process. What is asked is the kernel and not the processor, because
// GoMLX listens to environment variables in the choice of kernels, and a later version may have mended this one.
func dropsHalf(backend compute.Backend) bool {
	tried.Do(func() {
		tried.err = guard.Do("one product of bfloat16", func() error {
			const n = 16
			sum, err := graph.CallOnce(backend, func(g *graph.Graph) *graph.Node {
				row := graph.IotaFull(g, shapes.Make(dtypes.BFloat16, 1, n)) // 0, 1, ..., 15
				product := graph.Dot(row, graph.OnesLike(row)).WithOutputDType(dtypes.Float32)
				return graph.Reshape(product.General([]int{1}, nil, []int{1}, nil)) // [1, 16] . [1, 16] -> [1, 1] -> []
			})
			if err != nil {
				return err
			}
			tried.dropsHalf = sum.Value().(float32) != n*(n-1)/2
			return nil
		})
	})
	if tried.err != nil { // not once: who comes later knows as little
		panic(fmt.Errorf("is the backend's product of bfloat16 right: %w", tried.err))
	}
	return tried.dropsHalf
}
