package main

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotransplant/experiment/wordproblem"
	"gotransplant/model"
	"gotransplant/model/tokenizer"
)

// learned is a directory with a tokenizer.json.
func learned(t *testing.T) string {
	t.Helper()
	content, err := wordproblem.LearnTokenizer(wordproblem.SampleTexts())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// small are the flags of a model that is trained in a second.
func small(tokenizer, out string, more ...string) []string {
	return append([]string{"--tokenizer", tokenizer, "--out", out, "--hidden", "16", "--ffn", "24", "--layers", "1",
		"--heads", "2", "--kv-heads", "1", "--batch-size", "4", "--micro-batch", "2", "--window", "1", "--warmup", "1",
		"--lesson-steps", "2,2", "--eval-documents", "5", "--eval-every", "3"}, more...)
}

// Ensure that a run leaves a checkpoint that opens with its tokenizer, and says how good it is.
func TestRunWritesACheckpoint(t *testing.T) {
	out := filepath.Join(t.TempDir(), "model")
	var stdout, stderr strings.Builder
	if code := run(context.Background(), small(learned(t), out), &stdout, &stderr); code != 0 {
		t.Fatalf("exit status %d, want 0; stderr:\n%s", code, &stderr)
	}
	for _, want := range []string{"step 4 of 4: loss", "after step 3: held out: loss", "after step 4: held out: loss"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("stderr lacks %q:\n%s", want, &stderr)
		}
	}
	c, err := model.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tok, err := tokenizer.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Config.VocabSize, tok.VocabSize(); got != want {
		t.Errorf("the model has a vocabulary of %d, want the tokenizer's %d", got, want)
	}
	if got := c.Tensor("lm_head.weight").DType; got != "BF16" {
		t.Errorf("weights are stored as %s, want BF16", got)
	}
	if _, err := os.Stat(filepath.Join(out, "tokenizer_config.json")); err != nil {
		t.Error(err)
	}
}

// Ensure that an interrupted run writes the model as it is.
func TestInterruptSaves(t *testing.T) {
	out := filepath.Join(t.TempDir(), "model")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var stdout, stderr strings.Builder
	if code := run(ctx, small(learned(t), out, "--dtype", "F32"), &stdout, &stderr); code != 130 {
		t.Errorf("exit status %d, want 130", code)
	}
	if !strings.Contains(stderr.String(), "interrupted after step 0 of 4") {
		t.Errorf("stderr does not say that the run was interrupted:\n%s", &stderr)
	}
	c, err := model.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.Tensor("lm_head.weight").DType; got != "F32" {
		t.Errorf("weights are stored as %s, want F32", got)
	}
}

// TestContextHoldsDocuments: a model whose config.json would name a context below what it was trained on is not made.
func TestContextHoldsDocuments(t *testing.T) {
	var stdout, stderr strings.Builder
	out := filepath.Join(t.TempDir(), "model")
	code := run(context.Background(), small(learned(t), out, "--context", "10"), &stdout, &stderr)
	if code != 1 || !strings.Contains(stderr.String(), "--context 10: a document has ") {
		t.Errorf("exit status %d, said %q; want 1 and what --context must hold", code, &stderr)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a model was written")
	}
}

// patient is done when it has been asked so many times.
type patient struct {
	context.Context
	asked int
}

func (p *patient) Err() error {
	if p.asked--; p.asked < 0 {
		return context.Canceled
	}
	return nil
}

