package llama

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gotransplant/model"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	_ "github.com/gomlx/compute/gobackend"
	"github.com/gomlx/gomlx/core/tensors"
)

// sharedDir finds the directory of real inputs or skips the test.
func sharedDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("TRANSPLANT_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared")
	}
	if _, err := os.Stat(filepath.Join(dir, "golden")); err != nil {
		t.Skipf("shared inputs not found at %s: set TRANSPLANT_SHARED", dir)
	}
	return dir
}

func goBackend(t testing.TB) compute.Backend {
	t.Helper()
	b, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// openEngine loads the checkpoint in dir.
func openEngine(t testing.TB, dir string, o Options) *Engine {
	t.Helper()
	c, err := model.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	e, err := NewEngine(Deferred(goBackend(t), c, AsStored), o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// trunk is one plain sequence.
func trunk(ids []int32) Sequences {
	s := Sequences{Rows: 1, Length: len(ids), Token: ids, Position: make([]int32, len(ids)), Branch: make([]int32, len(ids))}
	for i := range ids {
		s.Position[i] = int32(i)
	}
	return s
}

// cGolden are the lines of golden_f32.txt: values by "name layer position".
func cGolden(t *testing.T, path string) map[string][]float64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	golden := make(map[string][]float64)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		values := make([]float64, len(fields)-3)
		for i, v := range fields[3:] {
			if values[i], err = strconv.ParseFloat(v, 64); err != nil {
				t.Fatal(err)
			}
		}
		golden[strings.Join(fields[:3], " ")] = values
	}
	return golden
}

func flat64(t *testing.T, x *tensors.Tensor) []float64 {
	t.Helper()
	switch x.DType() {
	case dtypes.Float64:
		return tensors.MustCopyFlatData[float64](x)
	default:
		var wide []float64
		for _, v := range tensors.MustCopyFlatData[float32](x) {
			wide = append(wide, float64(v))
		}
		return wide
	}
}

// near fails when got differs from want by more than tolerance anywhere, absolutely.
func near(t *testing.T, name string, got, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: got %d values, want %d", name, len(got), len(want))
		return
	}
	for i := range got {
		if !(math.Abs(got[i]-want[i]) <= tolerance) {
			t.Errorf("%s[%d]: got %g, want %g within %g", name, i, got[i], want[i], tolerance)
			return
		}
	}
}

// TestStories260K: residual stream, keys, values and logits of a model trained by others agree with the C program that
// came with it.
func TestStories260K(t *testing.T) {
	dir := filepath.Join(sharedDir(t), "models", "stories260K")
	golden := cGolden(t, filepath.Join(dir, "golden_f32.txt"))
	e := openEngine(t, dir, Options{Compute: dtypes.Float32, Residual: dtypes.Float64})
	var ids []int32
	for _, id := range golden["tokens -1 13"] {
		ids = append(ids, int32(id))
	}
	if len(ids) != 13 {
		t.Fatalf("got %d prompt tokens, want 13", len(ids))
	}
	s, err := e.NewStream(trunk(ids), StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cfg := e.Weights.Config
	compare := func(name string, all []float64, layer int) {
		width := len(all) / len(ids)
		for p := range ids {
			key := fmt.Sprintf("%s %d %d", name, layer, p)
			near(t, key, all[p*width:(p+1)*width], golden[key], 1e-4)
		}
	}
	compare("resid", flat64(t, s.x), -1)
	for layer := range cfg.NumHiddenLayers {
		kv, err := s.Forward(layer, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		compare("value", flat64(t, kv.V), layer)
		compare("key_postrope", interleavedRotation(flat64(t, kv.K), cfg, len(ids)), layer)
		compare("resid", flat64(t, s.x), layer)
		s.Release(layer)
	}
	logits, err := s.Logits()
	if err != nil {
		t.Fatal(err)
	}
	wide := make([]float64, len(logits))
	for i, v := range logits {
		wide[i] = float64(v)
	}
	compare("logits", wide, -1)
}

// interleavedRotation rotates keys [S, G, D] at positions 0..S-1 and brings the halves layout into the C program's
// order, where the two numbers of a rotary pair are neighbours.
func interleavedRotation(k []float64, cfg model.Config, positions int) []float64 {
	out := make([]float64, len(k))
	half := cfg.HeadDim / 2
	for p := range positions {
		for g := range cfg.NumKeyValueHeads {
			head := (p*cfg.NumKeyValueHeads + g) * cfg.HeadDim
			for i, f := range cfg.InverseFrequencies() {
				sin, cos := math.Sincos(float64(p) * f)
				a, b := k[head+i], k[head+half+i]
				out[head+2*i], out[head+2*i+1] = a*cos-b*sin, b*cos+a*sin
			}
		}
	}
	return out
}
