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

// ceiling is the most FLOP a second that the device was seen to do in a large product, rows times the transpose of a
// weight as in a projection: the best of several calls.
func ceiling(backend compute.Backend, dtype string) (float64, error) {
	kind := dtypes.Float32
	if dtype == "bfloat16" {
		kind = dtypes.BFloat16
	}
	rows, in, out := 8192, 8192, 8192
	if strings.HasPrefix(backend.String(), "go") { // two cores take 35 ms for this, an H200 would take 10 µs
		rows, in, out = 1024, 2048, 2048
	}
	var best time.Duration
	err := guard.Do("matmul ceiling", func() error {
		fill, err := graph.NewExec(backend, func(g *graph.Graph) (x, w *graph.Node) {
			ramp := func(n int) *graph.Node { // values in [0, 1), not all the same
				i := graph.Iota(g, shapes.Make(dtypes.Float32, n, in), 1)
				return graph.ConvertDType(graph.DivScalar(i, float64(in)), kind)
			}
			return ramp(rows), ramp(out)
		})
		if err != nil {
			return err
		}
		defer fill.Finalize()
		operands, err := fill.Call()
		if err != nil {
			return err
		}
		product, err := graph.NewExec(backend, func(x, w *graph.Node) *graph.Node {
			return graph.Dot(x, w).General([]int{1}, nil, []int{1}, nil) // [rows, in] . [out, in] -> [rows, out]
		})
		if err != nil {
			return err
		}
		defer product.Finalize()
		for range 12 {
			start := time.Now()
			y, err := product.Call(operands[0], operands[1])
			if err != nil {
				return err
			}
			if took := time.Since(start); best == 0 || took < best {
				best = took
			}
			y[0].MustFinalizeAll()
		}
		operands[0].MustFinalizeAll()
		operands[1].MustFinalizeAll()
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measuring the device's ceiling: %w", err)
	}
	return 2 * float64(rows) * float64(in) * float64(out) / best.Seconds(), nil
}
