package llama

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"gotransplant/internal/panel"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute/dtypes"
)

// TestWithoutAVX512 runs tests of panels in a process that is not to use AVX-512, and compares logits, losses and gradients with
// those of this process, bit for bit. The marker names a file for these bits and keeps that process from starting another.
func TestWithoutAVX512(t *testing.T) {
	const (
		marker = "LLAMA_TEST_AVX2_BITS"
		cannot = "this build cannot do without AVX-512"
	)
	if file := os.Getenv(marker); file != "" {
		if got := panel.Instructions(false); got != "AVX2" {
			t.Skipf("%s: panels are in %q", cannot, got)
		}
		if err := os.WriteFile(file, []byte(panelBits(t)), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if panel.Instructions(false) != "AVX-512" {
		t.Skip("no AVX-512, or built without GOEXPERIMENT=simd: every test is this one")
	}
	file := filepath.Join(t.TempDir(), "bits")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self, "-test.v", "-test.run", "^(TestWithoutAVX512|TestStoredTypes|TestDecodeStories|"+
		"TestDecodeEqualsRecomputing|TestRowsDoNotMeetInLargeProducts|TestQuantizedPanels|TestGainGradientByFiniteDifferences)$/(panels|Float32|BFloat16)")
	child.Env = append(os.Environ(), "GODEBUG=cpu.avx512f=off", marker+"="+file)
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if bytes.Contains(out, []byte(cannot)) { // as with GOAMD64=v4
		t.Skip(cannot)
	}
	for _, name := range []string{"TestStoredTypes/panels", "TestQuantizedPanels/nf4_small_Float32", "TestQuantizedPanels/nf4_small_BFloat16"} {
		if !bytes.Contains(out, []byte("--- PASS: "+name)) {
			t.Errorf("%s did not pass:\n%s", name, out)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if want := panelBits(t); string(got) != want {
		t.Errorf("in AVX2:\n%swant those of AVX-512:\n%s", got, want)
	}
}

// panelBits are the logits of checkpoints of every type, and the loss and gradients over weights kept as codes, with changes
// to projections that have gains, as sums over all bits.
func panelBits(t *testing.T) string {
	text := ""
	add := func(name string, values any) {
		sum := sha256.New()
		if err := binary.Write(sum, binary.LittleEndian, values); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("%s %.8x\n", name, sum.Sum(nil))
	}
	for _, stored := range []safetensors.DType{safetensors.F32, safetensors.F16, safetensors.BF16} {
		add(fmt.Sprintf("logits of weights in %s", stored), storedLogits(t, storedConfig(), stored, true))
	}
	for _, as := range []Storage{Int8, NF4} {
		quantized, plain := quantizedEngines(t, wideConfig(), as, Options{Compute: dtypes.Float32, Residual: dtypes.Float64, Panels: true})
		loss, grads := gainedLoss(t, quantized, gainedChanges(plain, "o_proj"), StreamOptions{}, true)
		add(fmt.Sprintf("loss over %s", as), []float64{float64(loss)})
		for layer, byPart := range grads {
			for i, g := range byPart {
				add(fmt.Sprintf("gradient %d of layer %d over %s", i, layer, as), g)
			}
		}
	}
	return text
}
