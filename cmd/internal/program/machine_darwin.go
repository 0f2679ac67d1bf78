package program

import "golang.org/x/sys/unix"

// machineMemory is the memory, in bytes, that the machine has; 0 if unknown.
func machineMemory() int64 {
	all, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0
	}
	return int64(all)
}
