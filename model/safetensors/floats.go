package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Float32s returns the elements as float32: BF16, F16 and F32 exactly, bit for bit where they are not numbers, F64
// rounded to the nearest. Other types, and data that does not fit Shape, are refused.
func (t Tensor) Float32s() ([]float32, error) {
	size, err := ByteSize(t.DType, t.Shape)
	if err == nil && size != len(t.Data) {
		err = fmt.Errorf("%s of shape %v takes %d bytes, got %d", t.DType, t.Shape, size, len(t.Data))
	}
	if err != nil {
		return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	values := make([]float32, len(t.Data)*8/max(1, t.DType.Bits()))
	if err := Decode(values, t.DType, t.Data); err != nil {
		return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	return values, nil
}

// Decode converts data, little-endian elements of type d whatever the host's byte order, to dst, which has room for them:
// BF16, F16 and F32 exactly, bit for bit where they are not numbers, F64 rounded to the nearest.
func Decode(dst []float32, d DType, data []byte) error {
	if len(dst)*d.Bits() != len(data)*8 {
		return fmt.Errorf("%d bytes do not hold %d values of type %s", len(data), len(dst), d)
	}
	switch d {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i : 4*i+4]))
		}
	case BF16: // the upper half of a float32
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(data[2*i:2*i+2])) << 16)
		}
	case F16:
		for i := range dst {
			dst[i] = widenF16(binary.LittleEndian.Uint16(data[2*i : 2*i+2]))
		}
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(data[8*i : 8*i+8])))
		}
	default:
		return fmt.Errorf("dtype %s does not hold floating-point weights; want F64, F32, F16 or BF16", d)
	}
	return nil
}

// widenF16 converts an IEEE 754 binary16. Shifted into place its exponent is 112 too small; one exact multiplication
// by 2^112 corrects it and normalises subnormals on the way.
func widenF16(h uint16) float32 {
	sign, magnitude := uint32(h&0x8000)<<16, uint32(h&0x7FFF)<<13
	if h&0x7C00 == 0x7C00 { // infinity, or not a number with its payload
		return math.Float32frombits(sign | 0x7F800000 | magnitude)
	}
	return math.Float32frombits(sign | math.Float32bits(math.Float32frombits(magnitude)*0x1p112))
}

// FromFloat32s makes a tensor of type F64, F32, F16 or BF16 from values, row-major; to the narrow types they are
// rounded to the nearest, ties to even.
func FromFloat32s(name string, d DType, shape []int, values []float32) (Tensor, error) {
	size, err := ByteSize(d, shape)
	if err != nil {
		return Tensor{}, fmt.Errorf("tensor %q: %w", name, err)
	}
	if size*8 != len(values)*d.Bits() {
		return Tensor{}, fmt.Errorf("tensor %q: shape %v does not hold %d values", name, shape, len(values))
	}
	data := make([]byte, size)
	if err := Encode(data, d, values); err != nil {
		return Tensor{}, fmt.Errorf("tensor %q: %w", name, err)
	}
	return Tensor{Name: name, DType: d, Shape: shape, Data: data}, nil
}

// Encode converts values to type d, F64, F32, F16 or BF16, in dst, which has room for just these; to the narrow types
// they are rounded to the nearest, ties to even.
func Encode(dst []byte, d DType, values []float32) error {
	if len(values)*d.Bits() != len(dst)*8 {
		return fmt.Errorf("%d values of type %s do not take %d bytes", len(values), d, len(dst))
	}
	switch d {
	case F64:
		for i, v := range values {
			binary.LittleEndian.PutUint64(dst[8*i:], math.Float64bits(float64(v)))
		}
	case F32:
		for i, v := range values {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(v))
		}
	case F16:
		for i, v := range values {
			binary.LittleEndian.PutUint16(dst[2*i:], narrowF16(v))
		}
	case BF16:
		for i, v := range values {
			binary.LittleEndian.PutUint16(dst[2*i:], narrowBF16(v))
		}
	default:
		return fmt.Errorf("float32 values cannot be stored as %s; use F64, F32, F16 or BF16", d)
	}
	return nil
}

// narrowBF16 rounds v to bfloat16; what is not a number stays so.
func narrowBF16(v float32) uint16 {
	bits := math.Float32bits(v)
	if v != v {
		return uint16(bits>>16) | 0x40
	}
	return uint16((bits + 0x7FFF + bits>>16&1) >> 16)
}

// narrowF16 rounds v to binary16; what is not a number stays so.
func narrowF16(v float32) uint16 {
	bits := math.Float32bits(v)
	sign, magnitude := uint16(bits>>16)&0x8000, bits&0x7FFFFFFF
	switch {
	case v != v:
		return sign | 0x7E00 | uint16(magnitude>>13)&0x3FF
	case magnitude >= 0x47800000: // 65536 and above
		return sign | 0x7C00
	case magnitude < 0x38800000: // below 2^-14: count in units of 2^-24, the smallest subnormal
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(magnitude))*0x1p24))
	}
	rounded := magnitude + 0xFFF + magnitude>>13&1 // a carry into the exponent is the right result, infinity included
	return sign | uint16(rounded>>13-112<<10)
}
