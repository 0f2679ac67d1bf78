package program

import "os"

// machineMemory is the memory, in bytes, that the machine has or the container allows; 0 if unknown.
func machineMemory() int64 { return memoryIn(os.DirFS("/")) }
