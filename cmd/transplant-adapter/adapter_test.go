package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotransplant/llama"
	"gotransplant/lora"
	"gotransplant/model"
	"gotransplant/transplant"

	"github.com/gomlx/compute/dtypes"
)

// goldenDirs lists the cases: the one in transplant/testdata, and those among the shared inputs.
func goldenDirs() []string {
	shared := os.Getenv("TRANSPLANT_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "shared")
	}
	return []string{golden(), filepath.Join(shared, "golden", "mha"), filepath.Join(shared, "golden", "gqa")}
}

// firstPrompt is a long prompt of the reference run.
func firstPrompt(t *testing.T, dir string) []int32 {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Skipf("shared inputs not found at %s: set TRANSPLANT_SHARED", dir)
	}
	var expected struct {
		Rows []struct {
			IDs []int32 `json:"chooser_ids"`
		}
	}
	if err := json.Unmarshal(content, &expected); err != nil {
		t.Fatal(err)
	}
	return expected.Rows[0].IDs
}

// TestMergedIsUnmerged: a checkpoint that the program merged into float32 shards loads and gives the logits of base and
// adapter: in exact arithmetic within 1e-5, and computed in float32, by graphs and on panels, within 1e-5 of the largest
// logit, which is as near as two ways to compute one model are in float32. The adapter itself moves them far more.
func TestMergedIsUnmerged(t *testing.T) {
	for _, dir := range goldenDirs() {
		for _, role := range []string{"arguer", "chooser"} {
			t.Run(filepath.Base(dir)+" "+role, func(t *testing.T) {
				ids := firstPrompt(t, dir)
				c := comparison{base: filepath.Join(dir, "model"), merged: filepath.Join(t.TempDir(), "merged"), ids: ids}
				adapterDir := filepath.Join(dir, "adapters", role)
				must(t, "merge", "--model", c.base, "--adapter", adapterDir, "--out", c.merged, "--dtype", "float32", "--shard-size", "100kB", "--no-check")
				base, merged := opened(t, c.base), opened(t, c.merged)
				var err error
				if c.adapter, err = lora.Open(adapterDir, base.Config); err != nil {
					t.Fatal(err)
				}
				want := plain{t, base, c.adapter}.logits(ids[:20])
				got := plain{t, merged, nil}.logits(ids[:20])
				if d := distance(got, want); !(d <= 1e-5) {
					t.Errorf("in float64: logits differ by %g, want at most 1e-5", d)
				}
				for _, kernels := range []string{transplant.Graphs, transplant.Panels} {
					t.Run(kernels, func(t *testing.T) { c.compareOn(t, kernels, want) })
				}
			})
		}
	}
}

// TestDoRA: adapters with magnitudes are merged, shown and compared for what they are; the golden ones' are not those of
// the base's rows, and some are zero.
func TestDoRA(t *testing.T) {
	adapters := filepath.Join("..", "..", "transplant", "testdata", "golden-dora", "adapters")
	chooser, arguer := filepath.Join(adapters, "chooser"), filepath.Join(adapters, "arguer")
	c := comparison{base: filepath.Join(golden(), "model"), merged: filepath.Join(t.TempDir(), "merged"), ids: firstPrompt(t, golden())}
	must(t, "merge", "--model", c.base, "--adapter", chooser, "--out", c.merged, "--dtype", "float32", "--no-check")
	merged := opened(t, c.merged)
	var err error
	if c.adapter, err = lora.Open(chooser, merged.Config); err != nil {
		t.Fatal(err)
	}
	for _, kernels := range []string{transplant.Graphs, transplant.Panels} {
		t.Run(kernels, func(t *testing.T) { c.compareOn(t, kernels, nil) })
	}
	var s shown
	mustJSON(t, &s, "show", chooser, "--model", c.base)
	for i, m := range c.adapter.Modules() {
		norm, err := merged.Norm(t.Context(), m.Name()+".weight")
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Weights[i].Magnitude; !s.DoRA || s.Idle != 0 || got == nil || math.Abs(*got-norm) > 1e-6*norm {
			t.Errorf("%s: got %v, want the merged weight's norm %g", m.Name(), got, norm)
		}
	}
	if text := must(t, "show", chooser); !strings.Contains(text, "norm m") || !strings.Contains(text, "note     DoRA") {
		t.Errorf("got\n%s", text)
	}
	var d compared
	mustJSON(t, &d, "diff", chooser, arguer)
	one, two := d.Weights[0], must(t, "diff", chooser, chooser)
	if one.Magnitudes == nil || !(*one.Magnitudes > 1e-3) || !strings.Contains(two, "distance of m") {
		t.Errorf("got a distance of %v, and with itself\n%s", one.Magnitudes, two)
	}
}

