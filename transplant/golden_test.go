package transplant

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"gotransplant/data"
	"gotransplant/llama"
	"gotransplant/lora"
	"gotransplant/model"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	_ "github.com/gomlx/compute/gobackend"
)

// goldenRow and goldenRun are expected.json of a golden case.
type goldenRow struct {
	Swapped              bool
	CorrectIDs           []int32 `json:"correct_ids"`
	CorrectSpan          [2]int  `json:"correct_span"`
	IncorrectIDs         []int32 `json:"incorrect_ids"`
	IncorrectSpan        [2]int  `json:"incorrect_span"`
	ChooserIDs           []int32 `json:"chooser_ids"`
	Candidate1Span       [2]int  `json:"candidate_1_span"`
	Candidate2Span       [2]int  `json:"candidate_2_span"`
	ArgumentChoice       string  `json:"argument_choice"`
	LogProb1             float64 `json:"logprob_1"`
	LogProb2             float64 `json:"logprob_2"`
	Loss                 float64 `json:"loss"`
	NoTransplantLogProb1 float64 `json:"no_transplant_logprob_1"`
	NoTransplantLogProb2 float64 `json:"no_transplant_logprob_2"`
}

type goldenRun struct {
	LabelIDs [2]int32 `json:"label_ids"`
	Rows     []goldenRow
	Train    struct {
		LR        float64
		Loss      []float64
		LossAfter float64 `json:"loss_after"`
	}
}

// golden is one folder of reference results with what is needed to repeat them.
type golden struct {
	dir     string
	run     goldenRun
	cases   []Case
	tensors *safetensors.File
	panels  bool // compute on panels
}

// onBoth runs a test on a golden case twice: computed by graphs, and on panels.
func onBoth(t *testing.T, dir string, run func(t *testing.T, g golden)) {
	for _, kernels := range []string{Graphs, Panels} {
		t.Run(kernels, func(t *testing.T) {
			g := openGolden(t, dir)
			g.panels = kernels == Panels
			run(t, g)
		})
	}
}

// goldenDirs lists the cases: the one in testdata, and those among the shared inputs, which openGolden skips where they
// are absent.
func goldenDirs() []string {
	shared := os.Getenv("TRANSPLANT_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "shared")
	}
	return []string{filepath.Join("testdata", "golden-small"),
		filepath.Join(shared, "golden", "mha"), filepath.Join(shared, "golden", "gqa")}
}

func openGolden(t testing.TB, dir string) golden {
	t.Helper()
	g := golden{dir: dir}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("shared inputs not found at %s: set TRANSPLANT_SHARED", dir)
	}
	text, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err == nil {
		err = json.Unmarshal(text, &g.run)
	}
	if err != nil {
		t.Fatal(err)
	}
	if g.tensors, err = safetensors.Open(filepath.Join(dir, "expected.safetensors")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.tensors.Close() })
	// the file gives the moved ranges, one to the left of the tokens
	span := func(s [2]int) data.Span { return data.Span{Start: s[0] + 1, End: s[1] + 1} }
	for i, r := range g.run.Rows {
		right, wrong := Passage{r.CorrectIDs, span(r.CorrectSpan)}, Passage{r.IncorrectIDs, span(r.IncorrectSpan)}
		c := Case{Row: i + 1, Label: 1, Argue: [2]Passage{right, wrong}, Choose: r.ChooserIDs,
			Spans: [2]data.Span{span(r.Candidate1Span), span(r.Candidate2Span)}}
		if r.Swapped {
			c.Label, c.Argue = 2, [2]Passage{wrong, right}
		}
		c.ArgumentCorrect = r.ArgumentChoice == fmt.Sprintf("candidate_%d", c.Label)
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		g.cases = append(g.cases, c)
	}
	return g
}

