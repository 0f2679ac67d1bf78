package standin

import (
	"bytes"
	"encoding/binary"
	"math"
	"runtime"
	"strings"
	"testing"

	"gotransplant/model/safetensors"
)

// TestShapesHaveTheirSizes: parameters of each shape, counted by hand from the published sizes.
func TestShapesHaveTheirSizes(t *testing.T) {
	want := map[string]int{
		"tiny":        2*512*64 + 2*(4*64*64+3*64*172+2*64) + 64,
		"stories260k": 260_032,                                            // 512*64 + 5*(2*64*64+2*32*64+3*64*172+2*64) + 64
		"42m":         2*32000*512 + 8*(4*512*512+3*512*1376+2*512) + 512, // 42 million without the head
		"1b":          1_235_814_400,
		"7b":          6_738_415_616,
		"8b-gqa":      8_030_261_248,
	}
	for _, name := range Names() {
		c, err := Shape(name)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, s := range c.Specs(safetensors.BF16) {
			size := 1
			for _, d := range s.Shape {
				size *= d
			}
			got += size
		}
		if got != want[name] {
			t.Errorf("%s has %d parameters, want %d", name, got, want[name])
		}
	}
	if len(want) != len(Names()) {
		t.Errorf("%d shapes, want %d", len(Names()), len(want))
	}
}

func TestShapeRefusesOtherNames(t *testing.T) {
	_, err := Shape("70b")
	if err == nil || !strings.Contains(err.Error(), `"70b"`) || !strings.Contains(err.Error(), "8b-gqa") {
		t.Errorf("got error %v, want one that names 70b and the shapes there are", err)
	}
}

// TestFill: variance 1/in, ones for norms, the two dtypes the same values, and the same bytes on any number of cores.
func TestFill(t *testing.T) {
	fill := func(s safetensors.Spec) []byte {
		t.Helper()
		content, err := Fill(s, 7)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	matrix := safetensors.Spec{Name: "model.layers.0.self_attn.q_proj.weight", DType: safetensors.F32, Shape: []int{8192, 257}}
	wide := fill(matrix)
	matrix.DType = safetensors.BF16
	narrow := fill(matrix)
	var sum, squares float64
	n := 8192 * 257
	for i := range n {
		v := math.Float32frombits(binary.LittleEndian.Uint32(wide[4*i:]))
		sum, squares = sum+float64(v), squares+float64(v)*float64(v)
		if half := binary.LittleEndian.Uint16(narrow[2*i:]); uint32(half)<<16 != math.Float32bits(v) {
			t.Fatalf("value %d: bfloat16 bits %x, float32 %v: want the same value", i, half, v)
		}
	}
	if mean := sum / float64(n); math.Abs(mean) > 1e-3 {
		t.Errorf("mean %v, want about 0", mean)
	}
	if variance := squares / float64(n) * 257; math.Abs(variance-1) > 0.03 { // the table has 64 Ki values
		t.Errorf("variance times columns %v, want about 1", variance)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if !bytes.Equal(fill(matrix), narrow) {
		t.Error("other bytes with one core")
	}
	norm := fill(safetensors.Spec{Name: "model.norm.weight", DType: safetensors.BF16, Shape: []int{3}})
	if want := []byte{0x80, 0x3f, 0x80, 0x3f, 0x80, 0x3f}; !bytes.Equal(norm, want) {
		t.Errorf("norm %x, want ones, %x", norm, want)
	}
}

func TestFillRefuses(t *testing.T) {
	for _, s := range []safetensors.Spec{
		{Name: "w", DType: safetensors.F16, Shape: []int{2, 2}}, {Name: "w", DType: safetensors.F32},
		{Name: "w", DType: safetensors.F32, Shape: []int{-1, 2}},
	} {
		if _, err := Fill(s, 1); err == nil || !strings.Contains(err.Error(), "random weights w") {
			t.Errorf("%+v: got error %v, want one that names the tensor", s, err)
		}
	}
}
