package lora

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotransplant/model"
	"gotransplant/model/safetensors"
)

func mustOpenTensors(t *testing.T, path string) *safetensors.File {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestOpenGoldenAndSaveIsExact(t *testing.T) {
	golden := filepath.Join(sharedDir(t), "golden")
	for _, c := range []string{"small", "mha", "gqa"} {
		for _, role := range []string{"arguer", "chooser"} {
			t.Run(c+"/"+role, func(t *testing.T) {
				dir := filepath.Join(golden, c, "adapters", role)
				config := goldenConfig(t, filepath.Join(golden, c))
				a, err := Open(dir, config)
				if err != nil {
					t.Fatal(err)
				}
				if want := config.NumHiddenLayers * 4 * 2; len(a.Params()) != want {
					t.Errorf("got %d matrices, want %d", len(a.Params()), want)
				}
				if got := a.Scale(0, "v_proj"); got != 2 {
					t.Errorf("got scale %v, want 8/4", got)
				}
				out := filepath.Join(t.TempDir(), "new", "adapter")
				if err := a.Save(out); err != nil {
					t.Fatal(err)
				}
				compareFiles(t, filepath.Join(dir, weightsFile), filepath.Join(out, weightsFile))
				if got := mustOpenTensors(t, filepath.Join(out, weightsFile)).Metadata()["format"]; got != "pt" { // which PEFT asks for
					t.Errorf("got format %q in the metadata, want pt", got)
				}
				compareSaves(t, out, config)
			})
		}
	}
}

// compareFiles checks that two files hold the same tensors, byte for byte.
func compareFiles(t *testing.T, want, got string) {
	t.Helper()
	w, g := mustOpenTensors(t, want), mustOpenTensors(t, got)
	if len(w.Names()) != len(g.Names()) {
		t.Errorf("got %d tensors, want %d", len(g.Names()), len(w.Names()))
	}
	for _, name := range w.Names() {
		wt, _ := w.Tensor(name)
		gt, ok := g.Tensor(name)
		if !ok || gt.DType != wt.DType || !slices.Equal(gt.Shape, wt.Shape) || !bytes.Equal(gt.Data, wt.Data) {
			t.Errorf("%s: got %s %v (present %v), want %s %v and the same bytes",
				name, gt.DType, gt.Shape, ok, wt.DType, wt.Shape)
		}
	}
}

// compareSaves checks that what was saved is saved again with the same bytes.
func compareSaves(t *testing.T, dir string, c model.Config) {
	t.Helper()
	a, err := Open(dir, c)
	if err != nil {
		t.Fatal(err)
	}
	again := t.TempDir()
	if err := a.Save(again); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{configFile, weightsFile} {
		want, err1 := os.ReadFile(filepath.Join(dir, file))
		got, err2 := os.ReadFile(filepath.Join(again, file))
		if err1 != nil || err2 != nil || !bytes.Equal(want, got) {
			t.Errorf("%s: saved twice, %d and %d bytes that differ (%v, %v)", file, len(want), len(got), err1, err2)
		}
	}
}

func TestSaveKeepsPatternsAndRegex(t *testing.T) {
	c := smallConfig()
	config := Config{Rank: 3, Alpha: 1.5, RSLoRA: true, Targets: Targets{Regex: `.*\.(q|up)_proj`},
		RankPattern: Patterns{{"q_proj", 5}, {".*", 2}}, AlphaPattern: Patterns{{"up_proj", 7}}}
	a, err := newEmpty(config, c)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range a.Params() {
		p.Value[0] = float32(i) + 0.1
	}
	dir := t.TempDir()
	if err := a.Save(dir); err != nil {
		t.Fatal(err)
	}
	b, err := Open(dir, c)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range a.Params() {
		q := b.Params()[i]
		if q.Name() != p.Name() || q.Shape != p.Shape || !slices.Equal(q.Value, p.Value) {
			t.Errorf("got %s %v, want %s %v and the same values", q.Name(), q.Shape, p.Name(), p.Shape)
		}
		if got, want := b.Scale(q.Layer, q.Proj), a.Scale(p.Layer, p.Proj); got != want {
			t.Errorf("%s: got scale %v, want %v", q.Name(), got, want)
		}
	}
	compareSaves(t, dir, c)
}

// writeAdapter makes a PEFT directory of rank 2 on k_proj [4, 8] of smallConfig.
func writeAdapter(t *testing.T, tensors ...safetensors.Tensor) string {
	t.Helper()
	dir := t.TempDir()
	content := `{"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["k_proj"]}`
	if err := os.WriteFile(filepath.Join(dir, configFile), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := safetensors.Write(filepath.Join(dir, weightsFile), tensors, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

const kProj = "base_model.model.model.layers.0.self_attn.k_proj."

// encoded is a tensor whose values 0, 1/2, 1 ... are exact in every dtype.
func encoded(name string, dtype safetensors.DType, shape ...int) safetensors.Tensor {
	var data []byte
	for i := range shape[0] * shape[1] {
		v := float64(i) / 2
		switch dtype {
		case "F64":
			data = binary.LittleEndian.AppendUint64(data, math.Float64bits(v))
		case "F32":
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(v)))
		case "BF16":
			data = binary.LittleEndian.AppendUint16(data, uint16(math.Float32bits(float32(v))>>16))
		case "F16":
			bits := math.Float64bits(v)
			half := uint16(0)
			if v != 0 {
				half = uint16(bits>>52-1023+15)<<10 | uint16(bits>>42&0x3ff)
			}
			data = binary.LittleEndian.AppendUint16(data, half)
		default: // I32
			data = binary.LittleEndian.AppendUint32(data, uint32(i))
		}
	}
	return safetensors.Tensor{Name: name, DType: dtype, Shape: shape, Data: data}
}

func TestOpenDTypesAndAdapterName(t *testing.T) {
	for _, dtype := range []safetensors.DType{"F64", "F32", "F16", "BF16"} {
		dir := writeAdapter(t, encoded(kProj+"lora_A.default.weight", dtype, 2, 8),
			encoded(kProj+"lora_B.weight", dtype, 4, 2))
		a, err := Open(dir, smallConfig())
		if err != nil {
			t.Errorf("%s: %v", dtype, err)
			continue
		}
		for _, p := range a.Params() {
			for i, v := range p.Value {
				if v != float32(i)/2 {
					t.Errorf("%s: %s[%d] is %v, want %v", dtype, p.Name(), i, v, float32(i)/2)
				}
			}
		}
	}
}

func TestOpenListsEveryProblem(t *testing.T) {
	goodA, goodB := encoded(kProj+"lora_A.weight", "F32", 2, 8), encoded(kProj+"lora_B.weight", "F32", 4, 2)
	extra := encoded("base_model.model.lm_head.weight", "F32", 2, 2)
	for _, c := range []struct {
		name    string
		tensors []safetensors.Tensor
		parts   []string
	}{
		{"missing", []safetensors.Tensor{goodA}, []string{"missing " + kProj + "lora_B.weight [4 2]"}},
		{"all at once", []safetensors.Tensor{encoded(kProj+"lora_A.weight", "F32", 3, 8), extra}, []string{
			kProj + "lora_A.weight: shape [3 8], want [2 8]", "missing " + kProj + "lora_B.weight",
			"extra base_model.model.lm_head.weight [2 2]", weightsFile}},
		{"transposed", []safetensors.Tensor{goodA, encoded(kProj+"lora_B.weight", "F32", 2, 4)},
			[]string{"lora_B.weight: shape [2 4], want [4 2]"}},
		{"twice", []safetensors.Tensor{goodA, goodB, encoded(kProj+"lora_B.default.weight", "F32", 4, 2)},
			[]string{"extra " + kProj, "the same place as"}},
		{"integers", []safetensors.Tensor{goodA, encoded(kProj+"lora_B.weight", "I32", 4, 2)},
			[]string{"lora_B.weight: dtype I32"}},
		{"a layer that the model has not", []safetensors.Tensor{goodA, goodB,
			encoded("base_model.model.model.layers.1.self_attn.k_proj.lora_A.weight", "F32", 2, 8)},
			[]string{"extra base_model.model.model.layers.1."}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(writeAdapter(t, c.tensors...), smallConfig())
			wantError(t, err, c.parts...)
		})
	}
}

func TestOpenNamesTheFile(t *testing.T) {
	_, err := Open(t.TempDir(), smallConfig())
	wantError(t, err, configFile)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want it to say that the file does not exist", err)
	}
	dir := writeAdapter(t)
	_, err = Open(dir, model.Config{})
	wantError(t, err, filepath.Join(dir, configFile), "target_modules")
	if err := os.Remove(filepath.Join(dir, weightsFile)); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, smallConfig())
	wantError(t, err, dir, weightsFile, pickleFile)
}

