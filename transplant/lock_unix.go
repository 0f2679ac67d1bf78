//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package transplant

import (
	"os"
	"syscall"
)

// lock keeps other processes from writing to the same run until f is closed.
func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
