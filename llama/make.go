package llama

import (
	"fmt"
	"sync"

	"gotransplant/model"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute"
)

// DeferMade is Deferred for weights that come from no checkpoint: made returns the bytes, as in a file, of the i-th of the
// config's tensors, all of dtype d. NewEngine has them made, one after the other, each when it is to go where it is wanted.
func DeferMade(backend compute.Backend, c model.Config, d safetensors.DType, as Storage,
	made func(i int, spec safetensors.Spec) ([]byte, error)) (*Weights, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("make weights: %w", err)
	}
	w := newWeights(backend, c)
	w.storage = as
	m := &maker{made: made, at: -1}
	for i, spec := range c.Specs(d) {
		read := func(dst []byte, from int) error {
			data, err := m.tensor(i, spec)
			if err == nil {
				copy(dst, data[from:])
			}
			return err
		}
		w.pending = append(w.pending, content{spec.Name, d, spec.Shape, 0, read, func(int, int) {}})
	}
	return w, nil
}

// maker holds the bytes of the tensor that is being read, until another is.
type maker struct {
	made func(i int, spec safetensors.Spec) ([]byte, error)

	mu   sync.Mutex
	at   int
	data []byte
	err  error
}

// tensor is the i-th tensor's bytes. It may be called from many goroutines.
func (m *maker) tensor(i int, spec safetensors.Spec) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at == i {
		return m.data, m.err
	}
	m.at, m.data = i, nil // the last one's bytes may go while these are made
	m.data, m.err = m.made(i, spec)
	size, err := safetensors.ByteSize(spec.DType, spec.Shape)
	switch {
	case m.err != nil:
		m.err = fmt.Errorf("make it: %w", m.err)
	case err != nil || size != len(m.data):
		m.err = fmt.Errorf("%d bytes were made for shape %v of %s", len(m.data), spec.Shape, spec.DType)
	}
	return m.data, m.err
}
