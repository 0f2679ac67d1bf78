package states

import (
	"encoding/binary"
	"fmt"
	"math"

	"gotransplant/model/safetensors"
)

// Append appends values to dst as type d, F64, F32, F16 or BF16, rounded once to the nearest, ties to even. A value that
// is not finite, or would not be in d, is an error with its number.
func Append[T float32 | float64](dst []byte, d safetensors.DType, values []T) ([]byte, error) {
	from := len(dst)
	switch d {
	case safetensors.F64:
		for _, v := range values {
			dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(float64(v)))
		}
	case safetensors.F32:
		for _, v := range values {
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(v)))
		}
	case safetensors.F16, safetensors.BF16:
		var one [1]float32
		for _, v := range values {
			one[0] = toOdd(float64(v))
			dst = append(dst, 0, 0)
			if err := safetensors.Encode(dst[len(dst)-2:], d, one[:]); err != nil {
				return nil, err
			}
		}
	default:
		return nil, fmt.Errorf("states cannot be stored as %s", d)
	}
	if i := notFinite(dst[from:], d); i >= 0 {
		return nil, fmt.Errorf("value %d is %v, which %s cannot hold as a finite number", i, values[i], d)
	}
	return dst, nil
}

// toOdd rounds x to float32 so that a second rounding, to a type with at least two bits less, gives what rounding x at
// once would: what lies between two float32 numbers becomes the one whose last bit is set (Boldo and Melquiond, 2008).
func toOdd(x float64) float32 {
	f := float32(x)
	if float64(f) == x || x != x {
		return f
	}
	bits := math.Float32bits(f)
	if math.Abs(float64(f)) > math.Abs(x) {
		bits-- // toward zero, from infinity too
	}
	return math.Float32frombits(bits | 1)
}

// notFinite is the number of the first element whose exponent is all ones, or -1.
func notFinite(data []byte, d safetensors.DType) int {
	switch d {
	case safetensors.F64:
		const exponent = uint64(0x7FF) << 52
		for i := 0; i < len(data); i += 8 {
			if binary.LittleEndian.Uint64(data[i:])&exponent == exponent {
				return i / 8
			}
		}
	case safetensors.F32:
		const exponent = uint32(0xFF) << 23
		for i := 0; i < len(data); i += 4 {
			if binary.LittleEndian.Uint32(data[i:])&exponent == exponent {
				return i / 4
			}
		}
	default:
		exponent := uint16(0x7F80) // of bfloat16
		if d == safetensors.F16 {
			exponent = 0x7C00
		}
		for i := 0; i < len(data); i += 2 {
			if binary.LittleEndian.Uint16(data[i:])&exponent == exponent {
				return i / 2
			}
		}
	}
	return -1
}
