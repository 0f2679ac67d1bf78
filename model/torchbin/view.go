package torchbin

import (
	"fmt"

	"github.com/nlpodyssey/gopickle/types"

	"gotransplant/model/safetensors"
)

// storage is a flat array that one or more tensors look into.
type storage struct {
	dtype safetensors.DType
	size  int    // elements
	data  []byte // size elements; in the older format known only once all tensors are
}

// view is a tensor as PyTorch has it: element i, j, ... is at offset + i*stride[0] + j*stride[1] + ... of the storage.
type view struct {
	storage       *storage
	offset        int
	shape, stride []int
}

// rebuildTensor stands for torch._utils._rebuild_tensor(storage, offset, size, stride) and its successor _v2, whose
// further arguments say nothing about the values.
type rebuildTensor struct{}

// Call makes the view. The pickle decides what the arguments are.
func (rebuildTensor) Call(args ...any) (any, error) {
	if len(args) < 4 {
		return nil, fmt.Errorf("a tensor is rebuilt from %d arguments, want at least 4", len(args))
	}
	s, sOK := args[0].(*storage)
	offset, offsetOK := args[1].(int)
	shape, shapeOK := ints(args[2])
	stride, strideOK := ints(args[3])
	if !sOK || !offsetOK || !shapeOK || !strideOK || len(shape) != len(stride) {
		return nil, fmt.Errorf("a tensor is rebuilt from %T, %T, %T, %T, want a storage, an offset, a shape and its strides",
			args[0], args[1], args[2], args[3])
	}
	return &view{s, offset, shape, stride}, nil
}

// rebuildParameter stands for torch._utils._rebuild_parameter(tensor, requires_grad, hooks).
type rebuildParameter struct{}

// Call returns the tensor inside.
func (rebuildParameter) Call(args ...any) (any, error) {
	if len(args) > 0 {
		if v, ok := args[0].(*view); ok {
			return v, nil
		}
	}
	return nil, fmt.Errorf("a parameter is rebuilt from something that is no tensor")
}

// ints returns the whole numbers of a tuple.
func ints(object any) ([]int, bool) {
	tuple, ok := object.(*types.Tuple)
	if !ok {
		return nil, false
	}
	list := make([]int, tuple.Len())
	for i := range list {
		if list[i], ok = tuple.Get(i).(int); !ok {
			return nil, false
		}
	}
	return list, true
}

// bytes returns the elements row-major: a part of the storage, or a copy when they do not lie there in that order.
func (v *view) bytes() ([]byte, error) {
	total, err := safetensors.ByteSize(v.storage.dtype, v.shape)
	if err != nil || total == 0 {
		return nil, err
	}
	if err := v.checkReach(); err != nil {
		return nil, err
	}
	width := v.storage.dtype.Bits() / 8
	start := v.offset * width
	if v.contiguous() {
		return v.storage.data[start : start+total : start+total], nil
	}
	if total > len(v.storage.data) {
		return nil, fmt.Errorf("shape %v repeats the %d elements of its storage; save it after .contiguous()",
			v.shape, v.storage.size)
	}
	data := make([]byte, 0, total)
	at := make([]int, len(v.shape))
	for len(data) < total {
		data = append(data, v.storage.data[start:start+width]...)
		for d := len(at) - 1; d >= 0; d-- {
			at[d]++
			start += v.stride[d] * width
			if at[d] < v.shape[d] {
				break
			}
			start -= at[d] * v.stride[d] * width
			at[d] = 0
		}
	}
	return data, nil
}

// checkReach makes sure that no element of v, which has some, lies outside the storage.
func (v *view) checkReach() error {
	room := v.storage.size - 1 - v.offset // how far the last element may lie behind the first
	outside := v.offset < 0 || room < 0
	for d, n := range v.shape {
		if outside || n == 1 || v.stride[d] == 0 {
			continue
		}
		outside = n-1 > room/v.stride[d] // as with a negative stride
		room -= (n - 1) * v.stride[d]
	}
	if outside {
		return fmt.Errorf("offset %d, shape %v and strides %v reach outside the storage of %d elements",
			v.offset, v.shape, v.stride, v.storage.size)
	}
	return nil
}

// contiguous reports whether the elements lie row-major without gaps.
func (v *view) contiguous() bool {
	step := 1
	for d := len(v.shape) - 1; d >= 0; d-- {
		if v.shape[d] != 1 && v.stride[d] != step {
			return false
		}
		step *= v.shape[d]
	}
	return true
}
