package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotransplant/lora"
	"gotransplant/model"
	"gotransplant/transplant"
)

// golden is the reference run in transplant/testdata, as a path inside it.
func golden(parts ...string) string {
	return filepath.Join(append([]string{"..", "..", "transplant", "testdata", "golden-small"}, parts...)...)
}

// goldenFlags train on the reference run's rows, in file order, as one batch.
func goldenFlags(more ...string) []string {
	return append([]string{
		"--model", golden("model"), "--data", golden("rows.csv"),
		"--arguer-adapter", golden("adapters", "arguer"), "--chooser-adapter", golden("adapters", "chooser"),
		"--argue-template", golden("templates", "argue.tmpl"), "--choose-template", golden("templates", "choose.tmpl"),
		"--test-fraction", "0", "--shuffle=false", "--lr", "1e-3", "--workers", "2",
	}, more...)
}

// result is what a call of the program leaves.
type result struct {
	code        int
	out, errors string
}

func call(args ...string) result {
	var out, errors bytes.Buffer
	code := run(context.Background(), args, &out, &errors)
	return result{code, out.String(), errors.String()}
}

// succeed fails the test unless the program does not.
func succeed(t *testing.T, args ...string) result {
	t.Helper()
	r := call(args...)
	if r.code != 0 {
		t.Fatalf("exit status %d for %q, want 0:\n%s", r.code, args, r.errors)
	}
	return r
}

func readFile(t *testing.T, path ...string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// readLines decodes a file of one JSON object a line.
func readLines[T any](t *testing.T, path ...string) []T {
	t.Helper()
	var all []T
	for line := range bytes.Lines(readFile(t, path...)) {
		var v T
		decoder := json.NewDecoder(bytes.NewReader(line))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&v); err != nil {
			t.Fatalf("%s: %v in %q", filepath.Join(path...), err, line)
		}
		all = append(all, v)
	}
	return all
}

// within fails when got is further than the relative tolerance from want.
func within(t *testing.T, name string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*math.Abs(want)) {
		t.Errorf("%s: got %.9g, want %.9g within %g, relatively", name, got, want, tolerance)
	}
}

// TestGoldenRun: the reference run, asked for by flags, leaves its losses and everything a run directory must hold.
func TestGoldenRun(t *testing.T) {
	var want struct {
		Train struct {
			Loss      []float64
			LossAfter float64 `json:"loss_after"`
		}
	}
	if err := json.Unmarshal(readFile(t, golden("expected.json")), &want); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "run")
	r := succeed(t, goldenFlags("--steps", "5", "--batch-size", "6", "--out", dir)...)
	if !strings.Contains(r.out, dir) || !strings.Contains(r.out, "third writer right in 3 (0.500)") {
		t.Errorf("output names neither the run directory nor the base rate:\n%s", r.out)
	}
	steps := readLines[transplant.StepMetrics](t, dir, transplant.MetricsFile)
	if len(steps) != len(want.Train.Loss) {
		t.Fatalf("%d lines in %s, want %d", len(steps), transplant.MetricsFile, len(want.Train.Loss))
	}
	for i, s := range steps {
		within(t, fmt.Sprintf("loss of step %d", i+1), s.Loss, want.Train.Loss[i], 1e-3)
		if s.Step != i+1 || s.Samples != 6*(i+1) || s.Tokens <= 0 || s.Seconds <= 0 {
			t.Errorf("line %d: got step %d, samples %d, tokens %d, seconds %v", i+1, s.Step, s.Samples, s.Tokens, s.Seconds)
		}
	}
	var after float64
	for i, p := range readLines[transplant.Prediction](t, dir, transplant.PredictionsFile) {
		after += p.Loss / 6
		if p.Row != i+1 {
			t.Errorf("line %d of %s is row %d, want file order", i+1, transplant.PredictionsFile, p.Row)
		}
	}
	within(t, "mean loss of the predictions", after, want.Train.LossAfter, 1e-3)
	checkRunDir(t, dir)
}

