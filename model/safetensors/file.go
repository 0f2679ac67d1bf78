package safetensors

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// maxHeader is the longest header the format allows, in bytes.
const maxHeader = 100_000_000

// Tensor is one named array. Data holds the elements little endian and row-major: ByteSize(DType, Shape) bytes. For a
// file it aliases the read-only mapping, need not be aligned to the element, and dies with File.Close.
type Tensor struct {
	Name  string
	DType DType
	Shape []int
	Data  []byte
}

// File is a checked safetensors file whose tensors can be read in any order and from several goroutines.
type File struct {
	name     string
	names    []string // in offset order
	tensors  map[string]Tensor
	metadata map[string]string
	release  func() error
}

// Open maps the file at path into memory and checks its header. The tensors' pages are read when they are first used;
// a file that another program shortens while it is mapped kills this one, so checkpoints must be replaced, not
// rewritten in place.
func Open(path string) (*File, error) {
	mapped, err := Map(path)
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

// Parse checks a whole safetensors file in memory; name stands for it in errors. The tensors alias content.
func Parse(name string, content []byte) (*File, error) {
	const prefix = 8
	if len(content) < prefix {
		return nil, fmt.Errorf("%s: %d bytes cannot be a safetensors file: the header's length alone takes %d; %s",
			name, len(content), prefix, damaged)
	}
	length := binary.LittleEndian.Uint64(content)
	if length > maxHeader {
		return nil, fmt.Errorf("%s: the header claims %d bytes, and the format allows %d: not a safetensors file, or damaged",
			name, length, maxHeader)
	}
	rest := content[prefix:]
	if length > uint64(len(rest)) {
		return nil, fmt.Errorf("%s: the header claims %d bytes, but only %d follow: %s", name, length, len(rest), damaged)
	}
	tensors, metadata, err := parseHeader(rest[:length:length], rest[length:])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	f := &File{name: name, metadata: metadata, tensors: make(map[string]Tensor, len(tensors))}
	for _, t := range tensors {
		f.names = append(f.names, t.Name)
		f.tensors[t.Name] = t
	}
	return f, nil
}

// Names lists the tensors in the order of their bytes in the file.
func (f *File) Names() []string { return slices.Clone(f.names) }

// Tensor returns the tensor of that name, false when the file holds none.
func (f *File) Tensor(name string) (Tensor, bool) {
	t, ok := f.tensors[name]
	return t, ok
}

// Metadata returns the header's free key-value text, empty when there is none.
func (f *File) Metadata() map[string]string { return maps.Clone(f.metadata) }

// Close gives the mapping back; no Data of this file may be used afterwards. A second call does nothing.
func (f *File) Close() error {
	if f.release == nil {
		return nil
	}
	release := f.release
	f.release = nil
	return release()
}
