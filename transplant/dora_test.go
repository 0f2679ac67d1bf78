package transplant

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotransplant/internal/panel"
	"gotransplant/llama"
	"gotransplant/lora"
	"gotransplant/model"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute/dtypes"
)

// doraRun is expected.json of golden-dora, which scripts/make_dora_golden.py writes.
type doraRun struct {
	Rows []struct {
		LogProb1             float64 `json:"logprob_1"`
		LogProb2             float64 `json:"logprob_2"`
		Loss                 float64 `json:"loss"`
		NoTransplantLogProb1 float64 `json:"no_transplant_logprob_1"`
		NoTransplantLogProb2 float64 `json:"no_transplant_logprob_2"`
	}
	Train struct {
		LR          float64
		WeightDecay float64 `json:"weight_decay"`
		Loss        []float64
		LossAfter   float64 `json:"loss_after"`
	}
}

func doraDir() string { return filepath.Join("testdata", "golden-dora") }

// onBothDoRA is onBoth with the small golden's model and rows and the adapters and results of golden-dora.
func onBothDoRA(t *testing.T, run func(t *testing.T, g golden, want doraRun)) {
	text, err := os.ReadFile(filepath.Join(doraDir(), "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want doraRun
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	onBoth(t, smallDir(), func(t *testing.T, g golden) {
		if g.tensors, err = safetensors.Open(filepath.Join(doraDir(), "expected.safetensors")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { g.tensors.Close() })
		run(t, g, want)
	})
}

// doraMethod is the golden's method with the adapters of golden-dora.
func (g golden) doraMethod(t *testing.T, kind dtypes.DType, as llama.Storage) *Method {
	t.Helper()
	m := g.methodAs(t, kind, as)
	role := func(name string) *Role {
		a, err := lora.Open(filepath.Join(doraDir(), "adapters", name), m.Engine.Weights.Config)
		if err != nil {
			t.Fatal(err)
		}
		return newRole(t, m.Engine, a)
	}
	m.Arguer, m.Chooser = role("arguer"), role("chooser")
	return m
}

func newRole(t *testing.T, e *llama.Engine, a *lora.Adapter) *Role {
	t.Helper()
	r, err := NewRole(e, a)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fresh gives a method new DoRA adapters on all projections.
func fresh(t *testing.T, m *Method) {
	t.Helper()
	for i, role := range []**Role{&m.Arguer, &m.Chooser} {
		o := lora.Options{Rank: 3, Alpha: 6, DoRA: true, Targets: lora.Targets{Names: lora.Projections()}}
		a, err := lora.New(o, m.Engine.Weights.Config, uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		*role = newRole(t, m.Engine, a)
	}
}

// TestDoRALogProbabilities: PyTorch's, one row at a time and all in a batch, with and without transplant.
func TestDoRALogProbabilities(t *testing.T) {
	for kind, tolerance := range map[dtypes.DType]float64{dtypes.Float32: 1e-4, dtypes.BFloat16: 2e-2} {
		t.Run(kind.String(), func(t *testing.T) {
			onBothDoRA(t, func(t *testing.T, g golden, want doraRun) {
				m := g.doraMethod(t, kind, llama.AsStored)
				plain := *m
				plain.NoTransplant = true
				together := evaluate(t, m, g.cases...)
				for i, c := range g.cases {
					moved, own := evaluate(t, m, c)[0], evaluate(t, &plain, c)[0]
					row := fmt.Sprintf("row %d ", i+1)
					within(t, row+"logprob_1", moved.LogProb[0], want.Rows[i].LogProb1, tolerance)
					within(t, row+"logprob_2", moved.LogProb[1], want.Rows[i].LogProb2, tolerance)
					within(t, row+"loss", moved.Loss, want.Rows[i].Loss, tolerance)
					within(t, row+"logprob_1 in a batch", together[i].LogProb[0], want.Rows[i].LogProb1, tolerance)
					within(t, row+"no_transplant_logprob_1", own.LogProb[0], want.Rows[i].NoTransplantLogProb1, tolerance)
					within(t, row+"no_transplant_logprob_2", own.LogProb[1], want.Rows[i].NoTransplantLogProb2, tolerance)
				}
			})
		})
	}
}

// TestDoRAGradients: PyTorch's, for A, B and magnitudes on all seven projections, some of whose magnitudes are 0.
func TestDoRAGradients(t *testing.T) {
	cases := []struct {
		name   string
		change func(m *Method)
	}{
		{"kept", func(*Method) {}},
		{"run again", func(m *Method) { m.Remat = true }},
		{"blockwise attention", func(m *Method) { m.Attention = llama.BlockwiseAttention }},
		{"moved in place", func(m *Method) { m.Attention = llama.FusedAttention }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			onBothDoRA(t, func(t *testing.T, g golden, _ doraRun) {
				m := g.doraMethod(t, dtypes.Float32, llama.AsStored)
				c.change(m)
				if g.panels && m.Attention != "" {
					t.Skip("panels have an attention of their own")
				}
				s, err := m.Train(g.cases, 1/float64(len(g.cases)))
				if err != nil {
					t.Fatal(err)
				}
				g.compareGradients(t, "arguer", m.Arguer, s.Arguer)
				g.compareGradients(t, "chooser", m.Chooser, s.Chooser)
			})
		})
	}
}

// TestDoRATrajectory: the losses of PyTorch's steps, which follow the norms as A and B change and decay all alike.
func TestDoRATrajectory(t *testing.T) {
	onBothDoRA(t, func(t *testing.T, g golden, want doraRun) {
		o := goldenOptions(g, len(want.Train.Loss))
		o.Schedule.Peak, o.Adam.WeightDecay = want.Train.LR, want.Train.WeightDecay
		var seen memory
		trainer := newTrainer(t, g.doraMethod(t, dtypes.Float32, llama.AsStored), o, g.cases, nil)
		if err := trainer.Run(context.Background(), &seen); err != nil {
			t.Fatal(err)
		}
		for i, loss := range want.Train.Loss {
			within(t, fmt.Sprintf("loss before step %d", i+1), seen.steps[i].Loss, loss, 1e-4)
		}
		within(t, "loss after", Summarize(seen.last).Loss.Value(), want.Train.LossAfter, 1e-4)
	})
}

// TestNewDoRAIsTheBase: bit for bit, and its magnitudes are the norms of the base's rows, however the base is kept.
func TestNewDoRAIsTheBase(t *testing.T) {
	for _, as := range []llama.Storage{llama.AsStored, llama.Int8, llama.NF4} {
		for _, kind := range []dtypes.DType{dtypes.Float32, dtypes.BFloat16} {
			t.Run(fmt.Sprintf("%s, %s", as, kind), func(t *testing.T) {
				onBoth(t, smallDir(), func(t *testing.T, g golden) {
					base := g.methodAs(t, kind, as)
					base.Arguer, base.Chooser = nil, nil
					m := *base
					fresh(t, &m)
					for _, c := range g.cases[:2] {
						if got, want := evaluate(t, &m, c)[0], evaluate(t, base, c)[0]; got != want {
							t.Errorf("row %d: got %+v, want the base's %+v", c.Row, got, want)
						}
					}
					checkMagnitudes(t, g, m.Chooser.Adapter, map[llama.Storage]float64{llama.AsStored: 1e-6, llama.Int8: 0.01, llama.NF4: 0.1}[as])
				})
			})
		}
	}
}

// checkMagnitudes compares an adapter's with the norms of the rows in the golden's checkpoint.
func checkMagnitudes(t *testing.T, g golden, a *lora.Adapter, tolerance float64) {
	t.Helper()
	c, err := model.Open(filepath.Join(g.dir, "model"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for layer := range c.Config.NumHiddenLayers {
		for _, proj := range lora.Projections() {
			p, ok := a.Magnitude(layer, proj)
			if !ok {
				t.Fatalf("layer %d: no magnitude of %s", layer, proj)
			}
			name := strings.TrimPrefix(strings.TrimSuffix(p.Name(), ".lora_magnitude_vector"), "base_model.model.") + ".weight"
			w, err := c.Tensor(name).Float32s()
			if err != nil {
				t.Fatal(err)
			}
			in := len(w) / len(p.Value)
			for o, m := range p.Value {
				square := 0.0
				for _, v := range w[o*in : (o+1)*in] {
					square += float64(v) * float64(v)
				}
				within(t, fmt.Sprintf("%s[%d]", p.Name(), o), float64(m), math.Sqrt(square), tolerance)
			}
		}
	}
}

// TestMergedDoRAIsUnmerged: a base into which the chooser's adapter was merged gives what base and adapter give.
func TestMergedDoRAIsUnmerged(t *testing.T) {
	onBothDoRA(t, func(t *testing.T, g golden, _ doraRun) {
		m := g.doraMethod(t, dtypes.Float32, llama.AsStored)
		m.NoTransplant = true
		merged := mergedMethod(t, g, m.Chooser.Adapter)
		for _, c := range g.cases[:2] {
			got, want := evaluate(t, merged, c)[0], evaluate(t, m, c)[0]
			for i := range got.LogProb {
				within(t, "merged log-probability", got.LogProb[i], want.LogProb[i], 1e-5)
			}
		}
	})
}

// TestDoRARematGivesTheSameBits: in both compute types, with magnitudes of 0 among others.
func TestDoRARematGivesTheSameBits(t *testing.T) {
	for _, kind := range []dtypes.DType{dtypes.Float32, dtypes.BFloat16} {
		t.Run(kind.String(), func(t *testing.T) {
			onBothDoRA(t, func(t *testing.T, g golden, _ doraRun) {
				m := g.doraMethod(t, kind, llama.AsStored)
				want, err := m.Train(g.cases[:2], 0.5)
				if err != nil {
					t.Fatal(err)
				}
				m.Remat = true
				got, err := m.Train(g.cases[:2], 0.5)
				if err != nil {
					t.Fatal(err)
				}
				sameBits(t, "arguer", m.Arguer, got.Arguer, want.Arguer)
				sameBits(t, "chooser", m.Chooser, got.Chooser, want.Chooser)
			})
		})
	}
}

// TestDoRAMagnitudeThatBecomesZero: the gradients are those of a method that had the magnitudes from the beginning, on the
// way to 0 and back again.
func TestDoRAMagnitudeThatBecomesZero(t *testing.T) {
	onBothDoRA(t, func(t *testing.T, g golden, _ doraRun) {
		gradients := func(m *Method, magnitude float32) Sweep {
			p, _ := m.Chooser.Adapter.Magnitude(1, "v_proj")
			p.Value[3] = magnitude
			if err := m.Chooser.Upload(); err != nil {
				t.Fatal(err)
			}
			s, err := m.Train(g.cases[:1], 1)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		m := g.doraMethod(t, dtypes.Float32, llama.AsStored)
		for _, magnitude := range []float32{1, 0, 1} {
			want := gradients(g.doraMethod(t, dtypes.Float32, llama.AsStored), magnitude)
			sameBits(t, "chooser", m.Chooser, gradients(m, magnitude).Chooser, want.Chooser)
			for i, p := range m.Chooser.Adapter.Params() {
				if n := norm(want.Chooser[i]); math.IsNaN(n) || math.IsInf(n, 0) {
					t.Errorf("gradient of %s: its norm is %v", p.Name(), n)
				}
			}
		}
	})
}

// TestDoRAMagnitudesNobodyReads: of the arguer's last layer only keys and values are, and their magnitudes alone have a
// gradient there; everywhere else each has one.
func TestDoRAMagnitudesNobodyReads(t *testing.T) {
	onBothDoRA(t, func(t *testing.T, g golden, _ doraRun) {
		m := g.method(t, dtypes.Float32)
		fresh(t, m)
		s, err := m.Train(g.cases[:2], 0.5)
		if err != nil {
			t.Fatal(err)
		}
		for name, grads := range map[string]Grads{"arguer": s.Arguer, "chooser": s.Chooser} {
			for i, p := range m.Arguer.Adapter.Params() {
				if p.Kind != "magnitude" {
					continue
				}
				unread := name == "arguer" && p.Layer == m.layers()-1 && p.Proj != "k_proj" && p.Proj != "v_proj"
				if nothing := norm(grads[i]) == 0; nothing != unread {
					t.Errorf("gradient of %s %s: zero is %t, want %t", name, p.Name(), nothing, unread)
				}
			}
		}
	})
}

func norm(values []float32) (sum float64) {
	for _, v := range values {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum)
}

// TestDoRAResumeIsByteIdentical: a run with new adapters that died after its third step and went on from its second
// leaves what one that was left alone does.
func TestDoRAResumeIsByteIdentical(t *testing.T) {
	onBothDoRA(t, func(t *testing.T, g golden, _ doraRun) {
		trainer := func() *Trainer {
			m := g.method(t, dtypes.Float32)
			fresh(t, m)
			o := goldenOptions(g, 4)
			o.BatchSize, o.SaveEvery = 2, 2
			return newTrainer(t, m, o, g.cases[:4], g.cases[4:])
		}
		whole, dir := filepath.Join(t.TempDir(), "run"), filepath.Join(t.TempDir(), "run")
		train := func(dir string, stop int) error {
			run, err := CreateRun(dir, "a config")
			if err != nil {
				t.Fatal(err)
			}
			defer run.Close()
			return trainer().Run(context.Background(), &crash{RunDir: run, at: stop})
		}
		if err := train(whole, 0); err != nil {
			t.Fatal(err)
		}
		if err := train(dir, 3); !errors.Is(err, errCrash) {
			t.Fatalf("got %v, want the crash", err)
		}
		second := trainer()
		resumed, err := OpenRun(dir, second)
		if err != nil {
			t.Fatal(err)
		}
		defer resumed.Close()
		if second.Step() != 2 {
			t.Errorf("goes on from step %d, want 2", second.Step())
		}
		if err := second.Run(context.Background(), resumed); err != nil {
			t.Fatal(err)
		}
		want, got := contents(t, whole), contents(t, dir)
		if len(got) != len(want) {
			t.Errorf("%d files, want %d", len(got), len(want))
		}
		for name := range want {
			if !bytes.Equal(got[name], want[name]) {
				t.Errorf("%s differs", name)
			}
		}
	})
}

// TestRowWithoutDirectionIsRefused: where the change takes a row of the base away there is nothing to scale.
func TestRowWithoutDirectionIsRefused(t *testing.T) {
	onBoth(t, smallDir(), func(t *testing.T, g golden) {
		m := g.method(t, dtypes.Float32)
		fresh(t, m)
		_, b, _ := m.Chooser.Adapter.Pair(1, "v_proj")
		b.Value[4] = float32(math.Inf(1))
		err := m.Chooser.Upload()
		for _, part := range []string{"layers.1.self_attn.v_proj", "row 1 ", "targets"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("got %v, want an error with %q", err, part)
			}
		}
	})
}

// TestDoRAPlanAgainstObservedPeak: the plan knows what magnitudes cost on the way back.
func TestDoRAPlanAgainstObservedPeak(t *testing.T) {
	if testing.Short() {
		t.Skip("collects garbage all the time")
	}
	c := model.Config{VocabSize: 300, HiddenSize: 128, IntermediateSize: 2048, NumHiddenLayers: 2, NumAttentionHeads: 4,
		NumKeyValueHeads: 4, HeadDim: 32, MaxPositionEmbeddings: 4096, RMSNormEps: 1e-5, RopeTheta: 10000}
	for _, kernels := range []string{Graphs, Panels} {
		t.Run(kernels, func(t *testing.T) {
			if kernels == Panels && !panel.Available() {
				t.Skip("no kernels for this processor, or built without GOEXPERIMENT=simd")
			}
			o := llama.Options{Compute: dtypes.Float32, Residual: dtypes.Float64, Panels: kernels == Panels}
			m, rows := invented(t, c, o, 200, 60, 300, 2)
			fresh(t, m)
			for _, mode := range []string{"evaluation", "training", "training with --remat full"} {
				m.Remat = mode == "training with --remat full"
				comparePeak(t, m, rows, mode)
			}
		})
	}
}
