package program

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"gotransplant/internal/setup"
	"gotransplant/transplant"

	"github.com/spf13/pflag"
)

// asJSON are settings by the names they have in config.json, which are those of the flags.
func asJSON(t *testing.T, s setup.Settings) map[string]any {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestEveryFlagReachesItsSetting: each flag, set to something else than its default, changes the setting of its name.
func TestEveryFlagReachesItsSetting(t *testing.T) {
	values := map[string]string{ // for flags where a number will not do
		"model": "m", "data": "d", "arguer-adapter": "a", "chooser-adapter": "c", "argue-template": "t",
		"choose-template": "u",
		"backend":         "xla:cuda", "dtype": "bfloat16", "residual": "float32", "transplant-layers": "0",
		"schedule": "linear", "weights": "int8",
		"lora-targets": "q_proj", "test-fraction": "0.5", "shuffle": "false", "share-prefix": "false",
	}
	bind := func() (*setup.Settings, []Group) {
		s := setup.Defaults()
		return &s, append(Common(&s), Training(s.Training))
	}
	_, groups := bind()
	for _, g := range groups {
		g.Flags.VisitAll(func(f *pflag.Flag) {
			t.Run(f.Name, func(t *testing.T) {
				value, ok := values[f.Name]
				switch {
				case !ok && f.Value.Type() == "bool":
					value = "true"
				case !ok:
					value = "7"
				}
				s, groups := bind()
				before := asJSON(t, *s)
				if _, err := Parse([]string{"--" + f.Name + "=" + value}, groups...); err != nil {
					t.Fatal(err)
				}
				after := asJSON(t, *s)
				for name := range after {
					if changed := before[name] != after[name]; changed != (name == f.Name) {
						t.Errorf("setting %s changed: %t", name, changed)
					}
				}
			})
		})
	}
}

// TestFlagsAreTheSettings: every setting has a flag, whose default is what the setting is.
func TestFlagsAreTheSettings(t *testing.T) {
	for name, s := range map[string]setup.Settings{"defaults": setup.Defaults(), "embedded": setup.Embedded()} {
		before := asJSON(t, s)
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		for _, g := range append(Common(&s), Training(s.Training)) {
			flags.AddFlagSet(g.Flags)
		}
		after := asJSON(t, s)
		for setting, want := range before {
			if after[setting] != want {
				t.Errorf("%s: --%s is %v before it is given, want %v", name, setting, after[setting], want)
			}
			if flags.Lookup(setting) == nil {
				t.Errorf("%s: the setting %s has no flag", name, setting)
			}
		}
	}
}

func TestParse(t *testing.T) {
	cases := []struct {
		name string
		args []string
		want string // in the message; "" for no error
	}{
		{"nothing", nil, ""},
		{"value apart", []string{"--seed", "3"}, ""},
		{"unknown", []string{"--sead", "3"}, "unknown flag --sead"},
		{"negative seed", []string{"--seed=-1"}, "--seed"},
		{"no flag", []string{"--seed", "3", "go"}, `unexpected argument "go"`},
		{"help", []string{"--help"}, pflag.ErrHelp.Error()},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := setup.Defaults()
			_, err := Parse(c.args, Common(&s)...)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want %q", err, c.want)
			}
		})
	}
}

func TestHelpFitsATerminal(t *testing.T) {
	s := setup.Defaults()
	var out bytes.Buffer
	Help(&out, "head\n", append(Common(&s), Training(s.Training)))
	if !strings.HasPrefix(out.String(), "head\n\nInput:\n") {
		t.Errorf("help begins %q, want the head and then the first group", out.String()[:30])
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > 120 {
			t.Errorf("line of %d characters: %q", len(line), line)
		}
	}
}

func TestAbsolute(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	s := setup.Settings{Model: "m", Data: "/d.csv", Backend: "xla:lib/plugin.so"}
	if err := Absolute(&s); err != nil {
		t.Fatal(err)
	}
	want := setup.Settings{Model: filepath.Join(here, "m"), Data: "/d.csv"}
	want.Backend = "xla:" + filepath.Join(here, "lib/plugin.so")
	if s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
	for _, backend := range []string{"go", "go:parallelism=2", "xla:cuda"} {
		s := setup.Settings{Backend: backend}
		if err := Absolute(&s); err != nil || s.Backend != backend {
			t.Errorf("backend %q became %q (%v), want it unchanged", backend, s.Backend, err)
		}
	}
}

// TestResume: the settings come back as they were written, and the data set must be the same.
func TestResume(t *testing.T) {
	dir := t.TempDir()
	session := &setup.Session{Settings: setup.Embedded(), Rows: &setup.Rows{Hash: "abc"}}
	run, err := transplant.CreateRun(dir, NewConfig("transplant-train", session))
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	s, err := Resume(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, want := asJSON(t, s), asJSON(t, session.Settings)
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s came back as %v, want %v", name, got[name], want[name])
		}
	}
	if err := SameData(dir, session); err != nil {
		t.Errorf("same data: %v", err)
	}
	session.Hash = "abd"
	if err := SameData(dir, session); err == nil || !strings.Contains(err.Error(), "changed") {
		t.Errorf("other data: got error %v, want one that says so", err)
	}
}

