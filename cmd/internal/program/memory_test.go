package program

import (
	"math"
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

// TestSmallestMiB: what nvidia-smi prints, a line for each device.
func TestSmallestMiB(t *testing.T) {
	for text, want := range map[string]int64{"24564\n": 24564, "143771\n81559\n": 81559, "": 0, "[N/A]\n": 0, "[N/A]\n512\n": 512} {
		if got := smallestMiB(text); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
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
