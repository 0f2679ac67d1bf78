//go:build cgo && linux

package program

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gotransplant/internal/interpreter"
	"gotransplant/internal/setup"

	"github.com/gomlx/compute"
)

// compile compiles a C file; arguments say to what.
func compile(t *testing.T, source, out string, arguments ...string) string {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler")
	}
	path := filepath.Join(t.TempDir(), out)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	arguments = append([]string{"-o", path, source}, arguments...)
	if text, err := exec.Command(cc, arguments...).CombinedOutput(); err != nil {
		t.Fatalf("cc %v: %v\n%s", arguments, err, text)
	}
	return path
}

// driver compiles testdata/driver.c to a shared library.
func driver(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	return compile(t, filepath.Join("testdata", "driver.c"), name, append(arguments, "-shared", "-fPIC")...)
}

// plugin compiles testdata/plugin.c to a shared library.
func plugin(t *testing.T, arguments ...string) string {
	t.Helper()
	return againstHeader(t, "p.so", append(arguments, "-shared", "-fPIC")...)
}

// againstHeader compiles testdata/plugin.c with go-xla's header.
func againstHeader(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/gomlx/go-xla").Output()
	if err != nil {
		t.Skipf("go list does not find go-xla: %v", err)
	}
	header := "-I" + filepath.Join(strings.TrimSpace(string(dir)), "pjrt")
	return compile(t, filepath.Join("testdata", "plugin.c"), name, append(arguments, header)...)
}

// TestConstantsAreThoseOfTheHeader: what go-xla was built for and what it calls, by its own header.
func TestConstantsAreThoseOfTheHeader(t *testing.T) {
	got, err := exec.Command(againstHeader(t, "p", "-DMAJOR=0", "-DMINOR=1")).Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%d %d", builtForMinor, neededTable); string(got) != want {
		t.Errorf("the header has minor version and table %q, the constants are %q", got, want)
	}
}

// TestXLAIsRefusedClearly: everything that can be wrong with a plugin ends in an error that names the flag, the file and
// what to do, and never in a crash.
func TestXLAIsRefusedClearly(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text.so")
	if err := os.WriteFile(text, []byte("no library"), 0o644); err != nil {
		t.Fatal(err)
	}
	missing := driver(t, "libcudnn_test.so.9", "-DINIT=0", "-DCOUNT=1", "-DVERSION=0",
		"-Wl,-soname,libcudnn_test.so.9")
	needy := plugin(t, "-DMAJOR=0", "-DMINOR=104", "-Wl,--no-as-needed", missing)
	if err := os.Remove(missing); err != nil {
		t.Fatal(err)
	}
	version := []string{"-DMAJOR=0", "-DMINOR=104"}
	failing := func(message string) string {
		return plugin(t, append(version, "-DMESSAGE="+strconv.Quote(message))...)
	}
	cases := []struct {
		name, path string
		want       []string
	}{
		{"no file", "/no/such/plugin.so", []string{"no such file", "xla_cuda_plugin.so"}},
		{"a directory", t.TempDir(), []string{"is a directory"}},
		{"no library", text, []string{"cannot be loaded", "shared library"}},
		{"no plugin", driver(t, "d.so", "-DINIT=0", "-DCOUNT=1", "-DVERSION=0"), []string{"GetPjrtApi"}},
		{"lacks a library", needy, []string{"libcudnn_test.so.9", "pip install nvidia-cudnn-cu13", "LD_LIBRARY_PATH"}},
		{"other major version", plugin(t, "-DMAJOR=1", "-DMINOR=3"), []string{"1.3", "0.104"}},
		{"too old", plugin(t, "-DMAJOR=0", "-DMINOR=12", "-DTABLE=640"), []string{"0.12", "0.104", "newer plugin"}},
		{"no memory", failing("RESOURCE_EXHAUSTED: CUDA_ERROR_OUT_OF_MEMORY"),
			[]string{"too little free memory", "RESOURCE_EXHAUSTED"}},
		{"cuDNN", failing("FAILED_PRECONDITION: DNN library initialization failed"),
			[]string{"cuDNN", "libcudnn.so.9", "DNN library"}},
		{"struct sizes", failing("Unexpected PJRT_Client_Create_Args size: expected 104, got 96. Check versions."),
			[]string{"0.104", "expected 104, got 96"}},
		{"anything else", failing("the moon is full"), []string{"the moon is full"}},
		{"unknown option", plugin(t, version...) + ",speed=11", []string{"speed"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := OpenBackend("xla:"+c.path, &bytes.Buffer{})
			if err == nil {
				t.Fatal("got no error")
			}
			for _, part := range append(c.want, "--backend xla:", strings.Split(c.path, ",")[0]) {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %q, want %q in it", err, part)
				}
			}
		})
	}
}

