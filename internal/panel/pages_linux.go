package panel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of a huge page, and what its address is a multiple of, on the processors that Linux has such pages for.
const hugePage = 2 << 20

// inHugePages asks that s, which was just made and not yet written, get huge pages when it is: writing a whole model's weights
// for the first time takes a fault for every page. Where there are none all goes on as before.
func inHugePages[T byte | uint16 | float32](s []T) []T {
	start := unsafe.Pointer(unsafe.SliceData(s))
	bytes := unsafe.Slice((*byte)(start), len(s)*int(unsafe.Sizeof(s[0])))
	from, to := -uintptr(start)%hugePage, uintptr(len(bytes))
	to -= min(to, (uintptr(start)+to)%hugePage)
	if from < to {
		_ = unix.Madvise(bytes[from:to], unix.MADV_HUGEPAGE) // only advice
	}
	return s
}
