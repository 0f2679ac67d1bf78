package lora

import (
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"gotransplant/model/safetensors"
)

func mustAdamW(t *testing.T, o AdamWOptions, tensors []Tensor) *AdamW {
	t.Helper()
	w, err := NewAdamW(o, tensors)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func wantClose(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	for i := range want {
		if math.Abs(float64(got[i])-want[i]) > 3e-7*math.Max(1, math.Abs(want[i])) {
			t.Errorf("%s[%d]: got %v, want %v", what, i, got[i], want[i])
		}
	}
}

// The numbers are what testdata/adamw.py prints with PyTorch in float64.
func TestAdamWAgreesWithPyTorch(t *testing.T) {
	tensors := []Tensor{
		{Name: "p", Value: []float32{0.5, -1.25, 2, 0}},
		{Name: "q", Value: []float32{3, -0.125}},
	}
	w := mustAdamW(t, AdamWOptions{Beta1: 0.8, Beta2: 0.95, Eps: 1e-3, WeightDecay: 0.1}, tensors)
	for i, want := range [][]float64{
		{0.4895990099009901, -1.2387699600798403, 1.998, -0.009995002498750625, 3.0069900099900098, -0.1348351593625498},
		{0.4692148445824149, -1.216332340319361, 1.994004, -0.02837640987951698, 3.02095604995005, -0.15404335002757552},
		{0.4385455623463232, -1.182743223537924, 1.988021988, -0.05376805943894071, 3.0418632117702296, -0.1829228173358403},
		{0.39724251189867166, -1.1380920909631336, 1.9800699000479998, -0.08499539736030451, 3.0696557988831885,
			-0.22182471996818387},
	} {
		step := float32(i + 1)
		tensors[0].Grad = []float32{0.1 * step, -0.5, 0, 2 / step}
		tensors[1].Grad = []float32{-1, 0.25 * step}
		if err := w.Step(tensors, 0.01*float64(step)); err != nil {
			t.Fatal(err)
		}
		wantClose(t, "p", tensors[0].Value, want[:4])
		wantClose(t, "q", tensors[1].Value, want[4:])
	}
	if w.Steps() != 4 {
		t.Errorf("got %d steps, want 4", w.Steps())
	}
}

func TestClipAgreesWithPyTorch(t *testing.T) {
	grads := func() []Tensor {
		return []Tensor{{Name: "p", Grad: []float32{3, -4, 0, 0}}, {Name: "q", Grad: []float32{12, 0}}}
	}
	clipped := grads()
	norm, err := ClipGlobalNorm(clipped, 2.5)
	if err != nil || norm != 13 {
		t.Errorf("got norm %v, %v; want 13", norm, err)
	}
	wantClose(t, "p", clipped[0].Grad, []float64{0.5769230325443822, -0.7692307100591762, 0, 0})
	wantClose(t, "q", clipped[1].Grad, []float64{2.3076921301775286, 0})
	for _, limit := range []float64{0, 13.1} {
		left := grads()
		norm, err := ClipGlobalNorm(left, limit)
		if err != nil || norm != 13 || left[0].Grad[0] != 3 || left[1].Grad[0] != 12 {
			t.Errorf("limit %v: got norm %v, %v and gradients %v; want 13 and no change", limit, norm, err, left)
		}
	}
	tiny := []Tensor{{Name: "p", Grad: []float32{3e-6, 4e-6}}} // which 1e-6 beside the norm counts for: 2.5/6, not 2.5/5
	if norm, err := ClipGlobalNorm(tiny, 2.5e-6); math.Abs(norm-5e-6) > 1e-12 || err != nil {
		t.Errorf("tiny: got norm %v, %v; want 5e-06", norm, err)
	}
	for i, want := range []float64{1.25e-6, 4e-6 * 2.5 / 6} {
		if got := float64(tiny[0].Grad[i]); math.Abs(got-want) > 1e-6*want {
			t.Errorf("tiny[%d]: got %v, want %v", i, got, want)
		}
	}
	if norm, err := ClipGlobalNorm([]Tensor{{Name: "z", Grad: []float32{0}}}, 1); norm != 0 || err != nil {
		t.Errorf("zeros: got norm %v, %v; want 0", norm, err)
	}
}

func TestClipNamesWhatIsNotFinite(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		tensors := []Tensor{{Name: "first", Grad: []float32{100}}, {Name: "second", Grad: []float32{0, float32(bad)}}}
		_, err := ClipGlobalNorm(tensors, 1)
		wantError(t, err, "second", "not finite")
		if tensors[0].Grad[0] != 100 {
			t.Errorf("%v: the first gradient became %v, want it left alone", bad, tensors[0].Grad[0])
		}
	}
}

