package model

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotransplant/model/safetensors"
)

// writeIndex writes an index of safetensors shards into dir.
func writeIndex(t *testing.T, dir string, weights map[string]string) {
	t.Helper()
	text, err := json.Marshal(map[string]any{"metadata": map[string]int{"total_size": 1}, "weight_map": weights})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "model.safetensors.index.json"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestShards(t *testing.T) {
	const one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
	tensors := tensorsOf(t, tiny(), all...)
	norm := "model.norm.weight"
	cases := []struct {
		name   string
		change func(index map[string]string, dir string)
		want   []string // nothing when the checkpoint opens
	}{
		{"whole", func(map[string]string, string) {}, nil},
		{"rotary buffers listed and absent", func(index map[string]string, _ string) {
			index["model.layers.0.self_attn.rotary_emb.inv_freq"] = two
		}, nil},
		{"rotary buffers held and not listed", func(_ map[string]string, dir string) {
			buffer := safetensors.Tensor{Name: "model.layers.0.self_attn.rotary_emb.inv_freq", DType: "F32", Shape: []int{1}, Data: make([]byte, 4)}
			if err := safetensors.Write(filepath.Join(dir, two), append(slices.Clone(tensors[9:]), buffer), nil); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{"in the other shard", func(index map[string]string, _ string) { index[norm] = one },
			[]string{two + " holds " + norm + ", which the index puts into " + one, one + " does not hold " + norm}},
		{"not listed", func(index map[string]string, _ string) { delete(index, norm) },
			[]string{two + " holds " + norm + ", which the index does not list"}},
		{"listed and absent", func(index map[string]string, _ string) { index["extra"] = one },
			[]string{one + " does not hold extra"}},
		{"shard absent", func(index map[string]string, dir string) { os.Remove(filepath.Join(dir, two)) },
			[]string{two + ": no such file"}},
		{"both shards bad", func(_ map[string]string, dir string) {
			os.WriteFile(filepath.Join(dir, one), nil, 0o600)
			os.WriteFile(filepath.Join(dir, two), nil, 0o600)
		}, []string{one + ": 0 bytes", two + ": 0 bytes"}},
		{"nothing listed", func(index map[string]string, _ string) { clear(index) }, []string{"lists no tensor"}},
		{"in the directory above", func(index map[string]string, _ string) { index[norm] = "../" + one }, []string{norm,
			`"../` + one}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := writeFiles(t, tiny(), map[string][]safetensors.Tensor{one: tensors[:9], two: tensors[9:]})
			index := map[string]string{}
			for i, tensor := range tensors {
				index[tensor.Name] = []string{one, two}[min(i/9, 1)]
			}
			c.change(index, dir)
			writeIndex(t, dir, index)
			got, err := Open(dir)
			if len(c.want) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				defer got.Close()
				check(t, got, tensors)
				return
			}
			for _, want := range append(c.want, filepath.Join(dir, "model.safetensors.index.json")) {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v\nwant an error with %q", err, want)
				}
			}
		})
	}
}

func TestParseIndex(t *testing.T) {
	cases := []struct{ name, text, want string }{
		{"good", `{"metadata":{},"weight_map":{"a":"x.safetensors","b":"x.safetensors"}}`, ""},
		{"no metadata", `{"weight_map":{"a":"x.safetensors"}}`, ""},
		{"dots that stay", `{"weight_map":{"a":"..x.safetensors"}}`, ""},
		{"not JSON", `{`, "not JSON"},
		{"no map", `{"metadata":{}}`, "weight_map: want an object"},
		{"map is a list", `{"weight_map":["x.safetensors"]}`, "weight_map: want an object"},
		{"shard is a number", `{"weight_map":{"a":1}}`, "weight_map: a: want a string"},
		{"tensor twice", `{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}`, `"weight_map"."a" stands twice`},
		{"up", `{"weight_map":{"a":"../x.safetensors"}}`, "plain name"},
		{"up and back", `{"weight_map":{"a":"../m/x.safetensors"}}`, "plain name"},
		{"down and up", `{"weight_map":{"a":"d/../../x.safetensors"}}`, "plain name"},
		{"absolute", `{"weight_map":{"a":"/etc/x.safetensors"}}`, "plain name"},
		{"folder below", `{"weight_map":{"a":"d/x.safetensors"}}`, "plain name"},
		{"backslash", `{"weight_map":{"a":"..\\x.safetensors"}}`, "plain name"},
		{"drive", `{"weight_map":{"a":"C:x.safetensors"}}`, "plain name"},
		{"empty", `{"weight_map":{"a":""}}`, "plain name"},
		{"directory", `{"weight_map":{"a":".."}}`, "plain name"},
		{"another format", `{"weight_map":{"a":"x.bin"}}`, "plain name of a .safetensors file"},
		{"null byte", `{"weight_map":{"a":"x\u0000.safetensors"}}`, "plain name"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseIndex([]byte(c.text), ".safetensors")
			if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v, want %q", got, err, c.want)
			}
		})
	}
}

// TestPyTorchShards opens a checkpoint made by PyTorch; scripts/make_bin_fixture.py says what is in it.
func TestPyTorchShards(t *testing.T) {
	disk, err := Open("testdata/bin")
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	memory, err := OpenFS(os.DirFS("testdata"), "bin")
	if err != nil {
		t.Fatal(err)
	}
	order := []string{"model.embed_tokens.weight", "self_attn.q_proj.weight", "self_attn.k_proj.weight",
		"self_attn.v_proj.weight", "self_attn.o_proj.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight",
		"mlp.down_proj.weight", "input_layernorm.weight", "post_attention_layernorm.weight", "model.norm.weight",
		"lm_head.weight"}
	for _, c := range []*Checkpoint{disk, memory} {
		if len(c.Names()) != len(order) || c.Config.BOSTokenID != 0 || c.Config.HeadDim != 2 {
			t.Errorf("got %d tensors and %+v", len(c.Names()), c.Config)
		}
		for i, name := range order {
			if strings.HasPrefix(name, "self") || strings.HasPrefix(name, "mlp") || strings.Contains(name, "layernorm") {
				name = "model.layers.0." + name
			}
			tensor := c.Tensor(name)
			values, err := tensor.Float32s()
			if err != nil || tensor.DType != safetensors.F16 {
				t.Fatalf("%s: got %s, %v, want F16", name, tensor.DType, err)
			}
			for j, got := range values {
				if want := float32(i+j) / 4; got != want {
					t.Fatalf("%s: value %d: got %v, want %v", name, j, got, want)
				}
			}
		}
	}
}

func TestSinglePyTorchFile(t *testing.T) {
	dir := t.TempDir()
	if err := WriteConfig(dir, tiny(), safetensors.F32); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile("torchbin/testdata/zip.bin")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "pytorch_model.bin"), content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir)
	for _, want := range []string{"missing: lm_head.weight", "extra: pytorch_model.bin: bf16 of shape [2 3]"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}
