package program

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseXLA(t *testing.T) {
	for config, want := range map[string]string{
		"":                               "xla:/p,tf32=false",
		"cuda":                           "xla:/p,tf32=false",
		"cuda,preallocate=true":          "xla:/p,preallocate=true,tf32=false",
		"cuda,tf32=true":                 "xla:/p,tf32=true",
		"cuda,notf32,memory_fraction=.5": "xla:/p,notf32,memory_fraction=.5",
		"cuda,,tf32":                     "xla:/p,tf32",
	} {
		c := parseXLA(config)
		if got := c.resolved("/p"); c.plugin != "cuda" || got != want {
			t.Errorf("%q: plugin %q, configuration %q; want cuda and %q", config, c.plugin, got, want)
		}
	}
}

// tree makes files in a new directory, which stands for the root of a system.
func tree(t *testing.T, files ...string) places {
	t.Helper()
	root := t.TempDir()
	for _, f := range files {
		path := filepath.Join(root, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return places{home: filepath.Join(root, "home"), root: root, getenv: func(string) string { return "" }}
}

// TestNoHome: without a home directory nothing is looked for below the working directory.
func TestNoHome(t *testing.T) {
	p := tree(t, "home/.local/lib/python3.12/site-packages/file")
	t.Chdir(p.home)
	p.home = ""
	for _, dir := range append(p.pluginDirs(), p.pythonDirs()...) {
		if !filepath.IsAbs(dir) {
			t.Errorf("%s is looked through", dir)
		}
	}
}

// TestFind: go-xla's directories come before JAX's wheels, the newest CUDA first, and PJRT_PLUGIN_LIBRARY_PATH before both.
func TestFind(t *testing.T) {
	const (
		installed = "home/.local/lib/go-xla/nvidia/pjrt_c_api_cuda_plugin.so"
		wheel12   = "usr/local/lib/python3.12/dist-packages/jax_plugins/xla_cuda12/xla_cuda_plugin.so"
		wheel13   = "usr/local/lib/python3.12/dist-packages/jax_plugins/xla_cuda13/xla_cuda_plugin.so"
		venv      = "venv/lib/python3.11/site-packages/jax_plugins/xla_cuda13/xla_cuda_plugin.so"
		named     = "mine/pjrt-plugin-cuda.so"
		cpu       = "usr/local/lib/go-xla/pjrt_c_api_cpu_v0.114.0_plugin.so"
	)
	cases := []struct {
		name, plugin string
		files        []string
		env          map[string]string // values are below the root
		want         string            // "" for an error
	}{
		{"installed before wheels", "cuda", []string{wheel12, wheel13, installed}, nil, installed},
		{"newest wheel", "cuda", []string{wheel12, wheel13}, nil, wheel13},
		{"active environment", "cuda", []string{wheel13, venv}, map[string]string{"VIRTUAL_ENV": "venv"}, venv},
		{"own directory", "cuda", []string{installed, named}, map[string]string{"PJRT_PLUGIN_LIBRARY_PATH": "mine"}, named},
		{"loader's directory", "cuda", []string{named}, map[string]string{"LD_LIBRARY_PATH": "mine"}, named},
		{"version in the name", "cpu", []string{cpu, wheel13}, nil, cpu},
		{"wheels are CUDA's", "cpu", []string{wheel13}, nil, ""},
		{"nothing", "cuda", nil, nil, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := tree(t, c.files...)
			p.getenv = func(name string) string {
				if c.env[name] == "" {
					return ""
				}
				return filepath.Join(p.root, c.env[name])
			}
			got, err := p.find(c.plugin)
			if c.want == "" {
				for _, part := range []string{c.plugin, "go-xla", "--install-plugin"} {
					if err == nil || !strings.Contains(err.Error(), part) {
						t.Errorf("got %q and error %v, want one with %q in it", got, err, part)
					}
				}
				return
			}
			if err != nil || got != filepath.Join(p.root, c.want) {
				t.Errorf("got %q (%v), want %q", got, err, filepath.Join(p.root, c.want))
			}
		})
	}
}

// TestExplainLoad: the loader's message becomes advice about the library that it misses.
func TestExplainLoad(t *testing.T) {
	p := tree(t, "site/jax_plugins/xla_cuda13/xla_cuda_plugin.so", "site/nvidia/cudnn/lib/libcudnn.so.9")
	path := filepath.Join(p.root, "site/jax_plugins/xla_cuda13/xla_cuda_plugin.so")
	for message, want := range map[string][]string{
		"libcudnn.so.9: cannot open shared object file: No such file or directory": {
			"LD_LIBRARY_PATH=" + filepath.Join(filepath.Dir(path), "../../nvidia/cudnn/lib")},
		"libcublas.so.12: cannot open shared object file: No such file or directory": {
			"libcublas.so.12", "pip install nvidia-cublas", "LD_LIBRARY_PATH"},
		path + ": file too short": {"file too short", "shared library"},
	} {
		err := explainLoad(path, message)
		for _, part := range append(want, path) {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: got %q, want %q in it", message, err, part)
			}
		}
	}
}

func TestCheckVersion(t *testing.T) {
	cases := []struct {
		version apiVersion
		table   int
		want    string // in the description
		err     string // in the error; "" for none
	}{
		{apiVersion{0, builtForMinor}, neededTable, fmt.Sprintf("PJRT API 0.%d", builtForMinor), ""},
		{apiVersion{0, 114}, 2000, fmt.Sprintf("PJRT API 0.114 (built for 0.%d)", builtForMinor), ""},
		{apiVersion{1, 2}, 2000, "", fmt.Sprintf("1.2, this program was built for 0.%d", builtForMinor)},
		{apiVersion{0, 30}, neededTable - 8, "", fmt.Sprintf("0.30, this program was built for 0.%d", builtForMinor)},
	}
	for _, c := range cases {
		got, err := checkVersion("/p", c.version, c.table)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("version %s, table of %d bytes: got %q, error %v; want %q, error %q",
				c.version, c.table, got, err, c.want, c.err)
		}
	}
}

// TestHowToGet: the two ways to a plugin are in the message, whatever is missing.
func TestHowToGet(t *testing.T) {
	for plugin, parts := range map[string][]string{
		"cuda": {"jax[cuda13]", "xla_cuda_plugin.so", "--install-plugin"}, "cpu": {"--install-plugin", "xla:/path"},
	} {
		if text := howToGet(plugin); slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(text, p) }) {
			t.Errorf("%s: got %q, want %q in it", plugin, text, parts)
		}
	}
}
