package model

import (
	"context"
	"fmt"
	"math"

	"gotransplant/model/safetensors"
)

// Norm is the Frobenius norm of a tensor, read in parts and summed in float64.
func (c *Checkpoint) Norm(ctx context.Context, name string) (float64, error) {
	t, ok := c.tensors[name]
	if !ok {
		return 0, fmt.Errorf("%s: no tensor of this model", name)
	}
	width := t.DType.Bits() / 8
	raw, values := make([]byte, pieceValues*width), make([]float64, pieceValues)
	var sum float64
	for from := 0; from < len(t.Data); from += len(raw) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		part := raw[:min(len(raw), len(t.Data)-from)]
		if err := c.ReadAt(name, part, from); err != nil {
			return 0, err
		}
		c.Forget(name, from, from+len(part))
		if err := safetensors.Decode64(values[:len(part)/width], t.DType, part); err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		for _, v := range values[:len(part)/width] {
			sum += v * v
		}
	}
	if math.IsNaN(sum) || math.IsInf(sum, 0) {
		return 0, fmt.Errorf("%s: values that are not finite: the checkpoint is damaged", name)
	}
	return math.Sqrt(sum), nil
}
