package lora

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"gotransplant/model/safetensors"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// newDoRA is a new adapter of rank 2 on k_proj [4, 8] and down_proj [8, 12] of smallConfig.
func newDoRA(t *testing.T) *Adapter {
	t.Helper()
	return mustNew(t, Options{Rank: 2, Alpha: 3, DoRA: true, Targets: Targets{Names: []string{"k_proj", "down_proj"}}}, smallConfig(), 1)
}

// norms are 0.5, 1.5 and so on.
func norms(out int) []float32 {
	values := make([]float32, out)
	for o := range values {
		values[o] = float32(o) + 0.5
	}
	return values
}

func TestNewDoRA(t *testing.T) {
	a := newDoRA(t)
	const block = "base_model.model.model.layers.0."
	want := []struct {
		name string
		dims []int
	}{
		{block + "self_attn.k_proj.lora_A.weight", []int{2, 8}}, {block + "self_attn.k_proj.lora_B.weight", []int{4, 2}},
		{block + "self_attn.k_proj.lora_magnitude_vector", []int{4}},
		{block + "mlp.down_proj.lora_A.weight", []int{2, 12}}, {block + "mlp.down_proj.lora_B.weight", []int{8, 2}},
		{block + "mlp.down_proj.lora_magnitude_vector", []int{8}},
	}
	if len(a.Params()) != len(want) {
		t.Fatalf("got %d matrices, want %d", len(a.Params()), len(want))
	}
	for i, p := range a.Params() {
		if p.Name() != want[i].name || !slices.Equal(p.Dims(), want[i].dims) || len(p.Value) != p.Shape[0]*p.Shape[1] {
			t.Errorf("%d: got %s %v with %d values, want %s %v", i, p.Name(), p.Dims(), len(p.Value), want[i].name, want[i].dims)
		}
	}
	if m, ok := a.Magnitude(0, "k_proj"); !ok || m != a.Params()[2] {
		t.Errorf("the magnitude of k_proj is %v, %t; want the third matrix", m, ok)
	}
	plain := mustNew(t, Options{Rank: 1, Alpha: 1, Targets: Targets{Names: []string{"k_proj"}}}, smallConfig(), 1)
	for proj, other := range map[string]*Adapter{"q_proj": a, "k_proj": plain} {
		if _, ok := other.Magnitude(0, proj); ok {
			t.Errorf("%s has a magnitude, want none", proj)
		}
	}
}

// TestInitMagnitudes: once, by projection, and before anything can be saved.
func TestInitMagnitudes(t *testing.T) {
	a := newDoRA(t)
	dir := t.TempDir()
	wantError(t, a.Save(dir), dir, "magnitudes")
	fail := func(int, string) ([]float32, error) { return nil, errors.New("no weights") }
	wantError(t, a.InitMagnitudes(fail), "k_proj.lora_magnitude", "no weights")
	four := func(int, string) ([]float32, error) { return norms(4), nil }
	wantError(t, a.InitMagnitudes(four), "down_proj.lora_magnitude", "4 norms", "want 8")
	sizes := map[string]int{"k_proj": 4, "down_proj": 8}
	if err := a.InitMagnitudes(func(_ int, proj string) ([]float32, error) { return norms(sizes[proj]), nil }); err != nil {
		t.Fatal(err)
	}
	if err := a.InitMagnitudes(func(_ int, proj string) ([]float32, error) { return make([]float32, sizes[proj]), nil }); err != nil {
		t.Fatal(err)
	}
	for proj, out := range sizes {
		if m, _ := a.Magnitude(0, proj); !slices.Equal(m.Value, norms(out)) {
			t.Errorf("%s: got %v, want %v", proj, m.Value, norms(out))
		}
	}
	if err := a.Save(dir); err != nil {
		t.Fatal(err)
	}
	compareSaves(t, dir, smallConfig())
}

