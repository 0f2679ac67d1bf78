package lora

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotransplant/model/safetensors"
)

// TestInspectIsOpen: without the model the same adapter is read.
func TestInspectIsOpen(t *testing.T) {
	a := filled(t, 3, 1)
	dir := t.TempDir()
	if err := a.Save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Modules(), a.Modules()) {
		t.Errorf("got %+v, want %+v", got.Modules(), a.Modules())
	}
	for i, p := range a.Params() {
		if !slices.Equal(got.Params()[i].Value, p.Value) {
			t.Errorf("%s: other values", p.Name())
		}
	}
	bin, err := Inspect(filepath.Join("testdata", "bin"))
	if err != nil || len(bin.Modules()) != 2 {
		t.Errorf("PyTorch file: got %v, %v", bin, err)
	}
	compareSaves(t, dir, smallConfig())
}

func TestInspectGolden(t *testing.T) {
	dir := filepath.Join(sharedDir(t), "golden", "gqa")
	a, err := Inspect(filepath.Join(dir, "adapters", "arguer"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(filepath.Join(dir, "adapters", "arguer"), goldenConfig(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a.Modules(), b.Modules()) {
		t.Errorf("got %+v, want %+v", a.Modules(), b.Modules())
	}
}

// TestInspectListsEveryProblem: without a model to compare with, too.
func TestInspectListsEveryProblem(t *testing.T) {
	const first, second = "base_model.model.model.layers.0.self_attn.", "base_model.model.model.layers.1.self_attn."
	a := func(prefix string) safetensors.Tensor { return encoded(prefix+"k_proj.lora_A.weight", "F32", 2, 8) }
	b := func(prefix string) safetensors.Tensor { return encoded(prefix+"k_proj.lora_B.weight", "F32", 4, 2) }
	wrong := b(second)
	wrong.Shape = []int{2, 4}
	nan := b(second)
	nan.Data = slices.Clone(nan.Data)
	if err := safetensors.Encode(nan.Data[8:16], "F32", []float32{float32(math.NaN()), float32(math.Inf(1))}); err != nil {
		t.Fatal(err)
	}
	infinite := a(first)
	infinite.Data = slices.Clone(infinite.Data)
	if err := safetensors.Encode(infinite.Data[:4], "F32", []float32{float32(math.Inf(-1))}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		tensors []safetensors.Tensor
		parts   []string
	}{
		{"good", []safetensors.Tensor{a(first), b(first), a(second), b(second)}, nil},
		{"no tensors", nil, []string{weightsFile, "no tensors at all"}},
		{"none of an adapter", []safetensors.Tensor{encoded("lm_head.weight", "F32", 2, 2)}, []string{"none of its tensors", "lm_head.weight"}},
		{"one missing, one transposed, one extra", []safetensors.Tensor{a(first), wrong, encoded(first+"q_proj.lora_A.weight", "F32", 2, 8)},
			[]string{"missing " + first + "k_proj.lora_B.weight", "missing " + second + "k_proj.lora_A.weight",
				second + "k_proj.lora_B.weight: shape [2 4], want", "extra " + first + "q_proj.lora_A.weight"}},
		{"another width in the second layer", []safetensors.Tensor{a(first), b(first),
			encoded(second+"k_proj.lora_A.weight", "F32", 2, 9), b(second)},
			[]string{second + "k_proj.lora_A.weight: shape [2 9], want [2 8]"}},
		{"no width told", []safetensors.Tensor{a(first)}, []string{"missing " + first + "k_proj.lora_B.weight", "stands as 1"}},
		{"not finite, twice", []safetensors.Tensor{infinite, b(first), a(second), nan},
			[]string{first + "k_proj.lora_A.weight: value 0 is -Inf", second + "k_proj.lora_B.weight: value 2 is NaN"}},
		{"a layer past all models", []safetensors.Tensor{a("base_model.model.model.layers.99999.self_attn.")}, []string{"99999"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Inspect(writeAdapter(t, c.tensors...))
			if c.parts == nil {
				if err != nil {
					t.Errorf("got %v, want no error", err)
				}
				return
			}
			wantError(t, err, c.parts...)
			if strings.Contains(err.Error(), "stands as 1") != (c.name == "no width told") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestInspectMissesLayersAskedFor: a layer that layers_to_transform names and the file has nothing of.
func TestInspectMissesLayersAskedFor(t *testing.T) {
	dir := writeAdapter(t, encoded(kProj+"lora_A.weight", "F32", 2, 8), encoded(kProj+"lora_B.weight", "F32", 4, 2))
	config := `{"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["k_proj"], "layers_to_transform": [0, 2]}`
	if err := os.WriteFile(filepath.Join(dir, configFile), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Inspect(dir)
	wantError(t, err, "missing base_model.model.model.layers.2.self_attn.k_proj.lora_A.weight [2 8]", "layers.2.self_attn.k_proj.lora_B.weight [4 2]")
}

// TestOpenRefusesEmptyAndNotFinite: with the model as well.
func TestOpenRefusesEmptyAndNotFinite(t *testing.T) {
	_, err := Open(writeAdapter(t), smallConfig())
	wantError(t, err, "no tensors at all", "missing "+kProj+"lora_A.weight", "missing "+kProj+"lora_B.weight")
	bad := encoded(kProj+"lora_B.weight", "F64", 4, 2)
	if err := safetensors.Encode64(bad.Data[:8], "F64", []float64{1e300}); err != nil {
		t.Fatal(err)
	}
	_, err = Open(writeAdapter(t, encoded(kProj+"lora_A.weight", "F32", 2, 8), bad), smallConfig())
	wantError(t, err, kProj+"lora_B.weight: value 0 is +Inf, which is not a finite float32")
}
