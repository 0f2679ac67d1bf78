package torchbin

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/nlpodyssey/gopickle/pickle"
	"github.com/nlpodyssey/gopickle/types"

	"gotransplant/internal/guard"
	"gotransplant/model/safetensors"
)

// maxPickle bounds the pickles, which hold names and shapes only: those of the largest LLaMA take some 100 KB, and
// gopickle may spend 256 bytes of memory on one of theirs.
const maxPickle = 4 << 20

// unpickle runs the pickle at the start of content with load for its persistent ids, and returns its value and length.
func unpickle(content []byte, load func(any) (any, error)) (value any, length int, err error) {
	if length, err = measure(content[:min(len(content), maxPickle)]); err != nil {
		return nil, 0, err
	}
	err = guard.Do("run the pickle", func() error {
		u := pickle.NewUnpickler(bytes.NewReader(content[:length]))
		u.FindClass = findClass
		u.PersistentLoad = load
		var err error
		value, err = u.Load()
		return err
	})
	return value, length, err
}

// findClass returns the few things a state dict is made of; gopickle itself knows OrderedDict.
func findClass(module, name string) (any, error) {
	switch full := module + "." + name; full {
	case "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2":
		return rebuildTensor{}, nil
	case "torch._utils._rebuild_parameter":
		return rebuildParameter{}, nil
	case "torch.DoubleStorage":
		return safetensors.F64, nil
	case "torch.FloatStorage":
		return safetensors.F32, nil
	case "torch.HalfStorage":
		return safetensors.F16, nil
	case "torch.BFloat16Storage":
		return safetensors.BF16, nil
	case "torch.LongStorage":
		return safetensors.DType("I64"), nil
	case "torch.IntStorage":
		return safetensors.DType("I32"), nil
	case "torch.ShortStorage":
		return safetensors.DType("I16"), nil
	case "torch.CharStorage":
		return safetensors.DType("I8"), nil
	case "torch.ByteStorage":
		return safetensors.DType("U8"), nil
	case "torch.BoolStorage":
		return safetensors.DType("BOOL"), nil
	default:
		return nil, fmt.Errorf("the pickle asks for %s, which no state dict of tensors needs; nothing of it was run", full)
	}
}

// storageID is the tuple ("storage", type, key, location, elements, ...) by which a pickle names a storage.
type storageID struct {
	dtype safetensors.DType
	key   string
	size  int
}

// parseID reads such a tuple; in the older format a sixth item makes it a part of another storage.
func parseID(object any) (storageID, error) {
	tuple, ok := object.(*types.Tuple)
	if !ok || tuple.Len() < 5 || tuple.Get(0) != "storage" {
		return storageID{}, fmt.Errorf("persistent id of type %T, want the tuple of a storage", object)
	}
	if tuple.Len() > 5 && tuple.Get(5) != nil {
		return storageID{}, errors.New("a storage is part of another one; save the file again with a newer PyTorch")
	}
	dtype, dtypeOK := tuple.Get(1).(safetensors.DType)
	key, keyOK := tuple.Get(2).(string)
	size, sizeOK := tuple.Get(4).(int)
	if !dtypeOK || !keyOK || !sizeOK {
		return storageID{}, errors.New("the tuple of a storage does not hold its type, key and size")
	}
	if _, err := safetensors.ByteSize(dtype, []int{size}); err != nil {
		return storageID{}, fmt.Errorf("storage %q: %w", key, err)
	}
	return storageID{dtype, key, size}, nil
}

// storages are the storages of a file by key.
type storages map[string]*storage

// get returns the storage of id, made by a first call; all ids of a key must agree.
func (s storages) get(id storageID) (*storage, error) {
	known, ok := s[id.key]
	if !ok {
		known = &storage{dtype: id.dtype, size: id.size}
		s[id.key] = known
	}
	if known.dtype != id.dtype || known.size != id.size {
		return nil, fmt.Errorf("storage %q is %d elements of %s in one place and %d of %s in another",
			id.key, known.size, known.dtype, id.size, id.dtype)
	}
	return known, nil
}

// measure returns the length of the pickle at the start of content. It walks the opcodes because gopickle allocates
// whatever length an argument claims before it reads it; here every claim is checked against what is left.
func measure(content []byte) (int, error) {
	cut := fmt.Errorf("its pickle does not end within %d bytes: not a PyTorch file, or cut short", len(content))
	for at := 0; at < len(content); {
		opcode, rest := content[at], content[at+1:]
		if opcode == '.' {
			return at + 1, nil
		}
		size, ok := argumentSize(opcode, rest)
		if !ok {
			return 0, cut
		}
		at += 1 + size // past the end, if that is where the argument would go
	}
	return 0, cut
}

// argumentSize is the number of bytes that an opcode takes from rest, false if rest is too short to tell. Unknown
// opcodes count as without argument: gopickle refuses them. The list is that of Python's pickletools.
func argumentSize(opcode byte, rest []byte) (int, bool) {
	switch opcode {
	case 'K', 'h', 'q', 0x80, 0x82:
		return 1, true
	case 'M', 0x83:
		return 2, true
	case 'J', 'j', 'r', 0x84:
		return 4, true
	case 'G':
		return 8, true
	case 'F', 'I', 'L', 'P', 'S', 'V', 'g', 'p':
		return lines(rest, 1)
	case 'c', 'i':
		return lines(rest, 2)
	case 'U', 'C', 0x8a, 0x8c:
		return counted(rest, 1)
	case 'T', 'X', 'B', 0x8b:
		return counted(rest, 4)
	case 0x8d, 0x8e, 0x96:
		return counted(rest, 8)
	case 0x95: // a frame: its content follows as opcodes
		_, ok := counted(rest, 8)
		return 8, ok
	}
	return 0, true
}

// lines is the size of n lines with their ends.
func lines(rest []byte, n int) (size int, ok bool) {
	for range n {
		end := bytes.IndexByte(rest[size:], '\n')
		if end < 0 {
			return 0, false
		}
		size += end + 1
	}
	return size, true
}

// counted is the size of an argument behind its own length of width bytes, little endian.
func counted(rest []byte, width int) (size int, ok bool) {
	if len(rest) < width {
		return 0, false
	}
	var length [8]byte
	copy(length[:], rest[:width])
	n := binary.LittleEndian.Uint64(length[:])
	return width + int(n), n <= uint64(len(rest)-width)
}
