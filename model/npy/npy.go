// Package npy reads and writes arrays as numpy's .npy files, version 1.0 of the format: a magic number, a header that is
// a Python dictionary, and the elements, little endian and row-major
// (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
package npy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"gotransplant/internal/atomicfile"
	"gotransplant/model/safetensors"
)

// magic begins every file of version 1.0.
const magic = "\x93NUMPY\x01\x00"

// alignment is what the elements begin at a multiple of.
const alignment = 64

// descriptions are numpy's names of the element types.
func descriptions() map[safetensors.DType]string {
	return map[safetensors.DType]string{safetensors.F64: "<f8", safetensors.F32: "<f4", safetensors.F16: "<f2"}
}

// Write writes an array to path, atomically: fill must write as many bytes as shape and d, F64, F32 or F16, ask for.
// numpy has no bfloat16.
func Write(path string, d safetensors.DType, shape []int, fill func(w io.Writer) error) error {
	head, err := header(d, shape)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		if _, err := w.Write(head); err != nil {
			return err
		}
		return fill(w)
	})
}

// header is everything before the elements.
func header(d safetensors.DType, shape []int) ([]byte, error) {
	description, ok := descriptions()[d]
	if !ok {
		return nil, fmt.Errorf("numpy has no type for %s: store F64, F32 or F16", d)
	}
	var sizes strings.Builder
	for _, n := range shape {
		fmt.Fprintf(&sizes, "%d, ", n)
	}
	list := strings.TrimSuffix(sizes.String(), " ")
	if len(shape) != 1 {
		list = strings.TrimSuffix(list, ",") // a tuple of one needs it
	}
	text := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", description, list)
	size := len(magic) + 2
	padded := (size+len(text)+1+alignment-1)/alignment*alignment - size
	if padded > math.MaxUint16 {
		return nil, fmt.Errorf("shape %v does not fit the header", shape)
	}
	head := binary.LittleEndian.AppendUint16([]byte(magic), uint16(padded))
	head = append(head, text...)
	head = append(head, bytes.Repeat([]byte{' '}, padded-len(text)-1)...)
	return append(head, '\n'), nil
}

// File is an open array; Data of Tensor dies with Close.
type File struct {
	safetensors.Tensor
	mapped *safetensors.Mapped
}

// Open maps the file at path, which must be one that Write could have written.
func Open(path string) (*File, error) {
	mapped, err := safetensors.Map(path)
	if err != nil {
		return nil, err
	}
	f := &File{mapped: mapped}
	if f.Tensor, err = parse(mapped.Content); err != nil {
		mapped.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f.Name = path
	return f, nil
}

// Close gives the mapping back.
func (f *File) Close() error { return f.mapped.Close() }

func parse(content []byte) (t safetensors.Tensor, err error) {
	rest, ok := bytes.CutPrefix(content, []byte(magic))
	if !ok || len(rest) < 2 {
		return t, fmt.Errorf("not a .npy file of version 1.0")
	}
	length := int(binary.LittleEndian.Uint16(rest))
	if rest = rest[2:]; length > len(rest) {
		return t, fmt.Errorf("the header claims %d bytes, but only %d follow: the file is cut short", length, len(rest))
	}
	if t, err = parseHeader(string(rest[:length])); err != nil {
		return t, err
	}
	t.Data = rest[length:]
	size, err := safetensors.ByteSize(t.DType, t.Shape)
	if err == nil && size != len(t.Data) {
		err = fmt.Errorf("%s of shape %v takes %d bytes, but %d follow the header: the file is cut short or damaged",
			t.DType, t.Shape, size, len(t.Data))
	}
	return t, err
}

// parseHeader reads the dictionary in the form in which numpy writes it.
func parseHeader(text string) (t safetensors.Tensor, err error) {
	bad := fmt.Errorf("header %q: want {'descr': '<f8', 'fortran_order': False, 'shape': (...), }", strings.TrimSpace(text))
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), "{'descr': '")
	if !ok {
		return t, bad
	}
	description, rest, _ := strings.Cut(rest, "'")
	for d, name := range descriptions() {
		if name == description {
			t.DType = d
		}
	}
	list, ok := strings.CutPrefix(rest, ", 'fortran_order': False, 'shape': (")
	list, end, closed := strings.Cut(list, ")")
	if t.DType == "" || !ok || !closed || end != ", }" {
		return t, bad
	}
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return t, bad
		}
		t.Shape = append(t.Shape, n)
	}
	return t, nil
}
