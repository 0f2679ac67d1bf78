package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/setup"
	"gotransplant/internal/standin"
	"gotransplant/llama"
	"gotransplant/lora"
	"gotransplant/model"
	"gotransplant/model/safetensors"
	"gotransplant/transplant"

	"github.com/gomlx/compute"
)

// benchmark is a method over made weights, its rows, and what its figures are measured against.
type benchmark struct {
	options options
	session *setup.Session
	facts   facts
	ceiling float64 // FLOP a second of a large product on the device in the compute dtype
	made    time.Duration
	plan    string // of memory: lines
}

// facts stand in every figure.
type facts struct {
	Shape      string `json:"shape"`
	Rows       int    `json:"rows"` // in a step
	Arguer     int    `json:"arguer_tokens"`
	Chooser    int    `json:"chooser_tokens"`
	Argument   int    `json:"argument_tokens"`
	Prefix     int    `json:"prefix_tokens"` // computed once a step, of both roles together
	LoraRank   int    `json:"lora_rank"`
	DType      string `json:"dtype"` // of the computation
	Weights    string `json:"weights_dtype"`
	Residual   string `json:"residual"`
	MicroBatch int    `json:"micro_batch"`
	Workers    int    `json:"workers"` // micro-batches at a time
	Backend    string `json:"backend"`
	Kernels    string `json:"kernels"`
	Device     string `json:"device"`
	Cores      int    `json:"cores"`
	Go         string `json:"go"`
	Commit     string `json:"commit"`
}

// job is what the flags ask for, and where complaints go.
type job struct {
	settings setup.Settings
	options  options
	config   model.Config
	stderr   io.Writer
}

// open makes weights, rows and adapters and measures the ceiling.
func (j job) open() (*benchmark, error) {
	backend, err := program.Backend(j.settings, j.stderr)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	kept, err := llama.ParseStorage(j.settings.Weights)
	if err != nil {
		return nil, fmt.Errorf("--%w", err)
	}
	weights, err := llama.DeferMade(backend, j.config, j.options.made(), kept, func(i int, spec safetensors.Spec) ([]byte, error) {
		return standin.Fill(spec, j.settings.Seed+uint64(i))
	})
	if err != nil {
		return nil, err
	}
	b, err := assemble(j.settings, j.options, backend, weights)
	if err != nil {
		return nil, err
	}
	b.made, b.facts.Device = time.Since(start), device(backend)
	if b.plan, err = b.session.PlanMemory(program.Capacity(j.settings), setup.Controls{}); err != nil {
		return nil, err
	}
	b.facts.Workers = b.session.Pace.Workers
	b.watch(j.stderr)
	if b.session.Method.Engine.Panels() {
		b.ceiling = panelCeiling(j.settings.DType)
	} else if b.ceiling, err = ceiling(backend, j.settings.DType, func(line string) { fmt.Fprintln(j.stderr, line) }); err != nil {
		return nil, err
	}
	return b, nil
}

// watch has attention chosen as in a run, by measured cost where there is a choice, and tells on w what was chosen and which
// micro-batches did not fit: the time of their parts would else pass for that of whole ones.
func (b *benchmark) watch(w io.Writer) {
	tell := func(line string) { fmt.Fprintln(w, line) }
	b.session.Compete(tell)
	b.session.Method.Limits.Report = tell
}

// made is the type of the weights in the checkpoint that they stand for.
func (o options) made() safetensors.DType {
	if o.weights == "bfloat16" {
		return safetensors.BF16
	}
	return safetensors.F32
}

// assemble makes rows and adapters for weights.
func assemble(s setup.Settings, o options, backend compute.Backend, weights *llama.Weights) (*benchmark, error) {
	c := weights.Config
	cases, err := o.lengths.cases(o.rows, c, s.Seed)
	if err != nil {
		return nil, err
	}
	session, err := setup.New(s, backend, weights, cases, labels(c))
	if err != nil {
		return nil, err
	}
	stored := o.weights
	if s.Weights != llama.AsStored.String() {
		stored = s.Weights
	}
	facts := facts{Shape: o.shape, Rows: o.rows, Arguer: o.lengths.arguer, Chooser: o.lengths.chooser,
		Argument: o.lengths.argument, Prefix: session.Method.Prefix.Tokens(), LoraRank: s.LoraRank, DType: s.DType, Weights: stored, Residual: s.Residual,
		MicroBatch: session.Pace.MicroBatch, Workers: session.Pace.Workers, Backend: s.Backend, Kernels: session.Kernels,
		Cores: runtime.GOMAXPROCS(0), Go: runtime.Version(), Commit: program.Revision()}
	return &benchmark{options: o, session: session, facts: facts}, nil
}

