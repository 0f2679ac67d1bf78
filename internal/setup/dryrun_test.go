package setup

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"gotransplant/internal/panel"
	"gotransplant/llama"
	"gotransplant/transplant"

	"github.com/gomlx/compute"
)

// site is the place of a backend's name.
func site(t *testing.T, name string) llama.Planned {
	return llama.Planned{Name: name, Builder: goBackend(t)}
}

func goBackend(t *testing.T) compute.Backend {
	t.Helper()
	backend, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	return backend
}

// TestOutlinePlansTheSame: without weights and with them a plan needs the same memory, item by item, and describes the
// same session.
func TestOutlinePlansTheSame(t *testing.T) {
	backend := goBackend(t)
	for _, kernels := range []string{transplant.Panels, transplant.Graphs} {
		for _, c := range []struct{ dtype, weights string }{
			{"float32", "checkpoint"}, {"bfloat16", "bfloat16"}, {"float32", "float32"}, {"float32", "int8"}, {"bfloat16", "nf4"}} {
			s := Embedded()
			s.Kernels, s.DType, s.Weights = kernels, c.dtype, c.weights
			quantized := c.weights == "int8" || c.weights == "nf4"
			if kernels == transplant.Panels && !panel.Available() {
				continue
			}
			t.Run(fmt.Sprint(kernels, " ", c), func(t *testing.T) {
				real, err := Open(s, backend)
				if err != nil {
					t.Fatal(err)
				}
				outline, err := Outline(s, llama.Planned{Name: "go", Builder: backend})
				if err != nil {
					t.Fatal(err)
				}
				want, err := real.PlanMemory(Capacity{}, Controls{})
				if err != nil {
					t.Fatal(err)
				}
				got, err := outline.PlanMemory(Capacity{}, Controls{})
				if err != nil || got != want || outline.Needs != real.Needs {
					t.Errorf("got %v\n%+v\n%swant\n%+v\n%s", err, outline.Needs, got, real.Needs, want)
				}
				if got, want := outline.Describe(), real.Describe(); !quantized && c.weights != "bfloat16" && got != want {
					t.Errorf("described as\n%swant\n%s", got, want)
				}
			})
		}
	}
}

// TestPlannedTokensAreThoseComputed: a plan's conditions are those of the evaluation, with its rows and tokens.
func TestPlannedTokensAreThoseComputed(t *testing.T) {
	backend := goBackend(t)
	for name, change := range map[string]func(*Settings){
		"all layers": func(*Settings) {}, "some layers": func(s *Settings) { s.TransplantLayers = "0,1" },
		"no transplant": func(s *Settings) { s.NoTransplant = true },
		"some rows":     func(s *Settings) { s.TestFraction = 0.5 },
	} {
		t.Run(name, func(t *testing.T) {
			s := goldenSettings()
			change(&s)
			o, err := Open(s, backend)
			if err != nil {
				t.Fatal(err)
			}
			controls := Controls{FlipOrder: true, OtherRow: true, NoTransplant: true}
			report, err := o.Evaluate(t.Context(), controls, func(string, int, int) {})
			if err != nil {
				t.Fatal(err)
			}
			if o, err = Outline(s, llama.Planned{Name: "go", Builder: backend}); err != nil {
				t.Fatal(err)
			}
			p, text, err := o.PlanEvaluation(Capacity{}, controls, "somewhere")
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Conditions) != len(report.Conditions) {
				t.Fatalf("%d conditions, want %d", len(p.Conditions), len(report.Conditions))
			}
			for i, want := range report.Conditions {
				got := p.Conditions[i]
				if got.Name != want.Name || got.Tokens.Rows != want.Summary.Rows || got.Tokens.Computed != want.Summary.Tokens {
					t.Errorf("planned %+v, scored %s: %d rows, %d tokens", got, want.Name, want.Summary.Rows, want.Summary.Tokens)
				}
				if !strings.Contains(text, "scored   "+want.Name+": ") {
					t.Errorf("text lacks %s:\n%s", want.Name, text)
				}
			}
		})
	}
}

// TestPlanOfTokens: the plain counts are the prompts' own.
func TestPlanOfTokens(t *testing.T) {
	o, err := Outline(goldenSettings(), site(t, "go"))
	if err != nil {
		t.Fatal(err)
	}
	plain, most, prompt := 0, 0, 0
	for _, c := range o.Cases {
		n := len(c.Argue[0].IDs) + len(c.Argue[1].IDs) + len(c.Choose)
		plain, most = plain+n, max(most, n)
		prompt = max(prompt, len(c.Argue[0].IDs), len(c.Argue[1].IDs), len(c.Choose))
	}
	got := o.Method.Count(o.Cases)
	if got.Rows != 6 || got.Plain != plain || got.LongestPlain != most || got.LongestPrompt != prompt {
		t.Errorf("got %+v, want 6 rows of %d tokens, the longest %d, the longest prompt %d", got, plain, most, prompt)
	}
	if got.Computed >= got.Plain || got.LongestComputed > got.LongestPlain || got.LongestComputed*6 < got.Computed {
		t.Errorf("%+v: computed tokens do not lie where they can", got)
	}
	o.Method.NoTransplant = true
	if got := o.Method.Count(o.Cases); got.Shared == 0 || got.Computed+got.Rows*got.Shared != got.Plain {
		t.Errorf("%+v: without a transplant every token is computed, those that all rows share once", got)
	}
}