func TestEpsZeroKeepsUntouchedValues(t *testing.T) {
	tensors := []Tensor{{Name: "p", Value: []float32{5, 5}, Grad: []float32{0, 1}}}
	w := mustAdamW(t, AdamWOptions{Beta1: 0.9, Beta2: 0.99}, tensors)
	if err := w.Step(tensors, 0.5); err != nil || !slices.Equal(tensors[0].Value, []float32{5, 4.5}) {
		t.Errorf("got %v, %v; want [5 4.5]", tensors[0].Value, err)
	}
}

// TestSameBitsInVectors steps over elements that a vector could get wrong: no gradient ever, with and without Eps, infinite and
// tiny ones, and numbers of elements that no vector divides.
func TestSameBitsInVectors(t *testing.T) {
	if !vectors {
		t.Skip("this processor, or this build, has none")
	}
	defer func() { vectors = true }()
	special := []float32{0, 1, -1, 0, float32(math.Inf(1)), 1e-45, -1e-30, 3e38, float32(math.NaN()), 0, 1e-8}
	for n := range 2*len(special) + 1 {
		for _, eps := range []float64{0, 1e-8} {
			var got [2][3][]uint32
			for i, with := range []bool{false, true} {
				vectors = with
				tensor := Tensor{Name: "p", Value: make([]float32, n), Grad: make([]float32, n)}
				for j := range n {
					tensor.Value[j], tensor.Grad[j] = float32(j)-3, special[j%len(special)]
				}
				w := mustAdamW(t, AdamWOptions{Beta1: 0.9, Beta2: 0.99, Eps: eps, WeightDecay: 0.1}, []Tensor{tensor})
				for range 3 {
					if err := w.Step([]Tensor{tensor}, 0.25); err != nil {
						t.Fatal(err)
					}
				}
				for k, values := range [][]float32{tensor.Value, w.m[0], w.v[0]} {
					for _, x := range values {
						got[i][k] = append(got[i][k], math.Float32bits(x))
					}
				}
			}
			if !reflect.DeepEqual(got[1], got[0]) {
				t.Errorf("%d elements, eps %g: got %x with vectors, want %x", n, eps, got[1], got[0])
			}
		}
	}
}

// trained runs three clipped steps on tensors large enough to be split among cores.
func trained(t *testing.T) ([]Tensor, float64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		return v
	}
	tensors := []Tensor{{Name: "a", Value: random(5*chunkSize + 7)}, {Name: "b", Value: random(3)}}
	w := mustAdamW(t, AdamWOptions{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.01}, tensors)
	var norm float64
	for range 3 {
		for i := range tensors {
			tensors[i].Grad = random(len(tensors[i].Value))
		}
		var err error
		if norm, err = ClipGlobalNorm(tensors, 1); err != nil {
			t.Fatal(err)
		}
		if err := w.Step(tensors, 1e-2); err != nil {
			t.Fatal(err)
		}
	}
	return tensors, norm
}

func TestSameBitsOnAnyNumberOfCores(t *testing.T) {
	before := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(before)
	want, wantNorm := trained(t)
	runtime.GOMAXPROCS(4)
	got, gotNorm := trained(t)
	if gotNorm != wantNorm {
		t.Errorf("norm: got %v on 4 cores, %v on 1", gotNorm, wantNorm)
	}
	for i := range want {
		if !slices.Equal(got[i].Value, want[i].Value) {
			t.Errorf("%s differs between 4 cores and 1", want[i].Name)
		}
	}
}

