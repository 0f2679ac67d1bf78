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
	switch t.DType {
	case F32:
		return decodeF32(t.Data), nil
	case BF16:
		return decodeBF16(t.Data), nil
	case F16:
		return decode(t.Data, 2, func(b []byte) float32 { return widenF16(binary.LittleEndian.Uint16(b)) }), nil
	case F64:
		return decode(t.Data, 8, func(b []byte) float32 {
			return float32(math.Float64frombits(binary.LittleEndian.Uint64(b)))
		}), nil
	}
	return nil, fmt.Errorf("tensor %q: dtype %s does not hold floating-point weights; want F64, F32, F16 or BF16",
		t.Name, t.DType)
}

// decode converts data, width bytes an element, in the host's byte order whatever that is.
func decode(data []byte, width int, one func([]byte) float32) []float32 {
	values := make([]float32, len(data)/width)
	for i := range values {
		values[i] = one(data[i*width : i*width+width])
	}
	return values
}

// decodeF32 is decode without a call for each element.
func decodeF32(data []byte) []float32 {
	values := make([]float32, len(data)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i : 4*i+4]))
	}
	return values
}

// decodeBF16 is decodeF32 for the type nearly every checkpoint has: a bfloat16 is the upper half of a float32.
func decodeBF16(data []byte) []float32 {
	values := make([]float32, len(data)/2)
	for i := range values {
		pair := data[2*i : 2*i+2]
		values[i] = math.Float32frombits(uint32(pair[0])<<16 | uint32(pair[1])<<24)
	}
	return values
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
	data := make([]byte, 0, size)
	for _, v := range values {
		switch d {
		case F64:
			data = binary.LittleEndian.AppendUint64(data, math.Float64bits(float64(v)))
		case F32:
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		case F16:
			data = binary.LittleEndian.AppendUint16(data, narrowF16(v))
		case BF16:
			data = binary.LittleEndian.AppendUint16(data, narrowBF16(v))
		default:
			return Tensor{}, fmt.Errorf("tensor %q: float32 values cannot be stored as %s; use F64, F32, F16 or BF16", name, d)
		}
	}
	return Tensor{Name: name, DType: d, Shape: shape, Data: data}, nil
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
