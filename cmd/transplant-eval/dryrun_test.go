package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotransplant/internal/setup"
)

// TestDryRun: the plan has the conditions that an evaluation then has, as text and as JSON, and leaves nothing behind.
func TestDryRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "eval")
	code, text, errors := call(goldenFlags("--controls", "--out", dir, "--dry-run")...)
	if code != 0 || !strings.HasSuffix(text, setup.DryRun) {
		t.Fatalf("exit status %d, output\n%s%s", code, text, errors)
	}
	code, out, errors := call(goldenFlags("--controls", "--out", dir, "--dry-run", "--json")...)
	if code != 0 {
		t.Fatalf("exit status %d: %s", code, errors)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a dry run left a directory")
	}
	var plan setup.Plan
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&plan); err != nil || decoder.More() {
		t.Fatalf("%v in %q, want one object", err, out)
	}
	_, _, summary := evaluateInto(t, "--controls")
	for i, c := range summary["conditions"].([]any) {
		want := c.(map[string]any)["name"].(string)
		if i >= len(plan.Conditions) || plan.Conditions[i].Name != want || plan.Conditions[i].Tokens.Rows != 6 {
			t.Fatalf("planned %+v, want %s of 6 rows at %d", plan.Conditions, want, i)
		}
		line := fmt.Sprintf("scored   %s: 6 rows, a row %.1f tokens computed", want, float64(plan.Conditions[i].Tokens.Computed)/6)
		if !strings.Contains(text, line) {
			t.Errorf("text lacks %q:\n%s", line, text)
		}
	}
	if len(plan.Writes) != 2 || plan.Writes[1].Path != filepath.Join(dir, "summary.json") {
		t.Errorf("writes %+v, want predictions and summary in %s", plan.Writes, dir)
	}
}

// TestDryRunRefusals: what an evaluation would refuse its plan refuses.
func TestDryRunRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		flags   []string
		want    string
		planned bool // all is known but that it does not fit
	}{
		"long rows":          {[]string{"--max-tokens", "150"}, "more than 150 tokens", false},
		"memory":             {[]string{"--device-memory", "0.0001"}, "the run needs", true},
		"adapter":            {[]string{"--arguer-adapter", golden("model")}, "adapter_config.json", false},
		"one word off":       {[]string{"--donor", "other_row"}, "did you mean other-row?", false},
		"no row for a donor": {[]string{"--test-fraction", "0.2", "--controls"}, "--donor other-row needs at least two rows, there is 1", false},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errors := call(goldenFlags(append(c.flags, "--dry-run", "--json")...)...)
			if planned := strings.HasPrefix(out, `{"part":"plan"`); code != 1 || !strings.Contains(errors, c.want) || planned != c.planned || out != "" && !planned {
				t.Errorf("exit status %d, printed %q, said %q; want 1, a plan: %t, and %q", code, out, errors, c.planned, c.want)
			}
		})
	}
}
