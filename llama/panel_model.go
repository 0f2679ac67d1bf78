package llama

import (
	"fmt"
	"unsafe"

	"gotransplant/internal/panel"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/gomlx/gomlx/core/tensors"
)

// panelModel is a model's weights as the kernels of internal/panel take them.
type panelModel struct {
	embedding   *panel.Weight // [V, M], the head's where they are tied
	head        *panel.Weight // [V, M]
	finalNorm   []float32     // [M]
	layers      []panelBlock
	frequencies []float64 // [D/2]
}

// panelBlock is one block: projections by name, and the gains of its two norms.
type panelBlock struct {
	projections     map[string]*panel.Weight // [out, in]
	attention, feed []float32                // [M]
}

// PanelsCan says why the kernels of internal/panel cannot run a model with these options, or nil.
func PanelsCan(w *Weights, o Options) error {
	switch {
	case !panel.Available():
		return fmt.Errorf("this processor or this build lacks AVX-512 (build with GOEXPERIMENT=simd)")
	case w.backend.String() != "go":
		return fmt.Errorf("the backend is %s", w.backend)
	case o.TrainBase:
		return fmt.Errorf("the base is trained")
	case o.Residual != dtypes.Float64:
		return fmt.Errorf("their residual stream is float64, not %s", o.Residual)
	case o.Compute == dtypes.BFloat16 && !panel.HalfAvailable():
		return fmt.Errorf("this processor lacks AVX512_BF16: compute in float32")
	case w.storage.quantized():
		return fmt.Errorf("the weights are kept as %s", w.storage)
	case w.Config.HeadDim%8 != 0:
		return fmt.Errorf("the head dimension %d is not a multiple of 8", w.Config.HeadDim)
	}
	return nil
}

// pack moves the weights from their tensors, which are freed one by one, to panels.
func (w *Weights) pack(compute dtypes.DType) (*panelModel, error) {
	m := &panelModel{frequencies: w.Config.InverseFrequencies(), layers: make([]panelBlock, w.Config.NumHiddenLayers)}
	var err error
	if m.embedding, err = w.packMatrix(embedName, compute); err != nil {
		return nil, err
	}
	m.head = m.embedding
	if !w.Config.TieWordEmbeddings {
		if m.head, err = w.packMatrix(headName, compute); err != nil {
			return nil, err
		}
	}
	if m.finalNorm, err = w.packVector(finalNormName); err != nil {
		return nil, err
	}
	for layer := range m.layers {
		b := &m.layers[layer]
		b.projections = make(map[string]*panel.Weight)
		for _, proj := range Projections() {
			if b.projections[proj], err = w.packMatrix(partName(layer, proj), compute); err != nil {
				return nil, err
			}
		}
		if b.attention, err = w.packVector(partName(layer, "input_layernorm")); err != nil {
			return nil, err
		}
		if b.feed, err = w.packVector(partName(layer, "post_attention_layernorm")); err != nil {
			return nil, err
		}
	}
	if m.bytes() <= twiceUpTo {
		m.head.KeepTransposed()
		for _, b := range m.layers {
			for _, proj := range b.projections {
				proj.KeepTransposed()
			}
		}
	}
	return m, nil
}

// twiceUpTo is the size in bytes of a model whose weights are kept transposed as well: a backward pass then reads them in
// order. What is larger would miss the memory more than the tenth of the time.
const twiceUpTo = 2 << 30

func (w *Weights) packMatrix(name string, compute dtypes.DType) (packed *panel.Weight, err error) {
	t := w.tensors[name]
	out, in := t.Shape().Dim(0), t.Shape().Dim(1)
	if t.DType() == dtypes.BFloat16 {
		err = tensors.ConstFlatData(t, func(values []bfloat16.BFloat16) {
			bits := unsafe.Slice((*uint16)(unsafe.Pointer(&values[0])), len(values)) // which is what a BFloat16 is
			packed = panel.NewHalfWeight(out, in, bits)
		})
	} else {
		var values []float32
		if values, err = float32s(t); err == nil {
			packed = packing(compute)(out, in, values)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return packed, w.drop(name)
}

// packing is how weights that are not bfloat16 already are packed for an engine that computes in the given type.
func packing(compute dtypes.DType) func(out, in int, values []float32) *panel.Weight {
	if compute == dtypes.BFloat16 {
		return panel.NewRoundedWeight
	}
	return panel.NewWeight
}

func (w *Weights) packVector(name string) ([]float32, error) {
	values, err := float32s(w.tensors[name])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return values, w.drop(name)
}

func (w *Weights) drop(name string) error {
	t := w.tensors[name]
	delete(w.tensors, name)
	return t.FinalizeAll()
}

// float32s copies a tensor of any of the checkpoint's dtypes.
func float32s(t *tensors.Tensor) (values []float32, err error) {
	switch t.DType() {
	case dtypes.Float32:
		return tensors.CopyFlatData[float32](t)
	case dtypes.BFloat16:
		err = tensors.ConstFlatData(t, func(all []bfloat16.BFloat16) {
			for _, v := range all {
				values = append(values, v.Float32())
			}
		})
	case dtypes.Float64:
		err = tensors.ConstFlatData(t, func(all []float64) {
			for _, v := range all {
				values = append(values, float32(v))
			}
		})
	default:
		err = fmt.Errorf("dtype %s", t.DType())
	}
	return values, err
}