// TestOpenOfADirectoryOfAdapters: a run's directory, named in place of an adapter's, is answered with those that it has.
func TestOpenOfADirectoryOfAdapters(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(dir, model.Config{})
	if err == nil || strings.Contains(err.Error(), "below it") {
		t.Errorf("none below: got %v, want an error without advice", err)
	}
	for _, role := range []string{"arguer", "chooser"} {
		if err := os.Mkdir(filepath.Join(dir, role), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, role, configFile), []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, err = Open(dir, model.Config{})
	want := "name one of the adapters below it, " + filepath.Join(dir, "arguer") + " or " + filepath.Join(dir, "chooser")
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// testdata/bin is written by testdata/adapter_bin.py, which states the values.
func TestOpenPickle(t *testing.T) {
	a, err := Open(filepath.Join("testdata", "bin"), smallConfig())
	if err != nil {
		t.Fatal(err)
	}
	for position, p := range a.Params() {
		for i, v := range p.Value {
			if want := float32(i+100*position) / 64; v != want {
				t.Fatalf("%s[%d]: got %v, want %v", p.Name(), i, v, want)
			}
		}
	}
	if got := a.Scale(0, "down_proj"); got != 1.75 {
		t.Errorf("got scale %v, want 3.5/2", got)
	}
}

func TestOpenPickleRefuses(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("testdata", "bin", pickleFile))
	if err != nil {
		t.Fatal(err)
	}
	for name, broken := range map[string][]byte{"empty": {}, "truncated": content[:len(content)/2], "text": []byte("no")} {
		dir := writeAdapter(t)
		if err := os.Remove(filepath.Join(dir, weightsFile)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, pickleFile)
		if err := os.WriteFile(path, broken, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir, smallConfig())
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantError(t, err, path)
	}
}
