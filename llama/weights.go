package llama

import (
	"fmt"
	"strings"

	"gotransplant/model"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"
)

// Weights are a checkpoint's tensors on a device.
type Weights struct {
	Config  model.Config
	storage Storage
	losses  []tensorLoss    // of what is kept in another way than it was stored
	bytes   int64           // of all tensors, wherever they are by now
	dtypes  map[string]bool // of all tensors
	backend compute.Backend
	tensors map[string]*tensors.Tensor // by Hugging Face name; a tied head is the embedding
	pending []content                  // what is still to be read, in the order of the files
}

// NewWeights copies tensors that come from no checkpoint to the backend's first device: values returns the float32
// values of each of the config's tensors, row-major, by its Hugging Face name and shape.
func NewWeights(backend compute.Backend, c model.Config,
	values func(name string, shape []int) []float32) (*Weights, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("new weights: %w", err)
	}
	w := newWeights(backend, c)
	for _, spec := range c.Specs("F32") {
		t, err := FromFloat32(backend, values(spec.Name, spec.Shape), spec.Shape...)
		if err != nil {
			return nil, fmt.Errorf("new weights: %s: %w", spec.Name, err)
		}
		w.hold(spec.Name, t)
	}
	return w, nil
}

func newWeights(backend compute.Backend, c model.Config) *Weights {
	return &Weights{Config: c, backend: backend, tensors: make(map[string]*tensors.Tensor), dtypes: make(map[string]bool)}
}

// hold takes a tensor in.
func (w *Weights) hold(name string, t *tensors.Tensor) {
	w.tensors[name] = t
	w.count(t.Shape())
}

// count notes what a tensor takes.
func (w *Weights) count(s shapes.Shape) {
	w.bytes += int64(s.ByteSize())
	w.dtypes[strings.ToLower(s.DType.String())] = true
}

// Set replaces the named tensor by float32 values of the same size, as an optimizer does after a step.
func (w *Weights) Set(name string, values []float32) error {
	old, ok := w.tensors[name]
	if !ok {
		return fmt.Errorf("set weights: no tensor %s", name)
	}
	if w.storage.quantized() && isProjection(name) {
		return fmt.Errorf("set weights: %s is kept as %s", name, w.storage)
	}
	if old.Size() != len(values) {
		return fmt.Errorf("set weights: %s has shape %s, got %d values", name, old.Shape(), len(values))
	}
	t, err := FromFloat32(w.backend, values, old.Shape().Dimensions...)
	if err != nil {
		return fmt.Errorf("set weights: %s: %w", name, err)
	}
	w.tensors[name] = t
	return old.FinalizeAll()
}

// part is the tensor of one block's part, such as "q_proj" or "input_layernorm", followed by its scales if there are any.
func (w *Weights) part(layer int, part string) []*tensors.Tensor {
	name := partName(layer, part)
	if w.storage.quantized() && isProjection(name) {
		return []*tensors.Tensor{w.tensors[name], w.tensors[scalesOf(name)]}
	}
	return []*tensors.Tensor{w.tensors[name]}
}

// BlockNames are the Hugging Face names of a layer's tensors in the order in which Backward returns their gradients.
func BlockNames(layer int) []string {
	names := make([]string, len(blockParts))
	for i, part := range blockParts {
		names[i] = partName(layer, part)
	}
	return names
}

// partName is the Hugging Face name of a block's part.
func partName(layer int, part string) string {
	module := "self_attn."
	switch part {
	case "gate_proj", "up_proj", "down_proj":
		module = "mlp."
	case "input_layernorm", "post_attention_layernorm":
		module = ""
	}
	return fmt.Sprintf("model.layers.%d.%s%s.weight", layer, module, part)
}

// The tensors outside the blocks.
const (
	embedName     = "model.embed_tokens.weight" // [V, M]
	finalNormName = "model.norm.weight"         // [M]
	headName      = "lm_head.weight"            // [V, M]
)

// head is the output matrix and the name under which it is stored: the embedding's where they are tied.
func (w *Weights) head() (name string, t *tensors.Tensor) {
	if w.Config.TieWordEmbeddings {
		return embedName, w.tensors[embedName]
	}
	return headName, w.tensors[headName]
}

// FromFloat32 puts values on the backend's first device as a float32 tensor of the given dimensions.
func FromFloat32(backend compute.Backend, values []float32, dims ...int) (*tensors.Tensor, error) {
	return fromFlat(backend, dtypes.Float32, values, dims...)
}

// fromFlat uploads at once, so that the tensor may be read by several goroutines: a tensor with only a local copy is
// uploaded by its first reader, and two first readers race (GoMLX v0.28).
func fromFlat[T float32 | float64 | int32](b compute.Backend, kind dtypes.DType, values []T, dims ...int) (*tensors.Tensor, error) {
	shape := shapes.Make(kind, dims...)
	if shape.Size() != len(values) {
		return nil, fmt.Errorf("%d values for shape %s", len(values), shape)
	}
	t, err := tensors.FromRaw(b, 0, shape, dtypes.UnsafeByteSliceFromAny(values))
	return t, asOutOfMemory(err)
}
