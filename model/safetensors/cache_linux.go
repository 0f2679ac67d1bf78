//go:build amd64 || arm64

package safetensors

import (
	"os"
	"syscall"
	"unsafe"
)

// cached reports whether most of a mapping is in the system's cache. When it cannot be told, it is.
func cached(content []byte) bool {
	page := os.Getpagesize()
	pages := make([]byte, (len(content)+page-1)/page)
	_, _, failed := syscall.Syscall(syscall.SYS_MINCORE, uintptr(unsafe.Pointer(unsafe.SliceData(content))),
		uintptr(len(content)), uintptr(unsafe.Pointer(unsafe.SliceData(pages))))
	there := 0
	for _, p := range pages {
		there += int(p & 1)
	}
	return failed != 0 || 2*there > len(pages)
}

// uncache tells the system that it need not keep length bytes of f from offset on. It is a hint, and refusal no error.
// The system keeps a file in pieces, aligned and of up to 2 MB, and forgets only whole ones: the range begins where a
// piece does, so that one that an earlier range ended in goes too.
func uncache(f *os.File, offset, length int) {
	const (
		piece    = 2 << 20
		dontNeed = 4 // POSIX_FADV_DONTNEED
	)
	start := offset / piece * piece
	_, _, _ = syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), uintptr(start), uintptr(offset+length-start), dontNeed, 0, 0)
}
