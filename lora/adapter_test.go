package lora

import (
	"math"
	"slices"
	"testing"

	"gotransplant/model"
)

func mustNew(t *testing.T, o Options, c model.Config, seed uint64) *Adapter {
	t.Helper()
	a, err := New(o, c, seed)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestNewOrderShapesAndNames(t *testing.T) {
	a := mustNew(t, Options{Rank: 2, Alpha: 4, Targets: Targets{Regex: "all-linear"}}, smallConfig(), 1)
	const block = "base_model.model.model.layers.0."
	want := []struct {
		name  string
		shape [2]int
	}{
		{block + "self_attn.q_proj.lora_A.weight", [2]int{2, 8}}, {block + "self_attn.q_proj.lora_B.weight", [2]int{12, 2}},
		{block + "self_attn.k_proj.lora_A.weight", [2]int{2, 8}}, {block + "self_attn.k_proj.lora_B.weight", [2]int{4, 2}},
		{block + "self_attn.v_proj.lora_A.weight", [2]int{2, 8}}, {block + "self_attn.v_proj.lora_B.weight", [2]int{4, 2}},
		{block + "self_attn.o_proj.lora_A.weight", [2]int{2, 12}}, {block + "self_attn.o_proj.lora_B.weight", [2]int{8, 2}},
		{block + "mlp.gate_proj.lora_A.weight", [2]int{2, 8}}, {block + "mlp.gate_proj.lora_B.weight", [2]int{12, 2}},
		{block + "mlp.up_proj.lora_A.weight", [2]int{2, 8}}, {block + "mlp.up_proj.lora_B.weight", [2]int{12, 2}},
		{block + "mlp.down_proj.lora_A.weight", [2]int{2, 12}}, {block + "mlp.down_proj.lora_B.weight", [2]int{8, 2}},
	}
	if len(a.Params()) != len(want) {
		t.Fatalf("got %d matrices, want %d", len(a.Params()), len(want))
	}
	for i, p := range a.Params() {
		if p.Name() != want[i].name || p.Shape != want[i].shape || len(p.Value) != p.Shape[0]*p.Shape[1] {
			t.Errorf("%d: got %s %v with %d values, want %s %v",
				i, p.Name(), p.Shape, len(p.Value), want[i].name, want[i].shape)
		}
		pa, pb, ok := a.Pair(p.Layer, p.Proj)
		if !ok || (p != pa && p != pb) {
			t.Errorf("%s: Pair(%d, %s) does not return it", p.Name(), p.Layer, p.Proj)
		}
	}
	if _, _, ok := a.Pair(1, "q_proj"); ok || a.Scale(1, "q_proj") != 0 {
		t.Errorf("layer 1: got an adapter with scale %v, want none", a.Scale(1, "q_proj"))
	}
}

func TestNewValues(t *testing.T) {
	c := smallConfig()
	c.HiddenSize = 400
	o := Options{Rank: 50, Alpha: 4, Targets: Targets{Names: []string{"q_proj"}}}
	a, same, other := mustNew(t, o, c, 1), mustNew(t, o, c, 1), mustNew(t, o, c, 2)
	o.Targets.Names = []string{"k_proj", "q_proj"}
	more := mustNew(t, o, c, 1)
	pa, pb, _ := a.Pair(0, "q_proj")
	bound := 1 / math.Sqrt(400)
	var sum, squares float64
	for _, v := range pa.Value {
		if math.Abs(float64(v)) > bound {
			t.Fatalf("A has %v, want values within %v", v, bound)
		}
		sum, squares = sum+float64(v), squares+float64(v)*float64(v)
	}
	n := float64(len(pa.Value))
	// A uniform variable has variance bound²/3; the tolerances are 5 standard errors.
	if mean := sum / n; math.Abs(mean) > 5*bound/math.Sqrt(3*n) {
		t.Errorf("mean of A is %v, want about 0", mean)
	}
	if v, want := squares/n, bound*bound/3; math.Abs(v-want) > 5*want/math.Sqrt(n) {
		t.Errorf("variance of A is %v, want about %v", v, want)
	}
	if slices.ContainsFunc(pb.Value, func(v float32) bool { return v != 0 }) {
		t.Errorf("B is not zero: %v", pb.Value)
	}
	for name, b := range map[string]*Adapter{"the same seed": same, "another target as well": more} {
		if got, _, _ := b.Pair(0, "q_proj"); !slices.Equal(got.Value, pa.Value) {
			t.Errorf("%s gives other values", name)
		}
	}
	if got, _, _ := other.Pair(0, "q_proj"); slices.Equal(got.Value, pa.Value) {
		t.Error("another seed gives the same values")
	}
	if k, _, _ := more.Pair(0, "k_proj"); slices.Equal(k.Value, pa.Value) {
		t.Error("another projection gets the same values")
	}
}

func TestScaleAndRank(t *testing.T) {
	c := smallConfig()
	c.NumHiddenLayers = 3
	config := Config{Rank: 4, Alpha: 6, Targets: Targets{Names: []string{"q_proj", "k_proj"}},
		RankPattern: Patterns{{`layers\.1\..*`, 9}}, AlphaPattern: Patterns{{"k_proj", 36}}}
	for _, rs := range []bool{false, true} {
		config.RSLoRA = rs
		a, err := newEmpty(config, c)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range []struct {
			layer         int
			proj          string
			rank          int
			plain, rslora float64
		}{{0, "q_proj", 4, 1.5, 3}, {0, "k_proj", 4, 9, 18}, {1, "q_proj", 9, 6. / 9, 2}, {1, "k_proj", 9, 4, 12}} {
			want := w.plain
			if rs {
				want = w.rslora
			}
			pa, pb, _ := a.Pair(w.layer, w.proj)
			if got := a.Scale(w.layer, w.proj); got != want || pa.Shape[0] != w.rank || pb.Shape[1] != w.rank {
				t.Errorf("rslora %v, layer %d %s: got scale %v, A %v, B %v; want scale %v, rank %d",
					rs, w.layer, w.proj, got, pa.Shape, pb.Shape, want, w.rank)
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	q := Targets{Names: []string{"q_proj"}}
	_, err := New(Options{Rank: 0, Alpha: 1, Targets: q}, smallConfig(), 0)
	wantError(t, err, "r: 0")
	_, err = New(Options{Rank: 1, Alpha: 1, Targets: Targets{Names: []string{"q_proj", "q_porj"}}}, smallConfig(), 0)
	wantError(t, err, "target_modules", "q_porj")
	_, err = New(Options{Rank: 1, Alpha: math.NaN(), Targets: q}, smallConfig(), 0)
	wantError(t, err, "lora_alpha")
	c := smallConfig()
	c.HeadDim = 0
	_, err = New(Options{Rank: 1, Alpha: 1, Targets: q}, c, 0)
	wantError(t, err, "model.layers.0.self_attn.q_proj", "[0, 8]")
}

func TestCheckTrainable(t *testing.T) {
	a := mustNew(t, Options{Rank: 1, Alpha: 1, Targets: Targets{Names: []string{"q_proj"}}}, smallConfig(), 0)
	if err := a.CheckTrainable(); err != nil {
		t.Errorf("without dropout: got %v", err)
	}
	a.config.Dropout = 0.1
	wantError(t, a.CheckTrainable(), "lora_dropout", "0.1")
}

func TestMerge(t *testing.T) {
	c := smallConfig()
	c.HiddenSize, c.NumHiddenLayers = 3, 2
	config := Config{Rank: 2, Alpha: 1, Targets: Targets{Names: []string{"model.layers.0.self_attn.k_proj"}}}
	a, err := newEmpty(config, c)
	if err != nil {
		t.Fatal(err)
	}
	pa, pb, _ := a.Pair(0, "k_proj")
	copy(pa.Value, []float32{1, 2, 3, 10, 20, 30})             // [2, 3]
	copy(pb.Value, []float32{1, 0, 0, 1, 1, 1, -1, 2})         // [4, 2]
	weight := []float32{1, 1, 1, 0, 0, 0, 2, 2, 2, -1, -1, -1} // [4, 3]
	want := []float32{1.5, 2, 2.5, 5, 10, 15, 7.5, 13, 18.5, 8.5, 18, 27.5}
	got, err := a.Merge(0, "k_proj", weight)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v\nwant %v", got, err, want)
	}
	untouched, err := a.Merge(1, "k_proj", weight)
	if err != nil || !slices.Equal(untouched, weight) || &untouched[0] == &weight[0] {
		t.Errorf("without an adapter: got %v, %v; want a copy of the weight", untouched, err)
	}
	_, err = a.Merge(0, "k_proj", weight[1:])
	wantError(t, err, "model.layers.0.self_attn.k_proj", "11 values", "[4, 3]")
}

// TestNewNamesItsBase: the base's name goes into the config that PEFT reads.
func TestNewNamesItsBase(t *testing.T) {
	a, err := New(Options{Rank: 2, Alpha: 4, Targets: Targets{Names: []string{"q_proj"}}, BaseModel: "some-llama"}, smallConfig(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Config().BaseModel; got != "some-llama" {
		t.Errorf("got base %q, want %q", got, "some-llama")
	}
}
