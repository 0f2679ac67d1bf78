package safetensors

import "syscall"

// forget has the system drop the pages of a mapping from this process; they are read again if they are used again.
func forget(content []byte) error { return syscall.Madvise(content, syscall.MADV_DONTNEED) }
