package program

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"gotransplant/internal/panel"
	"gotransplant/internal/setup"
)

// Capacity finds out how much memory a run may take: what --device-memory says; on the Go backend the limit of the
// process, which OpenBackend has set; on CUDA the share that XLA allocates of the smallest device
// that is visible.
func Capacity(s setup.Settings) setup.Capacity {
	switch {
	case s.DeviceMemory > 0:
		return setup.Capacity{Bytes: int64(s.DeviceMemory * 1e9), Source: "--device-memory"}
	case strings.HasPrefix(s.Backend, "go"):
		if limit := panel.MemoryLimit(); limit < math.MaxInt64 {
			return setup.Capacity{Bytes: limit, Source: "the process's limit: GOMEMLIMIT, or nine tenths of the machine's or its container's memory"}
		}
	case strings.Contains(s.Backend, "cuda"):
		if total := smallest(visibleGPUs(s.Backend)); total > 0 {
			share := memoryFraction(s.Backend)
			return setup.Capacity{Bytes: int64(share * float64(total<<20)),
				Source: fmt.Sprintf("%v of the %d MiB that nvidia-smi says of the smallest visible device, see memory_fraction", share, total)}
		}
	}
	return setup.Capacity{Source: "give --device-memory to have it checked"}
}

// gpu is a device as nvidia-smi lists it.
type gpu struct {
	uuid string
	mib  int64 // all its memory; 0: not told
}

// visibleGPUs are the devices that XLA sees: of what nvidia-smi lists those in CUDA_VISIBLE_DEVICES, and of these, numbered
// anew, those of the option visible_devices.
func visibleGPUs(backend string) []gpu {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "nvidia-smi", "--query-gpu=uuid,memory.total", "--format=csv,noheader,nounits").Output()
	if err != nil {
		return nil
	}
	var all []gpu
	for line := range strings.Lines(string(out)) {
		uuid, total, _ := strings.Cut(line, ",")
		mib, _ := strconv.ParseInt(strings.TrimSpace(total), 10, 64) // "[N/A]" is 0
		all = append(all, gpu{uuid: strings.TrimSpace(uuid), mib: mib})
	}
	if names, ok := os.LookupEnv("CUDA_VISIBLE_DEVICES"); ok {
		all = named(all, strings.Split(names, ","))
	}
	if names := backendOption(backend, "visible_devices"); names != "" {
		all = named(all, strings.Split(names, ";"))
	}
	return all
}

// named are the devices with these numbers, or beginnings of a UUID, up to the first name that is none, as in CUDA.
func named(all []gpu, names []string) (chosen []gpu) {
	for _, name := range names {
		name = strings.TrimSpace(name)
		i, err := strconv.Atoi(name)
		if err != nil && name != "" {
			i = slices.IndexFunc(all, func(g gpu) bool { return strings.HasPrefix(g.uuid, name) })
		}
		if name == "" || i < 0 || i >= len(all) {
			break
		}
		chosen = append(chosen, all[i])
	}
	return chosen
}

// smallest is the least memory that a device has, in MiB, and 0 if none tells.
func smallest(devices []gpu) (least int64) {
	for _, g := range devices {
		if g.mib > 0 && (least == 0 || g.mib < least) {
			least = g.mib
		}
	}
	return least
}

// memoryFraction is the share of a device that XLA's allocator takes at most: the option of that name in a --backend, or
// XLA's default.
func memoryFraction(backend string) float64 {
	if share, err := strconv.ParseFloat(backendOption(backend, "memory_fraction"), 64); err == nil && share > 0 && share <= 1 {
		return share
	}
	return 0.75
}

// backendOption is what a --backend gives an option, or nothing.
func backendOption(backend, name string) string {
	for option := range strings.SplitSeq(backend, ",") {
		if text, ok := strings.CutPrefix(option, name+"="); ok {
			return text
		}
	}
	return ""
}
