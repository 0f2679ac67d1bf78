package llama

import (
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"gotransplant/internal/panel"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/gomlx/compute/dtypes/float16"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"
)

// panelModel is a model's weights as the kernels of internal/panel take them.
type panelModel struct {
	embedding   *panel.Weight // [V, M], the head's where they are tied
	head        *panel.Weight // [V, M]
	finalNorm   []float32     // [M]
	layers      []panelBlock
	frequencies []float64 // [D/2]
	rowSquares  sync.Map  // of projections, as asked for: []float64 by *panel.Weight
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
		return fmt.Errorf("this processor has neither NEON nor AVX-512 nor AVX2 with FMA, or this build does not use them (on amd64 build with GOEXPERIMENT=simd)")
	case w.backend.String() != "go":
		return fmt.Errorf("the backend is %s", w.backend)
	case o.TrainBase:
		return fmt.Errorf("the base is trained")
	case o.Residual != dtypes.Float64:
		return fmt.Errorf("their residual stream is float64, not %s", o.Residual)
	case w.Config.HeadDim%8 != 0:
		return fmt.Errorf("the head dimension %d is not a multiple of 8", w.Config.HeadDim)
	}
	return nil
}

// pack moves the weights to panels: from the files, or from their tensors, which are freed one by one.
func (w *Weights) pack(compute dtypes.DType) (*panelModel, error) {
	runtime.GC() // of a model that nobody holds any more, panels are given back by a collection, which does not see how large they are
	p := packer{w, compute, make(map[string]*panel.Weight), make(map[string][]float32)}
	if err := p.packAll(); err != nil {
		return nil, err
	}
	m := &panelModel{embedding: p.matrices[embedName], head: p.matrices[headName], finalNorm: p.vectors[finalNormName],
		layers: make([]panelBlock, w.Config.NumHiddenLayers), frequencies: w.Config.InverseFrequencies()}
	if w.Config.TieWordEmbeddings {
		m.head = m.embedding
	}
	for layer := range m.layers {
		b := panelBlock{make(map[string]*panel.Weight), p.vectors[partName(layer, "input_layernorm")],
			p.vectors[partName(layer, "post_attention_layernorm")]}
		for _, proj := range Projections() {
			b.projections[proj] = p.matrices[partName(layer, proj)]
		}
		m.layers[layer] = b
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

// packer makes panels of weights by name.
type packer struct {
	*Weights
	compute  dtypes.DType
	matrices map[string]*panel.Weight
	vectors  map[string][]float32
}

// packAll packs every tensor. One that is still to be read goes from its file into its tiles, a few rows at a time, unless
// it is to be converted on the way; then it becomes a tensor first, and no other is one at that time.
func (p packer) packAll() error {
	l := &loader{weights: p.Weights}
	for _, c := range p.pending {
		var err error
		switch as := p.storage.of(c.name); {
		case len(c.shape) == 2 && as.quantized():
			err = p.encode(c, as)
		case len(c.shape) == 2 && as == AsStored:
			err = p.read(c)
		default:
			if err = l.put(c); err == nil {
				err = p.take(c.name)
			}
		}
		if err != nil {
			return fmt.Errorf("load %s: %w", c.name, err)
		}
	}
	p.pending = nil
	for name := range p.tensors {
		if err := p.take(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// take packs a tensor and frees it.
func (p packer) take(name string) error {
	t := p.tensors[name]
	var err error
	switch shape := t.Shape(); {
	case shape.Rank() == 1:
		p.vectors[name], err = float32s(t)
	case shape.DType == dtypes.BFloat16:
		err = tensors.ConstFlatData(t, func(values []bfloat16.BFloat16) {
			bits := unsafe.Slice((*uint16)(unsafe.Pointer(&values[0])), len(values)) // which is what a BFloat16 is
			p.matrices[name] = panel.NewHalfWeight(shape.Dim(0), shape.Dim(1), bits)
		})
	default:
		var values []float32
		if values, err = float32s(t); err == nil {
			p.matrices[name] = packing(p.compute)(shape.Dim(0), shape.Dim(1), values)
		}
	}
	if err != nil {
		return err
	}
	delete(p.tensors, name)
	return t.FinalizeAll()
}

// coding is how panels keep what is quantised, for an engine that computes in the given type.
func (s Storage) coding(compute dtypes.DType) panel.Coding {
	c := panel.Coding{Rounded: compute == dtypes.BFloat16}
	if s == NF4 {
		c.Table, c.Block = &nf4Values, nf4Block
	}
	return c
}

// encode quantises a matrix from its file.
func (p packer) encode(c content, as Storage) error {
	out, in, f := c.shape[0], c.shape[1], as.format()
	w := panel.NewCoded(out, in, as.coding(p.compute))
	p.matrices[c.name] = w
	p.count(shapes.Make(f.kind, out, f.codes(in)))
	p.count(shapes.Make(dtypes.Float32, out, f.groups(in)))
	return p.quantize(c, f, w.SetCodes)
}

// read packs a matrix from its file.
func (p packer) read(c content) error {
	kind, ok := kinds()[c.dtype]
	if !ok {
		return fmt.Errorf("dtype %s, want F64, F32, F16 or BF16", c.dtype)
	}
	in, width := c.shape[1], c.dtype.Bits()/8
	w := panel.NewZeros(c.shape[0], in, c.dtype == safetensors.BF16 || p.compute == dtypes.BFloat16)
	p.matrices[c.name] = w
	rows := max(8, packSize/(in*width)/8*8) // at a time
	p.count(shapes.Make(kind, c.shape...))
	return inChunks(c.shape[0], rows, 0, func() func(from, to int) error {
		bits, values := make([]uint16, rows*in*width/2), make([]float32, 0)
		if c.dtype != safetensors.BF16 {
			values = make([]float32, rows*in)
		}
		return func(from, to int) error {
			raw := dtypes.UnsafeByteSliceFromAny(bits[:(to-from)*in*width/2])
			if err := c.read(raw, from*in*width); err != nil {
				return err
			}
			c.forget(from*in*width, to*in*width)
			if c.dtype == safetensors.BF16 {
				w.SetHalfRows(from, bits[:(to-from)*in])
				return nil
			}
			if err := safetensors.Decode(values[:(to-from)*in], c.dtype, raw); err != nil {
				return err
			}
			w.SetRows(from, values[:(to-from)*in])
			return nil
		}
	})
}

// packing is how weights that are not bfloat16 already are packed for an engine that computes in the given type.
func packing(compute dtypes.DType) func(out, in int, values []float32) *panel.Weight {
	if compute == dtypes.BFloat16 {
		return panel.NewRoundedWeight
	}
	return panel.NewWeight
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
	case dtypes.Float16:
		err = tensors.ConstFlatData(t, func(all []float16.Float16) {
			for _, v := range all {
				values = append(values, v.Float32())
			}
		})
	default:
		err = fmt.Errorf("dtype %s", t.DType())
	}
	return values, err
}
