package wordproblem

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"strings"

	"gotransplant/model"
	"gotransplant/model/safetensors"
)

// initial draws the values of a tensor from a source of its own, so that they depend on seed and name alone. Norms are
// one; embedding and head are normal with deviation 0.02; a projection has 1/sqrt(inputs), which keeps the size of what
// it is given; the two that write to the residual stream are smaller by sqrt(2 layers), so that the sum of all of them
// keeps it too (GPT-2, Radford et al. 2019, section 2.3).
func initial(c model.Config, seed uint64, name string, shape []int) []float32 {
	size := 1
	for _, n := range shape {
		size *= n
	}
	values := make([]float32, size)
	if len(shape) == 1 {
		for i := range values {
			values[i] = 1
		}
		return values
	}
	deviation := 1 / math.Sqrt(float64(shape[1]))
	switch {
	case !strings.HasPrefix(name, "model.layers."):
		deviation = 0.02
	case strings.HasSuffix(name, ".o_proj.weight"), strings.HasSuffix(name, ".down_proj.weight"):
		deviation /= math.Sqrt(float64(2 * c.NumHiddenLayers))
	}
	h := fnv.New64a()
	io.WriteString(h, name)
	r := rand.New(rand.NewPCG(seed, h.Sum64()))
	for i := range values {
		values[i] = float32(r.NormFloat64() * deviation)
	}
	return values
}

// Save writes the model as a Hugging Face checkpoint directory, in type BF16 or F32. The tokenizer's files are not its
// concern.
func (p *Pretrainer) Save(dir string, d safetensors.DType) error {
	var stored []safetensors.Tensor
	all := p.all()
	for i, spec := range p.Recipe.Model.Specs(d) {
		data, err := bytesOf(all[i].Value, d)
		if err != nil {
			return err
		}
		stored = append(stored, safetensors.Tensor{Name: spec.Name, DType: d, Shape: spec.Shape, Data: data})
	}
	return model.Write(dir, p.Recipe.Model, stored)
}

// bytesOf stores finite values as F32, or rounds them to the nearest BF16, ties to even.
func bytesOf(values []float32, d safetensors.DType) ([]byte, error) {
	var data []byte
	switch d {
	case "F32":
		for _, v := range values {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
	case "BF16":
		for _, v := range values {
			bits := math.Float32bits(v)
			data = binary.LittleEndian.AppendUint16(data, uint16((bits+0x7fff+bits>>16&1)>>16))
		}
	default:
		return nil, fmt.Errorf("cannot store weights as %s: there are BF16 and F32", d)
	}
	return data, nil
}
