//go:build cgo

package program

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"gotransplant/internal/guard"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/go-xla/compute/xla" // the backend "xla"
	"github.com/gomlx/go-xla/installer"
	"github.com/gomlx/gomlx/core/graph"
)

// openXLA finds the plugin, checks what it needs, opens it, runs a small program on the device, and describes it on w.
func openXLA(config string, w io.Writer) (compute.Backend, error) {
	xla.EnableAutoInstall(false)
	c := parseXLA(config)
	path, err := processPlaces().find(c.plugin)
	if err != nil {
		return nil, err
	}
	device, err := checkCUDA(path)
	if err != nil {
		return nil, err
	}
	version, err := checkPlugin(path)
	if err != nil {
		return nil, err
	}
	backend, err := newBackend(c.resolved(path))
	if err != nil {
		return nil, explainOpen(path, err)
	}
	if backend.NumDevices() == 0 {
		backend.Finalize()
		return nil, fmt.Errorf("%s has no device: CUDA_VISIBLE_DEVICES or visible_devices may hide it", path)
	}
	if err := tryOut(backend); err != nil {
		backend.Finalize()
		return nil, explainOpen(path, err)
	}
	name := backend.DeviceDescription(0)
	fmt.Fprintf(w, "device   %s%s; %d in all; %s, %s\n", device, name, backend.NumDevices(), path, version)
	if !namesCUDA(path) && strings.Contains(strings.ToLower(name), "cuda") {
		fmt.Fprintf(w, "note     go-xla takes a plugin for CUDA's by its path: without cuda in it there is no fused attention, and "+
			"memory is allocated ahead; make a link beside it, such as ln -s %s %s, and name that\n",
			filepath.Base(path), filepath.Join(filepath.Dir(path), "xla_cuda_plugin.so"))
	}
	return backend, nil
}

// checkCUDA looks for what a plugin for CUDA needs from the system, if path is one, and describes the device for people,
// to be followed by what the plugin calls it.
func checkCUDA(path string) (device string, err error) {
	if !namesCUDA(path) {
		return "", nil
	}
	if device, err = systemCUDA().check(path); err != nil {
		return "", err
	}
	memory := deviceMemory()
	if free, ok := mostFree(memory); ok && free < leastFree {
		return "", fmt.Errorf("no device has the %d MiB free that CUDA and its libraries alone take: %s; end what else runs "+
			"there", leastFree, memory)
	}
	// go-xla warns of a missing directory nvidia where its own installation has it; wheels have it elsewhere.
	if _, err := os.Stat(filepath.Join(filepath.Dir(filepath.Dir(path)), "nvidia")); err != nil && os.Getenv(checksVariable) == "" {
		os.Setenv(checksVariable, "0")
	}
	return device + "; ", nil
}

// checksVariable turns go-xla's own checks off.
const checksVariable = "GOPJRT_CUDA_CHECKS"

// tryOut compiles and runs a product and cosines, which CUDA has in a library of its own, so that what the plugin loads only
// then is missed before the model is read.
func tryOut(backend compute.Backend) error {
	return guard.Do("run a first program", func() error {
		program, err := graph.NewExec(backend, func(x *graph.Node) *graph.Node {
			zeros := graph.ConvertDType(graph.AddScalar(x, -1), dtypes.Float64)
			ones := graph.ConvertDType(graph.Cos(zeros), x.DType())
			return graph.ReduceAllSum(graph.Dot(x, ones).Product()) // [16, 16]
		})
		if err != nil {
			return err
		}
		defer program.Finalize()
		ones := make([][]float32, 16)
		for i := range ones {
			ones[i] = make([]float32, 16)
			for j := range ones[i] {
				ones[i][j] = 1
			}
		}
		out, err := program.Call(ones)
		if err != nil {
			return err
		}
		defer out[0].MustFinalizeAll()
		if got := out[0].Value().(float32); got != 16*16*16 {
			return fmt.Errorf("a sum of 16 x 16 x 16 ones is %v on this device", got)
		}
		return nil
	})
}

