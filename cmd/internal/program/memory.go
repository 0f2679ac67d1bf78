package program

import (
	"context"
	"fmt"
	"math"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"gotransplant/internal/panel"
	"gotransplant/internal/setup"
)

// Capacity finds out how much memory a run may take: what --device-memory says; on the Go backend the limit of the
// process, which OpenBackend has set; on CUDA the share that XLA allocates of the smallest device.
func Capacity(s setup.Settings) setup.Capacity {
	switch {
	case s.DeviceMemory > 0:
		return setup.Capacity{Bytes: int64(s.DeviceMemory * 1e9), Source: "--device-memory"}
	case strings.HasPrefix(s.Backend, "go"):
		if limit := panel.MemoryLimit(); limit < math.MaxInt64 {
			return setup.Capacity{Bytes: limit, Source: "the process's limit: GOMEMLIMIT, or nine tenths of the machine's or its container's memory"}
		}
	case strings.Contains(s.Backend, "cuda"):
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, "nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits").Output()
		if total := smallestMiB(string(out)); err == nil && total > 0 {
			share := memoryFraction(s.Backend)
			return setup.Capacity{Bytes: int64(share * float64(total<<20)),
				Source: fmt.Sprintf("%v of the %d MiB that nvidia-smi says, see memory_fraction", share, total)}
		}
	}
	return setup.Capacity{Source: "give --device-memory to have it checked"}
}

// smallestMiB is the smallest number among lines of numbers, and 0 if there is none.
func smallestMiB(lines string) (least int64) {
	for line := range strings.Lines(lines) {
		n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if err == nil && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}

// memoryFraction is the share of a device that XLA's allocator takes at most: the option of that name in a --backend, or
// XLA's default.
func memoryFraction(backend string) float64 {
	for option := range strings.SplitSeq(backend, ",") {
		if text, ok := strings.CutPrefix(option, "memory_fraction="); ok {
			if share, err := strconv.ParseFloat(text, 64); err == nil && share > 0 && share <= 1 {
				return share
			}
		}
	}
	return 0.75
}
