package torchbin

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/nlpodyssey/gopickle/types"

	"gotransplant/model/safetensors"
)

// File is a .bin file whose tensors can be read in any order and from several goroutines.
type File struct {
	names   []string // in the order of the state dict
	tensors map[string]safetensors.Tensor
	release func() error
}

// Open maps the file at path into memory and reads its state dict. Tensor data aliases the mapping where it can.
func Open(path string) (*File, error) {
	mapped, err := safetensors.Map(path)
	if err != nil {
		return nil, err
	}
	f, err := Parse(path, mapped.Content)
	if err != nil {
		mapped.Close()
		return nil, err
	}
	f.release = mapped.Close
	return f, nil
}

// Parse reads a whole .bin file in memory; name stands for it in errors.
func Parse(name string, content []byte) (*File, error) {
	read := readLegacy
	if bytes.HasPrefix(content, []byte("PK\x03\x04")) {
		read = readZip
	}
	state, err := read(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	f := &File{tensors: map[string]safetensors.Tensor{}}
	var errs []error
	for _, entry := range state {
		t, err := entry.tensor()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		if _, twice := f.tensors[t.Name]; !twice {
			f.names = append(f.names, t.Name)
		}
		f.tensors[t.Name] = t // Python keeps the last of two equal keys
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return f, nil
}

// Names lists the tensors in the order of the state dict.
func (f *File) Names() []string { return slices.Clone(f.names) }

// Tensor returns the tensor of that name, false when the file holds none.
func (f *File) Tensor(name string) (safetensors.Tensor, bool) {
	t, ok := f.tensors[name]
	return t, ok
}

// Close gives the mapping back; no Data of this file may be used afterwards. A second call does nothing.
func (f *File) Close() error {
	if f.release == nil {
		return nil
	}
	release := f.release
	f.release = nil
	return release()
}

// entry is one member of a state dict.
type entry struct{ key, value any }

// entries returns the members of a dict, which is what a file of weights must hold.
func entries(object any) ([]entry, error) {
	var list []entry
	switch dict := object.(type) {
	case *types.OrderedDict:
		for e := dict.List.Front(); e != nil; e = e.Next() {
			member := e.Value.(*types.OrderedDictEntry)
			list = append(list, entry{member.Key, member.Value})
		}
	case *types.Dict:
		for _, member := range *dict {
			list = append(list, entry{member.Key, member.Value})
		}
	default:
		return nil, fmt.Errorf("holds a %T where a state dict of tensors is wanted; save model.state_dict()", object)
	}
	return list, nil
}

// tensor returns the member as a named tensor.
func (e entry) tensor() (safetensors.Tensor, error) {
	name, ok := e.key.(string)
	if !ok {
		return safetensors.Tensor{}, fmt.Errorf("the state dict has a key of type %T, want a string", e.key)
	}
	v, ok := e.value.(*view)
	if !ok {
		return safetensors.Tensor{}, fmt.Errorf("%q is a %T, want a tensor; save model.state_dict() alone", name, e.value)
	}
	data, err := v.bytes()
	if err != nil {
		return safetensors.Tensor{}, fmt.Errorf("tensor %q: %w", name, err)
	}
	return safetensors.Tensor{Name: name, DType: v.storage.dtype, Shape: v.shape, Data: data}, nil
}
