package llama

import (
	"fmt"

	"gotransplant/model"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
)

// MakeWeights puts weights that come from no checkpoint on the backend's first device, one tensor at a time: content
// returns the bytes, as in a file, of the i-th of the config's tensors, all of dtype d.
func MakeWeights(backend compute.Backend, c model.Config, d safetensors.DType,
	content func(i int, spec safetensors.Spec) ([]byte, error)) (*Weights, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("make weights: %w", err)
	}
	w := &Weights{Config: c, backend: backend, tensors: make(map[string]*tensors.Tensor)}
	for i, spec := range c.Specs(d) {
		data, err := content(i, spec)
		if err != nil {
			return nil, fmt.Errorf("make weights: %w", err)
		}
		t, err := upload(backend, safetensors.Tensor{Name: spec.Name, DType: d, Shape: spec.Shape, Data: data})
		if err != nil {
			return nil, fmt.Errorf("make weights: %s: %w", spec.Name, err)
		}
		w.tensors[spec.Name] = t
	}
	return w, nil
}
