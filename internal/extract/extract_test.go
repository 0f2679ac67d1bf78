package extract

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotransplant/internal/setup"
	"gotransplant/internal/states"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend"
)

func goBackend(t testing.TB) compute.Backend {
	t.Helper()
	b, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// small are options for the embedded model.
func small(change func(o *Options)) Options {
	o := Defaults()
	o.ShardRows, o.Workers = 7, 2
	change(&o)
	return o
}

// write puts a text into a file of its own.
func write(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// loaded is an extraction ready to run, with its plan.
func loaded(t testing.TB, o Options) (*Extraction, *Plan) {
	t.Helper()
	x, err := Open(t.Context(), o, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	p, err := x.Plan(context.Background())
	if err == nil {
		err = x.Load(goBackend(t))
	}
	if err == nil {
		err = x.PlanMemory(p, setup.Capacity{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return x, p
}

// begin makes the directory of an extraction.
func begin(t testing.TB, x *Extraction, p *Plan, dir string) (*states.Writer, Config) {
	t.Helper()
	c := Config{Options: map[string]string{}}
	if err := x.Fill(&c, p); err != nil {
		t.Fatal(err)
	}
	w, err := x.Create(dir, c)
	if err != nil {
		t.Fatal(err)
	}
	return w, c
}

// extracted runs an extraction and opens what it wrote.
func extracted(t testing.TB, o Options) (*states.Set, []states.Row) {
	t.Helper()
	x, p := loaded(t, o)
	return ran(t, x, p)
}

// ran is what an extraction leaves.
func ran(t testing.TB, x *Extraction, p *Plan) (*states.Set, []states.Row) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "states")
	w, _ := begin(t, x, p, dir)
	if err := x.Run(context.Background(), p, w, func(int) {}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return opened(t, dir)
}

func opened(t testing.TB, dir string) (*states.Set, []states.Row) {
	t.Helper()
	s, err := states.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	var rows []states.Row
	for row, err := range s.Rows() {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return s, rows
}

func values(t testing.TB, s *states.Set, row states.Row, name string) []float64 {
	t.Helper()
	v, err := s.Float64s(row, name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// near fails when a value is further than 1e-4 from the one wanted.
func near(t *testing.T, name string, got, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d values, want %d", name, len(got), len(want))
		return
	}
	for i := range got {
		if !(math.Abs(got[i]-want[i]) <= 1e-4) {
			t.Errorf("%s[%d]: got %g, want %g within 1e-4", name, i, got[i], want[i])
			return
		}
	}
}

// goldenDirs are the reference runs: the one in testdata, and those among the shared inputs.
func goldenDirs() []string {
	shared := os.Getenv("TRANSPLANT_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "shared")
	}
	return []string{filepath.Join("..", "..", "transplant", "testdata", "golden-small"),
		filepath.Join(shared, "golden", "mha"), filepath.Join(shared, "golden", "gqa")}
}

// onBoth runs a test on every reference run, computed by graphs, a text at a time and several, and on panels.
func onBoth(t *testing.T, run func(t *testing.T, dir string, o Options)) {
	for _, dir := range goldenDirs() {
		for _, c := range []struct {
			kernels string
			tokens  int // that go together; 0: what is chosen
		}{{"graphs", 0}, {"graphs", 256}, {"panels", 0}} {
			t.Run(fmt.Sprintf("%s %s %d", filepath.Base(dir), c.kernels, c.tokens), func(t *testing.T) {
				if _, err := os.Stat(dir); err != nil {
					t.Skipf("shared inputs not found at %s: set TRANSPLANT_SHARED", dir)
				}
				run(t, dir, small(func(o *Options) {
					o.Model, o.Data, o.Kernels = filepath.Join(dir, "model"), filepath.Join(dir, "rows.csv"), c.kernels
					o.BatchTokens = c.tokens
					o.ArgueTemplate, o.ChooseTemplate = filepath.Join(dir, "templates", "argue.tmpl"), filepath.Join(dir, "templates", "choose.tmpl")
					o.Prompt = ArguerCorrect
				}))
			})
		}
	}
}

// reference is a tensor of expected.safetensors.
func reference(t *testing.T, dir, name string) []float64 {
	t.Helper()
	f, err := safetensors.Open(filepath.Join(dir, "expected.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tensor, ok := f.Tensor("row0.correct." + name)
	if !ok {
		t.Fatalf("%s has no %s", dir, name)
	}
	narrow, err := tensor.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	var wide []float64
	for _, v := range narrow {
		wide = append(wide, float64(v))
	}
	return wide
}

// skipUnlessPanels skips where the processor or the build has no kernels for panels.
func skipUnlessPanels(t *testing.T, o Options) {
	t.Helper()
	if o.Kernels != "panels" {
		return
	}
	x, err := Open(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if err := x.Load(goBackend(t)); err != nil {
		t.Skip("panels: ", err)
	}
}

// TestGolden: residual streams, keys and values of a reference run, with its adapter and without.
func TestGolden(t *testing.T) {
	onBoth(t, func(t *testing.T, dir string, o Options) {
		skipUnlessPanels(t, o)
		o.Sites, o.Positions = "resid_pre,resid_post", "all"
		o.Adapter = filepath.Join(dir, "adapters", "arguer")
		s, rows := extracted(t, o)
		near(t, "embedding", values(t, s, rows[0], "resid_pre.0"), reference(t, dir, "residual0"))
		for layer := range len(s.Tensors) / 2 {
			name := fmt.Sprintf("resid_post.%d", layer)
			near(t, name, values(t, s, rows[0], name), reference(t, dir, fmt.Sprintf("residual%d", layer+1)))
		}

		o.Sites, o.Positions = "logits", "last"
		s, rows = extracted(t, o)
		near(t, "logits", values(t, s, rows[0], "logits"), reference(t, dir, "last_logits"))

		o.Sites, o.Positions = "k,v", "moved:Argument"
		s, rows = extracted(t, o)
		for layer := range len(s.Tensors) / 2 {
			near(t, "keys", values(t, s, rows[0], fmt.Sprintf("k.%d", layer)), reference(t, dir, fmt.Sprintf("layer%d.key", layer)))
			near(t, "values", values(t, s, rows[0], fmt.Sprintf("v.%d", layer)), reference(t, dir, fmt.Sprintf("layer%d.value", layer)))
		}

		o.Adapter, o.Sites, o.Positions = "", "logits", "last"
		s, rows = extracted(t, o)
		near(t, "logits of the base", values(t, s, rows[0], "logits"), reference(t, dir, "base_last_logits"))
	})
}
