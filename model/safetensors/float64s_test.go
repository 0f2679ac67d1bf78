package safetensors

import (
	"bytes"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// nearest is v rounded once to a type of the given precision in bits whose smallest exponent is least, by math/big.
func nearest(v float64, precision uint, least int) float64 {
	_, exponent := math.Frexp(v) // v = f * 2^exponent with f in [1/2, 1)
	if short := least + 1 - exponent; short > 0 {
		if int(precision)-short < 1 { // below the smallest subnormal: count in units of it
			unit := math.Ldexp(1, least+1-int(precision))
			return math.RoundToEven(v/unit) * unit
		}
		precision -= uint(short)
	}
	rounded, _ := new(big.Float).SetPrec(precision).SetMode(big.ToNearestEven).SetFloat64(v).Float64()
	return rounded
}

// TestEncode64RoundsOnce: values next to and on the middle between two neighbours of the type, where rounding to float32
// first goes wrong, and values of all sizes.
func TestEncode64RoundsOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var values []float64
	for _, tail := range []float64{0, 0x1p-30, -0x1p-30, 0x1p-40, -0x1p-40} {
		for _, half := range []float64{0x1p-9, 3 * 0x1p-9, 0x1p-8, 0x1p-12, 3 * 0x1p-12, 0x1p-11} {
			values = append(values, 1+half+tail, -1-half-tail, 0x1p-20*(1+half+tail), 0x1p-24*(0.5+half+tail))
		}
	}
	for range 20000 {
		values = append(values, math.Ldexp(rng.NormFloat64(), rng.IntN(40)-26))
	}
	cases := []struct {
		d         DType
		precision uint
		least     int // exponent of the smallest normal number
	}{{BF16, 8, -126}, {F16, 11, -14}, {F32, 24, -126}, {F64, 53, -1022}}
	for _, c := range cases {
		t.Run(string(c.d), func(t *testing.T) {
			data := make([]byte, len(values)*c.d.Bits()/8)
			if err := Encode64(data, c.d, values); err != nil {
				t.Fatal(err)
			}
			got := make([]float64, len(values))
			if err := Decode64(got, c.d, data); err != nil {
				t.Fatal(err)
			}
			for i, v := range values {
				want := nearest(v, c.precision, c.least)
				if c.d == F16 && math.Abs(want) > 65504 {
					want = math.Inf(int(math.Copysign(1, v)))
				}
				if got[i] != want {
					t.Fatalf("%v: got %v, want %v", v, got[i], want)
				}
			}
		})
	}
}

// TestDecode64Agrees: every value of the short types is what Decode says, and comes back with the same bytes.
func TestDecode64Agrees(t *testing.T) {
	data := make([]byte, 0, 2<<16)
	for bits := range 1 << 16 {
		data = append(data, byte(bits), byte(bits>>8))
	}
	for _, d := range []DType{F16, BF16} {
		narrow, wide := make([]float32, 1<<16), make([]float64, 1<<16)
		if err := Decode(narrow, d, data); err != nil {
			t.Fatal(err)
		}
		if err := Decode64(wide, d, data); err != nil {
			t.Fatal(err)
		}
		for i, v := range narrow {
			if float64(v) != wide[i] && v == v {
				t.Fatalf("%s %#x: got %v, want %v", d, i, wide[i], v)
			}
			if (wide[i] != wide[i] || math.IsInf(wide[i], 0)) != (NotFinite(d, data[2*i:2*i+2]) == 0) {
				t.Fatalf("%s %#x is %v, and NotFinite says %d", d, i, wide[i], NotFinite(d, data[2*i:2*i+2]))
			}
		}
		back := make([]byte, len(data))
		if err := Encode64(back, d, wide); err != nil {
			t.Fatal(err)
		}
		for i, v := range wide {
			if v == v && !bytes.Equal(back[2*i:2*i+2], data[2*i:2*i+2]) {
				t.Fatalf("%s: %v comes back as % x, was % x", d, v, back[2*i:2*i+2], data[2*i:2*i+2])
			}
		}
	}
}

func TestNotFinite(t *testing.T) {
	inf, nan := math.Inf(-1), math.NaN()
	cases := []struct {
		name   string
		values []float64
		want   int
	}{
		{"none", []float64{0, -1, 65504}, -1},
		{"empty", nil, -1},
		{"infinite", []float64{0, 1, inf}, 2},
		{"no number", []float64{0, nan, inf}, 1},
	}
	for _, c := range cases {
		for _, d := range []DType{F64, F32, F16, BF16} {
			data := make([]byte, len(c.values)*d.Bits()/8)
			if err := Encode64(data, d, c.values); err != nil {
				t.Fatal(err)
			}
			if got := NotFinite(d, data); got != c.want {
				t.Errorf("%s, %s: got %d, want %d", c.name, d, got, c.want)
			}
		}
	}
	for _, d := range []DType{F64, F32, F16, BF16} { // a NaN with every bit of its payload set
		if got := NotFinite(d, bytes.Repeat([]byte{0xFF}, d.Bits()/8)); got != 0 {
			t.Errorf("all ones, %s: got %d, want 0", d, got)
		}
	}
}

func TestFloat64sRefuse(t *testing.T) {
	if err := Decode64(make([]float64, 2), F32, make([]byte, 7)); err == nil {
		t.Error("7 bytes are decoded to two values")
	}
	if err := Encode64(make([]byte, 7), F32, make([]float64, 2)); err == nil {
		t.Error("two values are encoded to 7 bytes")
	}
	if err := Decode64(make([]float64, 2), "I32", make([]byte, 8)); err == nil {
		t.Error("integers are decoded")
	}
	if err := Encode64(make([]byte, 8), "I32", make([]float64, 2)); err == nil {
		t.Error("integers are encoded")
	}
}