// explainOpen adds to an error of the plugin what can be done about it.
func explainOpen(path string, err error) error {
	if missing := lacking.FindString(err.Error()); missing != "" {
		return fmt.Errorf("%w (%w)", explainLoad(path, missing), err)
	}
	text := strings.ToLower(err.Error())
	for _, h := range hints() {
		for _, sign := range h.signs {
			if strings.Contains(text, sign) {
				return fmt.Errorf("%s (%w)", h.advice(path), err)
			}
		}
	}
	return err
}

// explainFused is explainOpen for an error of the fused kernel on a --backend.
func explainFused(spec string, err error) error {
	_, config, _ := strings.Cut(spec, ":")
	path, lost := processPlaces().find(parseXLA(config).plugin)
	if lost != nil {
		return err
	}
	return explainOpen(path, err)
}

// hint is advice for errors in whose text, in small letters, one of the signs is.
type hint struct {
	signs  []string
	advice func(path string) string
}

func hints() []hint {
	own := apiVersion{0, builtForMinor}
	return []hint{
		{[]string{"resource_exhausted", "out_of_memory", "out of memory"}, func(string) string {
			return "the device has too little free memory even to start: " + deviceMemory() +
				"; end what else runs on it, or choose another device with the option visible_devices"
		}},
		{[]string{"cudnn", "dnn library", "dnn_support"}, func(path string) string {
			return "cuDNN does not work: pip install nvidia-cudnn-cu13 (for CUDA 12: nvidia-cudnn-cu12) beside the plugin, or put " +
				"the directory of " + cuDNN + " into LD_LIBRARY_PATH" + found(path, cuDNN)
		}},
		{[]string{"size: expected", "struct size", "installed software versions"}, func(string) string {
			return fmt.Sprintf("the plugin is of another PJRT version than the %s that this program was built for: take one "+
				"nearer to it", own)
		}},
		{[]string{"unimplemented", "stablehlo"}, func(string) string {
			return fmt.Sprintf("the plugin may be older than the PJRT API %s that this program was built for", own)
		}},
		{[]string{"ptxas", "libdevice"}, func(string) string {
			return "XLA needs CUDA's ptxas and libdevice: pip install nvidia-cuda-nvcc, or set " +
				"XLA_FLAGS=--xla_gpu_cuda_data_dir to a directory with bin/ptxas and nvvm/libdevice"
		}},
	}
}

// leastFree is what a context with cuBLAS and cuDNN takes before any tensor, in MiB, roughly.
const leastFree = 600

// deviceMemory has for each device from nvidia-smi "0, NVIDIA H200, 143000 MiB, 143771 MiB": what is free, and all.
func deviceMemory() string {
	query := "--query-gpu=index,name,memory.free,memory.total"
	out, err := exec.Command("nvidia-smi", query, "--format=csv,noheader").Output()
	if err != nil {
		return "nvidia-smi, which could tell how much, does not run"
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return strings.Join(lines, "; ")
}

// mostFree reads the largest of the free memories, in MiB, from what deviceMemory says.
func mostFree(devices string) (mib int, ok bool) {
	for device := range strings.SplitSeq(devices, "; ") {
		fields := strings.Split(device, ", ")
		if len(fields) < 4 {
			continue
		}
		var free int
		if _, err := fmt.Sscanf(fields[len(fields)-2], "%d MiB", &free); err == nil {
			mib, ok = max(mib, free), true
		}
	}
	return mib, ok
}

// installPlugin downloads the plugin of a --backend into the directories where it is looked for. CUDA's needs a GPU to be
// there; it comes with NVIDIA's libraries.
func installPlugin(spec string) error {
	config, isXLA := strings.CutPrefix(spec, "xla")
	if !isXLA {
		return fmt.Errorf("only xla has plugins")
	}
	plugin := parseXLA(strings.TrimPrefix(config, ":")).plugin
	if strings.ContainsRune(plugin, filepath.Separator) {
		return fmt.Errorf("it installs plugins by name, xla:cuda or xla:cpu; %s is a file", plugin)
	}
	if plugin == "cuda" {
		return installCUDA()
	}
	return installer.AutoInstall("", true, installer.Quiet)
}
