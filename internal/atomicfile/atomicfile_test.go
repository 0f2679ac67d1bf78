package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteReplacesWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	for _, want := range []string{"a longer first text", "second"} {
		if err := WriteBytes(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("got %v, %v; want mode 0644", info.Mode(), err)
	}
}

// TestWriteIsBesideAndHidden: until all is written the old file stands, and the new one has a hidden name beside it, in the
// same file system.
func TestWriteIsBesideAndHidden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if err := WriteBytes(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	err := Write(path, func(w io.Writer) error {
		if _, err := w.Write(make([]byte, 3<<20)); err != nil { // more than is buffered
			return err
		}
		if got := names(t, filepath.Dir(path)); !strings.HasPrefix(got, ".a.tmp-") || !strings.HasSuffix(got, " a") {
			t.Errorf("the directory holds %q, want .a.tmp-* and a", got)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != "old" {
			t.Errorf("got %q, %v; want the old content", got, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, filepath.Dir(path)); got != "a" {
		t.Errorf("the directory holds %q, want a", got)
	}
}

// TestWriteRefuses: the error says which file, and nothing is left.
func TestWriteRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "full", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path string }{
		{"a directory stands there", filepath.Join(dir, "full")},
		{"no such directory", filepath.Join(dir, "none", "a")},
	} {
		if err := WriteBytes(c.path, []byte("new")); err == nil || !strings.Contains(err.Error(), "write "+c.path+": ") {
			t.Errorf("%s: got %v, want an error with write %s", c.name, err, c.path)
		}
	}
	if got := names(t, dir); got != "full" {
		t.Errorf("the directory holds %q, want full", got)
	}
}

func TestFailedWriteLeavesTheOldFileAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	if err := WriteBytes(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("disk on fire")
	err := Write(path, func(w io.Writer) error { io.WriteString(w, "ne"); return broken })
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), path) {
		t.Errorf("got error %v, want %v with the path", err, broken)
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("got %q, want the old content", got)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d files left in the directory, want 1: %v", len(left), left)
	}
}

// TestRemoveLeftovers: what a killed process was writing is removed, of this file alone, and only temporary files.
func TestRemoveLeftovers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lr[1*")
	path := filepath.Join(dir, "a")
	if err := RemoveLeftovers(path); err != nil {
		t.Errorf("in no directory: %v", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("killed")
	err := Write(path, func(io.Writer) error {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 1 {
			t.Fatalf("%d files while one is written (%v), want 1", len(left), err)
		}
		for _, name := range []string{"a", ".b.tmp-1", ".aa.tmp-2", "a.tmp-3"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := RemoveLeftovers(path); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(dir, left[0].Name())); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", left[0].Name(), err)
		}
		return broken
	})
	if left, _ := os.ReadDir(dir); len(left) != 4 || !errors.Is(err, broken) {
		t.Errorf("%d files are left (%v), want the 4 others", len(left), err)
	}
}