// device names what computes.
func device(backend compute.Backend) string {
	if strings.HasPrefix(backend.String(), "go") {
		return processor()
	}
	return backend.Description() + ": " + backend.DeviceDescription(0)
}

// figure is what was measured of a part.
type figure struct {
	Part string `json:"part"`
	facts
	SecondsPerStep          float64   `json:"seconds_per_step"` // median of the trials
	Trials                  []float64 `json:"trials"`           // seconds, in order
	RowsPerSecond           float64   `json:"rows_per_second"`
	PlainTokensPerSecond    float64   `json:"plain_tokens_per_second"`    // as many as the plain method would compute
	ComputedTokensPerSecond float64   `json:"computed_tokens_per_second"` // padding not counted
	FlopPerStep             float64   `json:"flop_per_step"`              // by formula: transplant.Lengths
	MFU                     float64   `json:"mfu"`                        // share of the ceiling
	Ceiling                 float64   `json:"matmul_ceiling_flop_per_second"`
	FirstStepSeconds        float64   `json:"first_step_seconds"` // compilation included
	Kinds                   int       `json:"kinds"`              // of executables compiled for this part
	Compilations            int       `json:"compilations"`
	CompileSeconds          float64   `json:"compile_seconds"` // summed over goroutines
	PeakHostBytes           int64     `json:"peak_host_bytes"` // VmHWM: the most the process ever had resident
	Parts                   []share   `json:"time_by_part"`
}

// share is a part's time in one step, summed over goroutines.
type share struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Share   float64 `json:"share"` // of the time of all goroutines
}

// laps are whole steps: the first, which compiles, one to warm up, then the trials; and the books before and after the
// trials.
type laps struct {
	seconds               []float64
	start, before, after  llama.Ledger
	optimizing, optimized time.Duration
}

func (b *benchmark) measure(ctx context.Context, part string) (figure, error) {
	times := b.train
	if part == eval {
		times = b.evaluate
	}
	l, err := times(ctx)
	if err != nil {
		return figure{}, err
	}
	trials := l.seconds[2:]
	f := figure{Part: part, facts: b.facts, SecondsPerStep: median(trials), Trials: trials, Ceiling: b.ceiling,
		FirstStepSeconds: l.seconds[0], PeakHostBytes: peakHostBytes()}
	all := l.after.Since(l.start)
	f.Kinds, f.Compilations, f.CompileSeconds = all.Kinds, all.Compilations, all.CompileSeconds
	plain, computed, flop := b.work()
	f.FlopPerStep = flop.Total()
	if part == eval {
		f.FlopPerStep = flop.Forward()
	}
	f.RowsPerSecond = float64(len(b.session.Cases)) / f.SecondsPerStep
	f.PlainTokensPerSecond = float64(plain) / f.SecondsPerStep
	f.ComputedTokensPerSecond = float64(computed) / f.SecondsPerStep
	f.MFU = f.FlopPerStep / f.SecondsPerStep / b.ceiling
	f.Parts = b.shares(l)
	return f, nil
}

// work is what a step takes: tokens as the plain method counts them and as they are computed, and FLOP by formula.
func (b *benchmark) work() (plain, computed int, flop transplant.Flop) {
	prefix := b.session.Method.Prefix
	computed, flop = prefix.Tokens(), prefix.Flop(b.session.Config, b.session.LoraRank, b.targets())
	for _, c := range b.session.Cases {
		l := c.Lengths(prefix)
		plain, computed = plain+c.Tokens(), computed+l.Arguer+l.Chooser
		flop = flop.Plus(l.Flop(b.session.Config, b.session.LoraRank, b.targets()))
	}
	return plain, computed, flop
}

// targets are the projections that the adapters stand on.
func (b *benchmark) targets() []string {
	return slices.DeleteFunc(lora.Projections(), func(proj string) bool {
		_, _, ok := b.session.Method.Chooser.Adapter.Pair(0, proj)
		return !ok
	})
}

// train times updates of a Trainer, each of all rows.
func (b *benchmark) train(ctx context.Context) (laps, error) {
	count := 2 + b.options.trials
	b.session.Steps = count + 1 // so that Run does not score at the end
	trainer, err := b.session.TrainerInOrder()
	if err != nil {
		return laps{}, err
	}
	w := &stopwatch{engine: b.session.Method.Engine, trainer: trainer, count: count}
	w.start = w.engine.Ledger()
	w.lapped = time.Now()
	if err := b.compile(ctx, transplant.Sweeps{Train: true}); err != nil {
		return laps{}, err
	}
	if err := trainer.Run(ctx, w); !errors.Is(err, errEnough) {
		return laps{}, err
	}
	return w.laps, nil
}

