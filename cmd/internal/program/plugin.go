package program

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// xlaConfig is what follows "xla:" in --backend: a plugin by name or path, and options.
type xlaConfig struct {
	plugin  string
	options []string // "name=value", or a bare name
}

// parseXLA reads "plugin[,option=value...]". No plugin stands for cuda.
func parseXLA(config string) xlaConfig {
	plugin, options, _ := strings.Cut(config, ",")
	if plugin == "" {
		plugin = "cuda"
	}
	c := xlaConfig{plugin: plugin}
	for option := range strings.SplitSeq(options, ",") {
		if option != "" {
			c.options = append(c.options, option)
		}
	}
	return c
}

// has says whether an option was given, with a value, bare, or as "no" and its name.
func (c xlaConfig) has(name string) bool {
	for _, o := range c.options {
		given, _, _ := strings.Cut(o, "=")
		if given == name || given == "no"+name {
			return true
		}
	}
	return false
}

// resolved is the configuration that go-xla gets for the plugin at path. Products of float32 are products of float32:
// TensorFloat-32, go-xla's default on CUDA, keeps 10 bits of their factors' fractions.
func (c xlaConfig) resolved(path string) string {
	options := c.options
	if !c.has("tf32") {
		options = append(options[:len(options):len(options)], "tf32=false")
	}
	return strings.Join(append([]string{"xla:" + path}, options...), ",")
}

// namesCUDA is go-xla's rule for what belongs to CUDA, which it applies to the path of a plugin.
func namesCUDA(path string) bool {
	path = strings.ToLower(path)
	return strings.Contains(path, "cuda") || strings.Contains(path, "nvidia")
}

// places are where a plugin may lie: home and getenv as the process sees them, root is "/".
type places struct {
	home, root string
	getenv     func(string) string
}

func processPlaces() places {
	home, _ := os.UserHomeDir() // without one there is nothing to look through
	return places{home, "/", os.Getenv}
}

