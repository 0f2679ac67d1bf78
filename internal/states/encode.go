package states

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"gotransplant/model/safetensors"
)

// Append appends values to dst as type d, F64, F32, F16 or BF16, rounded once to the nearest, ties to even. A value that
// is not finite, or would not be in d, is an error with its number.
func Append[T float32 | float64](dst []byte, d safetensors.DType, values []T) ([]byte, error) {
	width := d.Bits() / 8
	from, to := len(dst), len(dst)+len(values)*width
	dst = slices.Grow(dst, to-from)[:to]
	out, bad := dst[from:], -1
	switch d {
	case safetensors.F64:
		const exponent = uint64(0x7FF) << 52
		for i, v := range values {
			bits := math.Float64bits(float64(v))
			if bits&exponent == exponent {
				bad = i
			}
			binary.LittleEndian.PutUint64(out[8*i:], bits)
		}
	case safetensors.F32:
		const exponent = uint32(0xFF) << 23
		for i, v := range values {
			bits := math.Float32bits(float32(v))
			if bits&exponent == exponent {
				bad = i
			}
			binary.LittleEndian.PutUint32(out[4*i:], bits)
		}
	case safetensors.F16, safetensors.BF16:
		exponent := uint16(0x7F80) // of bfloat16
		if d == safetensors.F16 {
			exponent = 0x7C00
		}
		var one [1]float32
		for i, v := range values {
			one[0] = toOdd(float64(v))
			if err := safetensors.Encode(out[2*i:2*i+2], d, one[:]); err != nil {
				return nil, err
			}
			if binary.LittleEndian.Uint16(out[2*i:])&exponent == exponent {
				bad = i
			}
		}
	default:
		return nil, fmt.Errorf("states cannot be stored as %s", d)
	}
	if bad >= 0 {
		if v := float64(values[bad]); math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("value %d is %v: the model or the adapter is damaged, or its numbers are too large to compute with", bad, v)
		}
		return nil, fmt.Errorf("value %d is %v, which %s cannot hold as a finite number: see --store", bad, values[bad], d)
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
