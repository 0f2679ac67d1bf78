package interpreter

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// TestKeptIsTaken: what was compiled of these sources before is taken from the cache, under any name, and anything else is not.
func TestKeptIsTaken(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the cache's directory is set by XDG_CACHE_HOME on Linux only")
	}
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	c, err := findCompiler(t.Context())
	if errors.Is(err, ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	compiled := filepath.Join(t.TempDir(), "compiled.so")
	if err := os.WriteFile(compiled, []byte("a library"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := keep(compiled, c.cached()); err != nil {
		t.Fatal(err)
	}
	library, err := Build(t.Context(), t.TempDir(), "cuda")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(library); string(got) != "a library" || filepath.Base(library) != "pjrt_c_api_cuda_plugin.so" {
		t.Errorf("built %s with %d bytes, error %v; want what was kept", library, len(got), err)
	}
	newer := c
	newer.version += " and later"
	if newer.cached() == c.cached() {
		t.Errorf("another compiler has the same path in the cache: %s", c.cached())
	}
}

// TestNoCache: where nothing can be kept the library is good all the same.
func TestNoCache(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("a library"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, kept := range []string{"", filepath.Join(file, "under a file", "library.so")} {
		if err := keep(file, kept); err != nil {
			t.Errorf("keep in %q: %v", kept, err)
		}
	}
	if err := keep(filepath.Join(file, "none"), ""); err == nil {
		t.Error("a library that was not built is kept")
	}
}
