//go:build cgo

package transplant

import (
	"os"
	"path/filepath"
	"testing"

	"gotransplant/data"
	"gotransplant/llama"
	"gotransplant/lora"
	"gotransplant/model"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute/dtypes"
)

// interpretedSize compiles, and does not run, the programs of a training step of two layers of LLaMA-7B's shape, for the
// plugin to write down. It takes 3 GB of memory.
func interpretedSize(t *testing.T, cuda string) {
	dir := os.Getenv("INTERPRETER_DUMP")
	if dir == "" {
		t.Skip("INTERPRETER_DUMP names no directory for the programs")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := model.Config{VocabSize: 32000, HiddenSize: 4096, IntermediateSize: 11008, NumHiddenLayers: 2, NumAttentionHeads: 32,
		NumKeyValueHeads: 32, HeadDim: 128, MaxPositionEmbeddings: 2048, RMSNormEps: 1e-5, RopeTheta: 10000}
	zeros := func(_ int, s safetensors.Spec) ([]byte, error) {
		size, err := safetensors.ByteSize(safetensors.BF16, s.Shape)
		return make([]byte, size), err
	}
	w, err := llama.DeferMade(openInterpreter(t, cuda), c, safetensors.BF16, llama.AsStored, zeros)
	if err != nil {
		t.Fatal(err)
	}
	e, err := llama.NewEngine(w, llama.Options{Compute: dtypes.BFloat16, Residual: dtypes.Float64})
	if err != nil {
		t.Fatal(err)
	}
	m := &Method{Engine: e, Labels: [2]int32{1, 2}}
	for i, role := range []**Role{&m.Arguer, &m.Chooser} {
		targets, err := lora.ParseTargets("q_proj,k_proj,v_proj,o_proj")
		if err != nil {
			t.Fatal(err)
		}
		a, err := lora.New(lora.Options{Rank: 16, Alpha: 16, Targets: targets}, c, uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		if *role, err = NewRole(e, a); err != nil {
			t.Fatal(err)
		}
	}
	const trunk, argument, gap = 120, 90, 4
	row := Case{Row: 1, Label: 1, Choose: make([]int32, 420)}
	for i := range row.Argue {
		row.Argue[i] = Passage{make([]int32, trunk+argument), data.Span{Start: trunk, End: trunk + argument}}
		start := trunk + 10 + i*(argument+gap)
		row.Spans[i] = data.Span{Start: start, End: start + argument}
	}
	cases, pace := []Case{row}, Pace{Workers: 1, MicroBatch: 4}
	m.Buckets = m.PlanBuckets(cases, 1)
	if err := m.Compile(t.Context(), cases, pace.MicroBatch, Sweeps{Score: true, Train: true}); err != nil {
		t.Fatal(err)
	}
	plan, err := m.Memory(cases, pace, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("buckets %s, plan %+v, programs in %s", m.Buckets, plan, filepath.Join(dir, "programs.txt"))
}
