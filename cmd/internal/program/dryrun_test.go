package program

import (
	"bytes"
	"strings"
	"testing"
)

// TestReporting: text leaves the standard output to JSON.
func TestReporting(t *testing.T) {
	var out, errs bytes.Buffer
	if got := (Reporting{}).Text(&out, &errs); got != &out {
		t.Error("text does not go to the standard output")
	}
	if got := (Reporting{JSON: true}).Text(&out, &errs); got != &errs {
		t.Error("with --json text does not go to the standard error")
	}
	var r Reporting
	g := NewGroup("Output")
	r.Bind(g.Flags, "print figures as JSON")
	if _, err := Parse([]string{"--dry-run", "--json"}, g); err != nil || !r.DryRun || !r.JSON {
		t.Errorf("got %+v (%v), want both", r, err)
	}
	if err := JSONLine(&out, map[string]int{"a": 1}); err != nil || out.String() != "{\"a\":1}\n" {
		t.Errorf("got %q (%v), want a line", out.String(), err)
	}
}

// TestBuilder: every backend that there is is planned for by the Go backend; others are refused.
func TestBuilder(t *testing.T) {
	for _, spec := range []string{"go", "xla:cuda,tf32=true", "xla:/no/such/plugin.so"} {
		b, err := Builder(spec, &bytes.Buffer{})
		if err != nil || b.String() != "go" {
			t.Errorf("%s: got %v (%v), want the Go backend", spec, b, err)
		}
	}
	_, err := Builder("xla;cuda", &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "--backend xla;cuda: did you mean xla:cuda?") {
		t.Errorf("got error %v, want one that says xla:cuda", err)
	}
}
