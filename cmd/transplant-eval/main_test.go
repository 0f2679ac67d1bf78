package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gotransplant/internal/setup"
	"gotransplant/transplant"
)

// golden is the reference run in transplant/testdata, as a path inside it.
func golden(parts ...string) string {
	return filepath.Join(append([]string{"..", "..", "transplant", "testdata", "golden-small"}, parts...)...)
}

// goldenFlags score the reference run's rows with its adapters.
func goldenFlags(more ...string) []string {
	return append([]string{
		"--model", golden("model"), "--data", golden("rows.csv"),
		"--arguer-adapter", golden("adapters", "arguer"), "--chooser-adapter", golden("adapters", "chooser"),
		"--argue-template", golden("templates", "argue.tmpl"), "--choose-template", golden("templates", "choose.tmpl"),
		"--workers", "2",
	}, more...)
}

// call runs the program.
func call(args ...string) (code int, out, errors string) {
	var stdout, stderr bytes.Buffer
	code = run(context.Background(), args, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// evaluateInto runs the program on the reference rows and returns its output and what it wrote.
func evaluateInto(t *testing.T, more ...string) (out string, rows []transplant.Prediction, summary map[string]any) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "eval")
	code, out, errors := call(goldenFlags(append(more, "--out", dir)...)...)
	if code != 0 {
		t.Fatalf("exit status %d for %q, want 0:\n%s", code, more, errors)
	}
	content, err := os.ReadFile(filepath.Join(dir, transplant.PredictionsFile))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(content) {
		var p transplant.Prediction
		if err := json.Unmarshal(line, &p); err != nil {
			t.Fatalf("%s: %v in %q", transplant.PredictionsFile, err, line)
		}
		rows = append(rows, p)
	}
	if content, err = os.ReadFile(filepath.Join(dir, "summary.json")); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &summary); err != nil {
		t.Fatalf("summary.json: %v", err)
	}
	return out, rows, summary
}

type goldenRow struct {
	Swapped              bool
	ArgumentChoice       string  `json:"argument_choice"`
	LogProb1             float64 `json:"logprob_1"`
	LogProb2             float64 `json:"logprob_2"`
	NoTransplantLogProb1 float64 `json:"no_transplant_logprob_1"`
	NoTransplantLogProb2 float64 `json:"no_transplant_logprob_2"`
}

func goldenRows(t *testing.T) []goldenRow {
	t.Helper()
	var expected struct{ Rows []goldenRow }
	content, err := os.ReadFile(golden("expected.json"))
	if err == nil {
		err = json.Unmarshal(content, &expected)
	}
	if err != nil {
		t.Fatal(err)
	}
	return expected.Rows
}

func within(t *testing.T, name string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*math.Abs(want)) {
		t.Errorf("%s: got %.9g, want %.9g within %g, relatively", name, got, want, tolerance)
	}
}

// TestGoldenPredictions: every row's log-probabilities are the reference's, with and without transplant, and what
// follows from them is right.
func TestGoldenPredictions(t *testing.T) {
	cases := []struct {
		name      string
		flags     []string
		tolerance float64
		want      func(r goldenRow) [2]float64
	}{
		{"transplant", nil, 1e-4, func(r goldenRow) [2]float64 { return [2]float64{r.LogProb1, r.LogProb2} }},
		{"no transplant", []string{"--no-transplant"}, 1e-4,
			func(r goldenRow) [2]float64 { return [2]float64{r.NoTransplantLogProb1, r.NoTransplantLogProb2} }},
		{"micro-batches", []string{"--micro-batch", "4"}, 1e-4,
			func(r goldenRow) [2]float64 { return [2]float64{r.LogProb1, r.LogProb2} }},
		{"bfloat16", []string{"--dtype", "bfloat16"}, 2e-2,
			func(r goldenRow) [2]float64 { return [2]float64{r.LogProb1, r.LogProb2} }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, predictions, _ := evaluateInto(t, c.flags...)
			rows := goldenRows(t)
			if len(predictions) != len(rows) {
				t.Fatalf("%d predictions, want %d", len(predictions), len(rows))
			}
			for i, p := range predictions {
				want, label := c.want(rows[i]), 1
				if rows[i].Swapped {
					label = 2
				}
				row := fmt.Sprintf("row %d ", i+1)
				within(t, row+"logprob_1", p.LogProb1, want[0], c.tolerance)
				within(t, row+"logprob_2", p.LogProb2, want[1], c.tolerance)
				within(t, row+"loss", p.Loss, -want[label-1], c.tolerance)
				argument := rows[i].ArgumentChoice == fmt.Sprintf("candidate_%d", label)
				correct := want[label-1] > want[2-label]
				if p.Row != i+1 || p.Label != label || p.Correct != correct || p.ArgumentCorrect != argument || p.Tokens <= 0 {
					t.Errorf("got %+v, want row %d, label %d, correct %t, argument_correct %t", p, i+1, label, correct, argument)
				}
			}
		})
	}
}