// TestDriverIsChecked: devices, driver, its start, its devices, and its age, in this order.
func TestDriverIsChecked(t *testing.T) {
	there := filepath.Join(t.TempDir(), "nvidia0")
	if err := os.WriteFile(there, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cuda := func(macros ...string) string { return driver(t, "libcuda.so.1", macros...) }
	cases := []struct {
		name   string
		system cudaSystem
		plugin string
		want   string // in the description
		err    string // in the error; "" for none
	}{
		{"no device file", cudaSystem{there + "?*", "libc.so.6"}, "/p.so", "", "--gpus all"},
		{"no driver", cudaSystem{there, "/no/libcuda.so.1"}, "/p.so", "", "driver is not installed"},
		{"another library", cudaSystem{there, "libc.so.6"}, "/p.so", "", "lacks functions"},
		{"does not start", cudaSystem{there, cuda("-DINIT=803", "-DCOUNT=1", "-DVERSION=13000")}, "/p.so", "",
			"803 (CUDA_ERROR_TEST)"},
		{"no device", cudaSystem{there, cuda("-DINIT=0", "-DCOUNT=0", "-DVERSION=13000")}, "/p.so", "", "sees no device"},
		{"old driver", cudaSystem{there, cuda("-DINIT=0", "-DCOUNT=1", "-DVERSION=12040")}, "/xla_cuda13/p.so", "",
			"supports CUDA up to 12.4, the plugin /xla_cuda13/p.so needs CUDA 13"},
		{"all there", cudaSystem{there, cuda("-DINIT=0", "-DCOUNT=2", "-DVERSION=13020")}, "/xla_cuda13/p.so",
			"NVIDIA Test, driver for CUDA 13.2, libcudnn.so.9 not found", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.system.check(c.plugin)
			if (err == nil) != (c.err == "") || !strings.HasPrefix(got, c.want) ||
				err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %q, error %v; want %q, error %q", got, err, c.want, c.err)
			}
		})
	}
}

func TestMostFree(t *testing.T) {
	for text, want := range map[string]int{
		"0, NVIDIA H200, 143000 MiB, 143771 MiB":                                143000,
		"0, NVIDIA A, B, 10 MiB, 143771 MiB; 1, NVIDIA H200, 500 MiB, 1000 MiB": 500,
		"nvidia-smi, which could tell how much, does not run":                   -1,
	} {
		got, ok := mostFree(text)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%s: got %d, want %d", text, got, want)
		}
	}
}

