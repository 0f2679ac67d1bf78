package lora

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"gotransplant/model/safetensors"
)

// State returns the optimizer's whole state: per tensor the moments "m.<name>" and "v.<name>" (float32), and "step", an
// int64 without dimensions.
func (w *AdamW) State() []safetensors.Tensor {
	step := binary.LittleEndian.AppendUint64(nil, uint64(w.step))
	tensors := []safetensors.Tensor{{Name: "step", DType: "I64", Shape: []int{}, Data: step}}
	for i, name := range w.names {
		tensors = append(tensors,
			float32Tensor("m."+name, []int{len(w.m[i])}, w.m[i]), float32Tensor("v."+name, []int{len(w.v[i])}, w.v[i]))
	}
	return tensors
}

// Restore takes back what [AdamW.State] gave, looked up by name, and is exact to the bit. Its error lists every tensor
// that is missing or does not fit; nothing is changed then.
func (w *AdamW) Restore(lookup func(name string) (safetensors.Tensor, bool)) error {
	var errs []error
	read := func(name string, size int) []float32 {
		values, err := readMoment(lookup, name, size)
		errs = append(errs, err)
		return values
	}
	step, ok := lookup("step")
	if !ok || step.DType != "I64" || len(step.Data) != 8 {
		errs = append(errs, errors.New("tensor step: missing, or not one I64"))
	}
	m, v := make([][]float32, len(w.names)), make([][]float32, len(w.names))
	for i, name := range w.names {
		m[i], v[i] = read("m."+name, len(w.m[i])), read("v."+name, len(w.v[i]))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("AdamW state: %w", err)
	}
	w.step, w.m, w.v = int64(binary.LittleEndian.Uint64(step.Data)), m, v
	return nil
}

func readMoment(lookup func(string) (safetensors.Tensor, bool), name string, size int) ([]float32, error) {
	t, ok := lookup(name)
	if !ok {
		return nil, fmt.Errorf("tensor %s: missing", name)
	}
	if t.DType != "F32" || !slices.Equal(t.Shape, []int{size}) {
		return nil, fmt.Errorf("tensor %s: is %s %v, want F32 [%d]", name, t.DType, t.Shape, size)
	}
	return t.Float32s()
}

// float32Tensor makes a little-endian copy of values.
func float32Tensor(name string, shape []int, values []float32) safetensors.Tensor {
	data := make([]byte, 0, 4*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return safetensors.Tensor{Name: name, DType: "F32", Shape: shape, Data: data}
}
