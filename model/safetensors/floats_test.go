package safetensors

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
)

// value computes what a 16-bit float means from the definition: sign, exponent of width e, fraction.
func value(pattern uint16, e uint) float64 {
	fractionBits := 15 - e
	fraction := float64(pattern&(1<<fractionBits-1)) / float64(uint(1)<<fractionBits)
	exponent := int(pattern>>fractionBits) & (1<<e - 1)
	bias := 1<<(e-1) - 1
	sign := 1 - 2*float64(pattern>>15)
	switch {
	case exponent == 1<<e-1 && fraction == 0:
		return math.Inf(int(sign))
	case exponent == 1<<e-1:
		return math.NaN()
	case exponent == 0:
		return math.Copysign(math.Ldexp(fraction, 1-bias), sign)
	}
	return sign * math.Ldexp(1+fraction, exponent-bias)
}

func TestEverySixteenBitFloat(t *testing.T) {
	data := make([]byte, 0, 1<<17)
	for pattern := range 1 << 16 {
		data = binary.LittleEndian.AppendUint16(data, uint16(pattern))
	}
	for d, exponentBits := range map[DType]uint{F16: 5, BF16: 8} {
		got, err := Tensor{"x", d, []int{1 << 16}, data}.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		back, err := FromFloat32s("x", d, []int{1 << 16}, got)
		if err != nil {
			t.Fatal(err)
		}
		for pattern, x := range got {
			want := value(uint16(pattern), exponentBits)
			if math.IsNaN(want) {
				width := 15 - exponentBits // of the payload
				payload := math.Float32bits(x) >> (23 - width) & (1<<width - 1)
				again := binary.LittleEndian.Uint16(back.Data[2*pattern:])
				if quiet := uint16(pattern) | 1<<(width-1); x == x || payload != uint32(pattern)&(1<<width-1) || again != quiet {
					t.Fatalf("%s %#04x: got %v (%#x), back %#04x, want a NaN with the same payload, back %#04x",
						d, pattern, x, math.Float32bits(x), again, quiet)
				}
				continue
			}
			if float64(x) != want || math.Signbit(float64(x)) != math.Signbit(want) {
				t.Fatalf("%s %#04x: got %v, want %v", d, pattern, x, want)
			}
			if again := binary.LittleEndian.Uint16(back.Data[2*pattern:]); int(again) != pattern {
				t.Fatalf("%s %#04x: written back as %#04x", d, pattern, again)
			}
		}
	}
}

func TestRoundingToSixteenBits(t *testing.T) {
	cases := []struct {
		name  string
		dtype DType
		value float32
		want  uint16
	}{
		{"F16 tie to even, down", F16, 1 + 0x1p-11, 0x3C00},
		{"F16 tie to even, up", F16, 1 + 3*0x1p-11, 0x3C02},
		{"F16 above a tie", F16, 1 + 0x1p-11 + 0x1p-20, 0x3C01},
		{"F16 carry into the exponent", F16, 2 - 0x1p-12, 0x4000},
		{"F16 largest", F16, 65504, 0x7BFF},
		{"F16 below the overflow", F16, 65519, 0x7BFF},
		{"F16 overflow", F16, 65520, 0x7C00},
		{"F16 far overflow", F16, -1e30, 0xFC00},
		{"F16 subnormal tie to even", F16, 0x1p-25, 0x0000},
		{"F16 subnormal tie, odd", F16, 3 * 0x1p-25, 0x0002},
		{"F16 largest subnormal rounds to normal", F16, 0x1p-14 - 0x1p-26, 0x0400},
		{"F16 underflow keeps the sign", F16, -1e-30, 0x8000},
		{"BF16 tie to even, down", BF16, 1 + 0x1p-8, 0x3F80},
		{"BF16 tie to even, up", BF16, 1 + 3*0x1p-8, 0x3F82},
		{"BF16 above a tie", BF16, 1 + 0x1p-8 + 0x1p-20, 0x3F81},
		{"BF16 overflow", BF16, math.MaxFloat32, 0x7F80},
		{"BF16 subnormal", BF16, math.SmallestNonzeroFloat32, 0x0000},
		{"BF16 NaN with a low payload", BF16, math.Float32frombits(0x7F800001), 0x7FC0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := FromFloat32s("x", c.dtype, nil, []float32{c.value})
			if err != nil {
				t.Fatal(err)
			}
			if pattern := binary.LittleEndian.Uint16(got.Data); pattern != c.want {
				t.Errorf("%v: got %#04x, want %#04x", c.value, pattern, c.want)
			}
		})
	}
}

func TestWideFloats(t *testing.T) {
	values := []float32{0, float32(math.Copysign(0, -1)), 1.5, -math.MaxFloat32, math.SmallestNonzeroFloat32,
		float32(math.Inf(-1))}
	for _, d := range []DType{F32, F64} {
		tensor, err := FromFloat32s("x", d, []int{2, 3}, values)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tensor.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range values {
			if math.Float32bits(got[i]) != math.Float32bits(want) {
				t.Errorf("%s: got %v, want %v", d, got[i], want)
			}
		}
	}
	third := Tensor{"x", F64, nil, binary.LittleEndian.AppendUint64(nil, math.Float64bits(1.0/3))}
	if got, _ := third.Float32s(); got[0] != float32(1.0/3) {
		t.Errorf("got %v, want a third rounded to float32", got)
	}
}

func TestFloatsRefuse(t *testing.T) {
	_, integers := Tensor{"a", "I32", []int{1}, make([]byte, 4)}.Float32s()
	_, short := Tensor{"a", F32, []int{2}, make([]byte, 4)}.Float32s()
	_, many := FromFloat32s("a", F32, []int{2}, make([]float32, 3))
	_, unknown := Tensor{"a", "F31", []int{2}, make([]byte, 8)}.Float32s()
	_, as := FromFloat32s("a", "I32", []int{2}, make([]float32, 2))
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"integers", integers, "I32 does not hold"}, {"data too short", short, "takes 8 bytes, got 4"},
		{"unknown type", unknown, `dtype "F31"`}, {"too many values", many, "does not hold 3"}, {"as integers", as, "cannot be stored as I32"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) || !strings.Contains(c.err.Error(), `"a"`) {
			t.Errorf("%s: got %v, want an error with the name and %q", c.name, c.err, c.want)
		}
	}
	if err := Decode(make([]float32, 1), F32, make([]byte, 8)); err == nil {
		t.Error("8 bytes are decoded to one value")
	}
	if err := Encode(make([]byte, 8), F32, make([]float32, 1)); err == nil {
		t.Error("one value is encoded to 8 bytes")
	}
}
