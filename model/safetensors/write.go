package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"gotransplant/internal/atomicfile"
)

// Spec is a tensor without its data.
type Spec struct {
	Name  string
	DType DType
	Shape []int
}

// Write writes tensors to path, atomically. The bytes depend only on the content: wide types first, then by name, as
// in the reference library's writer, with metadata's keys sorted. Each Data must have the length that DType and Shape
// ask for.
func Write(path string, tensors []Tensor, metadata map[string]string) error {
	specs := make([]Spec, len(tensors))
	for i, t := range tensors {
		specs[i] = Spec{t.Name, t.DType, t.Shape}
	}
	return WriteFrom(path, specs, metadata, func(i int, w io.Writer) error {
		_, err := w.Write(tensors[i].Data)
		return err
	})
}

// WriteFrom is Write for tensors that need not be in memory together: fill(i, w) must write the data of specs[i], all
// of it, and is called once for each i in the order of the file, which is Write's.
func WriteFrom(path string, specs []Spec, metadata map[string]string, fill func(i int, w io.Writer) error) error {
	sizes, err := checkSpecs(specs)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	order := fileOrder(specs)
	header, err := encodeHeader(specs, sizes, order, metadata)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		if _, err := w.Write(header); err != nil {
			return err
		}
		for _, i := range order {
			counted := &counter{w: w}
			if err := fill(i, counted); err != nil {
				return fmt.Errorf("tensor %q: %w", specs[i].Name, err)
			}
			if counted.n != sizes[i] {
				return fmt.Errorf("tensor %q: %s of shape %v takes %d bytes, got %d",
					specs[i].Name, specs[i].DType, specs[i].Shape, sizes[i], counted.n)
			}
		}
		return nil
	})
}

// counter counts the bytes that go through it.
type counter struct {
	w io.Writer
	n int
}

// Write passes p on.
func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += n
	return n, err
}

// checkSpecs returns the byte size of each tensor.
func checkSpecs(specs []Spec) ([]int, error) {
	sizes := make([]int, len(specs))
	seen := make(map[string]bool, len(specs))
	total := 0
	for i, s := range specs {
		switch {
		case s.Name == metadataKey || !utf8.ValidString(s.Name):
			return nil, fmt.Errorf("tensor name %q: the format cannot hold it", s.Name)
		case seen[s.Name]:
			return nil, fmt.Errorf("tensor %q is given twice", s.Name)
		}
		seen[s.Name] = true
		var err error
		if sizes[i], err = ByteSize(s.DType, s.Shape); err != nil {
			return nil, fmt.Errorf("tensor %q: %w", s.Name, err)
		}
		if total += sizes[i]; total < 0 {
			return nil, fmt.Errorf("tensor %q: the file would be longer than can be counted", s.Name)
		}
	}
	return sizes, nil
}

// fileOrder sorts the indices of specs by falling dtype rank, then by name.
func fileOrder(specs []Spec) []int {
	order := make([]int, len(specs))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(specs[b].DType.rank(), specs[a].DType.rank()), cmp.Compare(specs[a].Name, specs[b].Name))
	})
	return order
}

// encodeHeader returns the length and the header, padded with spaces so that the data starts at a multiple of 8.
func encodeHeader(specs []Spec, sizes, order []int, metadata map[string]string) ([]byte, error) {
	text := []byte{'{'}
	if len(metadata) > 0 {
		for key, value := range metadata {
			if !utf8.ValidString(key) || !utf8.ValidString(value) {
				return nil, fmt.Errorf("metadata %q: %q is not UTF-8", key, value)
			}
		}
		text = append(appendJSON(text, metadataKey), ':')
		text = append(appendJSON(text, metadata), ',')
	}
	start := 0
	for _, i := range order {
		shape := append([]int{}, specs[i].Shape...) // a scalar's shape is [], never null
		text = fmt.Appendf(appendJSON(text, specs[i].Name), `:{"dtype":"%s","shape":`, specs[i].DType)
		text = fmt.Appendf(appendJSON(text, shape), `,"data_offsets":[%d,%d]},`, start, start+sizes[i])
		start += sizes[i]
	}
	text = append(bytes.TrimSuffix(text, []byte{','}), '}')
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	if len(text) > maxHeader {
		return nil, fmt.Errorf("the header would take %d bytes, and the format allows %d", len(text), maxHeader)
	}
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), nil
}

// appendJSON appends v, made of strings and ints only, with sorted keys and without the escapes that only HTML needs.
func appendJSON(text []byte, v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.Encode(v) // such a value always encodes, and a bytes.Buffer takes it
	return append(text, bytes.TrimSuffix(b.Bytes(), []byte{'\n'})...)
}
