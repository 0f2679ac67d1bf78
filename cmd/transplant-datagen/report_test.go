package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// told runs the program with --json and decodes what it prints.
func told(t *testing.T, args ...string) (r report) {
	t.Helper()
	var out, errOut bytes.Buffer
	if status := run(t.Context(), append(args, "--json"), &out, &errOut); status != 0 {
		t.Fatalf("status %d: %s", status, errOut.String())
	}
	decoder := json.NewDecoder(&out)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil || decoder.More() {
		t.Fatalf("%v, want one object", err)
	}
	return r
}

// Ensure that a dry run writes nothing, and tells what the run then writes, to the byte.
func TestDryRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	flags := []string{"--out", dir, "--rows", "30", "--seed", "3", "--batch-size", "1", "--documents"}
	plan := told(t, append(flags, "--dry-run")...)
	if _, err := os.Stat(dir); err == nil {
		t.Fatal("a dry run made the directory")
	}
	done := told(t, flags...)
	if plan.Part != "plan" || done.Part != "summary" {
		t.Errorf("parts %s and %s, want plan and summary", plan.Part, done.Part)
	}
	plan.Part = done.Part
	if fmt.Sprint(plan) != fmt.Sprint(done) || len(done.Files) != 5 {
		t.Errorf("planned %+v, done %+v", plan, done)
	}
	for _, f := range done.Files {
		if info, err := os.Stat(f.Path); err != nil || info.Size() != f.Bytes {
			t.Errorf("%+v: %v, want a file of that size", f, err)
		}
	}
}

// Ensure that the JSON object has the figures of the text.
func TestJSONIsTheText(t *testing.T) {
	flags := []string{"--out", filepath.Join(t.TempDir(), "made"), "--rows", "40"}
	var out, errOut bytes.Buffer
	if status := run(t.Context(), flags, &out, &errOut); status != 0 {
		t.Fatalf("status %d: %s", status, errOut.String())
	}
	flags[1] = filepath.Join(t.TempDir(), "again")
	r := told(t, flags...)
	want := fmt.Sprintf("dataset.csv      %d rows, third writer right in %d, swapped %d; errors: number %d name %d object %d sum %d\n", r.Rows,
		r.ThirdWriterRight, r.Swapped, r.Errors["number"], r.Errors["name"], r.Errors["object"], r.Errors["sum"])
	if !strings.HasPrefix(out.String(), want) || r.Rows != 40 || r.ThirdWriterRight != 24 || r.Swapped != 20 {
		t.Errorf("text %q, from JSON %q", out.String(), want)
	}
}
