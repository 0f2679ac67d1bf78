package panel

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// emulated is set in the environment of tests that run on an emulated processor.
const emulated = "PANEL_TEST_EMULATED"

// TestOnARM builds the tests for arm64 and runs them on an emulated processor.
func TestOnARM(t *testing.T) {
	emulator, err := exec.LookPath("qemu-aarch64")
	if err != nil || testing.Short() || runtime.GOARCH == "arm64" || os.Getenv(emulated) != "" {
		t.Skip("needs qemu-aarch64, and a processor of another kind that is not itself emulated; not in -short")
	}
	test := filepath.Join(t.TempDir(), "panel.test")
	build := exec.Command("go", "test", "-c", "-o", test, ".")
	build.Env = append(os.Environ(), "GOARCH=arm64", "GOOS=linux", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	out, err := exec.Command(emulator, test, "-test.v", "-test.short").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestBits")) {
		t.Errorf("%v:\n%s", err, out)
	}
}
