package wordproblem

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotransplant/model"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend"
)

// tinyRecipe is done in a second.
func tinyRecipe() Recipe {
	r := DefaultRecipe()
	r.Model.HiddenSize, r.Model.IntermediateSize, r.Model.NumHiddenLayers = 16, 24, 2
	r.Model.NumAttentionHeads, r.Model.NumKeyValueHeads = 2, 1
	r.Batch, r.MicroBatch, r.Bucket, r.Window = 10, 4, 16, 2
	r.Schedule.Warmup, r.Schedule.Peak = 2, 1e-2
	for i := range r.Lessons {
		r.Lessons[i].Steps = 10
	}
	return r
}

func newPretrainer(t *testing.T, tok Tokenizer, r Recipe) *Pretrainer {
	t.Helper()
	b, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPretrainer(b, tok, r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// metrics runs p to its end, or until step, when ctx ends.
func metrics(t *testing.T, p *Pretrainer, stop int) []PretrainMetrics {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var all []PretrainMetrics
	err := p.Run(ctx, func(m PretrainMetrics) error {
		if all = append(all, m); m.Step == stop {
			cancel()
		}
		return nil
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return all
}

// TestPretrainLearns: the loss starts at that of a guess and falls, tied or not; the score of held-out documents too.
func TestPretrainLearns(t *testing.T) {
	tok := learned(t)
	for _, tied := range []bool{false, true} {
		t.Run(fmt.Sprintf("tied=%t", tied), func(t *testing.T) {
			r := tinyRecipe()
			r.Model.TieWordEmbeddings = tied
			p := newPretrainer(t, tok, r)
			before, err := p.Evaluate(20)
			if err != nil {
				t.Fatal(err)
			}
			all := metrics(t, p, 0)
			if len(all) != r.Steps() || p.Step() != r.Steps() {
				t.Fatalf("%d steps were reported and %d done, want %d", len(all), p.Step(), r.Steps())
			}
			guess := math.Log(float64(tok.VocabSize()))
			if first := all[0].Loss; math.Abs(first-guess) > 0.1 {
				t.Errorf("first loss %v, want about ln of the vocabulary, %v", first, guess)
			}
			if last := all[len(all)-1].Loss; last > guess-1 {
				t.Errorf("last loss %v, want less than %v", last, guess-1)
			}
			after, err := p.Evaluate(20)
			if err != nil {
				t.Fatal(err)
			}
			if after.Judged != before.Judged || after.Judged < 20 || after.Loss > before.Loss-1 {
				t.Errorf("held out: %s before, %s after", before, after)
			}
		})
	}
}

// TestPretrainIsReproducible: workers and the number of cores change no bit, the seed does.
func TestPretrainIsReproducible(t *testing.T) {
	tok := learned(t)
	weights := func(workers int, seed uint64) []float32 {
		r := tinyRecipe()
		r.Seed = seed
		p := newPretrainer(t, tok, r)
		p.Workers = workers
		metrics(t, p, 5)
		var all []float32
		for _, tensor := range p.all() {
			all = append(all, tensor.Value...)
		}
		return all
	}
	one := weights(1, 1)
	if three := weights(3, 1); !slices.Equal(one, three) {
		t.Error("three workers give other weights than one")
	}
	if other := weights(1, 2); slices.Equal(one, other) {
		t.Error("another seed gives the same weights")
	}
}

// TestPretrainResumes: a run that was stopped after any step has the weights of one that was left alone.
func TestPretrainResumes(t *testing.T) {
	tok := learned(t)
	whole := newPretrainer(t, tok, tinyRecipe())
	want := metrics(t, whole, 5)
	dir, run := filepath.Join(t.TempDir(), "made", "model"), map[string]string{"seed": "1"}
	for _, stop := range []int{2, 4} {
		p := resumed(t, tok, dir, run)
		metrics(t, p, stop)
		if err := p.SaveState(dir, run); err != nil {
			t.Fatal(err)
		}
	}
	p := resumed(t, tok, dir, run)
	if got := metrics(t, p, 5)[0]; got.Step != 5 || got.Loss != want[4].Loss || got.LearningRate != want[4].LearningRate {
		t.Errorf("got step %d with loss %v at rate %v, want 5 with %v at %v", got.Step, got.Loss, got.LearningRate, want[4].Loss, want[4].LearningRate)
	}
	for i, tensor := range p.all() {
		if !slices.Equal(tensor.Value, whole.all()[i].Value) {
			t.Errorf("%s has other values than without the stops", tensor.Name)
		}
	}
	for name, c := range map[string]struct {
		run  map[string]string
		want string
	}{
		"another seed":          {map[string]string{"seed": "2"}, "--seed was 1 and is 2"},
		"a flag not known then": {map[string]string{"seed": "1", "new": "x"}, "--new was  and is x"},
	} {
		if _, err := SavedStep(dir, c.run); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), StateFile) {
			t.Errorf("%s: got error %v, want one of %s with %q", name, err, StateFile, c.want)
		}
	}
}

// TestDamagedState: values that a state lacks, or has in another number, are refused by name.
func TestDamagedState(t *testing.T) {
	tok := learned(t)
	p := newPretrainer(t, tok, tinyRecipe())
	dir, name := t.TempDir(), "value."+p.all()[0].Name
	if err := p.SaveState(dir, nil); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(filepath.Join(dir, StateFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for want, damage := range map[string]func(safetensors.Tensor) []safetensors.Tensor{
		"no tensor " + name: func(safetensors.Tensor) []safetensors.Tensor { return nil },
		name + " has shape [1]": func(t safetensors.Tensor) []safetensors.Tensor {
			t.Shape, t.Data = []int{1}, t.Data[:4]
			return []safetensors.Tensor{t}
		},
	} {
		var all []safetensors.Tensor
		for _, each := range f.Names() {
			tensor, _ := f.Tensor(each)
			if each == name {
				all = append(all, damage(tensor)...)
			} else {
				all = append(all, tensor)
			}
		}
		damaged := t.TempDir()
		if err := safetensors.Write(filepath.Join(damaged, StateFile), all, f.Metadata()); err != nil {
			t.Fatal(err)
		}
		err := newPretrainer(t, tok, tinyRecipe()).Resume(damaged, nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), StateFile) {
			t.Errorf("got error %v, want one of %s with %q", err, StateFile, want)
		}
	}
}

// resumed is a fresh Pretrainer, set to the state in dir if there is one.
func resumed(t *testing.T, tok Tokenizer, dir string, run map[string]string) *Pretrainer {
	t.Helper()
	p := newPretrainer(t, tok, tinyRecipe())
	if _, err := os.Stat(dir); err != nil {
		return p
	}
	if err := p.Resume(dir, run); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPretrainMicroBatches: cutting a batch in other pieces, one of them with rows to spare, gives the same gradient.
func TestPretrainMicroBatches(t *testing.T) {
	tok := learned(t)
	var norms []float64
	for _, size := range []int{4, 10} {
		r := tinyRecipe()
		r.MicroBatch = size
		p := newPretrainer(t, tok, r)
		norms = append(norms, metrics(t, p, 1)[0].GradientNorm)
	}
	if math.Abs(norms[0]-norms[1]) > 1e-5*norms[0] {
		t.Errorf("gradient norms %v of micro-batches of 4 and of 10 rows, want equal ones", norms)
	}
}

// TestPretrainSave: what is written is a checkpoint, which runs like the model it came from.
func TestPretrainSave(t *testing.T) {
	tok := learned(t)
	r := tinyRecipe()
	p := newPretrainer(t, tok, r)
	metrics(t, p, 3)
	for _, d := range []struct {
		dtype     safetensors.DType
		tolerance float64 // of a value, relative: half a unit in the last of 8 bits
	}{{"F32", 0}, {"BF16", 1.0 / 256}} {
		dir := filepath.Join(t.TempDir(), string(d.dtype))
		if err := p.Save(dir, "I64"); err == nil {
			t.Error("weights were stored as I64")
		}
		if err := p.Save(dir, d.dtype); err != nil {
			t.Fatal(err)
		}
		c, err := model.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got, want := c.Config.HeadDim, 8; got != want {
			t.Errorf("head_dim %d, want %d", got, want)
		}
		for _, tensor := range p.all() {
			stored, err := c.Tensor(tensor.Name).Float32s()
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range stored {
				if off := math.Abs(float64(v - tensor.Value[i])); off > d.tolerance*math.Abs(float64(tensor.Value[i])) {
					t.Fatalf("%s: %s[%d] is stored as %v, want %v", d.dtype, tensor.Name, i, v, tensor.Value[i])
				}
			}
		}
	}
}

// TestInitial: tensors are drawn from their names, with the deviations that the comment promises.
func TestInitial(t *testing.T) {
	c := model.Config{NumHiddenLayers: 8}
	shape := []int{100, 64}
	for _, tc := range []struct {
		name string
		want float64
	}{
		{"model.embed_tokens.weight", 0.02},
		{"lm_head.weight", 0.02},
		{"model.layers.0.self_attn.q_proj.weight", 1.0 / 8},
		{"model.layers.1.mlp.down_proj.weight", 1.0 / 32},
		{"model.layers.1.self_attn.o_proj.weight", 1.0 / 32},
	} {
		squared := 0.0
		values := initial(c, 1, tc.name, shape)
		for _, v := range values {
			squared += float64(v) * float64(v)
		}
		if got := math.Sqrt(squared / float64(len(values))); math.Abs(got-tc.want) > 0.03*tc.want {
			t.Errorf("%s: deviation %v, want %v", tc.name, got, tc.want)
		}
	}
	if slices.Equal(initial(c, 1, "a", shape), initial(c, 1, "b", shape)) {
		t.Error("two tensors are drawn alike")
	}
	if got := initial(c, 1, "model.norm.weight", []int{2}); !slices.Equal(got, []float32{1, 1}) {
		t.Errorf("a norm starts at %v, want ones", got)
	}
}

// TestExample: the loss weighs the words that judge, and all others alike; rows are shifted by one and padded.
func TestExample(t *testing.T) {
	tok := learned(t)
	bos, _ := tok.BOS()
	text := "Tom has 3 apples. Right. Wrong."
	at := len("Tom has 3 apples. ")
	e := encoder{tok, bos, 0.25}.example(Document{Text: text, Judged: [][2]int{{at, at + len("Right")}}})
	if e.ids[0] != bos || e.weights[0] != 0 || len(e.ids) != len(tok.EncodeIDs(text))+1 {
		t.Fatalf("ids %v with weights %v, want the text's behind a BOS of weight 0", e.ids, e.weights)
	}
	right, _ := tok.TokenID("▁Right")
	for i, id := range e.ids[1:] {
		want := float32(0.25)
		if id == right {
			want = 1
		}
		if e.weights[i+1] != want || e.judged[i+1] != (id == right) {
			t.Errorf("token %d: weight %v, judged %t, want %v, %t", id, e.weights[i+1], e.judged[i+1], want, id == right)
		}
	}
	rows := pad([]example{e}, 2, 4)
	n := len(e.ids) - 1
	if rows.Rows != 2 || rows.Length%4 != 0 || rows.Length < n || rows.Length > n+3 {
		t.Fatalf("%d tokens are padded to %d rows of %d", len(e.ids), rows.Rows, rows.Length)
	}
	if !slices.Equal(rows.Token[:n], e.ids[:n]) || !slices.Equal(rows.target[:n], e.ids[1:]) ||
		!slices.Equal(rows.weight[:n], e.weights[1:]) {
		t.Errorf("tokens %v predict %v, want %v shifted by one", rows.Token[:n], rows.target[:n], e.ids)
	}
	for i := n; i < len(rows.Token); i++ {
		if rows.Branch[i] != -1 || rows.weight[i] != 0 {
			t.Errorf("place %d is padding, but has branch %d and weight %v", i, rows.Branch[i], rows.weight[i])
		}
	}
}

// TestBatchesKeepDocuments: sorting by length loses and repeats none of a window's documents.
func TestBatchesKeepDocuments(t *testing.T) {
	p := newPretrainer(t, learned(t), tinyRecipe())
	want := map[string]int{}
	for d := range Documents(p.Recipe.Lessons, p.Recipe.Batch, p.Recipe.Seed) {
		want[fmt.Sprint(p.encode.example(d).ids)]++
	}
	batches := 0
	for batch := range p.batches() {
		batches++
		if len(batch) != p.Recipe.Batch {
			t.Errorf("a batch of %d documents, want %d", len(batch), p.Recipe.Batch)
		}
		for _, e := range batch {
			want[fmt.Sprint(e.ids)]--
		}
	}
	for ids, n := range want {
		if n != 0 {
			t.Errorf("document %s is missing %d times", ids, n)
		}
	}
	if batches != p.Recipe.Steps() {
		t.Errorf("%d batches, want %d", batches, p.Recipe.Steps())
	}
}

// TestRecipeIsChecked: what cannot be trained is refused before anything is, by the flag that says it.
func TestRecipeIsChecked(t *testing.T) {
	tok := learned(t)
	b, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		set  func(*Recipe)
		want string
	}{
		{"no steps", func(r *Recipe) { r.Lessons = nil }, "--lesson-steps: the lessons have 0 steps in all: give one"},
		{"no batch", func(r *Recipe) { r.Batch = 0 }, "--batch-size 0: it must be at least 1"},
		{"no micro-batch", func(r *Recipe) { r.MicroBatch = -1 }, "--micro-batch -1: it must be at least 1"},
		{"no bucket", func(r *Recipe) { r.Bucket = 0 }, "--bucket 0: it must be at least 1"},
		{"no window", func(r *Recipe) { r.Window = 0 }, "--window 0: it must be at least 1"},
		{"negative weight", func(r *Recipe) { r.Rest = -1 }, "--rest-weight -1: it must be a finite number"},
		{"heads that do not share", func(r *Recipe) { r.Model.NumKeyValueHeads = 3 }, "3"},
		{"no width", func(r *Recipe) { r.Model.HiddenSize = 0 }, "hidden_size"},
		{"unknown schedule", func(r *Recipe) { r.Schedule.Kind = "stairs" }, "--schedule stairs"},
		{"beta of 1", func(r *Recipe) { r.Adam.Beta2 = 1 }, "--beta2 1: it must be at least 0 and less than 1"},
	} {
		r := tinyRecipe()
		tc.set(&r)
		if _, err := NewPretrainer(b, tok, r); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got error %v, want %q", tc.name, err, tc.want)
		}
	}
	if _, err := NewPretrainer(b, bare{tok}, tinyRecipe()); err == nil || !strings.Contains(err.Error(), "--tokenizer: it puts no BOS") {
		t.Errorf("a tokenizer without BOS: got error %v, want one that names --tokenizer", err)
	}
}

// bare is a tokenizer that puts nothing in front.
type bare struct{ Tokenizer }

func (bare) BOS() (int32, bool) { return 0, false }
