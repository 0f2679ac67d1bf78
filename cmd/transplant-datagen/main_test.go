package main

import (
	"bytes"
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
			if status := run(c.args, &out, &errOut); status != 2 || !strings.Contains(errOut.String(), c.want) {
				t.Errorf("status %d and %q, want 2 and %q", status, errOut.String(), c.want)
			}
		})
	}
}

func TestRunHelp(t *testing.T) {
	var out, errOut bytes.Buffer
	if status := run([]string{"--help"}, &out, &errOut); status != 0 || !strings.Contains(out.String(), "--documents") {
		t.Errorf("status %d and %q, want 0 and the flags", status, out.String())
	}
}

// Ensure that a directory that cannot be made is a failure, not a wrong flag.
func TestRunFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	if status := run([]string{"--out", filepath.Join(file, "under")}, &out, &errOut); status != 1 || errOut.Len() == 0 {
		t.Errorf("status %d and %q, want 1 and a reason", status, errOut.String())
	}
}

// Ensure that the defaults write the embedded files, byte for byte.
func TestRunWritesTheEmbeddedFiles(t *testing.T) {
	dir := t.TempDir()
	var out, errOut bytes.Buffer
	if status := run([]string{"--out", dir}, &out, &errOut); status != 0 {
		t.Fatalf("status %d: %s", status, errOut.String())
	}
	for file, embedded := range map[string]string{
		"dataset.csv": tiny.DataSet, "tokenizer.json": tiny.Model + "/tokenizer.json",
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
	if status := run([]string{"--out", dir, "--rows", "10", "--batch-size", "1", "--documents"}, &out, &errOut); status != 0 {
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
