package setup

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// TestDefaultsAreValid: both sets of defaults, and those of an evaluation, pass their own checks.
func TestDefaultsAreValid(t *testing.T) {
	evaluation := Defaults()
	evaluation.Training = nil
	for name, s := range map[string]Settings{"published": Defaults(), "embedded": Embedded(), "evaluation": evaluation} {
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFlagsOfNewAdapters: where every role begins with an adapter of a file, what was said of new ones is told to be of no effect.
func TestFlagsOfNewAdapters(t *testing.T) {
	all := "[--lora-rank --lora-alpha --lora-targets --dora]"
	given := func(s *Settings) { s.LoraRank, s.LoraAlpha, s.LoraTargets, s.DoRA = 3, 5, "all-linear", true }
	for name, c := range map[string]struct {
		change func(s *Settings)
		want   string
	}{
		"both of files":          {func(s *Settings) { s.ArguerAdapter, s.ChooserAdapter = "a", "c" }, all},
		"a new arguer":           {func(s *Settings) { s.ChooserAdapter = "c" }, "[]"},
		"a new chooser":          {func(s *Settings) { s.ArguerAdapter = "a" }, "[]"},
		"shared":                 {func(s *Settings) { s.ShareAdapter, s.ArguerAdapter = true, "a" }, all},
		"shared and new":         {func(s *Settings) { s.ShareAdapter = true }, "[]"},
		"no arguer":              {func(s *Settings) { s.NoTransplant, s.ChooserAdapter = true, "c" }, all},
		"no arguer, new chooser": {func(s *Settings) { s.NoTransplant, s.ArguerAdapter = true, "a" }, "[]"},
		"an evaluation":          {func(s *Settings) { s.ArguerAdapter, s.ChooserAdapter, s.Training = "a", "c", nil }, "[]"},
		"the embedded model's defaults": {func(s *Settings) {
			*s = Embedded()
			s.ArguerAdapter, s.ChooserAdapter = "a", "c"
		}, "[]"},
		"a model's defaults": {func(s *Settings) {
			*s = Defaults()
			s.Model, s.ArguerAdapter, s.ChooserAdapter = "m", "a", "c"
		}, "[]"},
	} {
		s := Embedded()
		given(&s)
		c.change(&s)
		if got := fmt.Sprint(s.unmade()); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
	s := goldenSettings()
	s.Training, s.ArguerAdapter, s.ChooserAdapter = Defaults().Training, "a", "c"
	s.DoRA = true
	const want = "note     no adapter is new, and of no effect is --dora: "
	if got := (&Session{Settings: s, Rows: goldenRows(t, s)}).describeNotes(); !strings.Contains(got, want) {
		t.Errorf("got notes %q, want %q", got, want)
	}
}

// TestDefaultsAreSeparate: changing one copy of the defaults leaves the next one alone.
func TestDefaultsAreSeparate(t *testing.T) {
	Defaults().Training.LR = 1
	if got := Defaults().LR; got == 1 {
		t.Error("a change to the defaults stayed")
	}
}

func TestValidate(t *testing.T) {
	cases := []struct {
		name string
		set  func(s *Settings)
		want string // in the message; "" for no error
	}{
		{"dtype", func(s *Settings) { s.DType = "f32" }, "--dtype f32"},
		{"weights", func(s *Settings) { s.Weights = "int4" }, "--weights int4: did you mean int8? there are checkpoint, bfloat16, float32, int8 and nf4"},
		{"kernels", func(s *Settings) { s.Kernels = "panel" }, "--kernels panel: did you mean panels? there are auto, panels and graphs"},
		{"remat", func(s *Settings) { s.Remat = "ful" }, "--remat ful: did you mean full? there are auto, none and full"},
		{"residual", func(s *Settings) { s.Residual = "" }, "--residual"},
		{"negative fraction", func(s *Settings) { s.TestFraction = -0.1 }, "--test-fraction -0.1"},
		{"fraction of all", func(s *Settings) { s.TestFraction = 1 }, "--test-fraction 1"},
		{"fraction that is no number", func(s *Settings) { s.TestFraction = math.NaN() }, "--test-fraction NaN"},
		{"max tokens", func(s *Settings) { s.MaxTokens = -1 }, "--max-tokens -1"},
		{"micro-batch", func(s *Settings) { s.MicroBatch = -1 }, "--micro-batch -1"},
		{"workers", func(s *Settings) { s.Workers = -2 }, "--workers -2"},
		{"two adapters shared", func(s *Settings) { share(s, "a", "b") }, "are two; name one of them"},
		{"one adapter shared", func(s *Settings) { share(s, "a", "a") }, ""},
		{"steps", func(s *Settings) { s.Steps = -1 }, "--steps -1"},
		{"epochs", func(s *Settings) { s.Epochs = -1 }, "--epochs -1"},
		{"nothing to train", func(s *Settings) { s.Steps, s.Epochs = 0, 0 }, "nothing to train"},
		{"steps without epochs", func(s *Settings) { s.Steps, s.Epochs = 1, 0 }, ""},
		{"batch size", func(s *Settings) { s.BatchSize = 0 }, "--batch-size 0"},
		{"warm-up", func(s *Settings) { s.Warmup = -1 }, "--warmup -1"},
		{"rank", func(s *Settings) { s.LoraRank = 0 }, "--lora-rank 0"},
		{"nothing on the way", func(s *Settings) { s.Warmup, s.EvalEvery, s.SaveEvery, s.ClipNorm = 0, 0, 0, 0 }, ""},
		{"a run from before --remat", func(s *Settings) { s.Remat = "" }, ""},
		{"alpha of nothing", func(s *Settings) { s.LoraAlpha = 0 }, "--lora-alpha 0"},
		{"alpha", func(s *Settings) { s.LoraAlpha = math.Inf(1) }, "--lora-alpha +Inf"},
		{"eval every", func(s *Settings) { s.EvalEvery = -1 }, "--eval-every -1"},
		{"save every", func(s *Settings) { s.SaveEvery = -1 }, "--save-every -1"},
		{"clip norm", func(s *Settings) { s.ClipNorm = math.NaN() }, "--clip-norm NaN"},
		{"beta2", func(s *Settings) { s.Beta2 = 1 }, "--beta2 1"},
		{"weight decay", func(s *Settings) { s.WeightDecay = -1 }, "--weight-decay -1"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := Defaults()
			c.set(&s)
			err := s.Validate()
			switch {
			case c.want == "" && err != nil:
				t.Errorf("got error %v, want none", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got error %v, want it to contain %q", err, c.want)
			}
		})
	}
}

// TestIdle: flags that only an arguer would heed are told where none runs.
func TestIdle(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(s *Settings)
		want string
	}{
		{"nothing given", func(*Settings) {}, "[]"},
		{"an arguer's adapter", func(s *Settings) { s.ArguerAdapter = "a" }, "[--arguer-adapter]"},
		{"one adapter for both", func(s *Settings) { share(s, "a", "") }, "[]"},
		{"layers and gradients", func(s *Settings) { s.TransplantLayers, s.StopGradient = "0-1", true }, "[--transplant-layers --stop-gradient]"},
		{"layers of an evaluation", func(s *Settings) { s.TransplantLayers, s.Training = "0-1", nil }, "[--transplant-layers]"},
	} {
		s := Defaults()
		c.set(&s)
		if got := fmt.Sprint(s.idle()); got != "[]" {
			t.Errorf("%s, with an arguer: got %s, want none", c.name, got)
		}
		s.NoTransplant = true
		if got := fmt.Sprint(s.idle()); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func share(s *Settings, arguer, chooser string) {
	s.ShareAdapter, s.ArguerAdapter, s.ChooserAdapter = true, arguer, chooser
}

func TestLayers(t *testing.T) {
	cases := []struct {
		flag string
		want string // nil for all; "error" where the flag is refused
	}{
		{"all", "[]"},
		{"0-3", "[]"}, // all of them, one by one
		{"0", "[true false false false]"},
		{"0-1,3", "[true true false true]"},
		{" 1 , 2", "[false true true false]"},
		{"3,3", "[false false false true]"},
		{"4", "error"},
		{"2-1", "error"},
		{"-1", "error"},
		{"1-", "error"},
		{"", "error"},
		{"none", "error"},
	}
	for _, c := range cases {
		t.Run(c.flag, func(t *testing.T) {
			got, err := Settings{TransplantLayers: c.flag}.layers(4)
			if text := fmt.Sprint(got); (c.want == "error") != (err != nil) || err == nil && text != c.want {
				t.Errorf("got %s, %v; want %s", text, err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), "0-3") {
				t.Errorf("message %q, want it to name the layers there are", err)
			}
		})
	}
}
