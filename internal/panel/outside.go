package panel

import (
	"math"
	"runtime"
	"runtime/debug"
	"sync"
	"unsafe"
)

// Large weights lie outside of Go's heap, in memory of their own that may have huge pages: writing a model's weights for the first
// time takes a fault for every page, and a collector that does not see them does not let the heap grow to twice their size. (Huge
// pages within Go's heap made steps up to twice as slow: docs/performance.md, "Loading".) A weight's memory is given back some time
// after nobody holds the weight any more; whoever reads or writes it must keep the weight alive until the end (alive).

// leastOutside is the size in bytes from which on values lie outside of the heap: that of a huge page.
const leastOutside = 2 << 20

// outside are books of what lies there.
var outside struct {
	sync.Mutex
	bytes    int64
	withheld int64 // of them, what the memory limit of the process was lowered by
}

// Outside is how much memory weights take outside of Go's heap, in bytes, and by how much the limit of the process's memory
// (debug.SetMemoryLimit) has been lowered for it.
func Outside() (bytes, withheld int64) {
	outside.Lock()
	defer outside.Unlock()
	return outside.bytes, outside.withheld
}

// count enters n bytes into the books, or takes them out if n is negative. The limit of the process is one for both kinds of
// memory, but Go's runtime counts its own alone.
func count(n int64) {
	outside.Lock()
	defer outside.Unlock()
	outside.bytes += n
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 { // there is none
		outside.withheld = 0
		return
	}
	change := min(max(n, -outside.withheld), limit)
	debug.SetMemoryLimit(limit - change)
	outside.withheld += change
}

// roomFor makes n zeros for w, which live as long as w does.
func roomFor[T byte | uint16 | float32](w *Weight, n int) []T {
	var one T
	size := n * int(unsafe.Sizeof(one))
	if size < leastOutside {
		return make([]T, n)
	}
	memory, free := pages(size)
	if memory == nil {
		return make([]T, n)
	}
	count(int64(size))
	runtime.AddCleanup(w, func(size int64) {
		free()
		count(-size)
	}, int64(size))
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(memory))), n)
}

// alive keeps w's memory until it is called: to be deferred by what reads or writes the values of w.
func (w *Weight) alive() { runtime.KeepAlive(w) }
