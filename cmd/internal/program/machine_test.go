package program

import (
	"os"
	"runtime"
	"testing"
	"testing/fstest"
)

// TestMemoryIn: the machine's memory, or less where a control group of either version says so, at the process's own level or
// above it.
func TestMemoryIn(t *testing.T) {
	const meminfo = "MemTotal:       24589312 kB\nMemFree:        100 kB\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"machine", map[string]string{"proc/meminfo": meminfo}, 24589312 * 1024},
		{"nothing", nil, 0},
		{"no total", map[string]string{"proc/meminfo": "MemFree: 1 kB\n"}, 0},
		{"container, version 2", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n",
			"sys/fs/cgroup/memory.max": "4294967296\n"}, 4294967296},
		{"no limit, version 2", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n",
			"sys/fs/cgroup/memory.max": "max\n"}, 24589312 * 1024},
		{"group above", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/user.slice/session.scope\n",
			"sys/fs/cgroup/user.slice/memory.max": "1000\n", "sys/fs/cgroup/user.slice/session.scope/memory.max": "max\n"}, 1000},
		{"own group", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/user.slice/session.scope\n",
			"sys/fs/cgroup/user.slice/memory.max": "3000\n", "sys/fs/cgroup/user.slice/session.scope/memory.max": "2000\n"}, 2000},
		{"container, version 1", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "5:cpu,cpuacct:/docker/12\n4:memory:/docker/12\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "2147483648\n"}, 2147483648},
		{"no limit, version 1", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "4:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 24589312 * 1024},
		{"a line that is cut off", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0:\n0::/\n",
			"sys/fs/cgroup/memory.max": "5000\n"}, 5000},
		{"another controller", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "4:cpuset:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "7\n"}, 24589312 * 1024},
	} {
		root := fstest.MapFS{}
		for name, text := range c.files {
			root[name] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := memoryIn(root); got != c.want {
			t.Errorf("%s: got %d bytes, want %d", c.name, got, c.want)
		}
	}
}

// TestMachineMemory: of this machine something is known where there is a way to ask.
func TestMachineMemory(t *testing.T) {
	got := machineMemory()
	if known := runtime.GOOS == "linux" || runtime.GOOS == "darwin"; (got > int64(os.Getpagesize())) != known {
		t.Errorf("on %s: got %d bytes", runtime.GOOS, got)
	}
}
