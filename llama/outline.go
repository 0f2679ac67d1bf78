package llama

import (
	"fmt"

	"gotransplant/internal/panel"
	"gotransplant/model"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"
)

// Planned is a backend that is planned for and need not be at hand: its name, such as "go" or "xla:cuda", and a backend of
// any kind that builds graphs in its place.
type Planned struct {
	Name    string
	Builder compute.Backend
}

// Outline makes weights that have the shapes and types which Deferred would give a model on that backend, and no values: an
// engine over them can rehearse and tell what it needs, and nothing else. stored is each tensor's type in the checkpoint,
// by its name.
func Outline(at Planned, c model.Config, as Storage, stored func(name string) safetensors.DType) (*Weights, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("outline weights: %w", err)
	}
	books := &Rehearsal{backend: at.Builder, room: exactRoom, held: make(map[string]int64)}
	l := newLoader(outlined{stage{at.Builder, books}, at.Name}, c, as)
	for _, spec := range c.Specs(safetensors.F32) {
		if err := l.put(content{name: spec.Name, dtype: stored(spec.Name), shape: spec.Shape}); err != nil {
			return nil, fmt.Errorf("outline weights: %s: %w", spec.Name, err)
		}
	}
	l.weights.losses = nil // nothing was lost
	return l.weights, nil
}

// outlined is a device that is only planned for: tensors on it have a shape and no content.
type outlined struct {
	stage
	name string
}

func (o outlined) String() string { return o.name }

// Description is the builder's where it stands in for its own kind.
func (o outlined) Description() string {
	if o.name == o.stage.String() {
		return o.stage.Description()
	}
	return o.name
}

// Capabilities are those of the backend that builds graphs, and on CUDA cuDNN's attention, so that an engine says of fused
// attention what it would say there.
func (o outlined) Capabilities() compute.Capabilities {
	all := o.stage.Capabilities().Clone()
	fused := isCUDA(o.name)
	all.Operations[compute.OpTypeFusedScaledDotProductAttention] = fused
	all.Operations[compute.OpTypeFusedScaledDotProductAttentionVJP] = fused
	return all
}

// rehearser is where an engine on this backend rehearses: the same name, without the kernel that it cannot build.
func rehearser(b compute.Backend) compute.Backend {
	if o, ok := b.(outlined); ok {
		return plannedFor{o.stage.Backend, o.name}
	}
	return b
}

// plannedFor builds graphs under another backend's name.
type plannedFor struct {
	compute.Backend
	name string
}

func (p plannedFor) String() string { return p.name }

// panels is pack; of an outline it is empty, see panelBytes.
func (w *Weights) panels(compute dtypes.DType) (*panelModel, error) {
	if _, ok := w.backend.(outlined); ok {
		return &panelModel{}, nil
	}
	return w.pack(compute)
}

// panelBytes is the size that packed weights would have.
func (o outlined) panelBytes(w *Weights, compute dtypes.DType) int64 {
	var matrices, turned int64 // turned is what KeepTransposed would add
	vectors := 4 * int64(w.Config.HiddenSize) * int64(2*w.Config.NumHiddenLayers+1)
	for _, spec := range w.Config.Specs(safetensors.F32) {
		if len(spec.Shape) != 2 {
			continue
		}
		out, in := spec.Shape[0], spec.Shape[1]
		if w.storage.of(spec.Name).quantized() {
			matrices += w.storage.coding(compute).Bytes(out, in)
			continue
		}
		half := w.tensors[spec.Name].DType() == dtypes.BFloat16 || compute == dtypes.BFloat16
		matrices += panel.WeightBytes(out, in, half)
		if spec.Name != embedName || w.Config.TieWordEmbeddings {
			turned += panel.WeightBytes(in, out, half)
		}
	}
	if matrices+vectors <= twiceUpTo {
		return matrices + vectors + turned
	}
	return matrices + vectors
}

// draw holds a tensor of a shape without its content.
func (o outlined) draw(w *Weights, name string, shape shapes.Shape) error {
	t, err := tensors.FromBuffer(o.r.take(Preparing, shape))
	if err == nil {
		w.hold(name, t)
	}
	return err
}
