package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// names lists what stands in a directory.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return strings.Join(list, " ")
}

func TestWriteDir(t *testing.T) {
	wrong := errors.New("wrong")
	fill := func(err error) func(dir string) error {
		return func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "new"), nil, 0o600), err)
		}
	}
	cases := []struct {
		name    string
		before  string // a file in the directory; "-" for an empty one, "" for none
		fill    error
		wantErr string
		want    string // what the parent and the directory hold
	}{
		{"new", "", nil, "", "out: new"},
		{"empty", "-", nil, "", "out: new"},
		{"not empty", "old", nil, "it holds old", "out: old"},
		{"failed", "", wrong, "wrong", ""},
		{"failed over an empty one", "-", wrong, "wrong", "out: "},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			parent := filepath.Join(t.TempDir(), "parent")
			out := filepath.Join(parent, "out")
			if err := os.MkdirAll(parent, 0o755); err != nil {
				t.Fatal(err)
			}
			if c.before != "" {
				if err := os.Mkdir(out, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if c.before == "old" {
				if err := os.WriteFile(filepath.Join(out, "old"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := WriteDir(out+string(filepath.Separator), fill(c.fill)) // as a shell completes it
			if (err == nil) != (c.wantErr == "") || err != nil && !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("got error %v, want %q", err, c.wantErr)
			}
			got := names(t, parent)
			if got != "" {
				got += ": " + names(t, out)
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestWriteDirMakesParentsAndIsReadable(t *testing.T) {
	out := filepath.Join(t.TempDir(), "a", "b")
	if err := WriteDir(out, func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o755 {
		t.Errorf("got mode %v, want 0755", got)
	}
	file := filepath.Join(out, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Vacant(file); err == nil {
		t.Error("a file is taken for an empty directory")
	}
}

// TestWriteDirThroughLink: the directory that a link points to is written, so that a link to another disk is one.
func TestWriteDirThroughLink(t *testing.T) {
	parent := t.TempDir()
	target, link, dangling := filepath.Join(parent, "target"), filepath.Join(parent, "link"), filepath.Join(parent, "dangling")
	for _, err := range []error{os.Mkdir(target, 0o755), os.Symlink(target, link), os.Symlink(filepath.Join(parent, "none"), dangling)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	fill := func(dir string) error { return os.WriteFile(filepath.Join(dir, "new"), nil, 0o600) }
	if err := WriteDir(link, fill); err != nil {
		t.Fatal(err)
	}
	if got := names(t, target); got != "new" {
		t.Errorf("the link's target holds %q, want new", got)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info, err)
	}
	if err := Vacant(dangling); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a link that points nowhere: got %v, want a refusal", err)
	}
}

// TestWorkingDirectoryIsNotReplaced: it is refused under every name, before anything is written.
func TestWorkingDirectoryIsNotReplaced(t *testing.T) {
	here := t.TempDir()
	t.Chdir(here)
	for _, path := range []string{".", here} {
		if err := Vacant(path); err == nil || !strings.Contains(err.Error(), "working directory") {
			t.Errorf("%s: got %v, want a refusal that says working directory", path, err)
		}
	}
}

// TestMakeable: a directory is refused where nothing can be made, and trying leaves nothing.
func TestMakeable(t *testing.T) {
	parent := t.TempDir()
	file, dangling := filepath.Join(parent, "file"), filepath.Join(parent, "dangling")
	for _, err := range []error{os.WriteFile(file, nil, 0o600), os.Symlink(filepath.Join(parent, "none"), dangling)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ name, path, want string }{
		{"there", parent, ""},
		{"new", filepath.Join(parent, "a"), ""},
		{"with parents", filepath.Join(parent, "a", "b"), ""},
		{"a file", file, "is no directory"},
		{"under a file", filepath.Join(file, "a"), "not a directory"},
		{"a link that points nowhere", dangling, "symbolic link"},
		{"under a link that points nowhere", filepath.Join(dangling, "a"), "symbolic link"},
		{"where nothing can be made", "/proc/a/b", "nothing can be made in /proc"},
	} {
		if _, err := os.Stat("/proc/self"); err != nil && strings.HasPrefix(c.path, "/proc") {
			continue // only Linux has one
		}
		err := Makeable(c.path)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want %q", c.name, err, c.want)
		}
	}
	if got, want := names(t, parent), "dangling file"; got != want {
		t.Errorf("the directory holds %q, want %q", got, want)
	}
}

// TestLock: a second opening of a locked file cannot lock it, until the first is closed.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	var files [2]*os.File
	for i := range files {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	if err := Lock(files[0]); err != nil {
		t.Fatal(err)
	}
	if err := Lock(files[1]); err == nil {
		t.Skip("this system has no locks")
	}
	files[0].Close()
	if err := Lock(files[1]); err != nil {
		t.Errorf("the lock stays behind: %v", err)
	}
}
