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

// TestPlanned: every backend that there is is planned for, the Go backend building graphs; others are refused.
func TestPlanned(t *testing.T) {
	for spec, name := range map[string]string{"go": "go", "go:parallelism=-1": "go", "xla:cuda,tf32=true": "xla:cuda,tf32=true",
		"xla:/no/such/plugin.so": "xla:/no/such/plugin.so"} {
		at, err := Planned(spec, &bytes.Buffer{})
		if err != nil || at.Builder.String() != "go" || at.Name != name {
			t.Errorf("%s: got %+v (%v), want %s by the Go backend", spec, at, err, name)
		}
	}
	_, err := Planned("xla;cuda", &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "--backend xla;cuda: did you mean xla:cuda?") {
		t.Errorf("got error %v, want one that says xla:cuda", err)
	}
}
