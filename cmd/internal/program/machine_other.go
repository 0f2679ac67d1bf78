//go:build !linux && !darwin

package program

// machineMemory is 0: on this system it is unknown.
func machineMemory() int64 { return 0 }
