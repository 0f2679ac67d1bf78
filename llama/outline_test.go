package llama

import (
	"fmt"
	"strings"
	"testing"

	"gotransplant/model"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute/dtypes"
)

// TestOutlineIsAsLarge: weights without values have the types and sizes of those that are loaded, on graphs and on panels.
func TestOutlineIsAsLarge(t *testing.T) {
	backend := goBackend(t)
	for _, tied := range []bool{false, true} {
		for _, d := range []safetensors.DType{safetensors.BF16, safetensors.F32, safetensors.F64} {
			config := smallConfig(tied)
			config.HeadDim = 8 // which panels can have
			dir := written(t, config, d)
			for as := AsStored; as <= NF4; as++ {
				t.Run(fmt.Sprintf("tied %t, %s kept as %s", tied, d, as), func(t *testing.T) {
					c, want := loaded(t, backend, dir, as)
					got, err := Outline(Planned{"go", backend}, config, as, func(string) safetensors.DType { return d })
					if err != nil {
						t.Fatal(err)
					}
					if got.Bytes() != want.Bytes() || got.kept() != want.kept() || len(got.losses) != 0 {
						t.Errorf("%s of %d bytes, want %s of %d", got.kept(), got.Bytes(), want.kept(), want.Bytes())
					}
					for _, kind := range []dtypes.DType{dtypes.Float32, dtypes.BFloat16} {
						o := Options{Compute: kind, Residual: dtypes.Float64}
						compareOutline(t, got, want, o)
						o.Panels = true
						if PanelsCan(want, o) == nil {
							compareOutline(t, got, Deferred(backend, c, as), o)
						}
					}
				})
			}
		}
	}
}

// compareOutline compares what engines say of their weights.
func compareOutline(t *testing.T, outline, real *Weights, o Options) {
	t.Helper()
	planned, err := NewEngine(outline, o)
	if err != nil {
		t.Fatal(err)
	}
	runs, err := NewEngine(real, o)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := planned.WeightBytes(), runs.WeightBytes(); got != want {
		t.Errorf("panels %t, %s: the outline counts %d bytes of weights, want %d", o.Panels, o.Compute, got, want)
	}
}

// TestOutlineStandsInForADevice: an engine that is planned for CUDA says of fused attention what it would say there, and
// its rehearsal builds graphs all the same.
func TestOutlineStandsInForADevice(t *testing.T) {
	config := smallConfig(false)
	outline := func(name string) *Engine {
		w, err := Outline(Planned{name, goBackend(t)}, config, AsStored, func(string) safetensors.DType { return safetensors.BF16 })
		if err != nil {
			t.Fatal(err)
		}
		if PanelsCan(w, Options{Compute: dtypes.Float32, Residual: dtypes.Float64}) == nil && name != "go" {
			t.Errorf("%s: panels would compute", name)
		}
		e, err := NewEngine(w, Options{Compute: dtypes.BFloat16, Residual: dtypes.Float64})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	if why := outline("xla:cpu").NotFused(); !strings.Contains(why, "xla:cpu") {
		t.Errorf("xla:cpu: not fused because %q, want a reason that names it", why)
	}
	e := outline("xla:cuda")
	if why := e.NotFused(); config.HeadDim%8 == 0 && why != "" {
		t.Errorf("xla:cuda: not fused because %q", why)
	}
	rehearsed, books := e.Rehearse()
	s, err := rehearsed.NewStream(Sequences{Rows: 1, Length: 4, Token: []int32{1, 2, 3, 4}, Position: []int32{0, 1, 2, 3},
		Branch: make([]int32, 4)}, StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Forward(0, nil, false); err != nil {
		t.Fatal(err)
	}
	if books.Peak().Bytes() == 0 {
		t.Error("a rehearsal on it counts nothing")
	}
}

// TestOutlineRefusesABadConfig: what no model can have is not planned for.
func TestOutlineRefusesABadConfig(t *testing.T) {
	if _, err := Outline(Planned{"go", goBackend(t)}, model.Config{}, AsStored, nil); err == nil {
		t.Error("got no error for an empty config")
	}
	_, err := Outline(Planned{"go", goBackend(t)}, smallConfig(false), AsStored, func(string) safetensors.DType { return "I8" })
	if err == nil || !strings.Contains(err.Error(), "embed_tokens") {
		t.Errorf("got error %v for weights of I8, want one that names a tensor", err)
	}
}
