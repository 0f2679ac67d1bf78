package safetensors

import (
	"fmt"
	"math/bits"
)

// DType is an element type by its name in the header: "F64", "F32", "F16", "BF16", "I64" and so on.
type DType string

// The element types that hold weights.
const (
	F64  DType = "F64"
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
)

// dtypes lists the element types of the format in the order of the reference library's enumeration, which a writer
// follows backwards so that wide types, whose alignment matters, come first.
var dtypes = [...]struct {
	name DType
	bits int
}{
	{"BOOL", 8}, {"F4", 4}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8}, {"I8", 8},
	{"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
	{"I16", 16}, {"U16", 16}, {F16, 16}, {BF16, 16}, {"I32", 32}, {"U32", 32}, {F32, 32},
	{"C64", 64}, {F64, 64}, {"I64", 64}, {"U64", 64},
}

// rank is d's place in dtypes, or -1 for a name the format does not know.
func (d DType) rank() int {
	for i, known := range dtypes {
		if known.name == d {
			return i
		}
	}
	return -1
}

// Bits is the width of one element, 0 for a name the format does not know.
func (d DType) Bits() int {
	if i := d.rank(); i >= 0 {
		return dtypes[i].bits
	}
	return 0
}

// ByteSize is the number of bytes of a row-major tensor of shape with elements of type d. It refuses an unknown type, a
// negative dimension, a size that overflows and one that does not end on a whole byte.
func ByteSize(d DType, shape []int) (int, error) {
	width := uint(d.Bits())
	if width == 0 {
		return 0, fmt.Errorf("dtype %q is not one of the safetensors format", string(d))
	}
	elements := uint(1)
	for _, n := range shape {
		if n < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension", shape)
		}
		high, low := bits.Mul(elements, uint(n))
		if high != 0 {
			return 0, fmt.Errorf("shape %v has more elements than can be counted", shape)
		}
		elements = low
	}
	high, total := bits.Mul(elements, width)
	if high != 0 || int(total) < 0 {
		return 0, fmt.Errorf("shape %v of %s is more bytes than can be counted", shape, d)
	}
	if total%8 != 0 {
		return 0, fmt.Errorf("shape %v of %s does not end on a whole byte", shape, d)
	}
	return int(total / 8), nil
}
