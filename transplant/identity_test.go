package transplant

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"gotransplant/data"
	"gotransplant/llama"
	"gotransplant/lora"
	"gotransplant/model"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute/dtypes"
)

func smallDir() string { return filepath.Join("testdata", "golden-small") }

func small(t *testing.T) golden { return openGolden(t, smallDir()) }

func evaluate(t *testing.T, m *Method, cases ...Case) []Outcome {
	t.Helper()
	outcomes, err := m.Evaluate(cases)
	if err != nil {
		t.Fatal(err)
	}
	return outcomes
}

// TestOwnStatesChangeNothing: an arguer that reads the chooser's own prompt with the chooser's adapter moves in what is
// there already.
func TestOwnStatesChangeNothing(t *testing.T) {
	onBoth(t, smallDir(), func(t *testing.T, g golden) {
		m := g.method(t, dtypes.Float32)
		m.Arguer = m.Chooser
		alone := *m
		alone.NoTransplant = true
		for _, c := range g.cases {
			for i := range c.Argue {
				c.Argue[i] = Passage{IDs: c.Choose[:c.Spans[i].End], Span: c.Spans[i]}
			}
			moved, own := evaluate(t, m, c)[0], evaluate(t, &alone, c)[0]
			for i := range moved.LogProb {
				within(t, "log-probability with its own states moved in", moved.LogProb[i], own.LogProb[i], 1e-6)
			}
		}
	})
}

// TestAdapterWithZeroBIsTheBase: bit for bit.
func TestAdapterWithZeroBIsTheBase(t *testing.T) {
	onBoth(t, smallDir(), func(t *testing.T, g golden) {
		m := g.method(t, dtypes.Float32)
		for _, r := range []*Role{m.Arguer, m.Chooser} {
			for _, p := range r.Adapter.Params() {
				if p.Kind == "B" {
					clear(p.Value)
				}
			}
			if err := r.Upload(); err != nil {
				t.Fatal(err)
			}
		}
		base := *m
		base.Arguer, base.Chooser = nil, nil
		for _, c := range g.cases[:2] {
			got, want := evaluate(t, m, c)[0], evaluate(t, &base, c)[0]
			if got != want {
				t.Errorf("row %d: got %+v with B = 0, want the base's %+v", c.Row, got, want)
			}
		}
	})
}

// TestMergedIsUnmerged: a base into which the chooser's adapter was merged gives what base and adapter give.
func TestMergedIsUnmerged(t *testing.T) {
	onBoth(t, smallDir(), func(t *testing.T, g golden) {
		m := g.method(t, dtypes.Float32)
		m.NoTransplant = true
		merged := mergedMethod(t, g, m.Chooser.Adapter)
		for _, c := range g.cases[:2] {
			got, want := evaluate(t, merged, c)[0], evaluate(t, m, c)[0]
			for i := range got.LogProb {
				within(t, "merged log-probability", got.LogProb[i], want.LogProb[i], 1e-5)
			}
		}
	})
}

