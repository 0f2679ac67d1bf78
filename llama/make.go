package llama

import (
	"fmt"

	"gotransplant/model"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute"
)

// MakeWeights puts weights that come from no checkpoint on the backend's first device, one tensor at a time: made
// returns the bytes, as in a file, of the i-th of the config's tensors, all of dtype d.
func MakeWeights(backend compute.Backend, c model.Config, d safetensors.DType,
	made func(i int, spec safetensors.Spec) ([]byte, error)) (*Weights, error) {
	return MakeWeightsAs(backend, c, d, AsStored, made)
}

// MakeWeightsAs is MakeWeights with the matrices kept in another way than they were made.
func MakeWeightsAs(backend compute.Backend, c model.Config, d safetensors.DType, as Storage,
	made func(i int, spec safetensors.Spec) ([]byte, error)) (*Weights, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("make weights: %w", err)
	}
	l := newLoader(backend, c, as)
	for i, spec := range c.Specs(d) {
		data, err := made(i, spec)
		if err != nil {
			return nil, fmt.Errorf("make weights: %w", err)
		}
		if size, err := safetensors.ByteSize(d, spec.Shape); err != nil || size != len(data) {
			return nil, fmt.Errorf("make weights: %s: %d bytes for shape %v of %s", spec.Name, len(data), spec.Shape, d)
		}
		read := func(dst []byte, from int) error {
			copy(dst, data[from:])
			return nil
		}
		err = l.put(content{spec.Name, d, spec.Shape, 0, read, func(int, int) {}})
		if err != nil {
			return nil, fmt.Errorf("make weights: %s: %w", spec.Name, err)
		}
	}
	return l.weights, nil
}
