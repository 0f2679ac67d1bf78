package torchbin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/nlpodyssey/gopickle/types"

	"gotransplant/model/safetensors"
)

// The first two values of a file in the older format.
const (
	legacyMagic    = "1950a86a20f9469cfc6c" // in hexadecimal
	legacyProtocol = 1001
)

// readLegacy reads the format before PyTorch 1.6: five pickles (magic number, protocol, system, state dict, list of
// storage keys), then for each key the number of elements in eight bytes and the elements.
func readLegacy(content []byte) ([]entry, error) {
	known := storages{}
	load := func(id any) (any, error) {
		parsed, err := parseID(id)
		if err != nil {
			return nil, err
		}
		return known.get(parsed)
	}
	var values [5]any
	for i := range values {
		value, length, err := unpickle(content, load)
		if err != nil && i == 0 {
			err = fmt.Errorf("not a PyTorch file: %w", err)
		}
		if err != nil {
			return nil, err
		}
		values[i], content = value, content[length:]
		if err := checkPreamble(i, value); err != nil {
			return nil, err
		}
	}
	keys, ok := values[4].(*types.List)
	if !ok {
		return nil, fmt.Errorf("the list of storages is a %T", values[4])
	}
	if err := known.fill(*keys, content); err != nil {
		return nil, err
	}
	return entries(values[3])
}

// checkPreamble checks the first three values.
func checkPreamble(i int, value any) error {
	switch i {
	case 0:
		if n, ok := value.(*big.Int); !ok || n.Text(16) != legacyMagic {
			return errors.New("not a PyTorch file: it starts with another pickle")
		}
	case 1:
		if value != legacyProtocol {
			return fmt.Errorf("PyTorch file of protocol %v, want %d", value, legacyProtocol)
		}
	case 2:
		if system, ok := value.(*types.Dict); ok {
			if little, ok := system.Get("little_endian"); ok && little != true {
				return errors.New("big-endian numbers; save it on another machine")
			}
		}
	}
	return nil
}

// fill gives each storage its data, which content holds in the order of keys.
func (s storages) fill(keys []any, content []byte) error {
	const prefix = 8
	for _, object := range keys {
		key, _ := object.(string)
		known, ok := s[key]
		if !ok {
			return fmt.Errorf("storage %q belongs to no tensor", key)
		}
		size, err := safetensors.ByteSize(known.dtype, []int{known.size})
		if err != nil {
			return err
		}
		if len(content)-prefix < size {
			return fmt.Errorf("storage %q: %d bytes are left, want %d: the file is cut short", key, len(content), prefix+size)
		}
		if n := binary.LittleEndian.Uint64(content); n != uint64(known.size) {
			return fmt.Errorf("storage %q holds %d elements, but the state dict says %d", key, n, known.size)
		}
		known.data = content[prefix : prefix+size : prefix+size]
		content = content[prefix+size:]
	}
	for key, known := range s {
		if known.data == nil {
			return fmt.Errorf("storage %q is not in the file", key)
		}
	}
	return nil
}