// mergedMethod is the control without transplant over a base with a merged in and no adapter.
func mergedMethod(t *testing.T, g golden, a *lora.Adapter) *Method {
	t.Helper()
	c, err := model.Open(filepath.Join(g.dir, "model"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	dir := t.TempDir()
	var tensors []safetensors.Tensor
	for _, name := range c.Names() {
		values, err := c.Tensor(name).Float32s()
		if err != nil {
			t.Fatal(err)
		}
		for layer := range c.Config.NumHiddenLayers {
			for _, proj := range lora.Projections() {
				if _, _, ok := a.Pair(layer, proj); ok && strings.HasSuffix(name, proj+".weight") &&
					strings.HasPrefix(name, "model.layers."+string(rune('0'+layer))+".") {
					if values, err = a.Merge(layer, proj, values); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		tensor, err := safetensors.FromFloat32s(name, "F32", c.Tensor(name).Shape, values)
		if err != nil {
			t.Fatal(err)
		}
		tensors = append(tensors, tensor)
	}
	if err := model.Write(dir, c.Config, tensors); err != nil {
		t.Fatal(err)
	}
	m, err := model.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	e, err := llama.NewEngine(llama.Deferred(goBackend(t), m, llama.AsStored), llama.Options{Compute: dtypes.Float32, Residual: dtypes.Float64})
	if err != nil {
		t.Fatal(err)
	}
	return &Method{Engine: e, NoTransplant: true, Labels: g.run.LabelIDs}
}

// TestSharedAdapterGetsBothGradients: one adapter in both roles is trained by the sum of what two equal ones get.
func TestSharedAdapterGetsBothGradients(t *testing.T) {
	onBoth(t, smallDir(), func(t *testing.T, g golden) {
		apart := g.method(t, dtypes.Float32)
		apart.Prefix = Prefix{} // what comes through it would be one more term
		for i, p := range apart.Arguer.Adapter.Params() {
			copy(p.Value, apart.Chooser.Adapter.Params()[i].Value)
		}
		if err := apart.Arguer.Upload(); err != nil {
			t.Fatal(err)
		}
		want, err := apart.Train(g.cases[:1], 1)
		if err != nil {
			t.Fatal(err)
		}
		shared := *apart
		shared.Arguer = shared.Chooser
		trainer := newTrainer(t, &shared, goldenOptions(g, 1), g.cases[:1], nil)
		if _, err := trainer.update(t.Context(), &memory{}); err != nil {
			t.Fatal(err)
		}
		if n := len(shared.Chooser.Adapter.Params()); len(trainer.tensors) != n {
			t.Fatalf("%d matrices are trained, want the %d of one adapter", len(trainer.tensors), n)
		}
		for i, tensor := range trainer.tensors {
			for j, v := range tensor.Grad {
				sum := want.Chooser[i][j]
				if want.Arguer[i] != nil {
					sum = float32(float64(want.Arguer[i][j]) + float64(want.Chooser[i][j]))
				}
				if v != sum {
					t.Fatalf("%s[%d]: got %v, want the sum %v of both roles' gradients", tensor.Name, j, v, sum)
				}
			}
		}
	})
}

// TestLossThatIsNotFinite: the run stops, names step and rows, and what is saved is the state before the step.
func TestLossThatIsNotFinite(t *testing.T) {
	g := small(t)
	m := g.method(t, dtypes.Float32)
	trainer := newTrainer(t, m, goldenOptions(g, 3), g.cases, nil)
	poison := &poisoned{method: m}
	err := trainer.Run(context.Background(), poison)
	var broken *NotFiniteError
	if !errors.As(err, &broken) {
		t.Fatalf("got error %v, want a NotFiniteError", err)
	}
	if broken.Step != 2 || len(broken.Rows) == 0 {
		t.Errorf("got step %d and rows %v, want step 2 and at least a row", broken.Step, broken.Rows)
	}
	if poison.saves != 1 || trainer.Step() != 1 {
		t.Errorf("saved %d times, at step %d; want once, at step 1", poison.saves, trainer.Step())
	}
}

// poisoned puts a NaN into the chooser's adapter after the first step.
type poisoned struct {
	memory
	method *Method
}

func (p *poisoned) Step(m StepMetrics) error {
	p.method.Chooser.Adapter.Params()[1].Value[0] = float32(math.NaN())
	return p.method.Chooser.Upload()
}

// TestCheckRefuses: spans that cannot be moved one to one.
func TestCheckRefuses(t *testing.T) {
	good := Case{Row: 7, Label: 1, Choose: make([]int32, 12), Spans: [2]data.Span{{Start: 2, End: 4}, {Start: 6, End: 9}},
		Argue: [2]Passage{{make([]int32, 5), data.Span{Start: 3, End: 5}}, {make([]int32, 6), data.Span{Start: 3, End: 6}}}}
	if err := good.Check(); err != nil {
		t.Fatalf("a good case: %v", err)
	}
	cases := []struct {
		name  string
		spoil func(*Case)
		want  string
	}{
		{"nothing before the argument", func(c *Case) { c.Argue[0].Span.Start = 0 }, "begins the prompt"},
		{"nothing before it in the chooser", func(c *Case) { c.Spans[0] = data.Span{Start: 0, End: 2} }, "begins the prompt"},
		{"empty argument", func(c *Case) { c.Argue[1].Span.End = 3 }, "candidate 2 has no tokens"},
		{"different lengths", func(c *Case) { c.Spans[1].End = 10 }, "candidate 2 has 3 tokens in the arguer's prompt and 4"},
		{"beyond the prompt", func(c *Case) { c.Choose = c.Choose[:8] }, "ends at token"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bad := good
			c.spoil(&bad)
			err := bad.Check()
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "row 7") {
				t.Errorf("got %v, want an error about row 7 with %q", err, c.want)
			}
		})
	}
}

// TestTokensAreThoseComputed: trunk once, dead positions and what follows the arguments left out.
func TestTokensAreThoseComputed(t *testing.T) {
	ids := func(n int, at, argument int32) []int32 {
		all := make([]int32, n)
		for i := range all {
			all[i] = 1
		}
		for i := at; int(i) < n; i++ {
			all[i] = argument
		}
		return all
	}
	// Trunks of 5 and arguments of 3 and 4 tokens, of which the last is not needed; 2 tokens after them.
	c := Case{Row: 1, Label: 1, Choose: ids(20, 20, 0), Spans: [2]data.Span{{Start: 6, End: 9}, {Start: 11, End: 15}},
		Argue: [2]Passage{{ids(10, 5, 2), data.Span{Start: 5, End: 8}}, {ids(11, 5, 3), data.Span{Start: 5, End: 9}}}}
	arguer, chooser := packArguer(c), packChooser(c, true)
	if got, want := len(arguer.token), 5+2+3; got != want {
		t.Errorf("arguer computes %d tokens, want %d", got, want)
	}
	if got, want := len(chooser.token), 20-3-4; got != want {
		t.Errorf("chooser computes %d tokens, want %d", got, want)
	}
	wantSource, wantTarget := []int32{4, 5, 6, 4, 7, 8, 9}, []int32{5, 6, 7, 10, 11, 12, 13}
	for i := range wantSource {
		if arguer.source[i] != wantSource[i] || arguer.target[i] != wantTarget[i] {
			t.Errorf("move %d: from %d to %d, want from %d to %d", i, arguer.source[i], arguer.target[i], wantSource[i], wantTarget[i])
		}
	}
}
