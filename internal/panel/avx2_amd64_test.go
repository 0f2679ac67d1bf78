//go:build goexperiment.simd

package panel

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"simd/archsimd"
	"testing"

	"golang.org/x/sys/cpu"
)

// TestMain runs every test with the kernels that this processor is given, then without AMX, and then with those in AVX2.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 && amx {
		fmt.Println("the same without AMX:")
		amx, dots = false, cpu.X86.HasAVX512BF16
		code = m.Run()
	}
	if code == 0 && avx512 {
		fmt.Println("the same with the kernels in AVX2:")
		amx, dots = false, false
		in512(false)
		m.Run()
	}
}

// TestWithoutAVX512 runs the tests on an emulated processor that has AVX2 and FMA and refuses everything of AVX-512.
func TestWithoutAVX512(t *testing.T) {
	emulator, err := exec.LookPath("qemu-x86_64")
	if err != nil || testing.Short() || !avx512 || os.Getenv(emulated) != "" {
		t.Skip("needs qemu-x86_64, and a processor with AVX-512 that is not itself the test; not in -short")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(emulator, "-cpu", "Haswell", self, "-test.v")
	child.Env = append(os.Environ(), emulated+"=1")
	out, err := child.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestMultiply")) {
		t.Errorf("%v:\n%s", err, out)
	}
}

// TestHalfNeedsAVX512: products in bfloat16 have kernels in AVX-512 alone, whatever else the processor has.
func TestHalfNeedsAVX512(t *testing.T) {
	if got := HalfAvailable(); got && !avx512 {
		t.Errorf("products in bfloat16 available with kernels in %s: %t, want false", Instructions(true), got)
	}
}

// in512 says whether AVX-512 is to be used.
func in512(yes bool) { avx512, threes, twos = yes, yes, yes }

// bothSets calls run with the kernels in AVX-512 and with those in AVX2 and fails unless it returns the same bits, or
// no number, of which there are many, in the same places.
func bothSets(t *testing.T, name string, run func() []float32) {
	t.Helper()
	if !archsimd.X86.AVX512() { // nothing to compare with, but it has to run
		run()
		return
	}
	defer in512(avx512)
	in512(true)
	want := run()
	in512(false)
	got := run()
	if len(got) != len(want) || len(got) == 0 {
		t.Fatalf("%s: %d elements, want %d", name, len(got), len(want))
	}
	for i, v := range want {
		if math.Float32bits(got[i]) != math.Float32bits(v) && (v == v || got[i] == got[i]) {
			t.Fatalf("%s: element %d: in AVX2 %v (%08x), in AVX-512 %v (%08x)", name, i, got[i], math.Float32bits(got[i]), v,
				math.Float32bits(v))
		}
	}
}

// TestSets: the kernels in AVX2 write the bits that those in AVX-512 write.
func TestSets(t *testing.T) {
	need(t)
	for _, s := range sets() {
		for seed := range uint64(5) {
			bothSets(t, fmt.Sprintf("%s, seed %d", s.name, seed), func() []float32 { return s.run(rand.New(rand.NewPCG(13, seed))) })
		}
	}
}