// checkRunDir checks the files beside the logs.
func checkRunDir(t *testing.T, dir string) {
	t.Helper()
	var config struct {
		Settings map[string]any
		Hash     string `json:"data_sha256"`
		Go       string
		Revision string
		Modules  map[string]string
	}
	if err := json.Unmarshal(readFile(t, dir, transplant.ConfigFile), &config); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"model", "data", "seed", "lr", "batch-size", "backend", "dtype", "lora-rank"} {
		if _, ok := config.Settings[flag]; !ok {
			t.Errorf("%s: settings lack %s", transplant.ConfigFile, flag)
		}
	}
	if path, _ := config.Settings["model"].(string); !filepath.IsAbs(path) {
		t.Errorf("%s: model is %q, want a path that holds from any directory", transplant.ConfigFile, path)
	}
	if len(config.Hash) != 64 || config.Go == "" || config.Revision == "" {
		t.Errorf("%s: hash %q, go %q, revision %q, want all of them",
			transplant.ConfigFile, config.Hash, config.Go, config.Revision)
	}
	for _, name := range []string{transplant.ArguerDir, transplant.ChooserDir} {
		if slices.Equal(firstMatrix(t, dir, name), firstMatrix(t, golden("adapters"), name)) {
			t.Errorf("%s has not changed in training", name)
		}
	}
	if png := readFile(t, dir, transplant.FigureFile); !bytes.HasPrefix(png, []byte("\x89PNG\r\n")) {
		t.Errorf("%s begins %q, want a PNG file", transplant.FigureFile, png[:6])
	}
}

