package model

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gotransplant/model/safetensors"
)

// finiteTensors makes the tensors of c with values that need all the digits of their type.
func finiteTensors(t *testing.T, c Config, dtypes ...safetensors.DType) []safetensors.Tensor {
	t.Helper()
	var tensors []safetensors.Tensor
	for i, s := range c.Specs(safetensors.F32) {
		d := dtypes[i%len(dtypes)]
		size, err := safetensors.ByteSize(d, s.Shape)
		if err != nil {
			t.Fatal(err)
		}
		values := make([]float64, size*8/d.Bits())
		for j := range values {
			values[j] = math.Sin(float64(i+j)) / 3
		}
		data := make([]byte, size)
		if err := safetensors.Encode64(data, d, values); err != nil {
			t.Fatal(err)
		}
		tensors = append(tensors, safetensors.Tensor{Name: s.Name, DType: d, Shape: s.Shape, Data: data})
	}
	return tensors
}

// written makes a checkpoint of tensors and opens it.
func written(t *testing.T, c Config, tensors []safetensors.Tensor) (dir string, open *Checkpoint) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "from")
	if err := Write(dir, c, tensors); err != nil {
		t.Fatal(err)
	}
	return dir, opened(t, dir)
}

func opened(t *testing.T, dir string) *Checkpoint {
	t.Helper()
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// large is tiny with matrices that are rewritten in several pieces.
func large() Config {
	c := tiny()
	c.VocabSize = 3*pieceValues/c.HiddenSize + 5
	return c
}

// sameTensors fails unless both checkpoints hold the same tensors, byte by byte.
func sameTensors(t *testing.T, got, want *Checkpoint) {
	t.Helper()
	if !slices.Equal(got.Names(), want.Names()) {
		t.Errorf("got %v, want %v", got.Names(), want.Names())
	}
	for _, name := range want.Names() {
		if a, b := got.Tensor(name), want.Tensor(name); !reflect.DeepEqual(a, b) {
			t.Errorf("%s: got %s %v, want %s %v and the same bytes", name, a.DType, a.Shape, b.DType, b.Shape)
		}
	}
}

// TestRewriteCopies: tensors of every kind of weight file and type come out byte by byte, in one file or in shards.
func TestRewriteCopies(t *testing.T) {
	mixed, _ := written(t, large(), finiteTensors(t, large(), all...))
	tied := tiny()
	tied.TieWordEmbeddings = true
	one, _ := written(t, tied, finiteTensors(t, tied, safetensors.BF16))
	cases := []struct {
		name, from string
		shardSize  int64
		files      int // of weights
	}{
		{"mixed types in one file", mixed, 0, 1},
		{"mixed types in shards", mixed, 1000, 11},
		{"tied head", one, 0, 1},
		{"PyTorch shards", "testdata/bin", 0, 1},
		{"PyTorch shards to others", "testdata/bin", 100, 5},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			from, out := opened(t, c.from), filepath.Join(t.TempDir(), "a", "out")
			altered, err := from.Rewrite(t.Context(), out, Rewriting{ShardSize: c.shardSize})
			if err != nil {
				t.Fatal(err)
			}
			if len(altered) != 0 {
				t.Errorf("got %v altered, want none", altered)
			}
			back := opened(t, out)
			sameTensors(t, back, from)
			if !back.Config.equal(from.Config) {
				t.Errorf("got config %+v, want %+v", back.Config, from.Config)
			}
			files, err := filepath.Glob(filepath.Join(out, "*.safetensors"))
			if err != nil || len(files) != c.files {
				t.Errorf("got %d files %v, want %d", len(files), files, c.files)
			}
			if _, err := os.Stat(filepath.Join(out, indexFile)); (err == nil) != (c.files > 1) {
				t.Errorf("index: got %v with %d files", err, c.files)
			}
		})
	}
}

