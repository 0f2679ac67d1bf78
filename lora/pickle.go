package lora

import (
	"errors"
	"fmt"

	"github.com/nlpodyssey/gopickle/pytorch"
	"github.com/nlpodyssey/gopickle/types"

	"gotransplant/internal/guard"
	"gotransplant/model/safetensors"
)

// readPickle reads the state dict of a torch.save file as float32 tensors, in file order. Nothing in it is executed:
// gopickle knows tensors and containers only.
func readPickle(path string) ([]safetensors.Tensor, error) {
	var tensors []safetensors.Tensor
	err := guard.Do("read "+path, func() error { // gopickle panics on some malformed files
		content, err := pytorch.Load(path)
		if err != nil {
			return fmt.Errorf("read %s: not a PyTorch state dict: %w", path, err)
		}
		entries, err := stateDict(content)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		for _, e := range entries {
			t, err := e.tensor()
			if err != nil {
				return fmt.Errorf("read %s: tensor %v: %w", path, e.Key, err)
			}
			tensors = append(tensors, t)
		}
		return nil
	})
	return tensors, err
}

// entry is one item of a state dict.
type entry types.DictEntry

func stateDict(content any) ([]entry, error) {
	var entries []entry
	switch d := content.(type) {
	case *types.OrderedDict:
		for e := d.List.Front(); e != nil; e = e.Next() {
			item, ok := e.Value.(*types.OrderedDictEntry)
			if !ok {
				return nil, fmt.Errorf("an item of the state dict is a %T", e.Value)
			}
			entries = append(entries, entry{item.Key, item.Value})
		}
	case *types.Dict:
		for _, e := range *d {
			entries = append(entries, entry(e))
		}
	default:
		return nil, fmt.Errorf("holds a %T, want a state dict", content)
	}
	return entries, nil
}

// tensor copies the entry's values out of its storage, row-major whatever the strides.
func (e entry) tensor() (safetensors.Tensor, error) {
	name, ok := e.Key.(string)
	t, isTensor := e.Value.(*pytorch.Tensor)
	if !ok || !isTensor {
		return safetensors.Tensor{}, fmt.Errorf("is a %T, want a tensor with a name", e.Value)
	}
	storage, err := floats(t.Source)
	if err != nil {
		return safetensors.Tensor{}, err
	}
	if len(t.Size) != len(t.Stride) {
		return safetensors.Tensor{}, fmt.Errorf("%d sizes and %d strides", len(t.Size), len(t.Stride))
	}
	positions, last := []int{t.StorageOffset}, t.StorageOffset
	for axis, size := range t.Size {
		if size < 1 || t.Stride[axis] < 0 || len(positions) > len(storage)/size {
			return safetensors.Tensor{}, fmt.Errorf("size %v with strides %v does not fit its storage of %d values",
				t.Size, t.Stride, len(storage))
		}
		positions = spread(positions, size, t.Stride[axis])
		last += (size - 1) * t.Stride[axis]
	}
	if t.StorageOffset < 0 || last >= len(storage) {
		return safetensors.Tensor{}, errors.New("reaches beyond its storage")
	}
	values := make([]float32, len(positions))
	for i, p := range positions {
		values[i] = storage[p]
	}
	return float32Tensor(name, t.Size, values), nil
}

// spread follows each position by the further size-1 that lie stride apart from it.
func spread(positions []int, size, stride int) []int {
	all := make([]int, 0, len(positions)*size)
	for _, p := range positions {
		for i := range size {
			all = append(all, p+i*stride)
		}
	}
	return all
}

func floats(storage pytorch.StorageInterface) ([]float32, error) {
	switch s := storage.(type) {
	case *pytorch.FloatStorage:
		return s.Data, nil
	case *pytorch.HalfStorage:
		return s.Data, nil
	case *pytorch.BFloat16Storage:
		return s.Data, nil
	case *pytorch.DoubleStorage:
		data := make([]float32, len(s.Data))
		for i, v := range s.Data {
			data[i] = float32(v)
		}
		return data, nil
	default:
		return nil, fmt.Errorf("dtype of a %T, want float64, float32, float16 or bfloat16", storage)
	}
}