// TestTransplantComputesFewerTokens: what the summary counts is what was really computed.
func TestTransplantComputesFewerTokens(t *testing.T) {
	_, moved, _ := evaluateInto(t)
	_, plain, _ := evaluateInto(t, "--transplant-layers", "0,1") // the chooser's own tokens are needed in layer 2
	for i := range moved {
		if moved[i].Tokens >= plain[i].Tokens {
			t.Errorf("row %d: %d tokens with every layer transplanted, %d with two of three, want fewer",
				i+1, moved[i].Tokens, plain[i].Tokens)
		}
	}
}

// TestControls: all conditions stand in the table and in summary.json, the one asked for first.
func TestControls(t *testing.T) {
	cases := []struct {
		name  string
		flags []string
		want  string // names of the conditions
		flip  bool
	}{
		{"none", nil, "[transplant]", false},
		{"flip order", []string{"--flip-order"}, "[transplant flip order]", true},
		{"other row", []string{"--donor", "other-row"}, "[donor other-row]", false},
		{"no transplant", []string{"--no-transplant"}, "[no transplant]", false},
		{"all", []string{"--controls"}, "[transplant flip order donor other-row no transplant]", true},
		{"all of another row", []string{"--donor", "other-row", "--controls"},
			"[donor other-row flip order no transplant]", true},
		{"all without transplant", []string{"--no-transplant", "--controls"}, "[no transplant flip order]", true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			out, predictions, summary := evaluateInto(t, c.flags...)
			var names []string
			for _, condition := range summary["conditions"].([]any) {
				name := condition.(map[string]any)["name"].(string)
				names = append(names, name)
				if !strings.Contains(out, name) {
					t.Errorf("table lacks %q:\n%s", name, out)
				}
			}
			if got := fmt.Sprint(names); got != c.want {
				t.Errorf("conditions %s, want %s", got, c.want)
			}
			if _, got := summary["flip_order"]; got != c.flip {
				t.Errorf("summary compares orders: %t, want %t", got, c.flip)
			}
			if len(predictions) != 6 {
				t.Errorf("%d predictions, want those of all 6 rows", len(predictions))
			}
		})
	}
}

// lossOf is the loss of a condition in summary.json.
func lossOf(t *testing.T, summary map[string]any, condition string) float64 {
	t.Helper()
	for _, c := range summary["conditions"].([]any) {
		if c := c.(map[string]any); c["name"] == condition {
			return c["summary"].(map[string]any)["loss"].(float64)
		}
	}
	t.Fatalf("summary has no condition %q", condition)
	return 0
}

// TestControlsAreTheFlags: a condition of --controls is what its own flag would have given.
func TestControlsAreTheFlags(t *testing.T) {
	_, _, all := evaluateInto(t, "--controls")
	_, _, plain := evaluateInto(t, "--no-transplant")
	_, _, other := evaluateInto(t, "--donor", "other-row", "--flip-order")
	for _, c := range []struct {
		name string
		by   map[string]any
	}{{"no transplant", plain}, {"donor other-row", other}} {
		if got, want := lossOf(t, all, c.name), lossOf(t, c.by, c.name); got != want {
			t.Errorf("loss of %s among the controls %v, by its flag %v", c.name, got, want)
		}
	}
	if own, others := lossOf(t, all, "flip order"), lossOf(t, other, "flip order"); own == others {
		t.Errorf("flipped, another row's states give the loss %v of the row's own", own)
	}
}

