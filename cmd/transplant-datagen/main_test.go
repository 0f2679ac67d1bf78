package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotransplant/internal/tiny"
)

func TestRunRefusesWrongFlags(t *testing.T) {
	cases := []struct {
		name string
		args []string
		want string
	}{
		{"no directory", nil, "--out is missing"},
		{"no rows", []string{"--out", "x", "--rows", "0"}, "--rows is 0"},
		{"no batch", []string{"--out", "x", "--batch-size", "0"}, "--batch-size is 0"},
		{"stray word", []string{"--out", "x", "y"}, `unexpected argument "y"`},
		{"unknown flag", []string{"--nothing"}, "unknown flag --nothing"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			if status := run(t.Context(), c.args, &out, &errOut); status != 1 || !strings.Contains(errOut.String(), c.want) {
				t.Errorf("status %d and %q, want 1 and %q", status, errOut.String(), c.want)
			}
		})
	}
}

func TestRunHelp(t *testing.T) {
	var out, errOut bytes.Buffer
	if status := run(t.Context(), []string{"--help"}, &out, &errOut); status != 0 || !strings.Contains(out.String(), "--documents") {
		t.Errorf("status %d and %q, want 0 and the flags", status, out.String())
	}
}

// Ensure that an output directory is a failure, not a wrong flag, where a file would be replaced or could not be written,
// that a plan says so too, and that nothing is touched.
func TestRunFails(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"dataset.csv", "file"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("precious"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ name, out, want string }{
		{"a data set", dir, "dataset.csv is there already: name another directory"},
		{"under a file", filepath.Join(dir, "file", "under"), "not a directory"},
	} {
		for _, more := range [][]string{nil, {"--dry-run"}} {
			var out, errOut bytes.Buffer
			args := append([]string{"--out", c.out, "--rows", "10"}, more...)
			if status := run(t.Context(), args, &out, &errOut); status != 1 || !strings.Contains(errOut.String(), c.want) || out.Len() > 0 {
				t.Errorf("%s %v: status %d and %q, want 1 and %q", c.name, more, status, errOut.String(), c.want)
			}
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, "dataset.csv")); string(got) != "precious" {
		t.Errorf("the data set is %q (%v), want it as it was", got, err)
	}
}

// late is done once it has been asked a number of times.
type late struct {
	context.Context
	asked, most int
}

func (l *late) Err() error {
	if l.asked++; l.asked > l.most {
		return context.Canceled
	}
	return nil
}

// Ensure that an interrupted run leaves no file, wherever it is stopped, and has the status of one.
func TestRunInterrupted(t *testing.T) {
	stopped, stop := context.WithCancel(t.Context())
	stop()
	contexts := map[string]context.Context{"at once": stopped}
	for _, most := range []int{0, 1, 5} { // in the rows, the tokenizer, the documents
		contexts[fmt.Sprint("after ", most)] = &late{Context: t.Context(), most: most}
	}
	for name, ctx := range contexts {
		dir := t.TempDir()
		var out, errOut bytes.Buffer
		status := run(ctx, []string{"--out", dir, "--rows", "10", "--batch-size", "1", "--documents"}, &out, &errOut)
		if status != 130 || errOut.String() != "transplant-datagen: interrupted\n" || out.Len() > 0 {
			t.Errorf("%s: status %d and %q, want 130 and that it was interrupted", name, status, errOut.String())
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v (%v), want nothing", name, left, err)
		}
	}
}

// Ensure that the defaults write the embedded files, byte for byte.
func TestRunWritesTheEmbeddedFiles(t *testing.T) {
	dir := t.TempDir()
	var out, errOut bytes.Buffer
	if status := run(t.Context(), []string{"--out", dir}, &out, &errOut); status != 0 {
		t.Fatalf("status %d: %s", status, errOut.String())
	}
	for file, embedded := range map[string]string{
		"dataset.csv": tiny.DataSet, "tokenizer.json": tiny.Model + "/tokenizer.json",
		"argue.tmpl": tiny.ArgueTemplate, "choose.tmpl": tiny.ChooseTemplate,
	} {
		got, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		want, err := tiny.Files.ReadFile(embedded)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not the embedded one; copy it to internal/tiny, and train the model anew if it changed", file)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "documents.jsonl")); err == nil {
		t.Error("documents.jsonl was written without --documents")
	}
	if !strings.Contains(out.String(), "1280 rows, third writer right in 768") {
		t.Errorf("said %q, want the counts", out.String())
	}
}

func TestRunWritesDocuments(t *testing.T) {
	dir := t.TempDir()
	var out, errOut bytes.Buffer
	if status := run(t.Context(), []string{"--out", dir, "--rows", "10", "--batch-size", "1", "--documents"}, &out, &errOut); status != 0 {
		t.Fatalf("status %d: %s", status, errOut.String())
	}
	content, err := os.ReadFile(filepath.Join(dir, "documents.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	if len(lines) != 1600 || !strings.HasPrefix(lines[0], `{"text":"`) {
		t.Errorf("%d lines, the first %q; want 1600 documents", len(lines), lines[0])
	}
}
