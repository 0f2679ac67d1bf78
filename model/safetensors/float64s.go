package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Decode64 converts data, little-endian elements of type d, to dst, which has room for them. F64, F32, F16 and BF16 are
// all exact in float64.
func Decode64(dst []float64, d DType, data []byte) error {
	if len(dst)*d.Bits() != len(data)*8 {
		return fmt.Errorf("%d bytes do not hold %d values of type %s", len(data), len(dst), d)
	}
	switch d {
	case F64:
		for i := range dst {
			dst[i] = math.Float64frombits(binary.LittleEndian.Uint64(data[8*i : 8*i+8]))
		}
	case F32:
		for i := range dst {
			dst[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(data[4*i : 4*i+4])))
		}
	case F16:
		for i := range dst {
			dst[i] = float64(widenF16(binary.LittleEndian.Uint16(data[2*i : 2*i+2])))
		}
	case BF16: // the upper half of a float32
		for i := range dst {
			dst[i] = float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(data[2*i:2*i+2])) << 16))
		}
	default:
		return fmt.Errorf("dtype %s does not hold floating-point weights; want F64, F32, F16 or BF16", d)
	}
	return nil
}

// Encode64 converts values to type d, F64, F32, F16 or BF16, in dst, which has room for just these. Each is rounded once,
// to the nearest, ties to even.
func Encode64(dst []byte, d DType, values []float64) error {
	if len(values)*d.Bits() != len(dst)*8 {
		return fmt.Errorf("%d values of type %s do not take %d bytes", len(values), d, len(dst))
	}
	switch d {
	case F64:
		for i, v := range values {
			binary.LittleEndian.PutUint64(dst[8*i:], math.Float64bits(v))
		}
	case F32:
		for i, v := range values {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(float32(v)))
		}
	case F16:
		for i, v := range values {
			binary.LittleEndian.PutUint16(dst[2*i:], narrowF16(toOdd(v)))
		}
	case BF16:
		for i, v := range values {
			binary.LittleEndian.PutUint16(dst[2*i:], narrowBF16(toOdd(v)))
		}
	default:
		return fmt.Errorf("values cannot be stored as %s; use F64, F32, F16 or BF16", d)
	}
	return nil
}

// toOdd rounds v towards zero and sets the last bit if that lost anything (Boldo and Melquiond 2008, "Emulation of FMA
// and correctly rounded sums: proved algorithms using rounding to odd"). A second rounding, to a type at least two bits
// shorter, is then that of v itself; rounding to the nearest twice would not be.
func toOdd(v float64) float32 {
	f := float32(v)
	if float64(f) == v || v != v {
		return f
	}
	bits := math.Float32bits(f)
	if math.Abs(float64(f)) > math.Abs(v) {
		bits--
	}
	return math.Float32frombits(bits | 1)
}

// NotFinite is the index of the first element of data, of type F64, F32, F16 or BF16, that is infinite or no number, and
// -1 if there is none.
func NotFinite(d DType, data []byte) int {
	switch d {
	case F64:
		const exponent = 0x7FF << 52
		for i := 0; i < len(data); i += 8 {
			if binary.LittleEndian.Uint64(data[i:])&exponent == exponent {
				return i / 8
			}
		}
	case F32:
		for i := 0; i < len(data); i += 4 {
			if binary.LittleEndian.Uint32(data[i:])&0x7F800000 == 0x7F800000 {
				return i / 4
			}
		}
	case F16, BF16:
		exponent := uint16(0x7C00)
		if d == BF16 {
			exponent = 0x7F80
		}
		for i := 0; i < len(data); i += 2 {
			if binary.LittleEndian.Uint16(data[i:])&exponent == exponent {
				return i / 2
			}
		}
	}
	return -1
}
