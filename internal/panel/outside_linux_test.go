package panel

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// flagsOf are the VmFlags of the mapping that an address lies in, from /proc/self/smaps; none if it lies in none.
func flagsOf(t *testing.T, address unsafe.Pointer) string {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	inside := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var from, to uintptr
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x ", &from, &to); n == 2 {
			inside = from <= uintptr(address) && uintptr(address) < to
		}
		if flags, ok := strings.CutPrefix(lines.Text(), "VmFlags:"); ok && inside {
			return flags + " "
		}
	}
	return ""
}

// hugeAreTold says that memory which was asked to have huge pages has the flag hg: it has none on a kernel without them and in an
// emulator, whose smaps are its own.
func hugeAreTold(t *testing.T) bool {
	memory, err := unix.Mmap(-1, 0, 2*leastOutside, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(memory) }()
	if err := unix.Madvise(memory, unix.MADV_HUGEPAGE); err != nil {
		return false
	}
	return strings.Contains(flagsOf(t, unsafe.Pointer(unsafe.SliceData(memory))), " hg ")
}

// kinds make a weight of every kind, and tell where its values lie.
func kinds() map[string]func(out, in int) (*Weight, unsafe.Pointer) {
	return map[string]func(out, in int) (*Weight, unsafe.Pointer){
		"float32": func(out, in int) (*Weight, unsafe.Pointer) {
			w := NewZeros(out, in, false)
			return w, unsafe.Pointer(&w.tiles[len(w.tiles)/2])
		},
		"bfloat16": func(out, in int) (*Weight, unsafe.Pointer) {
			w := NewZeros(out, in, true)
			return w, unsafe.Pointer(&w.half[len(w.half)/2])
		},
		"codes": func(out, in int) (*Weight, unsafe.Pointer) {
			w := NewCoded(out, in, Coding{})
			return w, unsafe.Pointer(&w.coded.codes[len(w.coded.codes)/2])
		},
		"scales": func(out, in int) (*Weight, unsafe.Pointer) {
			w := NewCoded(out, in, Coding{Table: new([16]float32), Block: 4})
			return w, unsafe.Pointer(&w.coded.scales[len(w.coded.scales)/2])
		},
		"a transposed copy": func(out, in int) (*Weight, unsafe.Pointer) {
			w := NewZeros(out, in, false)
			w.KeepTransposed()
			return w, unsafe.Pointer(&w.transposed.tiles[len(w.transposed.tiles)/2])
		},
	}
}

// empty waits until collections have given back whatever lies outside of the heap.
func empty(t *testing.T) {
	t.Helper()
	for range 100 {
		runtime.GC()
		if Outside() == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond) // cleanups run beside what follows
	}
	t.Fatalf("%d bytes lie outside of the heap though nobody holds a weight", Outside())
}

// TestOutside: large weights of every kind are zeros in huge pages, entered in the books and withheld from the limit of the
// process's memory until nobody holds them; small ones are neither.
func TestOutside(t *testing.T) {
	const limit = 1 << 40
	empty(t)
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(limit))
	huge := hugeAreTold(t)
	for name, kind := range kinds() {
		t.Run(name, func(t *testing.T) {
			if _, at := kind(8, 16); strings.Contains(flagsOf(t, at), " hg ") {
				t.Error("a small weight lies in huge pages")
			}
			if bytes, now := Outside(), debug.SetMemoryLimit(-1); bytes != 0 || now != limit {
				t.Errorf("with a small weight %d bytes lie outside of the heap, and the limit is %d, want %d", bytes, now, limit)
			}
			w, at := kind(2048, 2056)
			if flags := flagsOf(t, at); huge && !strings.Contains(flags, " hg ") {
				t.Errorf("the flags of its mapping are%s, without hg", flags)
			}
			row := make([]float32, w.In)
			row[7] = 1
			w.Row(2047, row)
			for i, v := range row {
				if v != 0 {
					t.Fatalf("element %d of a row is %g, want 0", i, v)
				}
			}
			bytes, now := Outside(), debug.SetMemoryLimit(-1)
			if name == "codes" {
				bytes += 4 * int64(len(w.coded.scales)) // few, and in the heap
				now -= 4 * int64(len(w.coded.scales))
			}
			if bytes != w.Bytes() || now != limit-bytes || MemoryLimit() != limit {
				t.Errorf("%d bytes lie outside of the heap, want %d; the limit is %d, told as %d, want %d and %d", bytes, w.Bytes(),
					now, MemoryLimit(), limit-w.Bytes(), limit)
			}
			runtime.KeepAlive(w)
			empty(t)
			if got := debug.SetMemoryLimit(-1); got != limit {
				t.Errorf("afterwards the limit is %d, want %d again", got, limit)
			}
			if strings.Contains(flagsOf(t, at), " hg ") {
				t.Error("afterwards its huge pages are still there")
			}
		})
	}
}

// TestOutsideWithoutLimit: a process that has no limit of memory gets none.
func TestOutsideWithoutLimit(t *testing.T) {
	const none = math.MaxInt64
	empty(t)
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(none))
	w := NewZeros(1024, 1024, false)
	if bytes, now := Outside(), debug.SetMemoryLimit(-1); bytes != w.Bytes() || now != none || MemoryLimit() != none {
		t.Errorf("%d bytes outside, limit %d, told as %d; want %d and none", bytes, now, MemoryLimit(), w.Bytes())
	}
	runtime.KeepAlive(w)
	empty(t)
}

// TestLimitIsSetMeanwhile: a limit that is set while weights lie outside holds for all that the process has, from the next of them on.
func TestLimitIsSetMeanwhile(t *testing.T) {
	const limit = 1 << 40
	empty(t)
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(2 * limit))
	first := NewZeros(1024, 1024, false)
	debug.SetMemoryLimit(limit)
	if got := MemoryLimit(); got != limit {
		t.Errorf("the limit is told as %d, want %d", got, limit)
	}
	second := NewZeros(2048, 1024, false)
	if got, want := debug.SetMemoryLimit(-1), limit-first.Bytes()-second.Bytes(); got != want || MemoryLimit() != limit {
		t.Errorf("then it is %d, told as %d, want %d and %d", got, MemoryLimit(), want, limit)
	}
	runtime.KeepAlive(first)
	runtime.KeepAlive(second)
	empty(t)
	if got := debug.SetMemoryLimit(-1); got != limit {
		t.Errorf("afterwards the limit is %d, want %d", got, limit)
	}
}
