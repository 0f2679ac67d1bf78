package setup

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotransplant/transplant"

	"github.com/gomlx/compute"
)

// runOf writes the config.json of a run with these settings and returns its directory, which holds no adapters: notes need none.
func runOf(t *testing.T, s Settings, dataHash string) string {
	t.Helper()
	if s.Training == nil {
		s.Training = Defaults().Training
	}
	dir := t.TempDir()
	content, err := json.Marshal(map[string]any{"settings": s, "data_sha256": dataHash})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, transplant.ConfigFile), content, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestOrigins: an evaluation of a run's adapters says what would be scored wrongly, and nothing where all goes with the run.
func TestOrigins(t *testing.T) {
	rows := goldenRows(t, goldenSettings())
	half := func(change func(run, here *Settings)) (run, here Settings) {
		run, here = goldenSettings(), goldenSettings()
		run.TestFraction, here.TestFraction = 0.5, 0.5
		change(&run, &here)
		return run, here
	}
	for name, c := range map[string]struct {
		change func(run, here *Settings)
		swap   bool
		other  bool // the run was on another data set
		want   []string
	}{
		"all as in the run":     {change: func(run, here *Settings) {}},
		"fewer of its held out": {change: func(run, here *Settings) { here.TestFraction = 0.17 }},
		"every row": {change: func(run, here *Settings) { here.TestFraction = 0 },
			want: []string{"RUN trains on 3 of the 6 rows to be scored: those it held out are scored with --seed 1 --test-fraction 0.5"}},
		"another seed": {change: func(run, here *Settings) { run.Seed = 4 },
			want: []string{"RUN trains on 1 of the 3 rows to be scored: those it held out are scored with --seed 4 --test-fraction 0.5"}},
		"held out none": {change: func(run, here *Settings) { run.TestFraction = 0 },
			want: []string{"RUN trains on 3 of the 3 rows to be scored: it held out none"}},
		"other rows": {change: func(run, here *Settings) { run.Seed = 4 }, other: true},
		"options left out": {change: func(run, here *Settings) {
			run.TransplantLayers, run.MaskChoice, here.ArgueTemplate, here.ChooseTemplate = "0", true, "", ""
			run.ArgueTemplate, run.ChooseTemplate = "a.tmpl", "c.tmpl"
		}, want: []string{"RUN was trained with --transplant-layers 0 --argue-template a.tmpl --choose-template c.tmpl --mask-choice, and this is without"}},
		"a rounded base": {change: func(run, here *Settings) { run.Weights = "nf4" },
			want: []string{"RUN was trained with --weights nf4, and this is without"}},
		"a base in another type": {change: func(run, here *Settings) { run.Weights = "float32" }},
		"other options given": {change: func(run, here *Settings) {
			run.TransplantLayers, here.TransplantLayers, here.MaskChoice = "0", "1", true
			run.ArgueTemplate, run.ChooseTemplate = "a.tmpl", "c.tmpl"
		}},
		"the control without a transplant": {change: func(run, here *Settings) { run.TransplantLayers, here.NoTransplant = "0", true }},
		"trained without a transplant": {change: func(run, here *Settings) { run.NoTransplant, run.TransplantLayers = true, "0" },
			want: []string{"RUN was trained with --no-transplant, and this is without"}},
		"roles mistaken": {change: func(run, here *Settings) {}, swap: true,
			want: []string{"--arguer-adapter RUN/chooser is what the run trained as chooser", "--chooser-adapter RUN/arguer is what the run trained as arguer"}},
		"one adapter for both": {change: func(run, here *Settings) { run.ShareAdapter = true }, swap: true},
	} {
		t.Run(name, func(t *testing.T) {
			run, here := half(c.change)
			hash := rows.Hash
			if c.other {
				hash = "another"
			}
			dir := runOf(t, run, hash)
			here.ArguerAdapter, here.ChooserAdapter = filepath.Join(dir, "arguer"), filepath.Join(dir, "chooser")
			if c.swap {
				here.ArguerAdapter, here.ChooserAdapter = here.ChooserAdapter, here.ArguerAdapter
			}
			got := (&Session{Settings: here, Rows: rows}).Origins()
			for i := range got {
				got[i] = strings.ReplaceAll(got[i], dir, "RUN")
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestOriginsOfChains: rows of a run whose adapters were trained on by others count as trained on, each run once, and also where a run
// is said to have gone on from itself.
func TestOriginsOfChains(t *testing.T) {
	rows := goldenRows(t, goldenSettings())
	first, second, third := goldenSettings(), goldenSettings(), goldenSettings()
	first.TestFraction, first.Seed = 0.5, 4
	a := runOf(t, first, rows.Hash)
	second.ArguerAdapter, second.ChooserAdapter = filepath.Join(a, "arguer"), filepath.Join(a, "chooser")
	b := runOf(t, second, "another")
	third.ArguerAdapter = filepath.Join(b, "arguer")
	c := runOf(t, third, "another")
	again := second
	again.ChooserAdapter = filepath.Join(c, "chooser")
	loop := runOf(t, again, "another")
	again.ChooserAdapter = filepath.Join(loop, "chooser")
	rewritten := runOf(t, again, "another")
	if err := os.Rename(filepath.Join(rewritten, "config.json"), filepath.Join(loop, "config.json")); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"one run back": b, "two runs back": c, "a loop": loop} {
		here := goldenSettings()
		here.ArguerAdapter, here.ChooserAdapter = filepath.Join(dir, "arguer"), filepath.Join(dir, "chooser")
		want := []string{a + " trains on 3 of the 6 rows to be scored: those it held out are scored with --seed 4 --test-fraction 0.5"}
		if got := (&Session{Settings: here, Rows: rows}).Origins(); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// TestOriginsOfTraining: rows held out of a run that begins with another run's adapters are not to be that run's training rows;
// where none is held out, none is scored before the end.
func TestOriginsOfTraining(t *testing.T) {
	rows := goldenRows(t, goldenSettings())
	run := goldenSettings()
	run.TestFraction, run.Seed = 0.5, 4
	dir := runOf(t, run, rows.Hash)
	here := goldenSettings()
	here.Training, here.ArguerAdapter, here.ChooserAdapter = Defaults().Training, filepath.Join(dir, "arguer"), filepath.Join(dir, "chooser")
	for fraction, want := range map[float64]int{0.5: 1, 0: 0} {
		here.TestFraction = fraction
		if got := (&Session{Settings: here, Rows: rows}).Origins(); len(got) != want {
			t.Errorf("--test-fraction %v: got %q, want %d notes", fraction, got, want)
		}
	}
}

// TestOneOfTwoAdapters: the one that is left out is named, where it would be read.
func TestOneOfTwoAdapters(t *testing.T) {
	dir, alone := runOf(t, goldenSettings(), ""), goldenSettings()
	alone.NoTransplant = true
	aloneDir := runOf(t, alone, "")
	for name, c := range map[string]struct {
		change func(s *Settings)
		want   string
	}{
		"no chooser":             {func(s *Settings) { s.ArguerAdapter = filepath.Join(dir, "arguer") }, dir + " has an adapter of the chooser too, and --chooser-adapter is left out"},
		"no arguer":              {func(s *Settings) { s.ChooserAdapter = filepath.Join(dir, "chooser") }, dir + " has an adapter of the arguer too, and --arguer-adapter is left out"},
		"no arguer is read":      {func(s *Settings) { s.ChooserAdapter, s.NoTransplant = filepath.Join(dir, "chooser"), true }, ""},
		"not read, and mistaken": {func(s *Settings) { s.ArguerAdapter, s.NoTransplant = filepath.Join(dir, "chooser"), true }, ""},
		"one adapter for both":   {func(s *Settings) { s.ChooserAdapter, s.ShareAdapter = filepath.Join(dir, "chooser"), true }, ""},
		"the run had no arguer": {func(s *Settings) { s.ChooserAdapter = filepath.Join(aloneDir, "chooser") },
			aloneDir + " was trained with --no-transplant, and this is without"},
	} {
		here := goldenSettings()
		here.ArguerAdapter, here.ChooserAdapter = "", ""
		c.change(&here)
		if got := strings.Join((&Base{Settings: here}).Origins(), "\n"); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// TestOriginsOfAnError: rows that cannot be read for want of a run's templates are refused with their names.
func TestOriginsOfAnError(t *testing.T) {
	run, here := goldenSettings(), goldenSettings()
	run.ChooseTemplate = "c.tmpl"
	dir := runOf(t, run, "")
	here.ChooseTemplate, here.MaxTokens = "", 100
	here.ArguerAdapter, here.ChooserAdapter = filepath.Join(dir, "arguer"), filepath.Join(dir, "chooser")
	backend, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(here, backend)
	if want := "\nnote     " + dir + " was trained with --choose-template c.tmpl, and this is without"; err == nil ||
		!strings.Contains(err.Error(), "more than 100 tokens") || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v, want rows that are too long and %q", err, want)
	}
}

// TestLeftOut: only options of the prompts that are read are missed.
func TestLeftOut(t *testing.T) {
	run := goldenSettings()
	run.ArgueTemplate, run.ChooseTemplate, run.TransplantLayers, run.MaskChoice = "a.tmpl", "c.tmpl", "0", true
	dir := runOf(t, run, "")
	for name, c := range map[string]struct {
		arguer, chooser bool
		want            string
	}{
		"arguer":  {true, false, "--argue-template a.tmpl"},
		"chooser": {false, true, "--choose-template c.tmpl --mask-choice"},
		"both":    {true, true, "--transplant-layers 0 --argue-template a.tmpl --choose-template c.tmpl --mask-choice"},
	} {
		want := dir + " was trained with " + c.want + ", and this is without"
		if got := Defaults().LeftOut(filepath.Join(dir, "arguer"), c.arguer, c.chooser); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	b := Base{Settings: Defaults()}
	b.ArguerAdapter, b.ChooserAdapter = filepath.Join(dir, "arguer"), filepath.Join(dir, "chooser")
	if got := b.Origins(); len(got) != 1 || !strings.Contains(got[0], "--transplant-layers 0 --argue-template") {
		t.Errorf("of a model without rows: got %q, want what is left out", got)
	}
}

// TestNoOrigin: adapters from elsewhere have no run to be asked.
func TestNoOrigin(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"none": "", "damaged": "{", "an evaluation's": `{"settings":{"seed":1}}`} {
		if content != "" {
			if err := os.WriteFile(filepath.Join(dir, transplant.ConfigFile), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := originOf(filepath.Join(dir, "arguer")); got != nil {
			t.Errorf("%s: got %+v, want none", name, got)
		}
	}
	if got := originOf(""); got != nil {
		t.Errorf("no adapter: got %+v, want none", got)
	}
}
