//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package atomicfile

import "os"

// Lock does nothing where the standard library offers no lock.
func Lock(*os.File) error { return nil }
