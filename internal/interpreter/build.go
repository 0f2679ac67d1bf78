package interpreter

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

//go:embed plugin
var sources embed.FS

// ErrNoCompiler says that this machine has nothing to compile C++ with.
var ErrNoCompiler = errors.New("no C++ compiler (c++ or g++)")

// Build compiles the plugin into dir and returns its absolute path. name becomes part of the file's, and go-xla takes a
// plugin with cuda in its path for NVIDIA's. It takes some ten seconds; without a compiler the error is ErrNoCompiler.
func Build(ctx context.Context, dir, name string) (string, error) {
	compiler, err := exec.LookPath("c++")
	if err != nil {
		compiler, err = exec.LookPath("g++")
	}
	if err != nil {
		return "", ErrNoCompiler
	}
	goXLA, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/gomlx/go-xla").Output()
	if err != nil {
		return "", fmt.Errorf("the directory of go-xla, whose pjrt_c_api.h the plugin is compiled against: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	header := "-I" + filepath.Join(strings.TrimSpace(string(goXLA)), "pjrt")
	objects, err := compileAll(ctx, compiler, dir, header)
	if err != nil {
		return "", err
	}
	library := filepath.Join(dir, "pjrt_c_api_"+name+"_plugin.so")
	return library, command(ctx, compiler, append([]string{"-shared", "-o", library}, objects...)...)
}

// compileAll unpacks the sources and compiles each file, as many at a time as there are cores.
func compileAll(ctx context.Context, compiler, dir, header string) (objects []string, err error) {
	if err := os.CopyFS(dir, sources); err != nil {
		return nil, err
	}
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
			errs[i] = command(ctx, compiler, "-std=c++17", "-O2", "-march=native", "-ffp-contract=off", "-fPIC",
				"-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", header, "-c", filepath.Join(dir, file), "-o", object)
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
