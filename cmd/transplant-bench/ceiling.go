package main

import (
	"fmt"
	"strings"
	"time"

	"gotransplant/internal/guard"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
)

// largest and smallest are the sides of the products in which a device other than the CPU is measured: an H100 would take 2 ms
// for the largest, and what it does in the smallest says little.
const largest, smallest = 8192, 1024

// ceiling is the most FLOP a second that the device was seen to do in a large product. Where it has no room for the largest beside
// the weights, a smaller one has to do, which tell says.
func ceiling(backend compute.Backend, dtype string, tell func(line string)) (float64, error) {
	kind := dtypes.Float32
	if dtype == "bfloat16" {
		kind = dtypes.BFloat16
	}
	if strings.HasPrefix(backend.String(), "go") { // two cores take 35 ms for this
		return product{1024, 2048, 2048, kind}.speed(backend)
	}
	for side := largest; ; side /= 2 {
		speed, err := product{side, side, side, kind}.speed(backend)
		if err == nil || side <= smallest {
			return speed, err
		}
		tell(fmt.Sprintf("no ceiling in a product of %d x %d x %d, so in a smaller one: %v", side, side, side, err))
	}
}

// product is rows times the transpose of a weight, as in a projection.
type product struct {
	rows, in, out int
	dtype         dtypes.DType
}

// speed is the best of several calls, in FLOP a second.
func (p product) speed(backend compute.Backend) (float64, error) {
	var best time.Duration
	err := guard.Do("matmul ceiling", func() error {
		fill, err := graph.NewExec(backend, func(g *graph.Graph) (x, w *graph.Node) {
			ramp := func(n int) *graph.Node { // values in [0, 1), not all the same
				i := graph.Iota(g, shapes.Make(dtypes.Float32, n, p.in), 1)
				return graph.ConvertDType(graph.DivScalar(i, float64(p.in)), p.dtype)
			}
			return ramp(p.rows), ramp(p.out)
		})
		if err != nil {
			return err
		}
		defer fill.Finalize()
		operands, err := fill.Call()
		if err != nil {
			return err
		}
		defer operands[0].MustFinalizeAll()
		defer operands[1].MustFinalizeAll()
		times, err := graph.NewExec(backend, func(x, w *graph.Node) *graph.Node {
			return graph.Dot(x, w).General([]int{1}, nil, []int{1}, nil) // [rows, in] . [out, in] -> [rows, out]
		})
		if err != nil {
			return err
		}
		defer times.Finalize()
		for range 12 {
			start := time.Now()
			y, err := times.Call(operands[0], operands[1])
			if err != nil {
				return err
			}
			if took := time.Since(start); best == 0 || took < best {
				best = took
			}
			y[0].MustFinalizeAll()
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measuring the device's ceiling: %w", err)
	}
	return 2 * float64(p.rows) * float64(p.in) * float64(p.out) / best.Seconds(), nil
}