// TestResumeOfARunWithoutAChoice: a config.json from before --weights and --attention stands for their defaults.
func TestResumeOfARunWithoutAChoice(t *testing.T) {
	dir := t.TempDir()
	text := `{"settings": {"dtype": "float32", "steps": 1}}`
	if err := os.WriteFile(filepath.Join(dir, transplant.ConfigFile), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := Resume(dir)
	if want := setup.Defaults(); err != nil || s.Weights != want.Weights || s.Attention != want.Attention {
		t.Errorf("weights %q, attention %q (%v), want %q and %q", s.Weights, s.Attention, err, want.Weights, want.Attention)
	}
}

// TestOpenBackend: the Go backend opens without a word but of a build without vector instructions, and what cannot be opened is an
// error.
func TestOpenBackend(t *testing.T) {
	var said bytes.Buffer
	backend, err := OpenBackend("go", &said)
	if err != nil {
		t.Fatal(err)
	}
	backend.Finalize()
	if got := strings.TrimSuffix(said.String(), "\n"); got != slowBuild || said.Len() == 1 {
		t.Errorf("said %q, want %q", said.String(), slowBuild)
	}
	for _, spec := range []string{"abacus", "xla:/no/such/plugin.so", ""} {
		stdout := os.Stdout
		_, err := OpenBackend(spec, &said)
		if err == nil || !strings.Contains(err.Error(), "--backend") || !strings.Contains(err.Error(), spec) {
			t.Errorf("backend %q: got error %v, want one that names the flag", spec, err)
		}
		if os.Stdout != stdout {
			t.Fatalf("backend %q: the standard output stays closed", spec)
		}
	}
}

// TestProgress: away from a terminal nothing is drawn, and a line comes once in ten seconds.
func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(&out)
	for i := range 100 {
		p.Update("step 1 of 2", i, 100)
	}
	if out.Len() > 0 {
		t.Errorf("said %q within the first seconds, want nothing", out.String())
	}
	p = NewProgress(&out)
	p.Update("step 1 of 2", 0, 100)
	p.started, p.shown = p.started.Add(-20*time.Second), p.shown.Add(-20*time.Second)
	p.Update("step 1 of 2", 50, 100)
	if got, want := out.String(), "step 1 of 2: 50 of 100 rows, 2.5 rows/s, 20s left\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	out.Reset()
	p.shown = p.shown.Add(-20 * time.Second)
	p.Update("scoring", 0, 30) // other work has no rate yet
	if got := out.String(); got != "" {
		t.Errorf("got %q at the beginning of other work, want nothing", got)
	}
	p.Line("a line")
	p.Clear()
	if got := out.String(); got != "a line\n" {
		t.Errorf("got %q, want the line alone", got)
	}
}

// TestProgressOnTerminals: a bar is one line that never wraps, is taken away before lines and at the end, and tells the rate since the
// work began, in a unit in which it is not 0.
func TestProgressOnTerminals(t *testing.T) {
	for _, c := range []struct {
		name               string
		columns            int
		first, done, total int
		seconds            float64
		want               string
	}{
		{"wide", 200, 0, 50, 100, 20, "step 1 of 2  50% |████████████            | 50 of 100 rows, 2.5 rows/s, 20s left"},
		{"80 columns", 80, 0, 50, 100, 20, "step 1 of 2  50% |███████████            | 50 of 100 rows, 2.5 rows/s, 20s left"},
		{"40 columns", 40, 0, 50, 100, 20, "step 1 of 2  50% 50 of 100 rows, 2.5 ro"},
		{"one column", 1, 0, 50, 100, 20, ""},
		{"resumed", 200, 40, 50, 100, 20, "step 1 of 2  50% |████████████            | 50 of 100 rows, 30.0 rows/min, 1m40s left"},
		{"slow", 200, 0, 1, 3, 900, "step 1 of 2  33% |████████                | 1 of 3 rows, 4.0 rows/h, 30m0s left"},
		{"nothing yet", 200, 0, 0, 3, 900, "step 1 of 2   0% |                        | 0 of 3 rows"},
	} {
		var out bytes.Buffer
		p := &Progress{w: &out, columns: func() int { return c.columns }}
		p.Update("step 1 of 2", c.first, c.total)
		out.Reset()
		p.drawn, p.shown, p.started = false, time.Time{}, time.Now().Add(-time.Duration(c.seconds*float64(time.Second)))
		p.Update("step 1 of 2", c.done, c.total)
		if got := out.String(); got != c.want {
			t.Errorf("%s: drawn %q, want %q", c.name, got, c.want)
		}
		if got := utf8.RuneCount(out.Bytes()); got >= c.columns {
			t.Errorf("%s: a line of %d, want less than %d", c.name, got, c.columns)
		}
		out.Reset()
		p.Update("step 1 of 2", c.done, c.total)
		if got := out.String(); got != "" {
			t.Errorf("%s: drawn again at once: %q, want nothing", c.name, got)
		}
		blank := "\r" + strings.Repeat(" ", c.columns-1) + "\r"
		p.Line("a line")
		if got, want := out.String(), blank+"a line\n"; got != want {
			t.Errorf("%s: a line gave %q, want %q", c.name, got, want)
		}
		p.Update("step 1 of 2", c.done, c.total)
		out.Reset()
		p.Update("step 1 of 2", c.total, c.total)
		p.Clear()
		if got := out.String(); got != blank {
			t.Errorf("%s: at the end %q, want %q", c.name, got, blank)
		}
	}
}

// TestNoTerminals: the null device and files are none, though the first is a device as terminals are.
func TestNoTerminals(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, f := range []*os.File{null, file} {
		if p := NewProgress(f); p.columns != nil {
			t.Errorf("%s: taken for a terminal of %d columns", f.Name(), p.columns())
		}
	}
}

// TestEmptyValues: an empty text is refused, unless it takes an earlier value back.
func TestEmptyValues(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--model", ""}, "--model is empty"},
		{[]string{"--seed", "1", "--data="}, "--data is empty"},
		{[]string{"--model", "a", "--model", ""}, ""},
	} {
		s := setup.Defaults()
		_, err := Parse(c.args, Common(&s)...)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got error %v, want %q", c.args, err, c.want)
		}
	}
}