// compareOn computes both with one kind of kernels. exact are the first logits of base and adapter.
func (c comparison) compareOn(t *testing.T, kernels string, exact []float64) {
	if c.kernels = kernels; kernels == transplant.Panels {
		skipWithoutPanels(t, c.base)
	}
	d, err := measureDrift(t.Context(), c, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if !(d.Largest <= 1e-5*d.Reach) || d.SameFirst != len(c.ids) || d.Tokens != len(c.ids) {
		t.Errorf("got %+v, want a difference of at most 1e-5 of the largest logit, and the same first choices", *d)
	}
	if !(d.Adapter > 0.1*d.Reach) {
		t.Errorf("the adapter moves logits by %g only, of %g", d.Adapter, d.Reach)
	}
	_, with, err := c.unmerged(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if off := distance(wide(with)[:len(exact)], exact); !(off <= 1e-5*d.Reach) {
		t.Errorf("base and adapter: %g from the logits in float64, which reach %g", off, d.Reach)
	}
}

func opened(t *testing.T, dir string) *model.Checkpoint {
	t.Helper()
	c, err := model.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// distance is the largest difference of two elements.
func distance(got, want []float64) (largest float64) {
	for i := range want {
		if d := math.Abs(got[i] - want[i]); !(d <= largest) {
			largest = d
		}
	}
	return largest
}

// skipWithoutPanels skips where the kernels of panels cannot run.
func skipWithoutPanels(t *testing.T, dir string) {
	t.Helper()
	e, err := comparison{kernels: transplant.Graphs}.engine(dir, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if err := llama.PanelsCan(e.Weights, llama.Options{Compute: dtypes.Float32, Residual: dtypes.Float64}); err != nil {
		t.Skip("panels: ", err)
	}
}

// TestMergeTells: what merge prints and says in JSON is what it wrote, tensor by tensor.
func TestMergeTells(t *testing.T) {
	o := some("q_proj", "down_proj")
	adapterDir := newAdapter(t, o, func(p *lora.Param) bool { return p.Layer > 0 })
	base, err := openModel(embedded)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	adapter, err := lora.Open(adapterDir, base.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, dtype := range []string{"stored", "float32", "float16"} {
		t.Run(dtype, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "merged")
			var m merging
			mustJSON(t, &m, "merge", "--adapter", adapterDir, "--out", out, "--dtype", dtype)
			merged, err := model.Open(out)
			if err != nil {
				t.Fatal(err)
			}
			defer merged.Close()
			if len(m.Merged) != 8 || m.Adapter.Modules != 8 || m.Adapter.Idle != 2 {
				t.Errorf("got %d merged of %d modules, %d idle; want 8, 8, 2", len(m.Merged), m.Adapter.Modules, m.Adapter.Idle)
			}
			stands := map[string]bool{}
			for i, module := range adapter.Modules() {
				name := module.Name() + ".weight"
				stands[name] = true
				compareMerged(t, m.Merged[i], floats(t, base, name), floats(t, merged, name), adapter)
			}
			for _, name := range base.Names() {
				if !stands[name] && dtype != "float16" && !slices.Equal(floats(t, base, name), floats(t, merged, name)) {
					t.Errorf("%s has changed", name)
				}
			}
			limit := map[string]float64{"stored": 1, "float32": 1e-4, "float16": 0.1}[dtype]
			if m.Drift == nil || !(m.Drift.Largest < limit) || !(m.Drift.Adapter > m.Drift.Largest) {
				t.Errorf("got drift %+v, want less than %g", m.Drift, limit)
			}
		})
	}
	text := must(t, "merge", "--adapter", adapterDir, "--out", filepath.Join(t.TempDir(), "merged"))
	for _, want := range []string{"2 of the 8 weights are not changed", "q_proj", "down_proj", "lost by rounding", "largest logit difference", "made for embedded"} {
		if !strings.Contains(text, want) {
			t.Errorf("got %q, want it to contain %q", text, want)
		}
	}
}

// compareMerged checks one weight, and what was said of it, against the arithmetic of package lora.
func compareMerged(t *testing.T, said mergedModule, before, after []float32, a *lora.Adapter) {
	t.Helper()
	name := fmt.Sprintf("layer %d %s", said.Layer, said.Proj)
	want, err := a.Merge(said.Layer, said.Proj, before)
	if err != nil {
		t.Fatal(err)
	}
	var norm, delta, largest float64
	for i, w := range want {
		step := float64(w) - float64(before[i])
		norm, delta, largest = norm+float64(before[i])*float64(before[i]), delta+step*step, max(largest, math.Abs(step))
		if !(math.Abs(float64(after[i])-float64(w)) <= 1.0/256*math.Abs(float64(w))+1e-7) {
			t.Fatalf("%s value %d: got %v, want %v to the digits of its type", name, i, after[i], w)
		}
	}
	near := func(what string, got, want float64) {
		if !(math.Abs(got-want) <= 1e-4*math.Abs(want)) {
			t.Errorf("%s: %s: got %g, want %g", name, what, got, want)
		}
	}
	near("norm of the weight", said.Weight, math.Sqrt(norm))
	near("norm of dW", said.Delta, math.Sqrt(delta))
	near("largest dW", said.Largest, largest)
	near("relative norm", *said.Relative, math.Sqrt(delta/norm))
	if (said.Lost == nil) != (delta == 0) {
		t.Errorf("%s: lost %v with a dW of %g", name, said.Lost, math.Sqrt(delta))
	}
}

func floats(t *testing.T, c *model.Checkpoint, name string) []float32 {
	t.Helper()
	values, err := c.Tensor(name).Float32s()
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// TestMergeKeepsTies: a head that is the embedding stays it.
func TestMergeKeepsTies(t *testing.T) {
	dir := goldenDirs()[2]
	firstPrompt(t, dir)
	out := filepath.Join(t.TempDir(), "merged")
	must(t, "merge", "--model", filepath.Join(dir, "model"), "--adapter", filepath.Join(dir, "adapters", "arguer"), "--out", out, "--no-check")
	c := opened(t, out)
	if !c.Config.TieWordEmbeddings || slices.Contains(c.Names(), "lm_head.weight") {
		t.Errorf("tied: %t, tensors %v", c.Config.TieWordEmbeddings, c.Names())
	}
}

// TestSampleFile: the text named is the one that is read.
func TestSampleFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(file, []byte("Anna has 7 apples."), 0o600); err != nil {
		t.Fatal(err)
	}
	adapter := newAdapter(t, some("v_proj"), always)
	var short, long merging
	mustJSON(t, &short, "merge", "--adapter", adapter, "--out", filepath.Join(t.TempDir(), "a"), "--sample", file)
	mustJSON(t, &long, "merge", "--adapter", adapter, "--out", filepath.Join(t.TempDir(), "b"))
	if !(short.Drift.Tokens < long.Drift.Tokens) {
		t.Errorf("got %d tokens, want less than the %d of the built-in text", short.Drift.Tokens, long.Drift.Tokens)
	}
}

// TestShow: table and JSON agree with package lora, with and without the base.
func TestShow(t *testing.T) {
	dir := newAdapter(t, some("k_proj", "up_proj"), func(p *lora.Param) bool { return p.Layer != 1 || p.Proj == "up_proj" })
	a, err := lora.Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	base, err := openModel(embedded)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	for _, c := range []*model.Checkpoint{nil, base} {
		args := []string{"show", dir}
		if c != nil {
			args = append(args, "--model", embedded)
		}
		var s shown
		mustJSON(t, &s, args...)
		text := must(t, args...)
		if s.Rank != 2 || s.Alpha != 4 || !slices.Equal(s.Scales, []float64{2}) || s.Modules != 8 || s.Idle != 1 || s.Layers != 4 ||
			s.Parameters != a.Size() || !slices.Equal(s.Projections, []string{"k_proj", "up_proj"}) {
			t.Errorf("got %+v", s.adapterFacts)
		}
		for i, m := range a.Modules() {
			compareShown(t, s.Weights[i], a, c)
			row, norm := fmt.Sprintf("%d      %s", m.Layer, m.Proj), number(a.Spectrum(m.Layer, m.Proj).Frobenius())
			if !strings.Contains(text, row) || !strings.Contains(text, norm) {
				t.Errorf("the table lacks %q or %s:\n%s", row, norm, text)
			}
		}
		compareLayers(t, s, c != nil)
		if !strings.Contains(text, "1 of the 8 weights are not changed") || strings.Contains(text, "dW / W") != (c != nil) {
			t.Errorf("got %v and\n%s", s.ByLayer, text)
		}
	}
	text := must(t, "show", newAdapter(t, some("k_proj"), func(*lora.Param) bool { return false }))
	if !strings.Contains(text, "changes nothing") {
		t.Errorf("an adapter that was never trained: got\n%s", text)
	}
}

// compareShown checks one weight against package lora and, unless base is nil, the base's weight.
func compareShown(t *testing.T, got shownModule, a *lora.Adapter, base *model.Checkpoint) {
	t.Helper()
	s, name := a.Spectrum(got.Layer, got.Proj), lora.Module{Layer: got.Layer, Proj: got.Proj}.Name()
	if s == nil || got.Frobenius != s.Frobenius() || got.Spectral != s.Spectral() || got.EffectiveRank != s.EffectiveRank() ||
		got.Rank != 2 || got.Scale != 2 {
		t.Errorf("got %+v, want %s %v", got, name, s)
	}
	if base == nil {
		if got.Relative != nil {
			t.Errorf("%s: got relative norm %v without a base", name, *got.Relative)
		}
		return
	}
	var square float64
	for _, v := range floats(t, base, name+".weight") {
		square += float64(v) * float64(v)
	}
	if want := s.Frobenius() / math.Sqrt(square); got.Relative == nil || math.Abs(*got.Relative-want) > 1e-12 {
		t.Errorf("%s: got relative norm %v, want %v", name, got.Relative, want)
	}
}

// compareLayers checks sums and order of the layers.
func compareLayers(t *testing.T, s shown, relative bool) {
	t.Helper()
	moved := map[int]float64{}
	for _, w := range s.Weights {
		moved[w.Layer] += w.Frobenius * w.Frobenius
	}
	if len(s.ByLayer) != len(moved) {
		t.Errorf("got %d layers, want %d", len(s.ByLayer), len(moved))
	}
	for i, l := range s.ByLayer {
		if math.Abs(l.Frobenius-math.Sqrt(moved[l.Layer])) > 1e-12 {
			t.Errorf("layer %d: got %v, want %v", l.Layer, l.Frobenius, math.Sqrt(moved[l.Layer]))
		}
		if i == 0 {
			continue
		}
		before := s.ByLayer[i-1]
		if !relative && l.Frobenius > before.Frobenius || relative && *l.Relative > *before.Relative {
			t.Errorf("layer %d stands behind one that moved less", l.Layer)
		}
	}
}

// TestDiff: with itself, with one of other places, rank and scale.
func TestDiff(t *testing.T) {
	first := newAdapter(t, some("q_proj", "k_proj"), always)
	var c compared
	mustJSON(t, &c, "diff", first, first)
	if len(c.Config) != 0 || len(c.Weights) != 8 || *c.All.Cosine < 1-1e-14 || *c.All.Relative > 1e-14 {
		t.Errorf("with itself: got %+v", c)
	}
	o := some("k_proj", "v_proj")
	o.Alpha = -8
	second := newAdapter(t, o, func(p *lora.Param) bool { return p.Layer != 2 })
	mustJSON(t, &c, "diff", first, second)
	var keys []string
	for _, d := range c.Config {
		keys = append(keys, d.Key)
	}
	if want := []string{"lora_alpha", "target_modules"}; !slices.Equal(keys, want) {
		t.Errorf("got differences in %q, want %q", keys, want)
	}
	if len(c.Only[0]) != 4 || len(c.Only[1]) != 4 || c.Only[0][3] != "model.layers.3.self_attn.q_proj" || c.Only[1][0] != "model.layers.0.self_attn.v_proj" {
		t.Errorf("got only in one: %v", c.Only)
	}
	for _, m := range c.Weights { // the same A and B with minus twice the scale, or B zero
		switch {
		case m.Proj != "k_proj":
			t.Errorf("%s is compared", m.Proj)
		case m.Layer == 2 && (m.Cosine != nil || m.Second != 0 || math.Abs(*m.Relative-1) > 1e-12):
			t.Errorf("layer 2: got %+v, want no cosine and a distance of 1", m)
		case m.Layer != 2 && (math.Abs(*m.Cosine+1) > 1e-12 || math.Abs(*m.Relative-3) > 1e-12 || math.Abs(m.Second/m.First-2) > 1e-12):
			t.Errorf("layer %d: got cosine %v, distance %v, want -1 and 3", m.Layer, *m.Cosine, *m.Relative)
		}
	}
	text := must(t, "diff", first, second)
	for _, want := range []string{"lora_alpha: 4 in the first, -8 in the second", "only in the first: model.layers.0.self_attn.q_proj",
		"only in the second: model.layers.3.self_attn.v_proj", "2      k_proj", "all "} {
		if !strings.Contains(text, want) {
			t.Errorf("got\n%s\nwant it to contain %q", text, want)
		}
	}
	if text := must(t, "diff", first, first); !strings.Contains(text, "config   the same") {
		t.Errorf("with itself: got\n%s", text)
	}
}

// TestExact: a cosine near 1 keeps its digits.
func TestExact(t *testing.T) {
	value := func(v float64) *float64 { return &v }
	cases := []struct {
		v    *float64
		want string
	}{{nil, "-"}, {value(0.5), "0.5"}, {value(0.99995), "0.99995000"}, {value(-0.9999999), "-0.99999990"}, {value(1 - 1e-12), "1"}, {value(1), "1"}}
	for _, c := range cases {
		if got := exact(c.v); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

// TestMergePyTorch: a base in PyTorch's files and in float16 is merged as any other.
func TestMergePyTorch(t *testing.T) {
	dir := filepath.Join("..", "..", "model", "testdata", "bin")
	base := opened(t, dir)
	a, err := lora.New(lora.Options{Rank: 2, Alpha: 1, Targets: lora.Targets{Regex: "all-linear"}}, base.Config, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range a.Params() {
		for i := range p.Value {
			p.Value[i] = float32(i+1) / 8
		}
	}
	adapterDir, out := filepath.Join(t.TempDir(), "adapter"), filepath.Join(t.TempDir(), "merged")
	if err := a.Save(adapterDir); err != nil {
		t.Fatal(err)
	}
	var m merging
	mustJSON(t, &m, "merge", "--model", dir, "--adapter", adapterDir, "--out", out, "--no-check")
	merged := opened(t, out)
	for i, module := range a.Modules() {
		name := module.Name() + ".weight"
		if got := merged.Tensor(name).DType; got != "F16" {
			t.Errorf("%s: got %s, want F16", name, got)
		}
		compareMerged(t, m.Merged[i], floats(t, base, name), floats(t, merged, name), a)
	}
	if m.Drift != nil {
		t.Errorf("with --no-check: got %+v", m.Drift)
	}
}

// TestMergeTable: a line for each projection, with what norms of all its layers come to, and none for those left alone.
func TestMergeTable(t *testing.T) {
	half, tenth := 0.5, 0.1
	m := merging{Merged: []mergedModule{
		{Layer: 0, Proj: "q_proj"},
		{Layer: 2, Proj: "q_proj", Weight: 3, Delta: 0.6, Largest: 0.25, Lost: &half},
		{Layer: 3, Proj: "q_proj", Weight: 4, Delta: 0.8, Largest: 0.125, Lost: &tenth},
		{Layer: 1, Proj: "up_proj", Weight: 2},
	}}
	var out bytes.Buffer
	if err := m.print(&out); err != nil {
		t.Fatal(err)
	}
	var got [][]string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Fields(line))
	}
	want := [][]string{strings.Fields("projection layers largest |dW| in layer norm dW / W lost by rounding"),
		{"q_proj", "3", number(0.25), "2", optional(share(1, 5)), optional(share(math.Hypot(0.3, 0.08), 1))},
		{"up_proj", "1", number(0), "1", optional(share(0, 2)), optional(share(0, 0))}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
}

// TestMergeDry: a comparison is planned only where one is made.
func TestMergeDry(t *testing.T) {
	for _, c := range []struct {
		name          string
		ids           []int32
		text          string
		tokens, bytes int64
	}{
		{"compared", []int32{1, 2}, "logits on a text of 2 tokens", 2, 5000},
		{"not compared", nil, "", 0, 0},
	} {
		var text, object bytes.Buffer
		m := &merging{}
		if err := errors.Join(m.dry(false, c.ids, 5000, &text), m.dry(true, c.ids, 5000, &object)); err != nil {
			t.Fatal(err)
		}
		if got := text.String(); !strings.Contains(got, c.text) || c.text == "" && got != "" {
			t.Errorf("%s: printed %q, want %q", c.name, got, c.text)
		}
		var planned struct {
			Tokens int64 `json:"comparison_tokens"`
			Bytes  int64 `json:"comparison_bytes"`
		}
		if err := json.Unmarshal(object.Bytes(), &planned); err != nil || planned.Tokens != c.tokens || planned.Bytes != c.bytes {
			t.Errorf("%s: planned %+v (%v), want %d tokens and %d bytes", c.name, planned, err, c.tokens, c.bytes)
		}
	}
}