// pluginDirs are go-xla's own directories for plugins, or those of PJRT_PLUGIN_LIBRARY_PATH, which replaces them.
func (p places) pluginDirs() []string {
	if list := p.getenv("PJRT_PLUGIN_LIBRARY_PATH"); list != "" {
		return filepath.SplitList(list)
	}
	var dirs []string
	if p.home != "" {
		dirs = append(dirs, filepath.Join(p.home, ".local/lib/go-xla"), filepath.Join(p.home, ".local/lib/go-xla/nvidia"),
			filepath.Join(p.home, "Library/Application Support/go-xla"))
	}
	dirs = append(dirs, filepath.Join(p.root, "usr/local/lib/go-xla"), filepath.Join(p.root, "usr/local/lib/go-xla/nvidia"))
	for _, dir := range filepath.SplitList(p.getenv("LD_LIBRARY_PATH")) {
		if filepath.IsAbs(dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// pythonDirs are directories of Python packages: of the active environment first.
func (p places) pythonDirs() []string {
	var patterns []string
	for _, variable := range []string{"VIRTUAL_ENV", "CONDA_PREFIX"} {
		if env := p.getenv(variable); env != "" {
			patterns = append(patterns, filepath.Join(env, "lib/python3*/site-packages"))
		}
	}
	if p.home != "" {
		patterns = append(patterns, filepath.Join(p.home, ".local/lib/python3*/site-packages"))
	}
	patterns = append(patterns, filepath.Join(p.root, "usr/local/lib/python3*/dist-packages"),
		filepath.Join(p.root, "usr/local/lib/python3*/site-packages"), filepath.Join(p.root, "usr/lib/python3*/site-packages"))
	var dirs []string
	for _, pattern := range patterns {
		found, _ := filepath.Glob(pattern) // the only error is a bad pattern
		dirs = append(dirs, found...)
	}
	return dirs
}

// find is the path of a plugin given by name or path.
func (p places) find(plugin string) (string, error) {
	if strings.ContainsRune(plugin, filepath.Separator) {
		return existing(plugin)
	}
	for _, dir := range p.pluginDirs() {
		for _, pattern := range []string{"pjrt_c_api_%s_plugin.so", "pjrt-plugin-%s.so", "pjrt_plugin_%s.so",
			"pjrt_c_api_%s_plugin.dylib", "pjrt_c_api_%s_v*_plugin.so", "pjrt_c_api_%s_v*_plugin.dylib"} {
			found, _ := filepath.Glob(filepath.Join(dir, fmt.Sprintf(pattern, plugin)))
			if len(found) > 0 {
				return found[len(found)-1], nil
			}
		}
	}
	looked := strings.Join(p.pluginDirs(), ", ")
	if plugin == "cuda" {
		for _, dir := range p.pythonDirs() {
			found, _ := filepath.Glob(filepath.Join(dir, "jax_plugins/xla_cuda*/xla_cuda_plugin.so"))
			if len(found) > 0 {
				return found[len(found)-1], nil // of several CUDA versions the newest
			}
		}
		looked += ", and for JAX's wheel in " + strings.Join(p.pythonDirs(), ", ")
	}
	return "", fmt.Errorf("no PJRT plugin %q (pjrt_c_api_%[1]s_plugin.so) in %s; %s", plugin, looked, howToGet(plugin))
}

// existing is the absolute path of a plugin file that is there.
func existing(plugin string) (string, error) {
	path, err := filepath.Abs(plugin)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w; %s", err, howToGet("cuda"))
	case info.IsDir():
		return "", fmt.Errorf("%s is a directory: name the plugin's file in it", path)
	}
	return path, nil
}

func howToGet(plugin string) string {
	if plugin == "cuda" {
		return "pip install \"jax[cuda13]\" brings one, jax_plugins/xla_cuda13/xla_cuda_plugin.so, to be named by its absolute " +
			"path (--backend xla:/path/to/xla_cuda_plugin.so); or --backend xla:cuda --install-plugin downloads it"
	}
	return "add --install-plugin, which downloads the usual ones, or name the file by its absolute path " +
		"(--backend xla:/path/to/plugin.so)"
}

// aroundPlugin are the directories in which libraries of NVIDIA lie beside a plugin: those that pip makes for the wheels
// of CUDA 13 (nvidia/cu13/lib) and of CUDA 12 (nvidia/cublas/lib and so on), and those of go-xla's installation.
func aroundPlugin(path string) []string {
	var dirs []string
	for _, nvidia := range []string{"../../nvidia", "../nvidia", "."} {
		found, _ := filepath.Glob(filepath.Join(filepath.Dir(path), nvidia, "*", "lib"))
		dirs = append(dirs, found...)
	}
	return dirs
}

// lacking finds the name of a shared library in the loader's message that it cannot be opened.
var lacking = regexp.MustCompile(`([\w.+-]+\.so[\w.]*): cannot open shared object file`)

// explainLoad says what to do about a plugin that the loader refused, given the loader's message.
func explainLoad(path, message string) error {
	match := lacking.FindStringSubmatch(message)
	if match == nil || match[1] == filepath.Base(path) {
		return fmt.Errorf("%s cannot be loaded: %s; it must be a PJRT plugin for this system, a shared library", path, message)
	}
	library := match[1]
	for _, dir := range aroundPlugin(path) {
		if _, err := os.Stat(filepath.Join(dir, library)); err == nil {
			return fmt.Errorf("%s cannot be loaded without %s, which lies in %s: start again with LD_LIBRARY_PATH=%[3]s",
				path, library, dir)
		}
	}
	return fmt.Errorf("%s cannot be loaded: %s; install what holds %s (%s) and put its directory into LD_LIBRARY_PATH",
		path, message, library, holder(library))
}

// holder names the pip package of a library of NVIDIA.
func holder(library string) string {
	for part, pip := range map[string]string{
		"cudnn": "nvidia-cudnn-cu13", "cublas": "nvidia-cublas", "cudart": "nvidia-cuda-runtime",
		"cusolver": "nvidia-cusolver", "cusparse": "nvidia-cusparse", "cufft": "nvidia-cufft",
		"nccl": "nvidia-nccl-cu13", "nvJitLink": "nvidia-nvjitlink", "cupti": "nvidia-cuda-cupti",
	} {
		if strings.Contains(library, part) {
			return "pip install " + pip
		}
	}
	return "ldd on the plugin lists what it needs"
}
