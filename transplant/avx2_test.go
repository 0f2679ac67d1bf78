package transplant

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
	"gotransplant/llama"

	"github.com/gomlx/compute/dtypes"
)

// TestWithoutAVX512 runs tests in a process that is not to use AVX-512, and compares log-probabilities, losses and
// gradients with those of this process, bit for bit. The marker names a file for these bits and keeps that process from
// starting another.
func TestWithoutAVX512(t *testing.T) {
	const (
		marker = "TRANSPLANT_TEST_AVX2_BITS"
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
	child := exec.Command(self, "-test.v", "-test.run",
		"^(TestWithoutAVX512|TestGoldenLogProbabilities|TestGoldenGradients|TestQuantizedOnPanels)$/./(graphs|panels)|"+
			"^(TestGoldenTrajectory|TestFastEqualsPlain)$/./panels") // whose graphs are those of the golden cases before
	child.Env = append(os.Environ(), "GODEBUG=cpu.avx512f=off", marker+"="+file)
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if bytes.Contains(out, []byte(cannot)) { // as with GOAMD64=v4
		t.Skip(cannot)
	}
	for _, name := range []string{"TestGoldenLogProbabilities/golden-small_Float32/panels",
		"TestGoldenLogProbabilities/golden-small_BFloat16/panels", "TestGoldenLogProbabilities/golden-small_BFloat16/graphs",
		"TestGoldenGradients/golden-small/panels",
		"TestGoldenTrajectory/golden-small_micro-batch_4/panels", "TestFastEqualsPlain/all_layers/panels",
		"TestQuantizedOnPanels/golden-small_int8"} {
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

// panelBits has a line for every way to keep the weights: the sums over all bits of the outcomes and of the gradients.
func panelBits(t *testing.T) string {
	g := openGolden(t, smallDir())
	g.panels = true
	text := ""
	for _, as := range []llama.Storage{llama.AsStored, llama.BFloat16, llama.Int8, llama.NF4} {
		s := trained(t, g, g.methodAs(t, dtypes.Float32, as))
		outcomes, grads := sha256.New(), sha256.New()
		for _, o := range s.Outcomes {
			if err := binary.Write(outcomes, binary.LittleEndian, []float64{o.LogProb[0], o.LogProb[1], o.Loss}); err != nil {
				t.Fatal(err)
			}
		}
		if err := binary.Write(grads, binary.LittleEndian, s.all()); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("weights %s: outcomes %.8x, %d gradients %.8x\n", as, outcomes.Sum(nil), len(s.all()), grads.Sum(nil))
	}
	return text
}
