package program

import (
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// memoryIn is the least of what Linux says below root: the machine's memory and, where control groups limit that of this
// process, as in a container, their limits, in bytes. 0 if it says nothing.
func memoryIn(root fs.FS) int64 {
	least := int64(0)
	for _, n := range append(groupLimits(root), totalMemory(root)) {
		if n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}

// totalMemory is MemTotal of /proc/meminfo.
func totalMemory(root fs.FS) int64 {
	text, _ := fs.ReadFile(root, "proc/meminfo")
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "MemTotal:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			return kib * 1024
		}
	}
	return 0
}

// groupLimits are those of the process's group and of all above it, in either version of control groups (cgroups(7)). In a
// container the path may be the host's, of which only the uppermost group is there.
func groupLimits(root fs.FS) (limits []int64) {
	text, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3) // hierarchy, controllers, path
		if len(fields) < 3 {
			continue
		}
		dir, file := "sys/fs/cgroup", "memory.max"
		if fields[1] != "" { // version 1
			if !slices.Contains(strings.Split(fields[1], ","), "memory") {
				continue
			}
			dir, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		for group := path.Join("/", fields[2]); ; group = path.Dir(group) {
			text, _ := fs.ReadFile(root, path.Join(dir, group, file))
			limit, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64) // "max" is none
			limits = append(limits, limit)
			if group == "/" {
				break
			}
		}
	}
	return limits
}
