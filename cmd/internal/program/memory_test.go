package program

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"

	"gotransplant/internal/panel"
	"gotransplant/internal/setup"
)

// TestCapacity: a flag rules; the Go backend has the limit of the process.
func TestCapacity(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(5e9))
	cases := []struct {
		name    string
		backend string
		flag    float64
		limit   int64
		want    int64
	}{
		{"flag", "go", 1.5, 5e9, 1.5e9},
		{"flag on a device", "xla:cuda", 24, 5e9, 24e9},
		{"limit", "go:parallelism=-1", 0, 5e9, 5e9},
		{"no limit", "go", 0, math.MaxInt64, 0},
		{"another device", "xla:cpu", 0, 5e9, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			debug.SetMemoryLimit(c.limit)
			got := Capacity(setup.Settings{Backend: c.backend, DeviceMemory: c.flag})
			if got.Bytes != c.want || got.Source == "" {
				t.Errorf("got %+v, want %d bytes and a source", got, c.want)
			}
		})
	}
}

// TestLimitMemory: GOMEMLIMIT rules, and without it there is a limit where the machine's memory is known.
func TestLimitMemory(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(5e9))
	t.Setenv("GOMEMLIMIT", "5GB")
	if limitMemory(); debug.SetMemoryLimit(-1) != 5e9 {
		t.Errorf("with GOMEMLIMIT: got a limit of %d bytes, want the 5e9 there were", debug.SetMemoryLimit(-1))
	}
	t.Setenv("GOMEMLIMIT", "")
	want := int64(5e9)
	if all := machineMemory(); all > 0 {
		want = all / 10 * 9
	}
	if limitMemory(); debug.SetMemoryLimit(-1) != want {
		t.Errorf("without: got a limit of %d bytes, want %d", debug.SetMemoryLimit(-1), want)
	}
}

// TestCapacityCountsWeights: what large weights take outside of Go's heap is taken from the limit that Go's runtime goes by, and not
// from the capacity, of which a plan takes them itself.
func TestCapacityCountsWeights(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(5e9))
	w := panel.NewZeros(1024, 4096, false)
	if got := Capacity(setup.Settings{Backend: "go"}); got.Bytes != 5e9 {
		t.Errorf("beside a weight of %d bytes, %d of them outside of the heap: got %+v, want 5e9 bytes", w.Bytes(), panel.Outside(), got)
	}
	runtime.KeepAlive(w)
}

// TestCapacityOfVisibleDevices: of what nvidia-smi lists, the smallest device that XLA is to see. Numbers in visible_devices
// are those among the devices that CUDA_VISIBLE_DEVICES leaves.
func TestCapacityOfVisibleDevices(t *testing.T) {
	const three = "GPU-5ab1, 81559\nGPU-77c0, 24564\nGPU-5af2, 143771\n"
	const unset = "(unset)"
	cases := []struct {
		name, listed, environment, options string
		want                               int64 // MiB
	}{
		{"all", three, unset, "", 24564},
		{"one", three, unset, ",visible_devices=2", 143771},
		{"two", three, unset, ",tf32=true,visible_devices=2;0", 81559},
		{"a number that is none", three, unset, ",visible_devices=3", 0},
		{"by CUDA's numbers", three, "0,2", "", 81559},
		{"by both", three, "0,2", ",visible_devices=1", 143771},
		{"by UUID", three, "GPU-5af,GPU-5ab1", "", 81559},
		{"up to one that is none", three, "2,7,1", "", 143771},
		{"a part of a device", three, "MIG-5ab1", "", 0},
		{"hidden", three, "", "", 0},
		{"one that does not tell", "GPU-1, 512\nGPU-2, [N/A]\n", unset, "", 512},
		{"none that tells", "GPU-1, [N/A]\n", unset, "", 0},
		{"none", "", unset, "", 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			script := "#!/bin/sh\n[ \"$1\" = --query-gpu=uuid,memory.total ] || exit 1\ncat <<'END'\n" + c.listed + "END\n"
			if err := os.WriteFile(filepath.Join(dir, "nvidia-smi"), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
			t.Setenv("CUDA_VISIBLE_DEVICES", c.environment) // which puts it back at the end
			if c.environment == unset {
				os.Unsetenv("CUDA_VISIBLE_DEVICES")
			}
			got := Capacity(setup.Settings{Backend: "xla:cuda,memory_fraction=0.5" + c.options})
			if want := c.want << 20 / 2; got.Bytes != want || got.Source == "" {
				t.Errorf("got %+v, want %d bytes and a source", got, want)
			}
			if got := Capacity(setup.Settings{Backend: "xla:cpu"}); got.Bytes != 0 {
				t.Errorf("on another device: got %+v, want no bytes of these", got)
			}
		})
	}
}

// TestMemoryFraction: the option of the backend, or XLA's default.
func TestMemoryFraction(t *testing.T) {
	for backend, want := range map[string]float64{"xla:cuda": 0.75, "xla:cuda,memory_fraction=0.9": 0.9,
		"xla:/p,tf32=true,memory_fraction=.5": 0.5, "xla:cuda,memory_fraction=7": 0.75} {
		if got := memoryFraction(backend); got != want {
			t.Errorf("%s: got %v, want %v", backend, got, want)
		}
	}
}