func TestAdamWRefuses(t *testing.T) {
	good := AdamWOptions{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}
	for name, change := range map[string]func(*AdamWOptions){
		"--beta1 1":           func(o *AdamWOptions) { o.Beta1 = 1 },
		"--beta2 -0.1":        func(o *AdamWOptions) { o.Beta2 = -0.1 },
		"--eps NaN":           func(o *AdamWOptions) { o.Eps = math.NaN() },
		"--weight-decay +Inf": func(o *AdamWOptions) { o.WeightDecay = math.Inf(1) },
	} {
		o := good
		change(&o)
		_, err := NewAdamW(o, nil)
		wantError(t, err, name)
	}
	p := Tensor{Name: "p", Value: []float32{1}, Grad: []float32{1}}
	_, err := NewAdamW(good, []Tensor{p, p})
	wantError(t, err, "p", "twice")
	w := mustAdamW(t, good, []Tensor{p})
	wantError(t, w.Step(nil, 1), "0 tensors, want 1")
	wantError(t, w.Step([]Tensor{{Name: "q", Value: p.Value, Grad: p.Grad}}, 1), "is q", "want p")
	wantError(t, w.Step([]Tensor{{Name: "p", Value: p.Value}}, 1), "0 gradients")
	if w.Steps() != 0 || p.Value[0] != 1 {
		t.Errorf("after refusals: %d steps, value %v; want nothing changed", w.Steps(), p.Value[0])
	}
}

// stateOf looks up what an optimizer's State gave.
func stateOf(w *AdamW) func(name string) (safetensors.Tensor, bool) {
	state := w.State()
	return func(name string) (safetensors.Tensor, bool) {
		i := slices.IndexFunc(state, func(t safetensors.Tensor) bool { return t.Name == name })
		if i < 0 {
			return safetensors.Tensor{}, false
		}
		return state[i], true
	}
}

// An optimizer whose state is taken and restored between two steps ends with the same bits.
func TestStateRoundTrip(t *testing.T) {
	o := AdamWOptions{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8}
	run := func(interrupted bool) []float32 {
		tensors := []Tensor{{Name: "p", Value: []float32{1, 2, 3}, Grad: []float32{0.1, -0.3, 1e-30}}}
		w := mustAdamW(t, o, tensors)
		for step := range 4 {
			if step == 2 && interrupted {
				saved := stateOf(w)
				w = mustAdamW(t, o, tensors)
				if err := w.Restore(saved); err != nil {
					t.Fatal(err)
				}
				if w.Steps() != 2 {
					t.Errorf("got %d steps after restoring, want 2", w.Steps())
				}
			}
			if err := w.Step(tensors, 0.01); err != nil {
				t.Fatal(err)
			}
		}
		return tensors[0].Value
	}
	if want, got := run(false), run(true); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRestoreRefuses(t *testing.T) {
	o := AdamWOptions{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8}
	tensors := []Tensor{{Name: "p", Value: make([]float32, 2)}, {Name: "q", Value: make([]float32, 1)}}
	saved := mustAdamW(t, o, tensors)
	other := mustAdamW(t, o, []Tensor{{Name: "p", Value: make([]float32, 3)}, {Name: "q", Value: make([]float32, 1)},
		{Name: "r", Value: make([]float32, 1)}})
	wantError(t, other.Restore(stateOf(saved)), "tensor m.p: is F32 [2], want F32 [3]", "tensor v.p", "tensor m.r: missing")
	nothing := func(string) (safetensors.Tensor, bool) { return safetensors.Tensor{}, false }
	wantError(t, saved.Restore(nothing), "tensor step: missing")
	for name, change := range map[string]func(s *safetensors.Tensor){
		"step of another type": func(s *safetensors.Tensor) { s.DType = "F64" },
		"two steps":            func(s *safetensors.Tensor) { s.Data = make([]byte, 16) },
	} {
		err := saved.Restore(func(tensor string) (safetensors.Tensor, bool) {
			found, ok := stateOf(saved)(tensor)
			if tensor == "step" {
				change(&found)
			}
			return found, ok
		})
		if err == nil || !strings.Contains(err.Error(), "tensor step: missing, or not one I64") {
			t.Errorf("%s: got error %v, want that step is not one I64", name, err)
		}
	}
}
