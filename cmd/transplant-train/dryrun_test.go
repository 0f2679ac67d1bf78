package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotransplant/internal/setup"
	"gotransplant/transplant"
)

// objects decodes the JSON lines of an output by their part, and fails where one is not known.
func objects(t *testing.T, out string) (plan *setup.Plan, end *summary) {
	t.Helper()
	for line := range strings.Lines(out) {
		var part struct{ Part string }
		if err := json.Unmarshal([]byte(line), &part); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		var into any
		switch part.Part {
		case "plan":
			plan = new(setup.Plan)
			into = plan
		case "summary":
			end = new(summary)
			end.HeldOut = nil
			into = &struct {
				*summary
				HeldOut json.RawMessage `json:"held_out"`
			}{summary: end}
		default:
			t.Fatalf("unknown part in %q", line)
		}
		decoder := json.NewDecoder(strings.NewReader(line))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(into); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
	}
	return plan, end
}

// sizeOf is the number of bytes of a file, or of all files in a directory.
func sizeOf(t *testing.T, path string) (total int64) {
	t.Helper()
	err := filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		total += info.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}

// TestDryRunIsTheRun: what is planned is what the run then does, and the plan leaves nothing behind.
func TestDryRunIsTheRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	flags := []string{"--out", dir, "--steps", "7", "--warmup", "2", "--eval-every", "3", "--test-fraction", "0.05", "--json"}
	dry := succeed(t, append(flags, "--dry-run")...)
	if _, err := os.Stat(dir); err == nil {
		t.Fatal("a dry run made the run directory")
	}
	if !strings.HasSuffix(dry.errors, setup.DryRun) || !strings.Contains(dry.errors, "step 1 is next") {
		t.Errorf("said on the standard error\n%s\nwant the plan for people", dry.errors)
	}
	plan, _ := objects(t, dry.out)
	if plan == nil {
		t.Fatalf("no plan in %q", dry.out)
	}
	wet := succeed(t, flags...)
	again, end := objects(t, wet.out)
	if again == nil || fmt.Sprint(*again.Train, again.Memory, again.Writes) != fmt.Sprint(*plan.Train, plan.Memory, plan.Writes) {
		t.Errorf("the run prints another plan:\n%+v\nwant\n%+v", again, plan)
	}
	steps := readLines[transplant.StepMetrics](t, dir, transplant.MetricsFile)
	last := steps[len(steps)-1]
	if end == nil || end.Steps != 7 || plan.Train.Steps != 7 || len(steps) != 7 || *end.LastStep != last {
		t.Fatalf("summary %+v after %d steps, the last %+v; planned were %d", end, len(steps), last, plan.Train.Steps)
	}
	if got := plan.Train.RowsInAll; got != last.Samples {
		t.Errorf("planned %d rows in all, trained on %d", got, last.Samples)
	}
	if got, want := bytes.Count(readFile(t, dir, transplant.CurveFile), []byte("\n"))-1, plan.Train.Scores; got != want {
		t.Errorf("scored %d times, planned %d", got, want)
	}
	tokens := 0
	for _, s := range steps {
		tokens += s.Tokens
	}
	within(t, "tokens in all", float64(plan.Train.TokensInAll), float64(tokens), 0.03)
	for _, w := range plan.Writes {
		within(t, w.Path, float64(w.Bytes), float64(sizeOf(t, w.Path)), 0.35)
	}
	checkSummary(t, wet, dir)
}

// checkSummary compares the last line with the figures for people.
func checkSummary(t *testing.T, r result, dir string) {
	t.Helper()
	var line struct {
		Out     string
		HeldOut struct {
			Rows            int
			FractionCorrect struct{ Value float64 } `json:"fraction_correct"`
		} `json:"held_out"`
	}
	out := strings.TrimSpace(r.out)
	if err := json.Unmarshal([]byte(out[strings.LastIndexByte(out, '\n')+1:]), &line); err != nil {
		t.Fatal(err)
	}
	curve := strings.Split(strings.TrimSpace(string(readFile(t, dir, transplant.CurveFile))), "\n")
	fields := strings.Split(curve[len(curve)-1], ",")
	if got := fmt.Sprint(line.HeldOut.FractionCorrect.Value); got != fields[4] || line.HeldOut.Rows != 64 || line.Out != dir {
		t.Errorf("summary %+v, want 64 rows and the fraction %s of the curve's last line, in %s", line, fields[4], dir)
	}
	if want := fmt.Sprintf("right %.3f", line.HeldOut.FractionCorrect.Value); !strings.Contains(r.errors, want) {
		t.Errorf("standard error lacks %q:\n%s", want, r.errors)
	}
}

