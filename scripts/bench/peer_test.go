package bench

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// build compiles peer.c as strictly as the compiler can; without one the test is skipped.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "peer")
	compiler, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler cc")
	}
	said, err := exec.Command(compiler, "-std=c99", "-Wall", "-Wextra", "-O2", "-o", program, "peer.c", "-lm").CombinedOutput()
	if err != nil || len(said) > 0 {
		t.Fatalf("%v\n%s: want neither errors nor warnings", err, said)
	}
	return program
}

// TestPeerCByItself: without files it decodes random prompts with random weights, the same ones every time.
func TestPeerCByItself(t *testing.T) {
	out, err := exec.Command(build(t), "layers=2", "prompt=6", "new=5", "rows=2", "trials=3").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 3 {
		t.Fatalf("got %q, want a line for each of 3 trials", out)
	}
	var last []any
	for _, text := range lines {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("line %q: %v", text, err)
		}
		if line["tokens"] != 8.0 {
			t.Errorf("%v tokens, want 4 after the first of each of 2 rows", line["tokens"])
		}
		last = append(last, line["last"])
	}
	if last[0] != last[1] || last[1] != last[2] {
		t.Errorf("last tokens %v, want the same in every trial", last)
	}
}

// TestPeerCRefusals: arguments and files that cannot be are told, by name.
func TestPeerCRefusals(t *testing.T) {
	program, small := build(t), filepath.Join(t.TempDir(), "small")
	if err := os.WriteFile(small, []byte{0xff, 0xff, 0xff, 0xff}, 0o644); err != nil {
		t.Fatal(err)
	}
	cases := []struct{ name, argument, want string }{
		{"unknown", "width=3", "width=3"},
		{"part of a name", "layer=3", "layer=3"},
		{"no number", "layers=three", "layers"},
		{"too small", "new=1", "new"},
		{"groups", "groups=3", "groups"},
		{"no such file", "weights=no-such-file", "no-such-file"},
		{"weights of another shape", "weights=" + small, small},
		{"prompts of another length", "tokens=" + small, small},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			var said bytes.Buffer
			c := exec.Command(program, k.argument)
			c.Stderr = &said
			if err := c.Run(); err == nil || !strings.Contains(said.String(), k.want) {
				t.Errorf("%s: error %v, said %q, want a failure that names %s", k.argument, err, said.String(), k.want)
			}
		})
	}
	out, err := exec.Command(program, "tokens="+small, "prompt=1").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "vocabulary") {
		t.Errorf("token -1: error %v, said %q, want a refusal", err, out)
	}
}