// TestPlanThatDoesNotFit: there is a plan, which says so, and an error.
func TestPlanThatDoesNotFit(t *testing.T) {
	for _, backend := range []string{"go", "xla:cuda"} {
		s := Embedded()
		s.Backend = backend
		o, err := Outline(s, site(t, backend))
		if err != nil {
			t.Fatal(err)
		}
		p, text, err := o.PlanTraining(Capacity{Bytes: 1e6, Source: "a test"}, "out", 1)
		if err == nil || p == nil || p.Memory.Fits || p.Memory.Total <= 1e6 || !strings.Contains(text, "does not fit") {
			t.Fatalf("%s: got plan %+v and error %v, want a plan that does not fit and an error; text\n%s", backend, p, err, text)
		}
		if p.Device.Backend != backend || p.Memory.Capacity != 1e6 || p.Memory.Source != "a test" {
			t.Errorf("%s: got %+v and %+v", backend, p.Device, p.Memory)
		}
	}
}

// TestPlanAsJSON: the names that docs/transplant-train.md lists.
func TestPlanAsJSON(t *testing.T) {
	o, err := Outline(Embedded(), site(t, "go"))
	if err != nil {
		t.Fatal(err)
	}
	p, text, err := o.PlanTraining(Capacity{}, "out", 3)
	if err != nil {
		t.Fatal(err)
	}
	content, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(content, &m); err != nil {
		t.Fatal(err)
	}
	train := m["train"].(map[string]any)
	for name, want := range map[string]float64{"steps": 256, "steps_per_epoch": 64, "next_step": 3, "batch_size": 16,
		"rows_in_all": 4096, "scores": 17, "adapter_parameters": 49152} {
		if train[name] != want {
			t.Errorf("train.%s is %v, want %v", name, train[name], want)
		}
	}
	for _, group := range []string{"model", "data", "device", "memory", "writes"} {
		if m[group] == nil {
			t.Errorf("no member %s", group)
		}
	}
	for _, want := range []string{"64 an epoch, 256 in all, step 3 is next; the whole run: 4096 rows, about ", "scored 17 times", "1280 rows", "training 1024 rows",
		"held out 256 rows", "a prompt may have 256"} {
		if !strings.Contains(text, want) {
			t.Errorf("text lacks %q:\n%s", want, text)
		}
	}
}

// TestRunFiles: the files of a run by the roles that take part. A state has the values and two moments of each that is trained.
func TestRunFiles(t *testing.T) {
	const one = 4 * 24576 // bytes of an adapter's values
	common := "predictions.jsonl metrics.jsonl curve.csv curve.png config.json"
	for name, c := range map[string]struct {
		change func(s *Settings)
		want   string
		state  int64
	}{
		"both":          {func(*Settings) {}, "arguer chooser state.safetensors " + common, 3 * 2 * one},
		"shared":        {func(s *Settings) { s.ShareAdapter = true }, "arguer chooser state.safetensors " + common, 3 * one},
		"no transplant": {func(s *Settings) { s.NoTransplant = true }, "chooser state.safetensors " + common, 3 * one},
		"stop gradient": {func(s *Settings) { s.StopGradient = true }, "arguer chooser state.safetensors " + common, 3 * one},
	} {
		s := Embedded()
		c.change(&s)
		o, err := Outline(s, site(t, "go"))
		if err != nil {
			t.Fatal(err)
		}
		p, _, err := o.PlanTraining(Capacity{}, "out", 1)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, w := range p.Writes {
			name := filepath.Base(w.Path)
			names = append(names, name)
			least := map[string]int64{"arguer": one, "chooser": one, "state.safetensors": c.state,
				"predictions.jsonl": 256*predictionBytes - 1}[name]
			if w.Bytes <= least || least > 0 && w.Bytes > least*5/4 {
				t.Errorf("%s: %s has %d bytes, want little more than %d", name, w.Path, w.Bytes, least)
			}
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// TestWrites: files are listed by name, their directory once, with the sum.
func TestWrites(t *testing.T) {
	got := Writes("wrote", []WritePlan{{"d/a", 1500}, {"d/b", 2e6}})
	if want := "wrote    about 2.0 MB into d: a 1.5 kB, b 2.0 MB\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := Writes("writes", nil), "writes   nothing\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
