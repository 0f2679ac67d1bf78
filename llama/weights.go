package llama

import (
	"fmt"

	"gotransplant/model"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"
)

// Weights are a checkpoint's tensors on a device, in the dtype in which they were stored.
type Weights struct {
	Config  model.Config
	backend compute.Backend
	tensors map[string]*tensors.Tensor // by Hugging Face name; a tied head is the embedding
}

// Load copies every tensor of a checkpoint to the backend's first device; c may be closed afterwards.
func Load(backend compute.Backend, c *model.Checkpoint) (*Weights, error) {
	w := &Weights{Config: c.Config, backend: backend, tensors: make(map[string]*tensors.Tensor)}
	for _, name := range c.Names() {
		t, err := upload(backend, c.Tensor(name))
		if err != nil {
			return nil, fmt.Errorf("load %s: %w", name, err)
		}
		w.tensors[name] = t
		if err := c.Forget(); err != nil {
			return nil, fmt.Errorf("load %s: %w", name, err)
		}
	}
	return w, nil
}

// NewWeights copies tensors that come from no checkpoint to the backend's first device: values returns the float32
// values of each of the config's tensors, row-major, by its Hugging Face name and shape.
func NewWeights(backend compute.Backend, c model.Config,
	values func(name string, shape []int) []float32) (*Weights, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("new weights: %w", err)
	}
	w := &Weights{Config: c, backend: backend, tensors: make(map[string]*tensors.Tensor)}
	for _, spec := range c.Specs("F32") {
		t, err := FromFloat32(backend, values(spec.Name, spec.Shape), spec.Shape...)
		if err != nil {
			return nil, fmt.Errorf("new weights: %s: %w", spec.Name, err)
		}
		w.tensors[spec.Name] = t
	}
	return w, nil
}

// Set replaces the named tensor by float32 values of the same size, as an optimizer does after a step.
func (w *Weights) Set(name string, values []float32) error {
	old, ok := w.tensors[name]
	if !ok {
		return fmt.Errorf("set weights: no tensor %s", name)
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

// part is the tensor of one block's part, such as "q_proj" or "input_layernorm".
func (w *Weights) part(layer int, part string) *tensors.Tensor {
	return w.tensors[partName(layer, part)]
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

func upload(backend compute.Backend, t safetensors.Tensor) (*tensors.Tensor, error) {
	kinds := map[safetensors.DType]dtypes.DType{
		"F64": dtypes.Float64, "F32": dtypes.Float32, "F16": dtypes.Float16, "BF16": dtypes.BFloat16,
	}
	kind, ok := kinds[t.DType]
	if !ok {
		return nil, fmt.Errorf("dtype %s, want F64, F32, F16 or BF16", t.DType)
	}
	return tensors.FromRaw(backend, 0, shapes.Make(kind, t.Shape...), t.Data)
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