func goBackend(t testing.TB) compute.Backend {
	t.Helper()
	b, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// method loads the golden's model and adapters afresh.
func (g golden) method(t testing.TB, compute_ dtypes.DType) *Method {
	t.Helper()
	return g.methodAs(t, compute_, llama.AsStored)
}

// methodAs is method with the weights kept in another way.
func (g golden) methodAs(t testing.TB, compute_ dtypes.DType, as llama.Storage) *Method {
	t.Helper()
	return g.methodOn(t, goBackend(t), compute_, as)
}

// methodOn is methodAs on a given backend.
func (g golden) methodOn(t testing.TB, backend compute.Backend, compute_ dtypes.DType, as llama.Storage) *Method {
	t.Helper()
	c, err := model.Open(filepath.Join(g.dir, "model"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := llama.Deferred(backend, c, as)
	o := llama.Options{Compute: compute_, Residual: dtypes.Float64, Panels: g.panels}
	if err := llama.PanelsCan(w, o); g.panels && err != nil {
		t.Skip("panels: ", err)
	}
	e, err := llama.NewEngine(w, o)
	if err != nil {
		t.Fatal(err)
	}
	role := func(name string) *Role {
		a, err := lora.Open(filepath.Join(g.dir, "adapters", name), c.Config)
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewRole(e, a)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	return &Method{Engine: e, Arguer: role("arguer"), Chooser: role("chooser"), Labels: g.run.LabelIDs, Prefix: SharedPrefix(g.cases)}
}

// within fails when got is further than the relative tolerance from want.
func within(t *testing.T, name string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*math.Abs(want)) {
		t.Errorf("%s: got %.9g, want %.9g within %g, relatively", name, got, want, tolerance)
	}
}

// TestGoldenLogProbabilities: the two label tokens' log-probabilities, with and without transplant, one row at a time
// and in a padded batch.
func TestGoldenLogProbabilities(t *testing.T) {
	for _, dir := range goldenDirs() {
		for _, kind := range []struct {
			dtype     dtypes.DType
			tolerance float64
		}{{dtypes.Float32, 1e-4}, {dtypes.BFloat16, 2e-2}} {
			t.Run(filepath.Base(dir)+" "+kind.dtype.String(), func(t *testing.T) {
				onBoth(t, dir, func(t *testing.T, g golden) {
					m := g.method(t, kind.dtype)
					plain := *m
					plain.NoTransplant = true
					for i, c := range g.cases {
						want := g.run.Rows[i]
						moved, err := m.Evaluate([]Case{c})
						if err != nil {
							t.Fatal(err)
						}
						own, err := plain.Evaluate([]Case{c})
						if err != nil {
							t.Fatal(err)
						}
						row := fmt.Sprintf("row %d ", i+1)
						within(t, row+"logprob_1", moved[0].LogProb[0], want.LogProb1, kind.tolerance)
						within(t, row+"logprob_2", moved[0].LogProb[1], want.LogProb2, kind.tolerance)
						within(t, row+"loss", moved[0].Loss, want.Loss, kind.tolerance)
						within(t, row+"no_transplant_logprob_1", own[0].LogProb[0], want.NoTransplantLogProb1, kind.tolerance)
						within(t, row+"no_transplant_logprob_2", own[0].LogProb[1], want.NoTransplantLogProb2, kind.tolerance)
					}
					together, err := m.Evaluate(g.cases)
					if err != nil {
						t.Fatal(err)
					}
					for i, o := range together {
						within(t, fmt.Sprintf("row %d in a batch", i+1), o.LogProb[0], g.run.Rows[i].LogProb1, kind.tolerance)
					}
				})
			})
		}
	}
}

// TestGoldenGradients: every adapter matrix's gradient of the mean loss, all rows as one padded batch.
func TestGoldenGradients(t *testing.T) {
	for _, dir := range goldenDirs() {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			onBoth(t, dir, func(t *testing.T, g golden) {
				m := g.method(t, dtypes.Float32)
				s, err := m.Train(g.cases, 1/float64(len(g.cases)))
				if err != nil {
					t.Fatal(err)
				}
				g.compareGradients(t, "arguer", m.Arguer, s.Arguer)
				g.compareGradients(t, "chooser", m.Chooser, s.Chooser)
			})
		})
	}
}

func (g golden) compareGradients(t *testing.T, name string, r *Role, grads Grads) {
	t.Helper()
	for i, p := range r.Adapter.Params() {
		reference, ok := g.tensors.Tensor("grad." + name + "." + p.Name())
		if !ok {
			t.Fatalf("no reference for %s", p.Name())
		}
		want, err := reference.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		if d := distance(grads[i], want); !(d <= 1e-3) {
			t.Errorf("gradient of %s %s: relative distance %g, want at most 1e-3", name, p.Name(), d)
		}
	}
}

// distance is |got - want| / |want|, and 0 where both are zero: nobody reads the arguer's last query or output.
func distance(got, want []float32) float64 {
	var diff, norm float64
	for i := range want {
		d := float64(got[i]) - float64(want[i])
		diff += d * d
		norm += float64(want[i]) * float64(want[i])
	}
	if diff == 0 {
		return 0
	}
	return math.Sqrt(diff / norm)
}