// compile builds in advance what a run would, as a part of the first step.
func (b *benchmark) compile(ctx context.Context, sweeps transplant.Sweeps) error {
	return b.session.Method.Compile(ctx, b.session.Cases, b.session.Pace.MicroBatch, sweeps)
}

// errEnough ends a run of the trainer.
var errEnough = errors.New("enough steps")

// stopwatch is a transplant.Recorder that times whole steps and keeps nothing else.
type stopwatch struct {
	laps
	engine  *llama.Engine
	trainer *transplant.Trainer
	count   int
	lapped  time.Time
}

// Step takes a lap.
func (w *stopwatch) Step(transplant.StepMetrics) error {
	now := time.Now()
	w.seconds = append(w.seconds, now.Sub(w.lapped).Seconds())
	switch len(w.seconds) {
	case 2:
		w.before, w.optimizing = w.engine.Ledger(), w.trainer.Optimizing()
	case w.count:
		w.after, w.optimized = w.engine.Ledger(), w.trainer.Optimizing()
		return errEnough
	}
	w.lapped = time.Now()
	return nil
}

// Scored, Predicted, Save and Progress are not called for, or not of interest.
func (w *stopwatch) Scored(transplant.CurvePoint) error        { return nil }
func (w *stopwatch) Predicted([]transplant.Prediction) error   { return nil }
func (w *stopwatch) Save(*transplant.Trainer) error            { return nil }
func (w *stopwatch) Progress(what string, done int, total int) {}

// evaluate times evaluations of all rows.
func (b *benchmark) evaluate(ctx context.Context) (laps, error) {
	m := b.session.Method
	l := laps{start: m.Engine.Ledger()}
	for i := range 2 + b.options.trials {
		if i == 2 {
			l.before = m.Engine.Ledger()
		}
		start := time.Now()
		if i == 0 {
			if err := b.compile(ctx, transplant.Sweeps{Score: true}); err != nil {
				return laps{}, err
			}
		}
		if _, err := m.Predict(ctx, b.session.Cases, b.session.Pace, nil); err != nil {
			return laps{}, err
		}
		l.seconds = append(l.seconds, time.Since(start).Seconds())
	}
	l.after = m.Engine.Ledger()
	return l, nil
}

// shares splits the time of a step, summed over the goroutines that run micro-batches. What no executable and no
// optimizer took is the host's: packing, masks and embeddings, copies of gradients, and waiting.
func (b *benchmark) shares(l laps) []share {
	calls, trials := l.after.Since(l.before).Calls, l.seconds[2:]
	batches := (len(b.session.Cases) + b.session.Pace.MicroBatch - 1) / b.session.Pace.MicroBatch
	goroutines := float64(min(b.session.Pace.Workers, batches))
	var total float64
	for _, s := range trials {
		total += s * goroutines
	}
	spent := func(stream string, passes ...string) (seconds float64) {
		for _, p := range passes {
			seconds += calls[llama.Work{Stream: stream, Pass: p}].Seconds
		}
		return seconds
	}
	forward := []string{llama.ForwardPass, llama.KeysValuesPass}
	backward := []string{llama.BackwardPass, llama.BackwardKeysValues}
	parts := []share{
		{Name: "arguer forward", Seconds: spent(transplant.ArguerName, forward...)},
		{Name: "chooser forward", Seconds: spent(transplant.ChooserName, forward...)},
		{Name: "head", Seconds: spent(transplant.ChooserName, llama.ScorePass)},
		{Name: "chooser backward", Seconds: spent(transplant.ChooserName, backward...)},
		{Name: "arguer backward", Seconds: spent(transplant.ArguerName, backward...)},
		{Name: "optimizer", Seconds: (l.optimized - l.optimizing).Seconds() * goroutines},
	}
	host := total
	for _, p := range parts {
		host -= p.Seconds
	}
	host = max(0, host) // on a device gradients are added up beside the next sweep
	parts = append(parts, share{Name: "host", Seconds: host})
	for i := range parts {
		parts[i].Share = parts[i].Seconds / total
		parts[i].Seconds /= float64(len(trials))
	}
	return parts
}

func median(xs []float64) float64 {
	sorted := slices.Sorted(slices.Values(xs))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
