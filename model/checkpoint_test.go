package model

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"gotransplant/model/safetensors"
)

// tensorsOf makes the tensors of c, each with other bytes, in dtypes in turn.
func tensorsOf(t *testing.T, c Config, dtypes ...safetensors.DType) []safetensors.Tensor {
	t.Helper()
	var tensors []safetensors.Tensor
	for i, s := range c.Specs(safetensors.F32) {
		d := dtypes[i%len(dtypes)]
		size, err := safetensors.ByteSize(d, s.Shape)
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, size)
		for j := range data {
			data[j] = byte(i*31 + j*7)
		}
		tensors = append(tensors, safetensors.Tensor{Name: s.Name, DType: d, Shape: s.Shape, Data: data})
	}
	return tensors
}

// all are the types that weights may have.
var all = []safetensors.DType{safetensors.BF16, safetensors.F16, safetensors.F32, safetensors.F64}

// check fails unless c holds tensors, in their order.
func check(t *testing.T, c *Checkpoint, tensors []safetensors.Tensor) {
	t.Helper()
	if len(c.Names()) != len(tensors) {
		t.Errorf("got %d names, want %d", len(c.Names()), len(tensors))
	}
	for i, want := range tensors {
		if got := c.Tensor(want.Name); !reflect.DeepEqual(got, want) || c.Names()[i] != want.Name {
			t.Errorf("tensor %d: got %s %s %v, want %s %s %v", i, got.Name, got.DType, got.Shape, want.Name, want.DType,
				want.Shape)
		}
	}
}

