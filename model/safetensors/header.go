package safetensors

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"gotransplant/internal/strictjson"
)

// damaged ends the messages about a file that is shorter than it says.
const damaged = "the file is cut short or damaged; copy or download it again"

// metadataKey is the header's one member that is no tensor.
const metadataKey = "__metadata__"

// extent is a tensor and the bytes [start, end) of the buffer that the header gives it.
type extent struct {
	Tensor
	start, end int
}

// parseHeader reads the header and cuts buffer, all the bytes behind it, into tensors, in offset order.
func parseHeader(header, buffer []byte) ([]Tensor, map[string]string, error) {
	if len(header) == 0 || header[0] != '{' {
		return nil, nil, errors.New("the header does not start with '{': not a safetensors file, or damaged")
	}
	members, err := strictjson.Object(header)
	if err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	var metadata map[string]string
	extents := make([]extent, 0, len(members))
	for name, raw := range members {
		if name == metadataKey {
			if metadata, err = parseMetadata(raw); err != nil {
				return nil, nil, fmt.Errorf("header: %s: %w", metadataKey, err)
			}
			continue
		}
		e, err := parseExtent(raw)
		if err != nil {
			return nil, nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		e.Name = name
		extents = append(extents, e)
	}
	slices.SortFunc(extents, func(a, b extent) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end), cmp.Compare(a.Name, b.Name))
	})
	tensors, err := cut(extents, buffer)
	return tensors, metadata, err
}

// parseMetadata reads the object of strings under metadataKey.
func parseMetadata(raw json.RawMessage) (map[string]string, error) {
	members, err := strictjson.Members(raw)
	if err != nil {
		return nil, err
	}
	metadata := make(map[string]string, len(members))
	for key, value := range members {
		if metadata[key], err = strictjson.String(value); err != nil {
			return nil, fmt.Errorf("key %q: %w", key, err)
		}
	}
	return metadata, nil
}

// parseExtent reads {"dtype": ..., "shape": [...], "data_offsets": [start, end]} and checks that they agree.
func parseExtent(raw json.RawMessage) (extent, error) {
	var e extent
	members, err := strictjson.Members(raw)
	if err != nil {
		return e, err
	}
	for _, key := range []string{"dtype", "shape", "data_offsets"} {
		if _, ok := members[key]; !ok {
			return e, fmt.Errorf("%s is missing", key)
		}
	}
	if len(members) > 3 {
		return e, fmt.Errorf("keys other than dtype, shape and data_offsets: %s", strictjson.Excerpt(raw))
	}
	dtype, err := strictjson.String(members["dtype"])
	if err != nil {
		return e, fmt.Errorf("dtype: %w", err)
	}
	e.DType = DType(dtype)
	if e.Shape, err = parseInts(members["shape"]); err != nil {
		return e, fmt.Errorf("shape: %w", err)
	}
	offsets, err := parseInts(members["data_offsets"])
	if err != nil {
		return e, fmt.Errorf("data_offsets: %w", err)
	}
	if len(offsets) != 2 || offsets[0] > offsets[1] {
		return e, fmt.Errorf("data_offsets: want [start, end] with start <= end, got %v", offsets)
	}
	e.start, e.end = offsets[0], offsets[1]
	size, err := ByteSize(e.DType, e.Shape)
	if err != nil {
		return e, err
	}
	if size != e.end-e.start {
		return e, fmt.Errorf("%s of shape %v takes %d bytes, but data_offsets %v give it %d",
			e.DType, e.Shape, size, offsets, e.end-e.start)
	}
	return e, nil
}

// parseInts reads an array of plain non-negative integers: 3, but not 3.0, 3e0, "3" or -0.
func parseInts(raw json.RawMessage) ([]int, error) {
	if len(raw) == 0 || raw[0] != '[' {
		return nil, fmt.Errorf("want an array, got %s", strictjson.Excerpt(raw))
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return nil, err
	}
	ints := make([]int, len(items))
	for i, item := range items {
		n, err := strconv.ParseUint(string(item), 10, strconv.IntSize-1)
		if err != nil {
			return nil, fmt.Errorf("item %d: %s is not a whole number from 0 to %d", i, strictjson.Excerpt(item), maxInt)
		}
		ints[i] = int(n)
	}
	return ints, nil
}

// maxInt is the largest dimension or offset this machine can count.
const maxInt = int(^uint(0) >> 1)

// cut gives each extent its bytes; together they must cover buffer exactly, each starting where the last one ended.
func cut(extents []extent, buffer []byte) ([]Tensor, error) {
	tensors := make([]Tensor, 0, len(extents))
	end, last := 0, "the header"
	for _, e := range extents {
		switch {
		case e.start > end:
			return nil, fmt.Errorf("tensor %q: its bytes start at %d, leaving %d unused bytes behind %s",
				e.Name, e.start, e.start-end, last)
		case e.start < end:
			return nil, fmt.Errorf("tensor %q: its bytes start at %d and overlap those of %s, which end at %d",
				e.Name, e.start, last, end)
		case e.end > len(buffer):
			return nil, fmt.Errorf("tensor %q: its bytes end at %d, but only %d follow the header: %s",
				e.Name, e.end, len(buffer), damaged)
		}
		e.Data = buffer[e.start:e.end:e.end]
		tensors = append(tensors, e.Tensor)
		end, last = e.end, fmt.Sprintf("tensor %q", e.Name)
	}
	if end != len(buffer) {
		return nil, fmt.Errorf("%d bytes follow %s that belong to no tensor", len(buffer)-end, last)
	}
	return tensors, nil
}
