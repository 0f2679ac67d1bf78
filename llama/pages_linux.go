package llama

import (
	"os"
	"syscall"
	"unsafe"
)

// hugePages asks the system to back bytes, which nobody has touched yet, with large pages: filling them takes one page
// fault for 2 MB and not one for 4 KB. It is a hint, and refusal no error.
func hugePages(bytes []byte) {
	const enough = 4 << 20
	if len(bytes) < enough {
		return
	}
	page := uintptr(os.Getpagesize())
	start := uintptr(unsafe.Pointer(unsafe.SliceData(bytes)))
	skip := -start % page
	whole := (uintptr(len(bytes)) - skip) &^ (page - 1)
	_ = syscall.Madvise(bytes[skip:skip+whole], syscall.MADV_HUGEPAGE)
}