// TestDeviceMemory: a line of nvidia-smi for each device, in one.
func TestDeviceMemory(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\n[ \"$1\" = --query-gpu=index,name,memory.free,memory.total ] && printf '0, A, 1 MiB, 2 MiB\\n1, B, 3 MiB, 4 MiB\\n'\n"
	if err := os.WriteFile(filepath.Join(dir, "nvidia-smi"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if got, want := deviceMemory(), "0, A, 1 MiB, 2 MiB; 1, B, 3 MiB, 4 MiB"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestInstallPluginIsAskedFor: what cannot be installed is refused before anything is downloaded.
func TestInstallPluginIsAskedFor(t *testing.T) {
	for spec, want := range map[string]string{"go": "only xla", "xla:/p.so": "is a file"} {
		if err := installPlugin(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", spec, err, want)
		}
	}
}

// TestOnInterpreter runs tests on a plugin that interprets programs, which takes long to build.
func TestOnInterpreter(t *testing.T) {
	path, err := interpreter.Build(t.Context(), t.TempDir(), "interpreter")
	if errors.Is(err, interpreter.ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Run("opened", func(t *testing.T) { opened(t, path) })
	t.Run("fused is tried", func(t *testing.T) { fusedIsTried(t, path) })
}

// opened: a plugin that works passes all checks, a first program runs on it, and nothing of it is left there.
func opened(t *testing.T, path string) {
	var told bytes.Buffer
	backend, err := OpenBackend("xla:"+path, &told)
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Finalize()
	for _, part := range []string{"device ", "1 in all", path, fmt.Sprintf("PJRT API 0.%d", builtForMinor)} {
		if !strings.Contains(told.String(), part) {
			t.Errorf("told %q, want %q in it", told.String(), part)
		}
	}
	if strings.Count(told.String(), "\n") != 1 {
		t.Errorf("told %q, want the device alone", told.String())
	}
	counts, err := interpreter.CountsOf(backend)
	if err != nil || counts.Programs != 1 || counts.Calls != 1 || counts.Buffers != 0 {
		t.Errorf("the books are %+v, error %v; want one program, one call and no buffers", counts, err)
	}
}

// broken is a backend whose programs do not compile, in the words of an XLA without cuDNN.
type broken struct{ compute.Backend }

func (b broken) Builder(name string) compute.Builder { return brokenBuilder{b.Backend.Builder(name)} }

type brokenBuilder struct{ compute.Builder }

func (brokenBuilder) Compile() (compute.Executable, error) {
	return nil, errors.New("FAILED_PRECONDITION: DNN library initialization failed")
}

// fusedIsTried: before a model is read, where a run may choose fused attention. Where it does not work a run that asks for it
// fails with advice, and another is told once and goes on.
func fusedIsTried(t *testing.T, plugin string) {
	cuda := filepath.Join(t.TempDir(), "pjrt_c_api_cuda_plugin.so") // by its name go-xla knows CUDA's
	if err := os.Symlink(plugin, cuda); err != nil {
		t.Fatal(err)
	}
	t.Setenv(checksVariable, "0")
	whole, err := interpreter.Open(cuda)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Finalize()
	for _, c := range []struct {
		name, dtype, attention string
		backend                compute.Backend
		works                  bool
		programs               int
		refused                string
	}{
		{"works", "bfloat16", "auto", whole, true, 1, ""},
		{"other type", "float32", "auto", whole, true, 0, ""},
		{"other attention", "bfloat16", "plain", broken{whole}, true, 0, ""},
		{"broken", "bfloat16", "auto", broken{whole}, false, 0, ""},
		{"broken and asked for", "bfloat16", "fused", broken{whole}, false, 0, "--attention fused: cuDNN does not work: pip install"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, err := interpreter.CountsOf(whole)
			if err != nil {
				t.Fatal(err)
			}
			var told bytes.Buffer
			works, err := tryFused(setup.Settings{Backend: "xla:" + cuda, DType: c.dtype, Attention: c.attention}, c.backend, &told)
			if works != c.works || (err == nil) != (c.refused == "") || err != nil && !strings.HasPrefix(err.Error(), c.refused) {
				t.Errorf("works: %t, error %v; want %t, error %q", works, err, c.works, c.refused)
			}
			noted := strings.HasPrefix(told.String(), "note ") && strings.Contains(told.String(), "cuDNN does not work: pip install") &&
				strings.Count(told.String(), "\n") == 1
			if want := !c.works && c.refused == ""; noted != want || !want && told.Len() > 0 {
				t.Errorf("told %q; want a line with advice: %t", told.String(), want)
			}
			after, err := interpreter.CountsOf(whole)
			if err != nil || after.Programs-before.Programs != c.programs || after.Buffers != before.Buffers {
				t.Errorf("programs %d and buffers %d more (%v), want %d and none", after.Programs-before.Programs,
					after.Buffers-before.Buffers, err, c.programs)
			}
		})
	}
	s := setup.Defaults()
	s.Backend, s.DType = "xla:"+cuda, "bfloat16"
	for why, backend := range map[string]compute.Backend{"it does not work on this device": broken{whole}, "": whole} {
		o, err := openOn(s, backend, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if got := o.Describe(); strings.Contains(got, "not fused: it does not work") != (why != "") {
			t.Errorf("described as %q, want that it is not fused because %q", got, why)
		}
	}
}

// sines is a backend that takes sines for cosines.
type sines struct{ compute.Backend }

func (s sines) Builder(name string) compute.Builder { return sinesBuilder{s.Backend.Builder(name)} }

type sinesBuilder struct{ compute.Builder }

func (s sinesBuilder) Main() compute.Function { return sinesFunction{s.Builder.Main()} }

type sinesFunction struct{ compute.Function }

func (s sinesFunction) Cos(x compute.Value) (compute.Value, error) { return s.Sin(x) }

// TestTryOut: a device that runs a program and computes something else is found out.
func TestTryOut(t *testing.T) {
	backend, err := newBackend("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tryOut(backend); err != nil {
		t.Errorf("got %v, want that the device works", err)
	}
	if err := tryOut(sines{backend}); err == nil || !strings.Contains(err.Error(), "16 x 16 x 16 ones is 0") {
		t.Errorf("with sines for cosines: got %v, want the sum that it found", err)
	}
}