// TestIndexIsHuggingFaces: names, sizes and the form of the index.
func TestIndexIsHuggingFaces(t *testing.T) {
	_, from := written(t, tiny(), finiteTensors(t, tiny(), safetensors.F32))
	out := filepath.Join(t.TempDir(), "out")
	const limit = 1200
	if _, err := from.Rewrite(t.Context(), out, Rewriting{ShardSize: limit}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(out, "model.safetensors.index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		Metadata  map[string]int    `json:"metadata"`
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(text, &index); err != nil {
		t.Fatal(err)
	}
	total, bytes := 0, map[string]int{}
	for _, name := range from.Names() {
		size := len(from.Tensor(name).Data)
		total += size
		bytes[index.WeightMap[name]] += size
	}
	if got := index.Metadata["total_size"]; got != total {
		t.Errorf("got total_size %d, want %d", got, total)
	}
	if len(index.WeightMap) != len(from.Names()) {
		t.Errorf("got %d tensors, want %d", len(index.WeightMap), len(from.Names()))
	}
	for i := range len(bytes) {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(bytes))
		if size := bytes[name]; size == 0 || size > limit {
			t.Errorf("%s: got %d bytes of tensors, want 1 to %d", name, size, limit)
		}
	}
	if want := "{\n  \"metadata\": {\n    \"total_size\": "; !strings.HasPrefix(string(text), want) {
		t.Errorf("got %q, want it to begin with %q", text[:60], want)
	}
}

// TestSplit: the greedy rule, and a tensor that is too long alone.
func TestSplit(t *testing.T) {
	spec := func(name string, n int) safetensors.Spec {
		return safetensors.Spec{Name: name, DType: safetensors.F16, Shape: []int{n}}
	}
	cases := []struct {
		name  string
		sizes []int // values of two bytes
		want  string
	}{
		{"none", nil, ""},
		{"all in one", []int{2, 3}, "model.safetensors: 0 1"},
		{"next file", []int{3, 2, 1}, "model-00001-of-00002.safetensors: 0 1; model-00002-of-00002.safetensors: 2"},
		{"long one alone", []int{1, 9, 2}, "model-00001-of-00002.safetensors: 1; model-00002-of-00002.safetensors: 0 2"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var specs []safetensors.Spec
			for i, n := range c.sizes {
				specs = append(specs, spec(fmt.Sprint(i), n))
			}
			shards, err := split(specs, 10)
			if err != nil {
				t.Fatal(err)
			}
			var parts []string
			for _, s := range shards {
				part := s.File + ":"
				for _, t := range s.Tensors {
					part += " " + t.Name
				}
				parts = append(parts, part)
			}
			if got := strings.Join(parts, "; "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestRewriteConverts: another type is the nearest value, config.json says so, and the losses are counted.
func TestRewriteConverts(t *testing.T) {
	tensors := finiteTensors(t, large(), safetensors.F32, safetensors.F64)
	_, from := written(t, large(), tensors)
	for _, d := range all {
		t.Run(string(d), func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			altered, err := from.Rewrite(t.Context(), out, Rewriting{DType: d})
			if err != nil {
				t.Fatal(err)
			}
			losses := map[string]Altered{}
			for _, a := range altered {
				losses[a.Name] = a
			}
			back := opened(t, out)
			for _, want := range tensors {
				got := back.Tensor(want.Name)
				values := decode(t, want)
				if data := make([]byte, len(got.Data)); got.DType != d ||
					safetensors.Encode64(data, d, values) != nil || !reflect.DeepEqual(data, got.Data) {
					t.Fatalf("%s: got %s, not the nearest %s", want.Name, got.DType, d)
				}
				var largest, square float64
				for i, v := range decode(t, got) {
					largest = max(largest, math.Abs(v-values[i]))
					square += (v - values[i]) * (v - values[i])
				}
				a, ok := losses[want.Name]
				if ok != (want.DType != d) {
					t.Errorf("%s: listed %t, want %t", want.Name, ok, !ok)
				}
				if ok && (a.LargestLost != largest || math.Abs(a.Lost-math.Sqrt(square)) > 1e-12*a.Lost || a.Changed) {
					t.Errorf("%s: got losses %v, %v, want %v, %v", want.Name, a.LargestLost, a.Lost, largest, math.Sqrt(square))
				}
			}
			if text, err := os.ReadFile(filepath.Join(out, "config.json")); err != nil ||
				!strings.Contains(string(text), `"torch_dtype": "`+DTypeName(d)+`"`) {
				t.Errorf("config.json does not say %s (%v):\n%s", DTypeName(d), err, text)
			}
		})
	}
}

func decode(t *testing.T, tensor safetensors.Tensor) []float64 {
	t.Helper()
	values := make([]float64, len(tensor.Data)*8/tensor.DType.Bits())
	if err := safetensors.Decode64(values, tensor.DType, tensor.Data); err != nil {
		t.Fatal(err)
	}
	return values
}

// TestRewriteChanges: each row of a tensor is changed once, under its number, and rounded once.
func TestRewriteChanges(t *testing.T) {
	c := large()
	tensors := finiteTensors(t, c, safetensors.BF16)
	_, from := written(t, c, tensors)
	out := filepath.Join(t.TempDir(), "out")
	change := func(rows []float64, first int) error {
		for i := range rows {
			rows[i] += float64(first+i/c.HiddenSize) * 1e-6
		}
		return nil
	}
	last := 0
	altered, err := from.Rewrite(t.Context(), out, Rewriting{
		Change: func(name string) RowChange {
			if name != embeddingName {
				return nil
			}
			return change
		},
		Progress: func(done, total int) {
			if done <= last || done > total {
				t.Errorf("progress: %d of %d after %d", done, total, last)
			}
			last = done
		}})
	if err != nil {
		t.Fatal(err)
	}
	if len(altered) != 1 || altered[0].Name != embeddingName || !altered[0].Changed {
		t.Fatalf("got %+v, want the embedding alone", altered)
	}
	compareChanged(t, altered[0], decode(t, tensors[0]), decode(t, opened(t, out).Tensor(embeddingName)))
	rows := 0
	for _, t := range tensors {
		n, _ := matrix(t.Shape)
		rows += n
	}
	if last != rows {
		t.Errorf("the last progress told was %d rows, want %d", last, rows)
	}
}

// compareChanged checks what became of the embedding of large, and what was said of it.
func compareChanged(t *testing.T, a Altered, base, after []float64) {
	t.Helper()
	width := large().HiddenSize
	var squares, moved, lost float64
	for i, got := range after {
		step := float64(i/width) * 1e-6
		want := make([]byte, 2)
		if err := safetensors.Encode64(want, safetensors.BF16, []float64{base[i] + step}); err != nil {
			t.Fatal(err)
		}
		if w := decode(t, safetensors.Tensor{DType: safetensors.BF16, Data: want})[0]; got != w {
			t.Fatalf("value %d: got %v, want %v", i, got, w)
		}
		squares, moved, lost = squares+base[i]*base[i], moved+step*step, lost+math.Pow(base[i]+step-got, 2)
	}
	near := func(name string, got, want float64) {
		if !(math.Abs(got-want) <= 1e-9*want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	near("norm before", a.Base, math.Sqrt(squares))
	near("norm of the change", a.Moved, math.Sqrt(moved))
	near("norm of what was lost", a.Lost, math.Sqrt(lost))
	near("largest change", a.Largest, float64(large().VocabSize-1)*1e-6)
}

// TestRewriteRefuses: nothing is left behind, and the tensor is named.
func TestRewriteRefuses(t *testing.T) {
	good := finiteTensors(t, tiny(), safetensors.F32)
	put := func(name string, at int, value float32) []safetensors.Tensor {
		tensors := slices.Clone(good)
		for i, t := range tensors {
			if t.Name == name {
				tensors[i].Data = slices.Clone(t.Data)
				if err := safetensors.Encode(tensors[i].Data[4*at:4*at+4], safetensors.F32, []float32{value}); err != nil {
					panic(err)
				}
			}
		}
		return tensors
	}
	with := func(name string, value float32) []safetensors.Tensor { return put(name, 13, value) }
	const q = "model.layers.1.self_attn.q_proj.weight"
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	cases := []struct {
		name    string
		ctx     context.Context
		tensors []safetensors.Tensor
		r       Rewriting
		want    []string
	}{
		{"no number in a copied tensor", t.Context(), with(q, float32(math.NaN())), Rewriting{}, []string{q, "[1 1]", "not finite"}},
		{"the first value", t.Context(), put(q, 0, float32(math.NaN())), Rewriting{}, []string{q, "[0 0]", "not finite"}},
		{"the first value too large", t.Context(), put(q, 0, 65520), Rewriting{DType: "F16"}, []string{q, "[0 0]", "65520", "float16"}},
		{"infinite in a converted one", t.Context(), with(q, float32(math.Inf(1))), Rewriting{DType: "F16"}, []string{q, "not finite"}},
		{"too large for float16", t.Context(), with(q, 65520), Rewriting{DType: "F16"}, []string{q, "[1 1]", "65520", "float16"}},
		{"change that fails", t.Context(), good, Rewriting{Change: func(string) RowChange {
			return func([]float64, int) error { return fmt.Errorf("no direction") }
		}}, []string{"no direction"}},
		{"interrupted", cancelled, good, Rewriting{}, []string{"context canceled"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, from := written(t, tiny(), c.tensors)
			parent := t.TempDir()
			_, err := from.Rewrite(c.ctx, filepath.Join(parent, "out"), c.r)
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want an error with %q", err, want)
				}
			}
			if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v (%v)", left, err)
			}
		})
	}
	dir, from := written(t, tiny(), good)
	if _, err := from.Rewrite(t.Context(), dir, Rewriting{}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("onto the checkpoint itself: got %v, want a refusal", err)
	}
	sameTensors(t, opened(t, dir), from)
}

// TestRewriteTakesCompanions: tokenizer and the rest of config.json go with the weights.
func TestRewriteTakesCompanions(t *testing.T) {
	dir, from := written(t, tiny(), finiteTensors(t, tiny(), safetensors.F32))
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	config = []byte(strings.Replace(string(config), "{", "{\n  \"transformers_version\": \"4.0\",", 1))
	files := map[string]string{"config.json": string(config), "tokenizer.json": "{}", "tokenizer_config.json": "[1]",
		"generation_config.json": "{ }", "LICENSE": "terms", "README.md": "of the base", "optimizer.pt": "x"}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := from.Rewrite(t.Context(), out, Rewriting{DType: safetensors.F16}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	want := []string{"LICENSE", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, name := range want {
		wanted, ok := files[name]
		if name == "config.json" {
			wanted = strings.Replace(wanted, "float32", "float16", 1)
		}
		if text, err := os.ReadFile(filepath.Join(out, name)); ok && (err != nil || string(text) != wanted) {
			t.Errorf("%s: got %q (%v), want %q", name, text, err, wanted)
		}
	}
}

// TestDTypeNames: the names of config.json are read as they are written, and no others.
func TestDTypeNames(t *testing.T) {
	for _, d := range all {
		if got, err := ParseDType(DTypeName(d)); err != nil || got != d {
			t.Errorf("%s is %q, which reads %s, %v", d, DTypeName(d), got, err)
		}
	}
	for _, name := range []string{"", "int8", "BF16", "half"} {
		if got, err := ParseDType(name); err == nil {
			t.Errorf("%q reads %s, want it refused", name, got)
		}
	}
}

func TestWithDType(t *testing.T) {
	cases := []struct{ name, text, want string }{
		{"set", `{"a": 1, "torch_dtype" : "float32" ,"b":{}}`, `{"a": 1, "torch_dtype" : "float16" ,"b":{}}`},
		{"null", "{\n \"torch_dtype\":null}", "{\n \"torch_dtype\":\"float16\"}"},
		{"the new name", `{"dtype": "bfloat16"}`, `{"dtype": "float16"}`},
		{"both", `{"dtype":1,"torch_dtype":""}`, `{"dtype":"float16","torch_dtype":"float16"}`},
		{"inside another object", `{"a": {"dtype": 1}}`, "{\n  \"torch_dtype\": \"float16\",\"a\": {\"dtype\": 1}}"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := withDType([]byte(c.text), safetensors.F16)
			if err != nil || string(got) != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}
