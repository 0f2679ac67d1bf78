package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotransplant/model/safetensors"
)

// Ensure that a dry run leaves nothing, and that parameters, vocabulary and files are those of the run.
func TestDryRun(t *testing.T) {
	tokenizer := learned(t)
	out := filepath.Join(t.TempDir(), "model")
	var stdout, stderr strings.Builder
	if code := run(context.Background(), small(tokenizer, out, "--dry-run", "--json"), &stdout, &stderr); code != 0 {
		t.Fatalf("exit status %d: %s", code, &stderr)
	}
	if _, err := os.Stat(out); err == nil {
		t.Fatal("a dry run left a directory")
	}
	var p plan
	decoder := json.NewDecoder(strings.NewReader(stdout.String()))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil || p.Part != "plan" {
		t.Fatalf("%v in %q", err, &stdout)
	}
	stdout.Reset()
	stderr.Reset()
	if code := run(context.Background(), small(tokenizer, out), &stdout, &stderr); code != 0 {
		t.Fatalf("exit status %d: %s", code, &stderr)
	}
	want := fmt.Sprintf("%d parameters, vocabulary of %d, %d steps of %d documents\n", p.Parameters, p.Vocabulary, p.Steps, p.Batch)
	if !strings.HasPrefix(stderr.String(), want) || p.Documents != 16 {
		t.Errorf("planned %+v, the run says\n%s", p, &stderr)
	}
	if info, err := os.Stat(filepath.Join(out, "model.safetensors")); err != nil || info.Size() < p.Writes[0].Bytes ||
		info.Size() > p.Writes[0].Bytes+4096 {
		t.Errorf("planned %+v, written %v (%v)", p.Writes[0], info, err)
	}
	f, err := safetensors.Open(filepath.Join(out, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	values := 0
	for _, name := range f.Names() {
		tensor, _ := f.Tensor(name)
		n := 1
		for _, d := range tensor.Shape {
			n *= d
		}
		values += n
	}
	if values != p.Parameters {
		t.Errorf("planned %d parameters, written %d", p.Parameters, values)
	}
}

// Ensure that a plan is refused that cannot be run: for want of memory, a backend or a tokenizer.
func TestDryRunRefusals(t *testing.T) {
	tokenizer := learned(t)
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"memory":    {small(tokenizer, "x", "--hidden", "65536", "--ffn", "65536", "--layers", "64", "--dry-run"), "the run needs"},
		"backend":   {small(tokenizer, "x", "--backend", "goo", "--dry-run"), "--backend goo: did you mean go?"},
		"context":   {small(tokenizer, "x", "--context", "40", "--dry-run"), "--context 40: a document has "},
		"tokenizer": {small(filepath.Join(tokenizer, "none"), "x", "--dry-run"), "none"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			if code := run(context.Background(), c.args, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), c.want) {
				t.Errorf("exit status %d, said %q; want 1 and %q", code, &stderr, c.want)
			}
		})
	}
}

// Ensure that with --json every score is an object with the figures of the text, the last of them the summary.
func TestJSONIsTheText(t *testing.T) {
	var stdout, stderr strings.Builder
	out := filepath.Join(t.TempDir(), "model")
	if code := run(context.Background(), small(learned(t), out, "--json"), &stdout, &stderr); code != 0 {
		t.Fatalf("exit status %d: %s", code, &stderr)
	}
	var parts []string
	for line := range strings.Lines(stdout.String()) {
		var s score
		decoder := json.NewDecoder(strings.NewReader(line))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&s); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		parts = append(parts, fmt.Sprint(s.Part, s.Step, s.Out == out))
		if want := fmt.Sprintf("after step %d: %s\n", s.Step, s.HeldOut); !strings.Contains(stderr.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, &stderr)
		}
		if want := fmt.Sprintf("step 4 of 4: loss %.4f, judged %.4f", s.Loss, s.Judged); s.Step == 4 && !strings.Contains(stderr.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, &stderr)
		}
	}
	if got, want := fmt.Sprint(parts), "[score3 false summary4 true]"; got != want {
		t.Errorf("parts %s, want %s", got, want)
	}
}