// TestDryRunFindsBadInput: what a run would refuse its plan refuses, with the same words, and 1.
func TestDryRunFindsBadInput(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.csv")
	header, _, _ := strings.Cut(string(readFile(t, golden("rows.csv"))), "\n")
	if err := os.WriteFile(bad, []byte(header+"\nQ,1,a,2,b,candidate_3,c,False\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name  string
		flags []string
		want  []string
	}{
		{"bad rows", []string{"--data", bad}, []string{bad + ":2", "candidate_3"}},
		{"long rows", []string{"--max-tokens", "150"}, []string{"more than 150 tokens", "raise --max-tokens up to the model's context of 2048"}},
		{"adapter of another model", []string{"--model", "", "--argue-template", "", "--choose-template", "", "--data", ""}, []string{"adapters"}},
		{"memory", []string{"--device-memory", "0.0005"}, []string{"the run needs", "--device-memory"}},
		{"memory of a device", []string{"--backend", "xla:cuda", "--device-memory", "0.0005"}, []string{"the run needs", "--remat none"}[:1]},
		{"no such backend", []string{"--backend", "goo"}, []string{"--backend goo: did you mean go?"}},
		{"schedule", []string{"--schedule", "cosin"}, []string{"--schedule cosin: did you mean cosine?"}},
		{"nothing held out to decay over", []string{"--schedule", "cosine", "--steps", "2", "--warmup", "5"}, []string{"nothing left to decay"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run")
			r := call(goldenFlags(slices.Concat(c.flags, []string{"--out", dir, "--dry-run"})...)...)
			if r.code != 1 {
				t.Errorf("exit status %d, want 1", r.code)
			}
			for _, part := range c.want {
				if !strings.Contains(r.errors, part) {
					t.Errorf("message %q, want %q in it", r.errors, part)
				}
			}
			if _, err := os.Stat(dir); err == nil {
				t.Error("a dry run left a directory")
			}
		})
	}
}

// TestDryRunOfADevice: a GPU is planned for that is not there.
func TestDryRunOfADevice(t *testing.T) {
	r := succeed(t, "--backend", "xla:cuda", "--dtype", "bfloat16", "--device-memory", "24", "--dry-run", "--out", filepath.Join(t.TempDir(), "run"))
	for _, want := range []string{"backend xla:cuda on graphs", "attention fused in place or packed", "of 24.0 GB: fits", "buckets  "} {
		if !strings.Contains(r.out, want) {
			t.Errorf("output lacks %q:\n%s", want, r.out)
		}
	}
}

// TestOutIsChecked: an --out that is of no use is refused by a run and by its plan, before either prints a line.
func TestOutIsChecked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dataset.csv")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for out, want := range map[string]string{file: "is no directory", filepath.Join(file, "run"): "not a directory"} {
		for _, more := range [][]string{nil, {"--dry-run"}} {
			r := call(goldenFlags(append(more, "--out", out)...)...)
			if r.code != 1 || r.out != "" || !strings.Contains(r.errors, "--out: write "+out) || !strings.Contains(r.errors, want) {
				t.Errorf("--out %s %v: exit status %d, printed %q, said %q; want 1, nothing and %q", out, more, r.code, r.out, r.errors, want)
			}
		}
	}
}

// TestDryRunOfWhatIsLeft: of a run to be continued the next step is told, and nothing in its directory changes.
func TestDryRunOfWhatIsLeft(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	succeed(t, goldenFlags("--steps", "3", "--batch-size", "3", "--out", dir)...)
	before := snapshot(t, dir)
	r := succeed(t, "--resume", dir, "--dry-run")
	if !strings.Contains(r.out, "3 in all, step 4 is next") || !strings.Contains(r.out, "left     nothing: step 3 was the last") {
		t.Errorf("output\n%s\nwant that step 4 is next, and nothing left", r.out)
	}
	if after := snapshot(t, dir); after != before {
		t.Errorf("the directory changed from\n%s\nto\n%s", before, after)
	}
	if err := os.Remove(filepath.Join(dir, transplant.StateFile)); err != nil {
		t.Fatal(err)
	}
	if r := succeed(t, "--resume", dir, "--dry-run"); !strings.Contains(r.out, "step 1 is next") ||
		!strings.Contains(r.out, "left     steps 1 to 3, 9 of 9 rows; the lines above are of the whole run\n") {
		t.Errorf("without a state: output\n%s\nwant that step 1 is next, and all is left", r.out)
	}
	if r := call("--resume", dir, "--lr", "1"); r.code != 1 || !strings.Contains(r.errors, "such as --lr") {
		t.Errorf("status %d, said %q; want a refusal of --lr", r.code, r.errors)
	}
}

// snapshot is all files with their contents' lengths and times.
func snapshot(t *testing.T, dir string) (text string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			text += fmt.Sprintln(path, info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}