// TestInterruptedGoesOn: the same command, given again, ends with the files of a run that was left alone; no other command
// touches them.
func TestInterruptedGoesOn(t *testing.T) {
	tokenizer, whole, out := learned(t), filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "out")
	try := func(ctx context.Context, wantCode int, want string, args []string) {
		t.Helper()
		var stdout, stderr strings.Builder
		if code := run(ctx, args, &stdout, &stderr); code != wantCode || !strings.Contains(stdout.String()+stderr.String(), want) {
			t.Fatalf("%q: exit status %d, want %d and %q; said\n%s%s", args, code, wantCode, want, &stdout, &stderr)
		}
	}
	try(context.Background(), 0, "step 4 of 4", small(tokenizer, whole))
	again := "interrupted after step 2 of 4; the model as it is was written to " + out + ", and the same command goes on from there"
	try(&patient{context.Background(), 2}, 130, again, small(tokenizer, out))
	before := contents(t, out)
	if _, ok := before[wordproblem.StateFile]; !ok {
		t.Fatalf("no %s", wordproblem.StateFile)
	}
	try(context.Background(), 0, "left     steps 3 to 4: an interrupted run goes on", small(tokenizer, out, "--dry-run"))
	try(context.Background(), 0, `"next_step":3`, small(tokenizer, out, "--dry-run", "--json"))
	try(context.Background(), 1, "--lr was 0.001 and is 0.002", small(tokenizer, out, "--lr", "0.002"))
	try(context.Background(), 1, "--tokenizer was ", small(other(t), out))
	if after := contents(t, out); !maps.Equal(before, after) {
		t.Error("a plan or a refusal changed files")
	}
	try(&patient{context.Background(), 3}, 130, "interrupted after step 3 of 4", small(tokenizer, out))
	try(context.Background(), 0, "left     steps 4 to 4", small(tokenizer, out, "--workers", "1"))
	if got, want := contents(t, out), contents(t, whole); !maps.Equal(got, want) {
		t.Errorf("files %q are not those of a run left alone, %q, in name or content", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	try(context.Background(), 1, "model.safetensors is there already", small(tokenizer, out))
}

// asking does something whenever a run asks whether it is to stop, which it does before every step.
type asking struct {
	context.Context
	answer func() error
}

func (a asking) Err() error { return a.answer() }

// killed is asking that copies the files of a run, as a kill would leave them, before a step.
func killed(step int, from, to string) context.Context {
	return asking{context.Background(), func() error {
		if step--; step != 0 {
			return nil
		}
		return os.CopyFS(to, os.DirFS(from))
	}}
}

// TestKilledGoesOn: the same command goes on from the last state of --save-every where it was killed, and ends with the files of
// a run that was left alone. What the kill left half-written is gone then, and only that.
func TestKilledGoesOn(t *testing.T) {
	tokenizer := learned(t)
	for _, tc := range []struct {
		every string
		step  int // killed before this one
		want  string
	}{{"2", 4, "left     steps 3 to 4"}, {"1", 4, "left     steps 4 to 4"}, {"1", 2, "left     steps 2 to 4"}} {
		whole, out := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "lr[1*")
		var stdout, stderr strings.Builder
		if code := run(killed(tc.step, whole, out), small(tokenizer, whole, "--save-every", tc.every), &stdout, &stderr); code != 0 {
			t.Fatalf("exit status %d; said %q", code, &stderr)
		}
		if got := slices.Collect(maps.Keys(contents(t, out))); len(got) != 1 || got[0] != wordproblem.StateFile {
			t.Fatalf("--save-every %s, before step %d: there are %q, want %s alone", tc.every, tc.step, got, wordproblem.StateFile)
		}
		for _, name := range []string{".pretraining.state.tmp-1", ".model.safetensors.tmp-2", ".notes.txt.tmp-3"} {
			if err := os.WriteFile(filepath.Join(out, name), []byte("half"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		stderr.Reset()
		if code := run(context.Background(), small(tokenizer, out), &stdout, &stderr); code != 0 || !strings.Contains(stderr.String(), tc.want) {
			t.Errorf("--save-every %s: exit status %d, said %q; want 0 and %q", tc.every, code, &stderr, tc.want)
		}
		want := contents(t, whole)
		want[".notes.txt.tmp-3"] = "half"
		if got := contents(t, out); !maps.Equal(got, want) {
			t.Errorf("--save-every %s, before step %d: files %q are not those of a run left alone, %q, in name or content", tc.every, tc.step,
				slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
	}
}

// TestStateIsNotSaved: with --save-every 0 a killed run leaves nothing; where a state that is due cannot be saved the run ends.
func TestStateIsNotSaved(t *testing.T) {
	tokenizer, parent, out := learned(t), t.TempDir(), filepath.Join(t.TempDir(), "out")
	var stdout, stderr strings.Builder
	code := run(killed(4, parent, out), small(tokenizer, filepath.Join(parent, "whole"), "--save-every", "0"), &stdout, &stderr)
	if got := contents(t, out); code != 0 || len(got) > 0 {
		t.Errorf("exit status %d, files %q before the last step; want 0 and none", code, slices.Sorted(maps.Keys(got)))
	}
	spoils := asking{context.Background(), func() error { return os.WriteFile(filepath.Join(parent, "file"), nil, 0o644) }}
	stderr.Reset()
	code = run(spoils, small(tokenizer, filepath.Join(parent, "file"), "--save-every", "2"), &stdout, &stderr)
	if code != 1 || !strings.Contains(stderr.String(), "file: not a directory") || strings.Contains(stderr.String(), "after step 3") {
		t.Errorf("exit status %d, said %q; want 1, why the state cannot be saved, and no third step", code, &stderr)
	}
}

// TestScoreComesBeforeState: what goes on from a state does not score again, so that none is saved of a score that was not told.
func TestScoreComesBeforeState(t *testing.T) {
	out := filepath.Join(t.TempDir(), "model")
	reader, stdout := io.Pipe()
	reader.Close()
	var stderr strings.Builder
	code := run(context.Background(), small(learned(t), out, "--save-every", "3", "--json"), stdout, &stderr)
	if _, err := os.Stat(out); code != 1 || !strings.Contains(stderr.String(), io.ErrClosedPipe.Error()) || !os.IsNotExist(err) {
		t.Errorf("exit status %d, said %q, %s: %v; want 1, %q and nothing saved", code, &stderr, out, err, io.ErrClosedPipe)
	}
}

// TestDefaultsAreWhatTheyAre: a run that names a default is the run that leaves it out.
func TestDefaultsAreWhatTheyAre(t *testing.T) {
	var decides [2]map[string]string
	for i, more := range [][]string{nil, {"--lesson-steps", "400,1200", "--lr", "1e-3"}} {
		o, _, err := parse(append([]string{"--tokenizer", "x", "--out", "y"}, more...), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		decides[i] = o.decides
	}
	if !maps.Equal(decides[0], decides[1]) {
		t.Errorf("got %v and %v, want the same", decides[0], decides[1])
	}
}

// other is a directory with another tokenizer.json.
func other(t *testing.T) string {
	dir := learned(t)
	f, err := os.OpenFile(filepath.Join(dir, "tokenizer.json"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	return dir
}

// contents are the files of a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(content)
	}
	return all
}

// Ensure that an interrupted run whose model cannot be written says that, and not that it was.
func TestInterruptThatCannotSave(t *testing.T) {
	out := filepath.Join(t.TempDir(), "model")
	var stdout, stderr strings.Builder
	spoils := asking{context.Background(), func() error { return errors.Join(context.Canceled, os.WriteFile(out, nil, 0o644)) }}
	code := run(spoils, small(learned(t), out), &stdout, &stderr)
	if code != 1 || !strings.Contains(stderr.String(), out) || strings.Contains(stderr.String(), "was written") {
		t.Errorf("exit status %d, said %q; want 1 and why %s cannot be written", code, &stderr, out)
	}
}

// Ensure that wrong flags are refused with the remedy, before anything is written.
func TestWrongFlags(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"no tokenizer", []string{"--out", "x"}, "--tokenizer is missing"},
		{"no output", []string{"--tokenizer", "x"}, "--out is missing"},
		{"unknown type", small("x", "y", "--dtype", "F16"), "--dtype F16"},
		{"no workers", small("x", "y", "--workers", "0"), "--workers 0: it must be at least 1"},
		{"nothing to score", small("x", "y", "--eval-documents", "0"), "--eval-documents 0: it must be at least 1"},
		{"saves below 0", small("x", "y", "--save-every", "-1"), "--save-every -1: it must be at least 0"},
		{"scores below 0", small("x", "y", "--eval-every", "-2"), "--eval-every -2: it must be at least 0"},
		{"lessons", []string{"--tokenizer", "x", "--out", "y", "--lesson-steps", "1,2,3"}, "--lesson-steps 1,2,3: there are 2 lessons"},
		{"steps below 0", []string{"--tokenizer", "x", "--out", "y", "--lesson-steps", "5,-1"}, "--lesson-steps 5,-1: no lesson can have -1"},
		{"no layers", small("x", "y", "--layers", "0"), "--layers 0: it must be at least 1"},
		{"width of heads", small("x", "y", "--hidden", "17"), "--hidden 17 is no multiple of --heads 2"},
		{"odd heads", small("x", "y", "--hidden", "18"), "--hidden 18 over --heads 2 is odd"},
		{"heads a group", small("x", "y", "--heads", "4", "--kv-heads", "3"), "--heads 4 is no multiple of --kv-heads 3"},
		{"clipping", small("x", "y", "--clip-norm", "-1"), "--clip-norm -1: it must be at least 0"},
		{"decay of the mean", small("x", "y", "--beta1", "1", "--dry-run"), "--beta1 1: it must be at least 0 and below 1"},
		{"epsilon", small("x", "y", "--eps", "-1", "--dry-run"), "--eps -1"},
		{"no number", small("x", "y", "--weight-decay", "NaN"), "--weight-decay NaN"},
		{"argument", small("x", "y", "z"), "unexpected argument"},
		{"unknown flag", small("x", "y", "--speed", "9"), "unknown flag"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			if code := run(context.Background(), tc.args, &stdout, &stderr); code != 1 {
				t.Errorf("exit status %d, want 1", code)
			}
			if !strings.Contains(stderr.String(), tc.want) {
				t.Errorf("stderr %q lacks %q", &stderr, tc.want)
			}
		})
	}
	if _, err := os.Stat("y"); !errors.Is(err, os.ErrNotExist) {
		t.Error("wrong flags left an output directory")
	}
}

// Ensure that an output directory is refused before any work where a file would be replaced or could not be written, and
// that a plan says so too.
func TestOutIsChecked(t *testing.T) {
	tokenizer := learned(t)
	at := func(name string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte("precious"), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tc := range []struct{ name, out, want string }{
		{"a model", filepath.Dir(at("model.safetensors")), "model.safetensors is there already: name another directory"},
		{"another model", filepath.Dir(at("config.json")), "config.json is there already"},
		{"another tokenizer", filepath.Dir(at("tokenizer.json")), "tokenizer.json is there already"},
		{"a file", at("dataset.csv"), "dataset.csv is no directory"},
		{"under a file", filepath.Join(at("dataset.csv"), "model"), "not a directory"},
	} {
		for _, more := range [][]string{nil, {"--dry-run"}} {
			var stdout, stderr strings.Builder
			code := run(context.Background(), small(tokenizer, tc.out, more...), &stdout, &stderr)
			if said := stderr.String(); code != 1 || !strings.Contains(said, tc.want) || strings.Contains(said, "parameters") || stdout.Len() > 0 {
				t.Errorf("%s %v: exit status %d, said %q; want 1 and only %q", tc.name, more, code, said, tc.want)
			}
		}
	}
	var stdout, stderr strings.Builder
	if code := run(context.Background(), small(tokenizer, tokenizer), &stdout, &stderr); code != 0 {
		t.Errorf("beside the tokenizer: exit status %d, want 0; said %q", code, &stderr)
	}
}

// Ensure that help goes to stdout, with all groups, and succeeds.
func TestHelp(t *testing.T) {
	var stdout, stderr strings.Builder
	if code := run(context.Background(), []string{"--help"}, &stdout, &stderr); code != 0 {
		t.Errorf("exit status %d, want 0", code)
	}
	for _, want := range []string{"Input and output:", "Model:", "Training:", "Running:", "--lesson-steps", "--workers micro-batches "} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("help lacks %q", want)
		}
	}
}
