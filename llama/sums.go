package llama

import (
	"fmt"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Trained are the gradients that a stream leaves of a layer's trainable tensors.
type Trained struct {
	Values [][]float32       // on panels: of the overlay's matrices by projection
	Params []*tensors.Tensor // on graphs, on the device: by part, the base weight if trained, then the extras
}

// Host copies the gradients to the host and frees them on the device.
func (t Trained) Host() ([][]float32, error) {
	defer t.Free()
	all := t.Values
	for _, p := range t.Params {
		values, err := tensors.CopyFlatData[float32](p)
		if err != nil {
			return nil, err
		}
		all = append(all, values)
	}
	return all, nil
}

// Free frees what lies on the device.
func (t Trained) Free() { free(t.Params...) }

// GradientsOnHost says whether gradients lie in the program's own memory, where adding them up costs no copy: on panels and
// on GoMLX's Go backend.
func (e *Engine) GradientsOnHost() bool { return e.Panels() || e.interpreted() }

// GradientSum adds up what several streams leave of one layer, on the device. Copying every gradient to the host would
// leave a GPU without work for as long as the copies take. The zero value is empty.
type GradientSum struct {
	total *tensors.Tensor // [n] float64, all gradients behind each other; nil: nothing was added
	sizes []int           // of each
}

// AddTrained adds float32 gradients, which are freed whatever happens, in float64. The order of the calls fixes the bits.
// name is under what the calls are booked.
func (e *Engine) AddTrained(name string, sum *GradientSum, t Trained) error {
	if len(t.Params) == 0 {
		return nil
	}
	defer t.Free()
	more, args := sum.total != nil, t.Params
	if more {
		args = append([]*tensors.Tensor{sum.total}, args...)
	}
	sizes := make([]int, len(t.Params))
	for i, p := range t.Params {
		sizes[i] = p.Size()
	}
	out, err := e.run(Work{name, BackwardPass}, fmt.Sprintf("add %d gradients, to a sum: %t", len(sizes), more), func(in *inputs) []*graph.Node {
		total := in.optional(more)
		parts := in.take(len(sizes))
		for i, p := range parts {
			parts[i] = graph.Reshape(graph.ConvertDType(p, dtypes.Float64), -1)
		}
		all := graph.Concatenate(parts, 0) // [n]
		if more {
			all = graph.Add(total, all)
		}
		return []*graph.Node{all}
	}, args...)
	if err != nil {
		return err
	}
	sum.Free()
	*sum = GradientSum{out[0], sizes}
	return nil
}

// TakeTrained rounds a sum to float32 once, brings it to the host, a slice for each gradient, and empties it. Of an empty
// sum there are none.
func (e *Engine) TakeTrained(name string, sum *GradientSum) ([][]float32, error) {
	if sum.total == nil {
		return nil, nil
	}
	defer sum.Free()
	out, err := e.run(Work{name, BackwardPass}, "round gradients", func(in *inputs) []*graph.Node {
		return []*graph.Node{graph.ConvertDType(in.next(), dtypes.Float32)}
	}, sum.total)
	if err != nil {
		return nil, err
	}
	defer free(out...)
	flat, err := tensors.CopyFlatData[float32](out[0])
	if err != nil {
		return nil, err
	}
	all := make([][]float32, len(sum.sizes))
	for i, n := range sum.sizes {
		all[i], flat = flat[:n:n], flat[n:]
	}
	return all, nil
}

// Free empties the sum.
func (s *GradientSum) Free() {
	free(s.total)
	*s = GradientSum{}
}