// TestCurve: held-out rows are scored before the first update, every so many updates and after the last; they stand in
// the published columns and are not trained on.
func TestCurve(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	succeed(t, goldenFlags("--steps", "3", "--batch-size", "2", "--eval-every", "2", "--test-fraction", "0.34",
		"--out", dir)...)
	records, err := csv.NewReader(bytes.NewReader(readFile(t, dir, transplant.CurveFile))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := "test,seconds,samples_trained,loss,fraction_correct,correct_when_argument_correct," +
		"correct_when_argument_incorrect,confidence_when_correct,confidence_when_incorrect"
	if got := strings.Join(records[0], ","); got != want {
		t.Errorf("columns\n%s, want\n%s", got, want)
	}
	var points []string
	for _, r := range records[1:] {
		points = append(points, r[0]+" after "+r[2])
	}
	if got, want := fmt.Sprint(points), "[0 after 0 1 after 4 2 after 6]"; got != want {
		t.Errorf("scores %s, want %s", got, want)
	}
	if n := len(readLines[transplant.Prediction](t, dir, transplant.PredictionsFile)); n != 2 {
		t.Errorf("%d predictions, want those of the 2 rows held out", n)
	}
}

// TestControlsTrain: runs that leave out or merge a role train what is left.
func TestControlsTrain(t *testing.T) {
	fresh := []string{"--model", golden("model"), "--data", golden("rows.csv"), "--steps", "2", "--batch-size", "3",
		"--test-fraction", "0", "--lora-rank", "2", "--lora-targets", "all-linear", "--max-tokens", "1024"}
	cases := []struct {
		name      string
		flags     []string
		noArguer  bool
		identical bool // arguer and chooser
	}{
		{name: "two adapters"},
		{name: "shared adapter", flags: []string{"--share-adapter"}, identical: true},
		{name: "no transplant", flags: []string{"--no-transplant"}, noArguer: true},
		{name: "some layers", flags: []string{"--transplant-layers", "0,2"}},
		{name: "bfloat16", flags: []string{"--dtype", "bfloat16", "--residual", "float32"}},
		{name: "masked choice", flags: []string{"--mask-choice"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run")
			succeed(t, slices.Concat(fresh, c.flags, []string{"--out", dir})...)
			steps := readLines[transplant.StepMetrics](t, dir, transplant.MetricsFile)
			if len(steps) != 2 || !(steps[0].Loss > 0) {
				t.Errorf("metrics %+v, want 2 steps with a loss", steps)
			}
			_, err := os.Stat(filepath.Join(dir, transplant.ArguerDir))
			if got := os.IsNotExist(err); got != c.noArguer {
				t.Fatalf("run without an arguer's adapter: %t, want %t", got, c.noArguer)
			}
			if c.noArguer {
				return
			}
			arguer := readFile(t, dir, transplant.ArguerDir, "adapter_model.safetensors")
			chooser := readFile(t, dir, transplant.ChooserDir, "adapter_model.safetensors")
			if got := bytes.Equal(arguer, chooser); got != c.identical {
				t.Errorf("arguer and chooser equal: %t, want %t", got, c.identical)
			}
		})
	}
}

// TestStopGradient: with --stop-gradient only the chooser is trained.
func TestStopGradient(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	succeed(t, goldenFlags("--steps", "1", "--stop-gradient", "--out", dir)...)
	for name, changes := range map[string]bool{transplant.ArguerDir: false, transplant.ChooserDir: true} {
		if got := !slices.Equal(firstMatrix(t, dir, name), firstMatrix(t, golden("adapters"), name)); got != changes {
			t.Errorf("%s changed: %t, want %t", name, got, changes)
		}
	}
}

// firstMatrix holds the values of an adapter's first matrix.
func firstMatrix(t *testing.T, path ...string) []float32 {
	t.Helper()
	checkpoint, err := model.Open(golden("model"))
	if err != nil {
		t.Fatal(err)
	}
	defer checkpoint.Close()
	a, err := lora.Open(filepath.Join(path...), checkpoint.Config)
	if err != nil {
		t.Fatal(err)
	}
	return a.Params()[0].Value
}

// TestRefusals: what cannot work is refused before anything is written, by a message that says what to do.
func TestRefusals(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.csv")
	lines := strings.SplitAfter(string(readFile(t, golden("rows.csv"))), "\n")
	rows := lines[0] + "only,three,fields\n" + lines[1] + "Q,1,a,2,b,candidate_3,c,False\n"
	if err := os.WriteFile(bad, []byte(rows), 0o644); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty.csv")
	if err := os.WriteFile(empty, []byte(lines[0]), 0o644); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name  string
		flags []string
		want  []string // parts of the message
	}{
		{"unknown flag", []string{"--lr-rate", "1"}, []string{"unknown flag --lr-rate"}},
		{"argument that is no flag", []string{"train"}, []string{`unexpected argument "train"`, "--help"}},
		{"value of the wrong type", []string{"--steps", "many"}, []string{"--steps", "many"}},
		{"dtype", []string{"--dtype", "float16"}, []string{"--dtype float16", "float32 and bfloat16"}},
		{"residual", []string{"--residual", "bfloat16"}, []string{"--residual bfloat16", "float64 and float32"}},
		{"backend", []string{"--backend", "abacus"}, []string{"--backend abacus"}},
		{"test fraction", []string{"--test-fraction", "1"}, []string{"--test-fraction 1", "less than 1"}},
		{"batch size", []string{"--batch-size", "0"}, []string{"--batch-size 0", "at least 1"}},
		{"nothing to train", []string{"--epochs", "0"}, []string{"--steps 0 and --epochs 0"}},
		{"negative micro-batch", []string{"--micro-batch=-1"}, []string{"--micro-batch -1"}},
		{"learning rate", []string{"--lr", "nan"}, []string{"--lr NaN"}},
		{"beta", []string{"--beta1", "1"}, []string{"--beta1 1", "less than 1"}},
		{"clip norm", []string{"--clip-norm=-1"}, []string{"--clip-norm -1"}},
		{"alpha", []string{"--lora-alpha", "0"}, []string{"--lora-alpha 0"}},
		{"schedule", []string{"--schedule", "exponential"}, []string{"--schedule exponential", "constant, linear and cosine"}},
		{"warm-up", []string{"--schedule", "cosine", "--steps", "5", "--warmup", "10"}, []string{"--steps 5: --warmup 10 of 5 steps", "at most 5"}},
		{"warm-up of epochs", []string{"--schedule", "cosine", "--epochs", "2", "--warmup", "10"}, []string{"--epochs 2: --warmup 10 of 2 steps"}},
		{"layers", []string{"--transplant-layers", "0-3"}, []string{"--transplant-layers 0-3", "0-2"}},
		{"two shared adapters", []string{"--share-adapter"}, []string{"--share-adapter", "are two"}},
		{"targets", []string{"--arguer-adapter", "", "--lora-targets", "q_porj"}, []string{`"q_porj"`, "q_proj"}},
		{"missing model", []string{"--model", "no/such/model"}, []string{"no/such/model"}},
		{"missing data", []string{"--data", "no/such.csv"}, []string{"no/such.csv"}},
		{"missing adapter", []string{"--chooser-adapter", "no/such"}, []string{"no/such"}},
		{"missing template", []string{"--argue-template", "no/such.tmpl"}, []string{"no/such.tmpl"}},
		{"bad rows", []string{"--data", bad}, []string{bad + ":2", bad + ":4", "candidate_3"}},
		{"no rows", []string{"--data", empty}, []string{empty, "no rows"}},
		{"long rows", []string{"--max-tokens", "150"}, []string{"more than 150 tokens", "raise --max-tokens up to the model's context of 2048"}},
		{"only long rows", []string{"--max-tokens", "20", "--skip-long"}, []string{"all 6 rows need more than 20 tokens"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run")
			r := call(goldenFlags(append(c.flags, "--out", dir)...)...)
			if r.code != 1 {
				t.Errorf("exit status %d, want 1", r.code)
			}
			for _, part := range c.want {
				if !strings.Contains(r.errors, part) {
					t.Errorf("message %q, want it to contain %q", r.errors, part)
				}
			}
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("a refused call left a run directory")
			}
		})
	}
}

