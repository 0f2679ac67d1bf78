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

// outside are the books of what lies there. Go's runtime keeps its own memory below a limit and does not see this, so that the
// limit of the process, which is one for both, is lowered by what lies outside.
var outside struct {
	sync.Mutex
	bytes int64
	limit int64 // that the process was given
	set   int64 // that Go's runtime has been told instead, if it still goes by that one
}

// Outside is how much memory weights take outside of Go's heap, in bytes.
func Outside() int64 {
	outside.Lock()
	defer outside.Unlock()
	return outside.bytes
}

// MemoryLimit is the limit of the process's memory as it was set (debug.SetMemoryLimit, GOMEMLIMIT), in bytes: math.MaxInt64 is none.
func MemoryLimit() int64 {
	outside.Lock()
	defer outside.Unlock()
	if now := debug.SetMemoryLimit(-1); now != outside.set {
		return now
	}
	return outside.limit
}

// count enters n bytes into the books, or takes them out if n is negative.
func count(n int64) {
	outside.Lock()
	defer outside.Unlock()
	outside.bytes += n
	if now := debug.SetMemoryLimit(-1); now != outside.set { // for the first time, or somebody has set another
		outside.limit = now
	}
	outside.set = outside.limit
	if outside.limit < math.MaxInt64 {
		outside.set = max(0, outside.limit-outside.bytes)
		debug.SetMemoryLimit(outside.set)
	}
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
