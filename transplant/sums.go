package transplant

import (
	"fmt"

	"gotransplant/llama"
	"gotransplant/lora"
)

// sums add up the gradients of an update, in float64 and in the order of the sweeps, and round once. Where gradients are on
// the host they are added there. Those on a device are added on it, with the same bits: one copy an update comes to the
// host, and not one for every sweep.
type sums struct {
	arguer, chooser *roleSums // nil where not trained; the same where the adapter is
}

// roleSums are those of one adapter.
type roleSums struct {
	engine  *llama.Engine
	name    string // under which the ledger books them
	role    *Role
	tensors []lora.Tensor // in the order of lora.Adapter.Params
	host    *lora.Accumulator
	device  []llama.GradientSum // by layer, where host is nil
}

// newSums are empty sums, and the tensors to whose Grad they are taken: arguer's, then chooser's, or those of the adapter
// that both share.
func (m *Method) newSums() (*sums, []lora.Tensor) {
	var all []lora.Tensor
	s := &sums{}
	apart := m.TrainsArguer() && m.Arguer != m.Chooser
	if apart {
		all = m.Arguer.Adapter.Tensors("arguer.")
	}
	first := len(all)
	if m.Chooser != nil {
		all = append(all, m.Chooser.Adapter.Tensors("chooser.")...)
		s.chooser = m.newRoleSums(ChooserName, m.Chooser, all[first:])
	}
	switch {
	case apart:
		s.arguer = m.newRoleSums(ArguerName, m.Arguer, all[:first])
	case m.TrainsArguer():
		s.arguer = s.chooser
	}
	return s, all
}

func (m *Method) newRoleSums(name string, r *Role, tensors []lora.Tensor) *roleSums {
	s := &roleSums{engine: m.Engine, name: name, role: r, tensors: tensors}
	if m.Engine.GradientsOnHost() {
		s.host = lora.NewAccumulator(tensors)
	} else {
		s.device = make([]llama.GradientSum, m.layers())
	}
	return s
}

// each visits what sums there are, each once, until the first error.
func (s *sums) each(visit func(r *roleSums) error) error {
	for i, r := range []*roleSums{s.arguer, s.chooser} {
		if r == nil || i == 0 && r == s.chooser {
			continue
		}
		if err := visit(r); err != nil {
			return err
		}
	}
	return nil
}

// add adds a sweep's gradients, arguer's before chooser's, and frees them.
func (s *sums) add(sweep *Sweep) error {
	arguer, chooser := sweep.arguer, sweep.chooser
	sweep.arguer, sweep.chooser = nil, nil
	if err := s.arguer.add(arguer); err != nil {
		Sweep{chooser: chooser}.discard()
		return err
	}
	return s.chooser.add(chooser)
}

func (r *roleSums) add(layers []llama.Trained) error {
	if r == nil || len(layers) == 0 { // of the bare base there are no gradients
		return nil
	}
	if r.host != nil {
		grads, err := r.role.collect(layers)
		if err != nil {
			return err
		}
		defer r.engine.Recycle(grads)
		return r.host.Add(grads)
	}
	for layer, t := range layers {
		if err := r.engine.AddTrained(r.name, &r.device[layer], t); err != nil {
			Sweep{chooser: layers[layer+1:]}.discard()
			return fmt.Errorf("gradients of layer %d: %w", layer, err)
		}
	}
	return nil
}

// take writes the sums to the tensors' Grad and begins again from zero.
func (s *sums) take() error {
	return s.each(func(r *roleSums) error {
		if r.host != nil {
			return r.host.Take(r.tensors)
		}
		return r.fetch()
	})
}

// fetch is take for what lies on the device.
func (r *roleSums) fetch() error {
	grads := make(Grads, len(r.tensors))
	for layer := range r.device {
		values, err := r.engine.TakeTrained(r.name, &r.device[layer])
		if err == nil {
			err = r.role.place(grads, layer, values)
		}
		if err != nil {
			return fmt.Errorf("gradients of layer %d: %w", layer, err)
		}
	}
	for i := range r.tensors {
		t := &r.tensors[i]
		if t.Grad = grads[i]; t.Grad == nil { // nothing arrived
			t.Grad = make([]float32, len(t.Value))
		}
	}
	return nil
}

// reset forgets what was added, as an interrupted update leaves it.
func (s *sums) reset() {
	_ = s.each(func(r *roleSums) error {
		if r.host != nil {
			r.host.Reset()
		}
		for layer := range r.device {
			r.device[layer].Free()
		}
		return nil
	})
}

// collect brings gradients, by layer, to the host, and frees them on the device whatever happens.
func (r *Role) collect(layers []llama.Trained) (Grads, error) {
	if r == nil || layers == nil {
		return nil, nil
	}
	grads := make(Grads, len(r.Adapter.Params()))
	for layer, t := range layers {
		values, err := t.Host()
		if err == nil {
			err = r.place(grads, layer, values)
		}
		if err != nil {
			Sweep{chooser: layers[layer+1:]}.discard()
			return nil, fmt.Errorf("gradients of layer %d: %w", layer, err)
		}
	}
	return grads, nil
}

// gather adds parts of a micro-batch's gradients on the host, and empties them.
func (r *Role) gather(parts ...*[]llama.Trained) (sum Grads, err error) {
	for _, part := range parts {
		layers := *part
		*part = nil
		grads, err := r.collect(layers)
		if err != nil {
			return nil, err
		}
		sum = sum.plus(grads)
	}
	return sum, nil
}

// place puts a layer's gradients where its matrices stand among all.
func (r *Role) place(grads Grads, layer int, values [][]float32) error {
	next := 0
	for i, p := range r.Adapter.Params() {
		if p.Layer == layer && next < len(values) {
			grads[i] = values[next]
			next++
		}
	}
	if next != len(values) {
		return fmt.Errorf("%d gradients for %d matrices", len(values), next)
	}
	return nil
}