// TestSkipLong: with --skip-long the rows that fit are used and the others counted.
func TestSkipLong(t *testing.T) {
	short := call(goldenFlags("--max-tokens", "150", "--out", filepath.Join(t.TempDir(), "run"))...)
	var tooLong, rows int
	_, after, _ := strings.Cut(short.errors, "rows.csv: ")
	if _, err := fmt.Sscanf(after, "%d of %d rows", &tooLong, &rows); err != nil {
		t.Fatalf("message %q: %v", short.errors, err)
	}
	limit := 160
	for ; limit < 1000; limit += 10 { // the goldens' lengths lie between these
		dir := filepath.Join(t.TempDir(), "run")
		r := call(goldenFlags("--max-tokens", fmt.Sprint(limit), "--skip-long", "--steps", "1", "--out", dir)...)
		if r.code != 0 {
			continue
		}
		if !strings.Contains(r.out, "skipped  ") {
			t.Errorf("output does not tell what was skipped:\n%s", r.out)
		}
		predictions := readLines[transplant.Prediction](t, dir, transplant.PredictionsFile)
		if len(predictions) == 0 || len(predictions) >= rows {
			t.Errorf("%d of %d rows predicted, want some", len(predictions), rows)
		}
		return
	}
	t.Errorf("no limit below %d lets some rows through", limit)
}

// TestHelp: every flag of the contract is there, and asking is no error.
func TestHelp(t *testing.T) {
	r := succeed(t, "--help")
	for flag := range strings.FieldsSeq("model data arguer-adapter chooser-adapter argue-template choose-template " +
		"out backend dtype residual seed test-fraction no-transplant share-adapter transplant-layers stop-gradient " +
		"steps epochs batch-size micro-batch lr beta1 beta2 eps weight-decay clip-norm warmup schedule " +
		"lora-rank lora-alpha lora-targets dora shuffle " +
		"eval-every save-every resume mask-choice max-tokens skip-long") {
		if !strings.Contains(r.out, "--"+flag+" ") {
			t.Errorf("--help does not list --%s", flag)
		}
	}
	last := r.out[strings.LastIndex(r.out, "Defaults on the embedded model:"):]
	for part, want := range map[string]bool{"--batch-size 16": true, "--lora-rank 8": true, "--beta1": false} {
		if strings.Contains(last, part) != want {
			t.Errorf("defaults of the embedded model hold %q: %t, want %t: %s", part, !want, want, last)
		}
	}
}