// writeDoRA is writeAdapter for a config that says use_dora.
func writeDoRA(t *testing.T, tensors ...safetensors.Tensor) string {
	t.Helper()
	dir := writeAdapter(t, tensors...)
	content := `{"peft_type": "LORA", "r": 2, "lora_alpha": 2, "use_dora": true, "target_modules": ["k_proj"]}`
	if err := os.WriteFile(filepath.Join(dir, configFile), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// vector is encoded's tensor with one dimension.
func vector(name string, dtype safetensors.DType, n int) safetensors.Tensor {
	v := encoded(name, dtype, n, 1)
	v.Shape = []int{n}
	return v
}

// TestOpenDoRANames: a magnitude goes by its module's name in PEFT's files, and by that of its weight in PEFT's models.
func TestOpenDoRANames(t *testing.T) {
	for _, ending := range []string{"", ".weight", ".default", ".default.weight"} {
		for _, dtype := range []safetensors.DType{"F64", "F32", "F16", "BF16"} {
			a, err := Open(writeDoRA(t, encoded(kProj+"lora_A.weight", "F32", 2, 8), encoded(kProj+"lora_B.weight", "F32", 4, 2),
				vector(kProj+"lora_magnitude_vector"+ending, dtype, 4)), smallConfig())
			if err != nil {
				t.Errorf("%q, %s: %v", ending, dtype, err)
				continue
			}
			if m, _ := a.Magnitude(0, "k_proj"); !slices.Equal(m.Value, []float32{0, 0.5, 1, 1.5}) {
				t.Errorf("%q, %s: got %v, want 0, 0.5, 1, 1.5", ending, dtype, m.Value)
			}
			out := t.TempDir()
			if err := a.Save(out); err != nil {
				t.Fatal(err)
			}
			if _, ok := mustOpenTensors(t, filepath.Join(out, weightsFile)).Tensor(kProj + "lora_magnitude_vector"); !ok {
				t.Errorf("%q: saved under another name than PEFT's", ending)
			}
		}
	}
}

func TestOpenDoRAListsEveryProblem(t *testing.T) {
	goodA, goodB := encoded(kProj+"lora_A.weight", "F32", 2, 8), encoded(kProj+"lora_B.weight", "F32", 4, 2)
	name := kProj + "lora_magnitude_vector"
	for _, c := range []struct {
		name    string
		dora    bool
		tensors []safetensors.Tensor
		parts   []string
	}{
		{"missing", true, []safetensors.Tensor{goodA, goodB}, []string{"missing " + name + " [4]"}},
		{"a column", true, []safetensors.Tensor{goodA, goodB, encoded(name, "F32", 4, 1)}, []string{name + ": shape [4 1], want [4]"}},
		{"all at once", true, []safetensors.Tensor{goodA, vector(name, "F32", 3),
			vector("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", "F32", 12)},
			[]string{name + ": shape [3], want [4]", "missing " + kProj + "lora_B.weight", "extra base_model.model.model.layers.0.self_attn.q_proj"}},
		{"twice", true, []safetensors.Tensor{goodA, goodB, vector(name, "F32", 4), vector(name+".weight", "F32", 4)},
			[]string{"extra " + name, "the same place as"}},
		{"without use_dora", false, []safetensors.Tensor{goodA, goodB, vector(name, "F32", 4)}, []string{"extra " + name + " [4]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := writeAdapter(t, c.tensors...)
			if c.dora {
				dir = writeDoRA(t, c.tensors...)
			}
			_, err := Open(dir, smallConfig())
			wantError(t, err, c.parts...)
		})
	}
}

// TestOpenGoldenDoRAAndSaveIsExact: an adapter as PEFT has it comes back byte for byte.
func TestOpenGoldenDoRAAndSaveIsExact(t *testing.T) {
	for _, role := range []string{"arguer", "chooser"} {
		dir := filepath.Join("..", "transplant", "testdata", "golden-dora", "adapters", role)
		config := goldenConfig(t, filepath.Join("..", "transplant", "testdata", "golden-small"))
		a, err := Open(dir, config)
		if err != nil {
			t.Fatal(err)
		}
		out := t.TempDir()
		if err := a.Save(out); err != nil {
			t.Fatal(err)
		}
		compareFiles(t, filepath.Join(dir, weightsFile), filepath.Join(out, weightsFile))
		compareSaves(t, out, config)
	}
}

// TestMergeDoRA: merged rows have the direction of W + scale B A and the magnitude's length.
func TestMergeDoRA(t *testing.T) {
	a := newDoRA(t)
	pa, pb, _ := a.Pair(0, "k_proj")
	copy(pb.Value, ramp(4, 2, 5))
	m, _ := a.Magnitude(0, "k_proj")
	copy(m.Value, []float32{2, -1, 0, 3})
	weight := ramp(4, 8, 6)
	got, err := a.Merge(0, "k_proj", weight)
	if err != nil {
		t.Fatal(err)
	}
	change := scaled(product(wide(pb.Value), wide(pa.Value), 4, 2, 8), a.Scale(0, "k_proj"))
	for o, magnitude := range m.Value {
		square := 0.0
		for i := range 8 {
			change[o*8+i] += float64(weight[o*8+i])
			square += change[o*8+i] * change[o*8+i]
		}
		for i := range 8 {
			if want := float64(magnitude) / math.Sqrt(square) * change[o*8+i]; math.Abs(float64(got[o*8+i])-want) > 1e-6 {
				t.Errorf("row %d, column %d: got %v, want %v", o, i, got[o*8+i], want)
			}
		}
	}
	clear(pb.Value)
	clear(weight[16:24])
	_, err = a.Merge(0, "k_proj", weight)
	wantError(t, err, "model.layers.0.self_attn.k_proj", "row 2")
}

// The loss is the sum of the output times fixed weights w [rows, out]. With u = y + scale (x Aᵀ) Bᵀ and g = m / n, z = g u,
// dm = Σ w u / n, and all other gradients are those of the sum u with g w for w.
func TestDoRAForwardAndGradient(t *testing.T) {
	const rows, in, out, rank, scale = 3, 5, 4, 2, 0.75
	x, y, w := ramp(rows, in, 0), ramp(rows, out, 1), ramp(rows, out, 2)
	a, b := ramp(rank, in, 3), ramp(out, rank, 4)
	m, n := []float32{1.5, -0.5, 0.25, 2}, []float32{1, 2, 0.5, 4}
	low := product(wide(x), transposed(wide(a), rank, in), rows, in, rank)
	u := scaled(product(low, transposed(wide(b), out, rank), rows, rank, out), scale)
	z, gw, dm := make([]float64, rows*out), make([]float64, rows*out), make([]float64, out)
	for i := range u {
		o := i % out
		u[i] += float64(y[i])
		g := float64(m[o]) / float64(n[o])
		z[i], gw[i] = g*u[i], g*float64(w[i])
		dm[o] += float64(w[i]) * u[i] / float64(n[o])
	}
	known := make([]float32, len(z))
	for i, v := range z {
		known[i] = float32(v)
	}
	back := product(gw, wide(b), rows, out, rank)
	backend, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Finalize()
	for name, apply := range map[string]func(d DoRA, in []*graph.Node) *graph.Node{
		"Apply":     func(d DoRA, in []*graph.Node) *graph.Node { return d.Apply(in[0], in[1]) },
		"ApplyBack": func(d DoRA, in []*graph.Node) *graph.Node { return d.ApplyBack(in[0], in[1], in[7]) },
	} {
		got, err := graph.CallOnceN(backend, func(in []*graph.Node) []*graph.Node {
			z := apply(DoRA{in[2], in[3], in[4], in[5], scale}, in)
			loss := graph.ReduceAllSum(graph.Mul(z, in[6]))
			return append([]*graph.Node{z}, graph.Gradient(loss, in[:6]...)...)
		}, tensors.FromFlatDataAndDimensions(x, rows, in), tensors.FromFlatDataAndDimensions(y, rows, out),
			tensors.FromFlatDataAndDimensions(a, rank, in), tensors.FromFlatDataAndDimensions(b, out, rank),
			tensors.FromFlatDataAndDimensions(m, out), tensors.FromFlatDataAndDimensions(n, out),
			tensors.FromFlatDataAndDimensions(w, rows, out), tensors.FromFlatDataAndDimensions(known, rows, out))
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range []struct {
			name string
			want []float64
		}{
			{"output", z},
			{"dx", scaled(product(back, wide(a), rows, rank, in), scale)},
			{"dy", gw},
			{"dA", scaled(product(transposed(back, rows, rank), wide(x), rank, rows, in), scale)},
			{"dB", scaled(product(transposed(gw, rows, out), low, out, rows, rank), scale)},
			{"dM", dm},
			{"dNorm", make([]float64, out)},
		} {
			values := tensors.MustCopyFlatData[float32](got[i])
			for j, want := range c.want {
				if math.Abs(float64(values[j])-want) > 2e-6 {
					t.Errorf("%s, %s[%d]: got %v, want %v", name, c.name, j, values[j], want)
				}
			}
		}
	}
}

// TestKnownOutputIsNotDifferentiated: where the output that is known is made in the same graph, as by a block that is run again,
// its own products are all that this costs.
func TestKnownOutputIsNotDifferentiated(t *testing.T) {
	backend, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Finalize()
	const rows, in, out, rank = 3, 5, 4, 2
	count := func(again bool) int {
		g := graph.NewGraph(backend, "products")
		var n []*graph.Node
		for i, dims := range [][]int{{rows, in}, {rows, out}, {rank, in}, {out, rank}, {out}, {out}, {rows, out}} {
			n = append(n, graph.Parameter(g, fmt.Sprint(i), shapes.Make(dtypes.Float32, dims...)))
		}
		d, output := DoRA{n[2], n[3], n[4], n[5], 1}, n[6]
		if again {
			output = d.Apply(n[0], n[1])
		}
		graph.Gradient(graph.ReduceAllSum(d.ApplyBack(n[0], n[1], output)), n[:5]...)
		products := 0
		for _, node := range g.Nodes() {
			if node.Type() == graph.NodeTypeDotGeneral {
				products++
			}
		}
		return products
	}
	const ofApply = 2 // x Aᵀ, and that times Bᵀ
	if got, want := count(true), count(false)+ofApply; got != want {
		t.Errorf("got %d products, want %d", got, want)
	}
}
