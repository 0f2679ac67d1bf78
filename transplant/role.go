package transplant

import (
	"fmt"

	"gotransplant/llama"
	"gotransplant/lora"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Role is an adapter in use: the host's matrices and their copies on the device. A nil *Role is the bare base.
type Role struct {
	Adapter *lora.Adapter
	engine  *llama.Engine
	overlay llama.Overlay
}

// NewRole puts an adapter where an engine needs it. A new DoRA adapter gets its magnitudes from the engine's weights.
func NewRole(e *llama.Engine, a *lora.Adapter) (*Role, error) {
	r := &Role{Adapter: a, engine: e, overlay: make(llama.Overlay, e.Weights.Config.NumHiddenLayers)}
	for layer := range r.overlay {
		r.overlay[layer] = make(map[string]llama.Extra)
		for _, proj := range lora.Projections() {
			pa, pb, ok := a.Pair(layer, proj)
			if !ok {
				continue
			}
			scale := a.Scale(layer, proj)
			_, dora := a.Magnitude(layer, proj)
			extra := llama.Extra{
				Signature: fmt.Sprintf("lora r=%d scale=%v", pa.Shape[0], scale),
				Values:    make([]*tensors.Tensor, 2),
				Apply: func(x, y *graph.Node, values []*graph.Node) *graph.Node {
					return lora.Apply(x, y, values[0], values[1], scale)
				},
			}
			if dora {
				extra.Values, extra.Fixed = make([]*tensors.Tensor, 3), make([]*tensors.Tensor, 1)
				extra.Apply = func(x, y *graph.Node, values []*graph.Node) *graph.Node {
					return newDoRA(values, scale).Apply(x, y)
				}
			}
			if e.Panels() {
				extra.Values, extra.Fixed = nil, nil
				extra.LowRank = e.NewLowRank(pa.Value, pb.Value, pa.Shape[0], scale)
			}
			r.overlay[layer][proj] = extra
		}
	}
	if err := a.InitMagnitudes(r.rowNorms); err != nil {
		return nil, fmt.Errorf("new adapter: %w", err)
	}
	return r, r.Upload()
}

// Upload copies the host's matrices to the device, as after a step of the optimizer. No sweep may be running.
func (r *Role) Upload() error {
	for layer, extras := range r.overlay {
		for proj, extra := range extras {
			a, b, _ := r.Adapter.Pair(layer, proj)
			if m, ok := r.Adapter.Magnitude(layer, proj); ok {
				if err := r.uploadMagnitude(m); err != nil {
					return err
				}
			}
			if extra.LowRank != nil {
				extra.LowRank.Set(a.Value, b.Value)
				continue
			}
			for i, p := range []*lora.Param{a, b} {
				if err := r.put(&extra.Values[i], p.Value, p.Shape[0], p.Shape[1]); err != nil {
					return fmt.Errorf("upload %s: %w", p.Name(), err)
				}
			}
		}
	}
	return nil
}

// put replaces a tensor on the device.
func (r *Role) put(place **tensors.Tensor, values []float32, dims ...int) error {
	t, err := r.engine.Upload(values, dims...)
	if err != nil {
		return err
	}
	release(*place)
	*place = t
	return nil
}

// Overlay is what the role adds to a base's projections, for a stream; nil for the bare base.
func (r *Role) Overlay() llama.Overlay {
	if r == nil {
		return nil
	}
	return r.overlay
}