// TestOtherRowMovesOtherStates: the control changes what is read, but not the labels, and the seed alone draws donors.
func TestOtherRowMovesOtherStates(t *testing.T) {
	_, own, _ := evaluateInto(t)
	_, other, _ := evaluateInto(t, "--donor", "other-row")
	_, again, _ := evaluateInto(t, "--donor", "other-row")
	_, seed, _ := evaluateInto(t, "--donor", "other-row", "--seed", "2")
	if fmt.Sprint(other) != fmt.Sprint(again) {
		t.Error("the same seed gave other predictions")
	}
	if fmt.Sprint(other) == fmt.Sprint(seed) {
		t.Error("another seed gave the same predictions")
	}
	for i := range own {
		if own[i].LogProb1 == other[i].LogProb1 {
			t.Errorf("row %d: another row's states gave the same log-probability %v", i+1, own[i].LogProb1)
		}
		if own[i].Label != other[i].Label {
			t.Errorf("row %d: label %d became %d", i+1, own[i].Label, other[i].Label)
		}
	}
}

// TestMicroBatch: the embedded model is scored in micro-batches as it is trained in; a model of one's own, and who asks for a
// size, is not.
func TestMicroBatch(t *testing.T) {
	for _, c := range []struct {
		flags []string
		want  int
	}{
		{nil, setup.Embedded().MicroBatch},
		{[]string{"--micro-batch", "3"}, 3},
		{[]string{"--model", "x"}, 0},
		{[]string{"--model", "x", "--micro-batch", "3"}, 3},
	} {
		if s, _, err := parse(c.flags, io.Discard); err != nil || s.MicroBatch != c.want {
			t.Errorf("%q: got %d (%v), want %d", c.flags, s.MicroBatch, err, c.want)
		}
	}
}

// TestTable: without --json the output is lines for people, the table last, and without --out nothing is left behind, nor is
// anything in the way.
func TestTable(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile(setup.SummaryFile, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	code, out, errors := call("--test-fraction", "0.01")
	if code != 0 || !strings.HasPrefix(out, "model    embedded: ") || !strings.Contains(out, "\nfraction correct f_c ") ||
		strings.Contains(out, "{") || !strings.HasSuffix(out, "\n") {
		t.Errorf("exit status %d, printed %q, said %q; want 0, the model and the table", code, out, errors)
	}
	if left, err := os.ReadDir("."); err != nil || len(left) != 1 {
		t.Errorf("left %v (%v), want what there was", left, err)
	}
}

// TestJSON: with --json the output is the summary and nothing else.
func TestJSON(t *testing.T) {
	code, out, errors := call(goldenFlags("--json")...)
	if code != 0 {
		t.Fatalf("exit status %d: %s", code, errors)
	}
	var report struct {
		Data       struct{ Rows int }
		Conditions []struct {
			Summary struct {
				FractionCorrect struct {
					Value    float64
					Count    int
					Total    int
					Interval [2]float64 `json:"interval_95"`
				} `json:"fraction_correct"`
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	got := report.Conditions[0].Summary.FractionCorrect
	if got.Count != 5 || got.Total != 6 {
		t.Errorf("fraction correct %+v, want 5 of 6", got)
	}
	for i, want := range []float64{0.4365, 0.9699} { // Wilson's interval for five of six, by hand
		if math.Abs(got.Interval[i]-want) > 1e-4 {
			t.Errorf("interval %v, want 0.4365 to 0.9699", got.Interval)
		}
	}
}

// full is an output of which only the first so many bytes find room.
type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, syscall.ENOSPC
	}
	return len(p), nil
}

// TestFullOutput: an output that takes nothing more is an error, and costs none of the files that were asked for.
func TestFullOutput(t *testing.T) {
	_, head, _ := call(goldenFlags()...)
	head = head[:strings.Index(head, "\n    ")] // the lines before the table
	for name, c := range map[string]struct {
		flags []string
		room  int
		files bool
	}{
		"before the table": {nil, 0, false},
		"table":            {nil, len(head) + 10, true},
		"JSON":             {[]string{"--json"}, 0, true},
		"dry run":          {[]string{"--dry-run"}, 0, false},
		"dry run in JSON":  {[]string{"--dry-run", "--json"}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			var errors bytes.Buffer
			dir := filepath.Join(t.TempDir(), "eval")
			code := run(t.Context(), goldenFlags(append(c.flags, "--out", dir)...), &full{c.room}, &errors)
			if want := syscall.ENOSPC.Error(); code != 1 || !strings.Contains(errors.String(), want) {
				t.Errorf("exit status %d, said %q; want 1 and %q", code, errors.String(), want)
			}
			for _, file := range []string{transplant.PredictionsFile, setup.SummaryFile} {
				if _, err := os.Stat(filepath.Join(dir, file)); (err == nil) != c.files {
					t.Errorf("%s: %v, want it there: %t", file, err, c.files)
				}
			}
		})
	}
}

// TestRefusals: what cannot work is refused before anything is written.
func TestRefusals(t *testing.T) {
	cases := []struct {
		name  string
		flags []string
		want  []string
	}{
		{"unknown flag", []string{"--epochs", "3"}, []string{"unknown flag --epochs"}},
		{"argument that is no flag", []string{"here"}, []string{`unexpected argument "here"`}},
		{"donor", []string{"--donor", "neighbour"}, []string{"--donor neighbour", "own and other-row"}},
		{"donor without transplant", []string{"--donor", "other-row", "--no-transplant"}, []string{"leave one out"}},
		{"dtype", []string{"--dtype", "int8"}, []string{"--dtype int8"}},
		{"backend", []string{"--backend", "abacus"}, []string{"--backend abacus", "go"}},
		{"missing model", []string{"--model", "no/such/model"}, []string{"no/such/model"}},
		{"adapter of another shape", []string{"--arguer-adapter", golden("model")}, []string{"adapter_config.json"}},
		{"long rows", []string{"--max-tokens", "150"}, []string{"more than 150 tokens", "raise --max-tokens up to the model's context of 2048"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "eval")
			code, _, errors := call(goldenFlags(append(c.flags, "--out", dir)...)...)
			if code != 1 {
				t.Errorf("exit status %d, want 1", code)
			}
			for _, part := range c.want {
				if !strings.Contains(errors, part) {
					t.Errorf("message %q, want it to contain %q", errors, part)
				}
			}
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Error("a refused call left a directory")
			}
		})
	}
}