func TestWriteReadsBack(t *testing.T) {
	linear := tiny()
	linear.RopeScaling, linear.EOSTokenIDs = &RopeScaling{Type: "linear", Factor: 2.5}, []int{3, 4}
	scaled := tiny()
	scaled.RopeScaling, scaled.TieWordEmbeddings, scaled.BOSTokenID, scaled.EOSTokenIDs = llama3(), true, -1, nil
	for name, c := range map[string]Config{"plain": tiny(), "linear": linear, "llama3 and tied": scaled} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "new")
			tensors := tensorsOf(t, c, all...)
			if err := Write(dir, c, tensors); err != nil {
				t.Fatal(err)
			}
			disk, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			memory, err := OpenFS(os.DirFS(filepath.Dir(dir)), "new")
			if err != nil {
				t.Fatal(err)
			}
			for _, got := range []*Checkpoint{disk, memory} {
				check(t, got, tensors)
				if !reflect.DeepEqual(got.Config, c) {
					t.Errorf("got %+v, want %+v", got.Config, c)
				}
				head := got.Tensor("lm_head.weight")
				if c.TieWordEmbeddings && (!bytes.Equal(head.Data, tensors[0].Data) || head.Name != "lm_head.weight") {
					t.Errorf("the tied head is %s, and not the embedding", head.Name)
				}
				if got := got.Tensor("absent"); got.Name != "" || got.Data != nil {
					t.Errorf("an absent tensor is %v, want the zero Tensor", got)
				}
				for range 2 {
					if err := got.Close(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

func TestWriteSaysTheType(t *testing.T) {
	for d, want := range map[safetensors.DType]string{
		safetensors.F64: "float64", safetensors.F32: "float32", safetensors.F16: "float16", safetensors.BF16: "bfloat16",
	} {
		dir := t.TempDir()
		if err := Write(dir, tiny(), tensorsOf(t, tiny(), d)); err != nil {
			t.Fatal(err)
		}
		var config struct {
			DType string `json:"torch_dtype"`
		}
		text, err := os.ReadFile(filepath.Join(dir, "config.json"))
		if err != nil || json.Unmarshal(text, &config) != nil || config.DType != want {
			t.Errorf("%s: got torch_dtype %q, %v, want %q", d, config.DType, err, want)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	good := tensorsOf(t, tiny(), all...)
	uneven, negative := tiny(), tiny()
	uneven.NumKeyValueHeads, negative.BOSTokenID = 3, -5
	cases := []struct {
		name    string
		config  Config
		tensors []safetensors.Tensor
		want    string
	}{
		{"bad config", uneven, good, "cannot share 3"},
		{"config that would change", negative, good, "config.json: the file cannot hold"},
		{"missing tensor", tiny(), good[1:], "missing: model.embed_tokens.weight"},
		{"tensor twice", tiny(), append(slices.Clone(good), good[0]), "model.embed_tokens.weight is given twice"},
		{"data too short", tiny(), append(slices.Clone(good[1:]), safetensors.Tensor{Name: good[0].Name, DType: good[0].DType,
			Shape: good[0].Shape, Data: good[0].Data[1:]}), "takes 168 bytes, got 167"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := Write(dir, c.config, c.tensors); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("%v were written", left)
			}
		})
	}
}

// TestStreamedCheckpoint writes one as a script would that cannot hold it in memory.
func TestStreamedCheckpoint(t *testing.T) {
	dir := t.TempDir()
	want := tensorsOf(t, tiny(), safetensors.BF16)
	err := safetensors.WriteFrom(filepath.Join(dir, "model.safetensors"), tiny().Specs(safetensors.BF16), nil,
		func(i int, w io.Writer) error {
			_, err := w.Write(want[i].Data)
			return err
		})
	if err == nil {
		err = WriteConfig(dir, tiny(), safetensors.BF16)
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	check(t, c, want)
	if err := WriteConfig(dir, tiny(), "I8"); err == nil || !strings.Contains(err.Error(), `"I8"`) {
		t.Errorf("got %v, want a config for I8 weights refused", err)
	}
}

// writeFiles writes the config and, for each file, the tensors given for it.
func writeFiles(t *testing.T, c Config, files map[string][]safetensors.Tensor) string {
	t.Helper()
	dir := t.TempDir()
	if err := WriteConfig(dir, c, safetensors.F32); err != nil {
		t.Fatal(err)
	}
	for name, tensors := range files {
		if err := safetensors.Write(filepath.Join(dir, name), tensors, nil); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAllProblemsAtOnce(t *testing.T) {
	tensors := tensorsOf(t, tiny(), safetensors.F32)
	tensor := func(name string) *safetensors.Tensor {
		return &tensors[slices.IndexFunc(tensors, func(t safetensors.Tensor) bool { return t.Name == name })]
	}
	shape := tensor("model.layers.0.self_attn.k_proj.weight")
	shape.Shape = []int{144}
	integers := tensor("model.norm.weight")
	integers.DType = "I32"
	tensor("lm_head.weight").Name = "score.weight"
	tensor("model.layers.1.mlp.up_proj.weight").Name = "model.layers.2.mlp.up_proj.weight"
	tensors = append(tensors, safetensors.Tensor{Name: "model.layers.0.self_attn.q_proj.bias", DType: "F32",
		Shape: []int{0}})
	dir := writeFiles(t, tiny(), map[string][]safetensors.Tensor{"model.safetensors": tensors})
	_, err := Open(dir)
	if err == nil {
		t.Fatal("opened")
	}
	for _, want := range []string{
		dir + ": ", "7 problems",
		"missing: lm_head.weight, want shape [7 12]",
		"missing: model.layers.1.mlp.up_proj.weight, want shape [10 12]",
		"extra: model.safetensors: score.weight of shape [7 12]",
		"extra: model.safetensors: model.layers.2.mlp.up_proj.weight",
		"extra: model.safetensors: model.layers.0.self_attn.q_proj.bias of shape [0]",
		"wrong shape: model.safetensors: model.layers.0.self_attn.k_proj.weight is [144], want [12 12]",
		"wrong type: model.safetensors: model.norm.weight is I32",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant it to contain %q", err, want)
		}
	}
}

func TestTiedHeadInTheFile(t *testing.T) {
	c := tiny()
	c.TieWordEmbeddings = true
	base := tensorsOf(t, c, safetensors.F32)
	same := base[0]
	same.Name = "lm_head.weight"
	other, reshaped, retyped := same, same, same
	other.Data = slices.Clone(same.Data)
	other.Data[5]++
	reshaped.Shape = []int{12, 7}
	retyped.DType = "I32"
	cases := []struct {
		name    string
		tensors []safetensors.Tensor
		want    string
	}{
		{"the same bytes", append(slices.Clone(base), same), ""},
		{"other bytes", append(slices.Clone(base), other), "lm_head.weight differs from model.embed_tokens.weight"},
		{"other shape", append(slices.Clone(base), reshaped), "lm_head.weight differs"},
		{"other type", append(slices.Clone(base), retyped), "lm_head.weight differs"},
		{"instead of the embedding", append(slices.Clone(base[1:]), same), "1 problems:\nmissing: model.embed_tokens.weight"},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			got, err := Open(writeFiles(t, c, map[string][]safetensors.Tensor{"model.safetensors": k.tensors}))
			if k.want != "" {
				if err == nil || !strings.Contains(err.Error(), k.want) {
					t.Errorf("got %v, want an error with %q", err, k.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			check(t, got, base)
		})
	}
}

func TestFilesAreLookedForInOrder(t *testing.T) {
	base := tensorsOf(t, tiny(), safetensors.F32)
	dir := writeFiles(t, tiny(), nil)
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "no weights: want one of model.safetensors") {
		t.Errorf("got %v, want an error that lists the files looked for", err)
	}
	for i, name := range []string{"pytorch_model.bin.index.json", "pytorch_model.bin", "model.safetensors.index.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), name+": ") {
			t.Errorf("step %d: got %v, want %s to be read", i, err, name)
		}
	}
	for _, name := range []string{"model.safetensors.index.json", "model.safetensors"} { // what is there but no file is not passed over
		odd := writeFiles(t, tiny(), nil)
		if err := os.Mkdir(filepath.Join(odd, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(odd); err == nil || !strings.Contains(err.Error(), name+" is not a regular file") {
			t.Errorf("a directory: got %v, want %s refused", err, name)
		}
	}
	if err := safetensors.Write(filepath.Join(dir, "model.safetensors"), base, nil); err != nil {
		t.Fatal(err)
	}
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	check(t, c, base)
	if _, err := Open(filepath.Join(dir, "absent")); err == nil || !strings.Contains(err.Error(),
		"not a checkpoint directory") {
		t.Errorf("got %v, want an error that says so", err)
	}
	if _, err := OpenFS(fstest.MapFS{"m/config.json": {Data: []byte("{")}}, "m"); err == nil ||
		!strings.Contains(err.Error(), "m/config.json: not JSON") {
		t.Errorf("got %v, want the file named", err)
	}
}

// shared is the folder of inputs that do not belong to the repository.
func shared(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("TRANSPLANT_SHARED")
	if dir == "" {
		root, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for ; root != filepath.Dir(root); root = filepath.Dir(root) {
			if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
				break
			}
		}
		dir = filepath.Join(root, "..", "shared")
	}
	if _, err := os.Stat(filepath.Join(dir, "golden")); err != nil {
		t.Skipf("%s: shared not found, set TRANSPLANT_SHARED", dir)
	}
	return dir
}

// TestGoldenEmbeddings looks up the rows that the reference run embedded.
func TestGoldenEmbeddings(t *testing.T) {
	for _, name := range []string{"small", "mha", "gqa"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(shared(t), "golden", name)
			c, err := Open(filepath.Join(dir, "model"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			var expected struct {
				Rows []struct {
					IDs []int `json:"correct_ids"`
				}
			}
			text, err := os.ReadFile(filepath.Join(dir, "expected.json"))
			if err != nil || json.Unmarshal(text, &expected) != nil {
				t.Fatal(err)
			}
			reference, err := safetensors.Open(filepath.Join(dir, "expected.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer reference.Close()
			residual, _ := reference.Tensor("row0.correct.residual0")
			compareRows(t, c, expected.Rows[0].IDs, residual)
		})
	}
}

// compareRows compares the embeddings of ids with the rows of want.
func compareRows(t *testing.T, c *Checkpoint, ids []int, want safetensors.Tensor) {
	t.Helper()
	rows, err := want.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	table, err := c.Tensor("model.embed_tokens.weight").Float32s()
	if err != nil {
		t.Fatal(err)
	}
	width := c.Config.HiddenSize
	if len(ids) == 0 || len(rows) != len(ids)*width {
		t.Fatalf("got %d reference values for %d tokens of width %d", len(rows), len(ids), width)
	}
	for i, id := range ids {
		if got, want := table[id*width:(id+1)*width], rows[i*width:(i+1)*width]; !slices.Equal(got, want) {
			t.Errorf("token %d: got %v, want %v", id, got, want)
		}
	}
}

func TestStories260K(t *testing.T) {
	dir := filepath.Join(shared(t), "models", "stories260K")
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !c.Config.TieWordEmbeddings || c.Config.NumKeyValueHeads != 4 || len(c.Names()) != 47 {
		t.Errorf("got %+v with %d tensors, want tied embeddings, 4 key-value heads, 47 tensors", c.Config, len(c.Names()))
	}
	f, err := os.Open(filepath.Join(dir, "golden_f32.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := c.Tensor("model.embed_tokens.weight").Float32s()
	if err != nil {
		t.Fatal(err)
	}
	var tokens []string
	compared := 0
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if words[0] == "tokens" {
			tokens = words[3:]
		}
		if words[0] != "resid" || words[1] != "-1" {
			continue
		}
		position, _ := strconv.Atoi(words[2])
		id, _ := strconv.Atoi(tokens[position])
		for i, word := range words[3:] {
			want, err := strconv.ParseFloat(word, 32)
			if got := table[id*64+i]; err != nil || got != float32(want) {
				t.Errorf("token %d, value %d: got %v, want %v", id, i, got, want)
			}
			compared++
		}
	}
	if compared == 0 || compared%64 != 0 {
		t.Errorf("%d values were compared", compared)
	}
}

// TestReadAtOutsideOfFiles: a tensor that was laid out anew when its file was opened is read from memory, and is in no file.
func TestReadAtOutsideOfFiles(t *testing.T) {
	c := &Checkpoint{files: []*safetensors.Mapped{{Content: []byte("0123456789")}},
		tensors: map[string]safetensors.Tensor{"a": {Name: "a", DType: "U8", Shape: []int{4}, Data: []byte("abcd")}}}
	got := make([]byte, 2)
	if err := c.ReadAt("a", got, 1); err != nil || string(got) != "bc" {
		t.Errorf("got %q, %v, want bc", got, err)
	}
	if file, at := c.Place("a"); file != -1 || at != 0 {
		t.Errorf("the tensor is at %d of file %d, want 0 and -1", at, file)
	}
}

// TestReadAt: parts of tensors come from the file as they are in memory, and no other bytes can be asked for.
func TestReadAt(t *testing.T) {
	dir := t.TempDir()
	config := Config{VocabSize: 3, HiddenSize: 4, IntermediateSize: 2, NumHiddenLayers: 1, NumAttentionHeads: 2,
		NumKeyValueHeads: 1, HeadDim: 2, RopeTheta: 1e4, RMSNormEps: 1e-5, MaxPositionEmbeddings: 8}
	var written []safetensors.Tensor
	for i, spec := range config.Specs("F32") {
		size := 1
		for _, d := range spec.Shape {
			size *= d
		}
		values := make([]float32, size)
		for j := range values {
			values[j] = float32(i*100 + j)
		}
		tensor, err := safetensors.FromFloat32s(spec.Name, "F32", spec.Shape, values)
		if err != nil {
			t.Fatal(err)
		}
		written = append(written, tensor)
	}
	if err := Write(dir, config, written); err != nil {
		t.Fatal(err)
	}
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, want := range written {
		for _, r := range [][2]int{{0, len(want.Data)}, {4, len(want.Data)}, {3, 5}, {len(want.Data), len(want.Data)}} {
			got := make([]byte, r[1]-r[0])
			if err := c.ReadAt(want.Name, got, r[0]); err != nil || !bytes.Equal(got, want.Data[r[0]:r[1]]) {
				t.Errorf("%s: bytes %v are %v (%v), want %v", want.Name, r, got, err, want.Data[r[0]:r[1]])
			}
		}
		if file, at := c.Place(want.Name); file != 0 || !bytes.Equal(c.files[file].Content[at:at+len(want.Data)], want.Data) {
			t.Errorf("%s is not at %d of file %d", want.Name, at, file)
		}
		c.Forget(want.Name, 0, len(want.Data)) // which must not harm
		err := c.ReadAt(want.Name, make([]byte, 8), len(want.Data)-7)
		if err == nil || !strings.Contains(err.Error(), want.Name) {
			t.Errorf("beyond the end of %s: got error %v, want one that names it", want.Name, err)
		}
	}
	if err := c.ReadAt(written[0].Name, make([]byte, 1), -1); err == nil || !strings.Contains(err.Error(), "outside the tensor") {
		t.Errorf("before the beginning: got %v, want it refused", err)
	}
	if err := c.ReadAt("absent", nil, 0); err == nil {
		t.Error("no error for a tensor that is not there")
	}
	if err := os.Truncate(filepath.Join(dir, "model.safetensors"), 100); err != nil {
		t.Fatal(err)
	}
	last := written[len(written)-1]
	err = c.ReadAt(last.Name, make([]byte, len(last.Data)), 0)
	if err == nil || !strings.Contains(err.Error(), "model.safetensors") || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("a file cut short: got error %v, want one that names it and says so", err)
	}
}
