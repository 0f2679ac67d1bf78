package panel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// pages are size bytes of zeros of the system's, in huge pages where there are any, and what gives them back; nil if the system
// has none to give.
func pages(size int) (memory []byte, free func()) {
	const huge = 2 << 20 // bytes, where processors with these kernels have pages of 4 KiB beside them
	whole, err := unix.Mmap(-1, 0, size+huge, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, nil
	}
	begin := -uintptr(unsafe.Pointer(unsafe.SliceData(whole))) % huge // a huge page begins at a multiple of its size
	memory = whole[begin:][:size]
	// The rest is for small pages: a huge one would be resident to its end. A kernel without huge pages says so, and nothing is lost.
	_ = unix.Madvise(memory[:size/huge*huge], unix.MADV_HUGEPAGE)
	return memory, func() { _ = unix.Munmap(whole) }
}
