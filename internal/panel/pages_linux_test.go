package panel

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"
)

// flagsOf are the VmFlags of the mapping that an address lies in, from /proc/self/smaps.
func flagsOf(t *testing.T, address uintptr) string {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	inside := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var from, to uintptr
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x ", &from, &to); n == 2 {
			inside = from <= address && address < to
		}
		if flags, ok := strings.CutPrefix(lines.Text(), "VmFlags:"); ok && inside {
			return flags + " "
		}
	}
	t.Skip("the address is in no mapping with flags")
	return ""
}

// TestHugePages: the whole pages inside a large slice, and no others, are marked for huge pages, and small ones are left alone.
func TestHugePages(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		t.Skip("this kernel has no transparent huge pages")
	}
	s := inHugePages(make([]float32, 4*hugePage))
	if len(s) != 4*hugePage || s[0] != 0 || s[len(s)-1] != 0 {
		t.Fatalf("%d elements from %g to %g, want %d zeros", len(s), s[0], s[len(s)-1], 4*hugePage)
	}
	middle := uintptr(unsafe.Pointer(&s[len(s)/2]))
	if flags := flagsOf(t, middle); !strings.Contains(flags, " hg ") {
		t.Errorf("the middle of 32 MB has the flags%s, without hg", flags)
	}
	for _, n := range []int{0, 1, 1000, hugePage/4 - 1} {
		if got := inHugePages(make([]float32, n)); len(got) != n {
			t.Errorf("%d elements became %d", n, len(got))
		}
	}
}

// TestWeightsInHugePages: weights of every kind are.
func TestWeightsInHugePages(t *testing.T) {
	const out, in = 2048, 4096
	float, half, coded := NewZeros(out, in, false), NewZeros(out, in, true), NewCoded(out, in, Coding{})
	for name, p := range map[string]unsafe.Pointer{"float32": unsafe.Pointer(&float.tiles[len(float.tiles)/2]),
		"bfloat16": unsafe.Pointer(&half.half[len(half.half)/2]), "codes": unsafe.Pointer(&coded.coded.codes[out*in/2])} {
		if flags := flagsOf(t, uintptr(p)); !strings.Contains(flags, " hg ") {
			t.Errorf("%s: flags%s, without hg", name, flags)
		}
	}
}