// TestNotFinite: answers that are no numbers are refused by condition and row, and nothing is written.
func TestNotFinite(t *testing.T) {
	adapter := filepath.Join(t.TempDir(), "chooser")
	if err := os.CopyFS(adapter, os.DirFS(golden("adapters", "chooser"))); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(adapter, "adapter_config.json")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(content, &config); err != nil {
		t.Fatal(err)
	}
	config["lora_alpha"] = 1e38
	if content, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "eval")
	code, out, errors := call(goldenFlags("--chooser-adapter", adapter, "--micro-batch", "4", "--controls", "--json", "--out", dir)...)
	want := "transplant-eval: transplant: rows 1, 2, 3, 4: the log-probabilities of the answers 1 and 2 are not finite, in row 1 they are NaN and NaN"
	if code != 1 || out != "" || !strings.HasPrefix(errors, want) {
		t.Errorf("exit status %d, printed %q, said %q; want 1, nothing and %q", code, out, errors, want)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Error("a refused call left a directory")
	}
}

// TestOutRefusals: a directory that is used, or of no use, is refused before the model is opened, in a dry run too.
func TestOutRefusals(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{transplant.ConfigFile, transplant.PredictionsFile, setup.SummaryFile} {
		if err := os.Mkdir(at(name+" is in it"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at(name+" is in it"), name), []byte("kept"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(at("file"), []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(at("nowhere"), at("link")); err != nil {
		t.Fatal(err)
	}
	for out, want := range map[string]string{
		"config.json is in it":       "config.json is there already: name another directory",
		"predictions.jsonl is in it": "predictions.jsonl is there already",
		"summary.json is in it":      "summary.json is there already",
		"file":                       "file is no directory",
		"file/eval":                  "not a directory",
		"link":                       "symbolic link to a directory that is not there",
		"/dev/fd/eval":               "nothing can be made in /dev/fd",
	} {
		for _, more := range [][]string{nil, {"--dry-run"}} {
			t.Run(fmt.Sprint(out, more), func(t *testing.T) {
				out := out
				if !filepath.IsAbs(out) {
					out = at(out)
				}
				code, _, errors := call(goldenFlags(append(more, "--model", "no/such/model", "--out", out)...)...)
				if code != 1 || !strings.Contains(errors, "--out: ") || !strings.Contains(errors, out) || !strings.Contains(errors, want) {
					t.Errorf("exit status %d, said %q; want 1, --out, %s and %q", code, errors, out, want)
				}
			})
		}
	}
}

// TestOutIsLeftAsItWas: looking at --out leaves nothing there, and a directory with other files in it is used.
func TestOutIsLeftAsItWas(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flags []string
		want  string
	}{{[]string{"--dry-run"}, "notes.txt"}, {nil, "notes.txt predictions.jsonl summary.json"}} {
		if code, _, errors := call(goldenFlags(append(c.flags, "--out", dir)...)...); code != 0 {
			t.Fatalf("exit status %d: %s", code, errors)
		}
		var names []string
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if got := strings.Join(names, " "); err != nil || got != c.want {
			t.Errorf("%v: the directory holds %s (%v), want %s", c.flags, got, err, c.want)
		}
	}
}

// TestHelp: every flag of the contract is there, and asking is no error.
func TestHelp(t *testing.T) {
	code, out, _ := call("--help")
	if code != 0 {
		t.Errorf("exit status %d, want 0", code)
	}
	for flag := range strings.FieldsSeq("model data arguer-adapter chooser-adapter argue-template choose-template " +
		"out backend dtype residual seed test-fraction no-transplant share-adapter transplant-layers donor flip-order") {
		if !strings.Contains(out, "--"+flag+" ") {
			t.Errorf("--help does not list --%s", flag)
		}
	}
}

// TestDoRAPredictions: adapters are DoRA's where their config says so; the log-probabilities are PyTorch's.
func TestDoRAPredictions(t *testing.T) {
	dora := func(parts ...string) string {
		return filepath.Join(append([]string{"..", "..", "transplant", "testdata", "golden-dora"}, parts...)...)
	}
	var expected struct{ Rows []goldenRow }
	content, err := os.ReadFile(dora("expected.json"))
	if err == nil {
		err = json.Unmarshal(content, &expected)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, rows, _ := evaluateInto(t, "--arguer-adapter", dora("adapters", "arguer"), "--chooser-adapter", dora("adapters", "chooser"))
	for i, p := range rows {
		row := fmt.Sprintf("row %d ", i+1)
		within(t, row+"logprob_1", p.LogProb1, expected.Rows[i].LogProb1, 1e-4)
		within(t, row+"logprob_2", p.LogProb2, expected.Rows[i].LogProb2, 1e-4)
	}
}

// TestAdaptersOfARun: that rows were trained on is said with and without --json, where it is not among the JSON.
func TestAdaptersOfARun(t *testing.T) {
	rows, err := os.ReadFile(golden("rows.csv"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, role := range []string{transplant.ArguerDir, transplant.ChooserDir} {
		if err := os.CopyFS(filepath.Join(dir, role), os.DirFS(golden("adapters", role))); err != nil {
			t.Fatal(err)
		}
	}
	config := fmt.Sprintf(`{"settings": {"seed": 1, "test-fraction": 0.5, "steps": 1}, "data_sha256": "%x"}`, sha256.Sum256(rows))
	if err := os.WriteFile(filepath.Join(dir, transplant.ConfigFile), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	const want = "trains on 3 of the 6 rows to be scored"
	for _, more := range [][]string{nil, {"--dry-run"}, {"--json"}, {"--json", "--dry-run"}} {
		code, out, errors := call(goldenFlags(append(more, "--arguer-adapter", filepath.Join(dir, transplant.ArguerDir),
			"--chooser-adapter", filepath.Join(dir, transplant.ChooserDir))...)...)
		text := out
		if slices.Contains(more, "--json") {
			text = errors
		}
		if code != 0 || strings.Count(text, want) != 1 {
			t.Errorf("%q: exit status %d, output %q, errors %q, want once %q", more, code, out, errors, want)
		}
	}
}
