package interpreter

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"gotransplant/internal/atomicfile"
)

//go:embed plugin
var sources embed.FS

// ErrNoCompiler says that this machine has nothing to compile C++ with.
var ErrNoCompiler = errors.New("no C++ compiler (c++ or g++)")

// flags are what the sources are compiled with. Code is for any processor of its kind, so that it can be kept.
var flags = []string{"-std=c++17", "-O2", "-ffp-contract=off", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"}

// Build writes the plugin to dir and returns its absolute path. name becomes part of the file's, and go-xla takes a plugin
// with cuda in its path for NVIDIA's. Compiling takes some ten seconds, after which the library is kept in the user's cache,
// as Go keeps its own; without a compiler the error is ErrNoCompiler.
func Build(ctx context.Context, dir, name string) (string, error) {
	c, err := findCompiler(ctx)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	library := filepath.Join(dir, "pjrt_c_api_"+name+"_plugin.so")
	kept := c.cached()
	if code, err := os.ReadFile(kept); err == nil {
		return library, atomicfile.WriteBytes(library, code)
	}
	objects, err := c.compileAll(ctx, dir)
	if err != nil {
		return "", err
	}
	if err := command(ctx, c.path, append([]string{"-shared", "-o", library}, objects...)...); err != nil {
		return "", err
	}
	return library, keep(library, kept)
}

// compiler is what the plugin is compiled with.
type compiler struct{ path, version, header string }

func findCompiler(ctx context.Context) (c compiler, err error) {
	if c.path, err = exec.LookPath("c++"); err != nil {
		c.path, err = exec.LookPath("g++")
	}
	if err != nil {
		return c, ErrNoCompiler
	}
	version, err := exec.CommandContext(ctx, c.path, "--version").Output()
	if err != nil {
		return c, fmt.Errorf("%s --version: %w", c.path, err)
	}
	goXLA, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/gomlx/go-xla").Output()
	if err != nil {
		return c, fmt.Errorf("the directory of go-xla, whose pjrt_c_api.h the plugin is compiled against: %w", err)
	}
	c.version, c.header = string(version), filepath.Join(strings.TrimSpace(string(goXLA)), "pjrt", "pjrt_c_api.h")
	return c, nil
}

// cached is the path of what was compiled of the same sources in the same way, or empty where there is no cache.
func (c compiler) cached() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	sum := sha256.New()
	fmt.Fprintln(sum, c, flags, runtime.GOARCH)
	err = fs.WalkDir(sources, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		code, err := sources.ReadFile(path)
		fmt.Fprintln(sum, path, len(code))
		sum.Write(code)
		return err
	})
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "gotransplant", fmt.Sprintf("interpreter-%x.so", sum.Sum(nil)[:16]))
}

// keep copies a library into the cache, which may be none, or not to be written: then it is compiled again the next time.
func keep(library, kept string) error {
	code, err := os.ReadFile(library)
	if err != nil || kept == "" {
		return err
	}
	if os.MkdirAll(filepath.Dir(kept), 0o755) == nil {
		_ = atomicfile.WriteBytes(kept, code)
	}
	return nil
}

// compileAll unpacks the sources and compiles each file, as many at a time as there are cores.
func (c compiler) compileAll(ctx context.Context, dir string) (objects []string, err error) {
	if err := os.CopyFS(dir, sources); err != nil {
		return nil, err
	}
	flags := append(slices.Clone(flags), "-I"+filepath.Dir(c.header), "-c")
	files, err := fs.Glob(sources, "plugin/*.cc")
	if err != nil {
		return nil, err
	}
	errs := make([]error, len(files))
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var all sync.WaitGroup
	for i, file := range files {
		object := filepath.Join(dir, path.Base(file)+".o")
		objects = append(objects, object)
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = command(ctx, c.path, append(slices.Clone(flags), filepath.Join(dir, file), "-o", object)...)
		})
	}
	all.Wait()
	return objects, errors.Join(errs...)
}

// command runs one whose output is of interest only if it fails.
func command(ctx context.Context, name string, arguments ...string) error {
	if out, err := exec.CommandContext(ctx, name, arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, arguments[len(arguments)-1], err, out)
	}
	return nil
}
