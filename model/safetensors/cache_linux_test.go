//go:build amd64 || arm64

package safetensors

import (
	"bytes"
	"os"
	"path/filepath"
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
