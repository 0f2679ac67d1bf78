//go:build cgo

package transplant

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotransplant/internal/interpreter"
	"gotransplant/llama"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
)

// TestInterpreted runs the method through go-xla on a plugin that interprets what a GPU would be given. The plugin is
// built once for all.
func TestInterpreted(t *testing.T) {
	plugin, err := interpreter.Build(t.Context(), t.TempDir(), "interpreter")
	if errors.Is(err, interpreter.ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile(plugin)
	if err != nil {
		t.Fatal(err)
	}
	cuda := filepath.Join(t.TempDir(), "pjrt_c_api_cuda_plugin.so")
	if err := os.WriteFile(cuda, code, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOPJRT_CUDA_CHECKS", "0") // it looks for NVIDIA's libraries
	g := small(t)
	t.Run("golden", func(t *testing.T) { interpretedGolden(t, g, plugin) })
	t.Run("conditions", func(t *testing.T) { interpretedConditions(t, g, plugin) })
	t.Run("fused", func(t *testing.T) { interpretedFused(t, g, cuda) })
	t.Run("contest", func(t *testing.T) { interpretedContest(t, g, cuda) })
	t.Run("half precision", func(t *testing.T) { interpretedHalf(t, g, cuda) })
	t.Run("plan", func(t *testing.T) { interpretedPlan(t, g, plugin) })
	t.Run("size of 7b", func(t *testing.T) { interpretedSize(t, cuda) })
	for _, buckets := range []int{1, 2} {
		t.Run(fmt.Sprintf("books of %d buckets", buckets), func(t *testing.T) { interpretedBooks(t, g, plugin, buckets) })
	}
	t.Run("out of memory", func(t *testing.T) { interpretedOutOfMemory(t, g, plugin) })
}

func openInterpreter(t *testing.T, plugin string) compute.Backend {
	t.Helper()
	backend, err := interpreter.Open(plugin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backend.Finalize)
	return backend
}

func counts(t *testing.T, backend compute.Backend) interpreter.Counts {
	t.Helper()
	c, err := interpreter.CountsOf(backend)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// interpretedGolden: log-probabilities and gradients are the reference's.
func interpretedGolden(t *testing.T, g golden, plugin string) {
	for dtype, tolerance := range map[dtypes.DType]float64{dtypes.Float32: 1e-4, dtypes.BFloat16: 2e-2} {
		m := g.methodOn(t, openInterpreter(t, plugin), dtype, llama.AsStored)
		together, err := m.Evaluate(g.cases)
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range together {
			within(t, fmt.Sprintf("%s: logprob_1 of row %d", dtype, i+1), o.LogProb[0], g.run.Rows[i].LogProb1, tolerance)
			within(t, fmt.Sprintf("%s: logprob_2 of row %d", dtype, i+1), o.LogProb[1], g.run.Rows[i].LogProb2, tolerance)
		}
		if dtype != dtypes.Float32 {
			continue
		}
		s, err := m.Train(g.cases, 1/float64(len(g.cases)))
		if err != nil {
			t.Fatal(err)
		}
		g.compareGradients(t, "arguer", m.Arguer, s.Arguer)
		g.compareGradients(t, "chooser", m.Chooser, s.Chooser)
	}
}

// interpretedConditions: what the Go backend's graphs give, in every way that changes what is built.
func interpretedConditions(t *testing.T, g golden, plugin string) {
	ways := conditions()
	ways["no shared prefix"] = func(m *Method) { m.Prefix = Prefix{} }
	ways["blockwise"] = func(m *Method) { m.Attention = llama.BlockwiseAttention }
	backend := openInterpreter(t, plugin)
	for name, set := range ways {
		t.Run(name, func(t *testing.T) { sameOnBoth(t, g, backend, llama.AsStored, set) })
	}
	for _, as := range []llama.Storage{llama.Int8, llama.NF4} {
		t.Run(as.String(), func(t *testing.T) { sameOnBoth(t, g, backend, as, func(*Method) {}) })
	}
}

func sameOnBoth(t *testing.T, g golden, backend compute.Backend, as llama.Storage, set func(*Method)) {
	t.Helper()
	want, got := g.methodAs(t, dtypes.Float32, as), g.methodOn(t, backend, dtypes.Float32, as)
	set(want)
	set(got)
	compareTraining(t, got, want, g.cases[1:3])
}

// interpretedFused: cuDNN's calls, as go-xla writes them, are as far from float32 as plain attention is, and can be planned.
func interpretedFused(t *testing.T, g golden, cuda string) {
	cases := g.cases[:2]
	exact, err := g.method(t, dtypes.Float32).Train(cases, 1)
	if err != nil {
		t.Fatal(err)
	}
	m := g.methodOn(t, openInterpreter(t, cuda), dtypes.BFloat16, llama.AsStored)
	if why := m.Engine.NotFused(); why != "" {
		t.Fatalf("the engine has no fused attention: %s", why)
	}
	errs := make(map[llama.Attention]float64)
	for _, attention := range []llama.Attention{llama.PlainAttention, llama.FusedAttention} {
		m.Attention = attention
		s, err := m.Train(cases, 1)
		if err != nil {
			t.Fatal(err)
		}
		for i := range cases {
			within(t, string(attention)+": log-probability", s.Outcomes[i].LogProb[0], exact.Outcomes[i].LogProb[0], 2e-2)
		}
		for i := range s.Chooser {
			errs[attention] += distance(s.Chooser[i], exact.Chooser[i]) + distance(s.Arguer[i], exact.Arguer[i])
		}
	}
	if plain, fused := errs[llama.PlainAttention], errs[llama.FusedAttention]; !(fused <= 1.25*plain) || fused == plain {
		t.Errorf("summed relative distance of the gradients: fused %g, plain %g", fused, plain)
	}
	for _, name := range []string{"first layer", "blocks computed again", "first layer in buckets"} {
		set, fused := conditions()[name], *m
		set(&fused)
		s, err := fused.Train(cases, 1)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		plain := g.method(t, dtypes.Float32)
		set(plain)
		want, err := plain.Train(cases, 1)
		if err != nil {
			t.Fatal(err)
		}
		within(t, name+": log-probability", s.Outcomes[1].LogProb[1], want.Outcomes[1].LogProb[1], 2e-2)
	}
	if plan, err := m.Memory(cases, Pace{Workers: 1, MicroBatch: 2}, true); err != nil || plan.Workspace == 0 {
		t.Errorf("plan %+v, error %v", plan, err)
	}
}

// interpretedContest: both sides of a contest run.
func interpretedContest(t *testing.T, g golden, cuda string) {
	m := g.methodOn(t, openInterpreter(t, cuda), dtypes.BFloat16, llama.AsStored)
	var lines []string
	m.Contest = NewContest(func(line string) { lines = append(lines, line) })
	if _, err := m.Predict(t.Context(), g.cases[:2], Pace{Workers: 1, MicroBatch: 2}, nil); err != nil {
		t.Fatal(err)
	}
	told := strings.Join(lines, "\n")
	if len(lines) != 1 || strings.Contains(told, "fails") || !strings.Contains(told, "fused in place") {
		t.Errorf("got %q, want one line with the seconds of both sides", told)
	}
}

// interpretedHalf: in bfloat16 no product is one of float32, for which whole weights would be converted, forward or back.
func interpretedHalf(t *testing.T, g golden, cuda string) {
	dir := t.TempDir()
	t.Setenv("INTERPRETER_DUMP", dir)
	m := g.methodOn(t, openInterpreter(t, cuda), dtypes.BFloat16, llama.AsStored)
	if _, err := m.Train(g.cases[:1], 1); err != nil {
		t.Fatal(err)
	}
	programs, err := os.ReadFile(filepath.Join(dir, "programs.txt"))
	if err != nil {
		t.Fatal(err)
	}
	products := 0
	for line := range strings.Lines(string(programs)) {
		products += strings.Count(line, " flop.bf16*bf16>")
		if strings.Contains(line, " flop.f32*") || strings.Contains(line, " flop.f64*") {
			t.Errorf("a product that is not one of bfloat16: %s", line)
		}
	}
	if products < 10 {
		t.Errorf("%d kinds of products in all programs, want those of blocks and head:\n%s", products, programs)
	}
}

// interpretedBooks: a step leaves no buffers and compiles nothing that was not compiled before.
func interpretedBooks(t *testing.T, g golden, plugin string, buckets int) {
	backend := openInterpreter(t, plugin)
	m := g.methodOn(t, backend, dtypes.Float32, llama.AsStored)
	m.Buckets = m.PlanBuckets(g.cases, buckets)
	pace := Pace{Workers: 1, MicroBatch: 4}
	if err := m.Compile(t.Context(), g.cases, pace.MicroBatch, Sweeps{Score: true, Train: true}); err != nil {
		t.Fatal(err)
	}
	compiled := counts(t, backend).Programs
	if want := m.Engine.Ledger().Compilations; compiled != want || compiled == 0 {
		t.Errorf("the plugin compiled %d programs, the engine %d", compiled, want)
	}
	var before interpreter.Counts
	for step := range 3 {
		gradients(t, g, m, pace.MicroBatch)
		if _, err := m.Predict(t.Context(), g.cases, pace, nil); err != nil {
			t.Fatal(err)
		}
		after := counts(t, backend)
		if after.Programs != compiled {
			t.Errorf("step %d compiled %d programs", step+1, after.Programs-compiled)
		}
		if step > 0 && (after.Buffers != before.Buffers || after.Bytes != before.Bytes) {
			t.Errorf("step %d: %d buffers of %d bytes, before it %d of %d", step+1, after.Buffers, after.Bytes, before.Buffers, before.Bytes)
		}
		before = after
	}
	few, many := readsOfUpdate(t, g, backend, m, len(g.cases)), readsOfUpdate(t, g, backend, m, 1)
	const ofScores = 2 // log-probabilities and losses
	if want := few + ofScores*(len(g.cases)-1); many > want {
		t.Errorf("an update of %d micro-batches reads %d buffers, one of a single micro-batch %d; want at most %d, since gradients come once",
			len(g.cases), many, few, want)
	}
	if before.Unordered != 0 {
		t.Errorf("%d elements depend on the order in which a GPU adds up what is scattered", before.Unordered)
	}
}

// readsOfUpdate is how many buffers come to the host.
func readsOfUpdate(t *testing.T, g golden, backend compute.Backend, m *Method, micro int) int {
	t.Helper()
	plain := *m
	plain.Buckets = nil
	before := counts(t, backend).Reads
	gradients(t, g, &plain, micro)
	return counts(t, backend).Reads - before
}

// interpretedPlan: what is held between calls is what was rehearsed.
func interpretedPlan(t *testing.T, g golden, plugin string) {
	backend := openInterpreter(t, plugin)
	m := g.methodOn(t, backend, dtypes.Float32, llama.AsStored)
	m.Prefix = Prefix{} // else gradients of its states outlive the micro-batch
	for _, remat := range []bool{false, true} {
		m.Remat = remat
		group := m.longest(g.cases, 4)[0]
		_, begun, peak, err := m.rehearse(group, true)
		if err != nil {
			t.Fatal(err)
		}
		resident := counts(t, backend).Bytes
		p, err := m.begin(group, true)
		if err != nil {
			t.Fatal(err)
		}
		if got := counts(t, backend).Bytes - resident; got != begun.Bytes() {
			t.Errorf("remat %t: %d bytes when a micro-batch has begun, %d planned", remat, got, begun.Bytes())
		}
		sweep, err := p.fit(1)
		if err != nil {
			t.Fatal(err)
		}
		sweep.discard() // the gradients
		after := counts(t, backend)
		if after.Bytes != resident {
			t.Errorf("remat %t: %d bytes are left", remat, after.Bytes-resident)
		}
		held := after.Peak - resident
		if least := peak.Bytes() - peak.Workspace; !remat && (held < least || held > peak.Bytes()) {
			t.Errorf("held at the worst moment: %d bytes, planned from %d to %d with workspace", held, least, peak.Bytes())
		}
		if most := after.TemporariesPeak - resident; !remat && most < peak.Bytes() {
			t.Errorf("with nothing fused %d bytes are used, and %d were planned", most, peak.Bytes())
		}
	}
}

// interpretedOutOfMemory: a device that runs out of memory in a plugin's words gets half of the rows, and what had been
// made is freed.
func interpretedOutOfMemory(t *testing.T, g golden, plugin string) {
	backend := openInterpreter(t, plugin)
	want := gradients(t, g, g.methodOn(t, backend, dtypes.Float32, llama.AsStored), len(g.cases))
	t.Setenv("INTERPRETER_MEMORY", fmt.Sprint(counts(t, backend).TemporariesPeak*3/4))
	tight := openInterpreter(t, plugin)
	m := g.methodOn(t, tight, dtypes.Float32, llama.AsStored)
	before := counts(t, tight).Buffers
	if _, err := m.Train(g.cases, 1); !errors.As(err, new(*llama.OutOfMemoryError)) {
		t.Fatalf("all rows at once: got error %v, want that the device is out of memory", err)
	}
	if after := counts(t, tight).Buffers; after != before {
		t.Errorf("%d buffers after it, %d before", after, before)
	}
	got := gradients(t, g, m, len(g.cases))
	for i := range want {
		if d := distance(got[i], want[i]); !(d <= 1e-4) {
			t.Errorf("gradient %d in parts: relative distance %g from that of all rows", i, d)
		}
	}
}
