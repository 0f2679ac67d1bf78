//go:build amd64 || arm64

package safetensors

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestForgetLeavesTheCacheAsItWas: a file that was not in the system's cache is not there after it was read, and one
// that was stays.
func TestForgetLeavesTheCacheAsItWas(t *testing.T) {
	const size = 8 << 20
	path := filepath.Join(t.TempDir(), "file")
	content := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil { // what is not on the disk yet cannot leave the cache
		t.Fatal(err)
	}
	read := func() (before, after bool) {
		t.Helper()
		m, err := Map(path)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		got := make([]byte, size-10)
		before = cached(m.Content)
		for from := 5; from < size-5; from += size / 4 {
			to := min(from+size/4, size-5)
			if err := m.Copy(got[from-5:to-5], m.Content[from:to]); err != nil {
				t.Fatal(err)
			}
			m.Forget(m.Content[from:to])
		}
		after = cached(m.Content)
		if !bytes.Equal(got, content[5:size-5]) {
			t.Error("other bytes than were written")
		}
		return before, after
	}
	if before, after := read(); !before || !after {
		t.Errorf("just written: cached %t before and %t after, want both", before, after)
	}
	uncache(f, 0, size)
	if before, after := read(); before {
		t.Skip("this file system keeps everything in memory")
	} else if after {
		t.Error("reading left the file in the cache")
	}
}

// TestFilesAreGivenBack: neither a closed file nor one that was refused stays mapped or open.
func TestFilesAreGivenBack(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good"), filepath.Join(dir, "bad")
	content := build(`{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}`, 3)
	for path, content := range map[string][]byte{good: content, bad: content[:len(content)-1]} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	held := func() string {
		t.Helper()
		maps, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Skip("skipped: this system does not say what is mapped")
		}
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("skipped: this system does not say what is open")
		}
		var list []string
		for line := range strings.Lines(string(maps)) {
			if strings.Contains(line, dir) {
				list = append(list, line)
			}
		}
		for _, f := range files {
			if to, _ := os.Readlink(filepath.Join("/proc/self/fd", f.Name())); strings.HasPrefix(to, dir) {
				list = append(list, to)
			}
		}
		return strings.Join(list, " ")
	}
	f, err := Open(good)
	if err != nil {
		t.Fatal(err)
	}
	if held() == "" {
		t.Error("an open file is neither mapped nor open: this test sees nothing")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if f, err := Open(bad); err == nil {
		t.Errorf("got %v, want a cut file refused", f)
	}
	if _, err := Map(dir); err == nil {
		t.Error("a directory is mapped")
	}
	if got := held(); got != "" {
		t.Errorf("still held: %s", got)
	}
}
