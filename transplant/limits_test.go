package transplant

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"gotransplant/llama"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

// crowded is the Go backend as a device with so many bytes: uploads and executions whose results have no room fail as
// those of an XLA device do.
type crowded struct {
	compute.Backend
	room           int64
	live, failures atomic.Int64
	calls          atomic.Int64
	failAt         int64 // the call that fails; 0: none
	breaks         bool  // it fails for good; else there is no room
}

func (c *crowded) HasSharedBuffers() bool { return false }
func (c *crowded) Builder(name string) compute.Builder {
	return crowdedBuilder{c.Backend.Builder(name), c}
}

func (c *crowded) take(bytes int64) error {
	at := c.calls.Add(1) == c.failAt
	if c.live.Add(bytes) <= c.room && !at {
		return nil
	}
	c.live.Add(-bytes)
	c.failures.Add(1)
	if at && c.breaks {
		return errors.New("the device is broken")
	}
	return fmt.Errorf("PJRT error (code=8): RESOURCE_EXHAUSTED: Out of memory while trying to allocate %d bytes", bytes)
}

func (c *crowded) BufferFromFlatData(device compute.DeviceNum, flat any, s shapes.Shape) (compute.Buffer, error) {
	if err := c.take(int64(s.ByteSize())); err != nil {
		return nil, err
	}
	b, err := c.Backend.BufferFromFlatData(device, flat, s)
	return &crowdedBuffer{Buffer: b, c: c, bytes: int64(s.ByteSize())}, err
}

type crowdedBuilder struct {
	compute.Builder
	c *crowded
}

func (b crowdedBuilder) Compile() (compute.Executable, error) {
	e, err := b.Builder.Compile()
	return crowdedExecutable{e, b.c}, err
}

type crowdedExecutable struct {
	compute.Executable
	c *crowded
}

func (e crowdedExecutable) Execute(inputs []compute.Buffer, donate []bool, device compute.DeviceNum) ([]compute.Buffer, error) {
	var bytes int64
	for _, s := range e.Outputs() {
		bytes += int64(s.ByteSize())
	}
	if err := e.c.take(bytes); err != nil {
		return nil, err
	}
	plain := make([]compute.Buffer, len(inputs))
	for i, in := range inputs {
		plain[i] = in.(*crowdedBuffer).Buffer
	}
	out, err := e.Executable.Execute(plain, donate, device)
	for i, b := range out {
		s, _ := b.Shape()
		out[i] = &crowdedBuffer{Buffer: b, c: e.c, bytes: int64(s.ByteSize())}
	}
	return out, err
}

type crowdedBuffer struct {
	compute.Buffer
	c     *crowded
	bytes int64
}

func (b *crowdedBuffer) Backend() compute.Backend { return b.c }

func (b *crowdedBuffer) Finalize() error {
	b.c.live.Add(-b.bytes)
	return b.Buffer.Finalize()
}

// crowdedMethod is a golden's method on a device that is full with a share of what its cases need as one micro-batch.
func crowdedMethod(t *testing.T, g golden, share float64) (*Method, *crowded) {
	t.Helper()
	c := &crowded{Backend: goBackend(t), room: math.MaxInt64}
	m := g.methodOn(t, c, dtypes.Float32, llama.AsStored)
	plan, err := m.Memory(g.cases, Pace{Workers: 1, MicroBatch: len(g.cases)}, true)
	if err != nil {
		t.Fatal(err)
	}
	c.room = c.live.Load() + int64(share*float64(plan.Kept+plan.Moved+plan.Tables))
	return m, c
}

// TestOutOfMemoryDividesMicroBatches: a run on a device too small for its micro-batches gives what a large enough one
// gives, with every row counted once; it learns what fits, says so once and leaves nothing behind.
func TestOutOfMemoryDividesMicroBatches(t *testing.T) {
	for _, buckets := range []int{0, 2} {
		t.Run(fmt.Sprintf("%d buckets", buckets), func(t *testing.T) {
			g := small(t)
			o := goldenOptions(g, 3)
			o.Pace = Pace{Workers: 1, MicroBatch: len(g.cases)}
			var want memory
			whole := g.method(t, dtypes.Float32)
			whole.Buckets = whole.PlanBuckets(g.cases, buckets)
			if err := newTrainer(t, whole, o, g.cases, g.cases).Run(context.Background(), &want); err != nil {
				t.Fatal(err)
			}
			m, device := crowdedMethod(t, g, 0.3)
			var said []string
			m.Buckets, m.Limits = whole.Buckets, &Limits{Report: func(line string) { said = append(said, line) }}
			before := device.live.Load()
			got := failuresByStep{device: device}
			if err := newTrainer(t, m, o, g.cases, g.cases).Run(context.Background(), &got); err != nil {
				t.Fatal(err)
			}
			for i := range want.steps {
				w, s := want.steps[i], got.steps[i]
				within(t, fmt.Sprintf("loss before step %d", i+1), s.Loss, w.Loss, 1e-6)
				within(t, fmt.Sprintf("gradient norm of step %d", i+1), s.GradientNorm, w.GradientNorm, 1e-5)
				if s.Tokens != w.Tokens || s.FractionCorrect != w.FractionCorrect {
					t.Errorf("step %d: %d tokens and %v correct, want %d and %v", i+1, s.Tokens, s.FractionCorrect, w.Tokens, w.FractionCorrect)
				}
			}
			for i, p := range got.last {
				if p.Row != want.last[i].Row {
					t.Errorf("prediction %d is of row %d, want %d", i, p.Row, want.last[i].Row)
				}
				within(t, "log-probability", p.LogProb1, want.last[i].LogProb1, 1e-5)
			}
			if got.failures[0] == 0 || got.failures[2] != got.failures[0] {
				t.Errorf("out of memory %v times by the end of each step, want some in the first and none later", got.failures)
			}
			if len(said) != 1 || !strings.Contains(said[0], "run in parts") {
				t.Errorf("said %q, want one line", said)
			}
			if after := device.live.Load(); after != before {
				t.Errorf("%d bytes are held after the run, %d before", after, before)
			}
		})
	}
}

// TestLimit: what did not fit holds for shapes that cover it, forward and backward apart.
func TestLimit(t *testing.T) {
	short, long := Shape{Arguer: 16, Chooser: 16, Moved: 8}, Shape{Arguer: 32, Chooser: 16, Moved: 8}
	var l Limits
	l.note(group{rows: 6, shape: long}, true)
	for _, c := range []struct {
		name  string
		shape Shape
		rows  int
		train bool
		want  int
	}{
		{"the same", long, 6, true, 3},
		{"fewer rows", long, 2, true, 2},
		{"a smaller shape", short, 6, true, 6},
		{"without gradients", long, 6, false, 6},
	} {
		if got := l.limit(group{rows: c.rows, shape: c.shape}, c.train); got != c.want {
			t.Errorf("%s: got %d rows, want %d", c.name, got, c.want)
		}
	}
}

// TestBegunWholeAndRunInParts: a micro-batch that was begun before its rows were found to be too many is closed.
func TestBegunWholeAndRunInParts(t *testing.T) {
	g := small(t)
	m, device := crowdedMethod(t, g, 2)
	m.Limits, m.Prefix = &Limits{}, Prefix{}
	before := device.live.Load()
	of := m.groups(g.cases[:2], 2)[0]
	p, err := m.prepare(of, false)
	if err != nil || p == nil {
		t.Fatalf("got %v and error %v, want what was begun", p, err)
	}
	m.Limits.note(of, false)
	parts, err := sweeping{m, false, (*pair).evaluate}.inParts(of, p)
	if err != nil || len(parts) != 2 {
		t.Errorf("got %d parts and error %v, want 2", len(parts), err)
	}
	if after := device.live.Load(); after != before {
		t.Errorf("%d bytes are held afterwards, %d before", after, before)
	}
}

// failuresByStep notes how often the device had been out of memory when a step was done.
type failuresByStep struct {
	memory
	device   *crowded
	failures []int64
}

func (f *failuresByStep) Step(s StepMetrics) error {
	f.failures = append(f.failures, f.device.failures.Load())
	return f.memory.Step(s)
}

// TestRowThatDoesNotFit: the error names the row and is still the device's.
func TestRowThatDoesNotFit(t *testing.T) {
	g := small(t)
	m, device := crowdedMethod(t, g, 0.05)
	m.Prefix = Prefix{} // which would be the first not to fit
	before := device.live.Load()
	o := goldenOptions(g, 1)
	o.Pace = Pace{Workers: 1, MicroBatch: 4}
	err := newTrainer(t, m, o, g.cases, nil).Run(context.Background(), &memory{})
	if !outOfMemory(err) || !strings.Contains(err.Error(), "row 1,") || !strings.Contains(err.Error(), "--max-tokens") {
		t.Errorf("got error %v, want one that names the row and what to do", err)
	}
	if after := device.live.Load(); after != before {
		t.Errorf("%d bytes are held after the run, %d before", after, before)
	}
}

// TestFailedSweepFreesEverything: wherever in it memory runs out.
func TestFailedSweepFreesEverything(t *testing.T) {
	g := small(t)
	for _, remat := range []bool{false, true} {
		m, device := crowdedMethod(t, g, 2)
		m.Remat = remat
		before := device.live.Load()
		device.calls.Store(0)
		if _, err := m.Train(g.cases[:2], 1); err != nil {
			t.Fatal(err)
		}
		for device.failAt = range device.calls.Load() {
			device.failAt++
			device.calls.Store(0)
			if _, err := m.Train(g.cases[:2], 1); !outOfMemory(err) {
				t.Errorf("remat=%t, out of memory at call %d: got error %v", remat, device.failAt, err)
			}
			if after := device.live.Load(); after != before {
				t.Fatalf("remat=%t, out of memory at call %d: %d bytes are held afterwards, %d before", remat, device.failAt, after, before)
			}
		}
	}
}

// TestFailedUpdateFreesEverything: wherever in it the device breaks, with one micro-batch after the other or two at a time,
// and where micro-batches are divided. Some of the calls break, which all of them may.
func TestFailedUpdateFreesEverything(t *testing.T) {
	g := small(t)
	for _, c := range []struct {
		name           string
		share          float64 // of the room for all rows at once
		workers, micro int
	}{{"one at a time", 2, 1, 1}, {"two at a time", 2, 2, 1}, {"in parts", 0.3, 1, 3}} {
		t.Run(c.name, func(t *testing.T) {
			m, device := crowdedMethod(t, g, c.share)
			device.breaks = true
			o := goldenOptions(g, 1)
			o.Pace = Pace{Workers: c.workers, MicroBatch: c.micro}
			trainer := newTrainer(t, m, o, g.cases[:3], nil)
			update := func() error {
				_, err := trainer.update(t.Context(), &memory{})
				return err
			}
			before := device.live.Load()
			device.calls.Store(0)
			if err := update(); err != nil {
				t.Fatal(err)
			}
			calls := device.calls.Load()
			const tries = 16
			for try := range int64(tries) {
				device.failAt = 1 + try*(calls-1)/(tries-1)
				device.calls.Store(0)
				err := update()
				if err == nil {
					t.Errorf("call %d of %d fails, and the update does not", device.failAt, calls)
				}
				if after := device.live.Load(); after != before {
					t.Fatalf("call %d of %d fails (%v): %d bytes are held afterwards, %d before", device.failAt, calls, err, after, before)
				}
			}
		})
	}
}

// TestLossThatIsNotFiniteFreesEverything: what a micro-batch left is freed where its loss ends the update.
func TestLossThatIsNotFiniteFreesEverything(t *testing.T) {
	g := small(t)
	m, device := crowdedMethod(t, g, 2)
	poison := &poisoned{method: m}
	if err := poison.Step(StepMetrics{}); err != nil {
		t.Fatal(err)
	}
	before := device.live.Load()
	var broken *NotFiniteError
	if _, err := newTrainer(t, m, goldenOptions(g, 1), g.cases[:1], nil).update(t.Context(), &memory{}); !errors.As(err, &broken) {
		t.Fatalf("got error %v, want a NotFiniteError", err)
	}
	if after := device.live.Load(); after != before {
		t.Errorf("%d bytes are held after the update, %d before", after, before)
	}
}

// TestFailedUpdateLeavesNoGradients: an update after one that failed halfway has the bits of one that is the first.
func TestFailedUpdateLeavesNoGradients(t *testing.T) {
	g := small(t)
	o := goldenOptions(g, 1)
	o.Pace = Pace{Workers: 1, MicroBatch: 1}
	for name, onDevice := range map[string]bool{"sums on the host": false, "sums on the device": true} {
		t.Run(name, func(t *testing.T) {
			begin := func() (*Trainer, *crowded) {
				m, device := crowdedMethod(t, g, 2)
				trainer := newTrainer(t, m, o, g.cases[:3], nil)
				if onDevice {
					trainer.sums, trainer.tensors = sumsOnDevice(m)
				}
				device.calls.Store(0)
				return trainer, device
			}
			first, device := begin()
			want, err := first.update(t.Context(), &memory{})
			if err != nil {
				t.Fatal(err)
			}
			second, broken := begin()
			broken.breaks, broken.failAt = true, device.calls.Load()*3/5 // in the last row's sweep
			if _, err := second.update(t.Context(), &memory{}); err == nil {
				t.Fatal("the device breaks, and the update does not fail")
			}
			got, err := second.update(t.Context(), &memory{})
			if err != nil {
				t.Fatal(err)
			}
			if got.Loss != want.Loss || got.GradientNorm != want.GradientNorm {
				t.Errorf("after an update that failed: loss %v and gradient norm %v, want %v and %v", got.Loss, got.GradientNorm, want.Loss, want.GradientNorm)
			}
		})
	}
}

// TestLimitsAreResumed: a run that was divided and stopped goes on to the same bits as one that was not stopped.
func TestLimitsAreResumed(t *testing.T) {
	g := small(t)
	trainer := func() *Trainer {
		o := goldenOptions(g, 4)
		o.Pace, o.SaveEvery = Pace{Workers: 1, MicroBatch: len(g.cases)}, 1
		m, _ := crowdedMethod(t, g, 0.3)
		m.Limits = &Limits{}
		return newTrainer(t, m, o, g.cases, nil)
	}
	run := func(dir string, stop func(r *RunDir) Recorder) {
		t.Helper()
		r, err := CreateRun(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := trainer().Run(context.Background(), stop(r)); err != nil && !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	run(filepath.Join(dir, "whole"), func(r *RunDir) Recorder { return r })
	run(filepath.Join(dir, "stopped"), func(r *RunDir) Recorder { return &crash{RunDir: r, at: 3} })
	second := trainer()
	r, err := OpenRun(filepath.Join(dir, "stopped"), second)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if len(second.Method.Limits.list()) == 0 {
		t.Error("no limit was saved")
	}
	if err := second.Run(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	want, got := contents(t, filepath.Join(dir, "whole")), contents(t, filepath.Join(dir, "stopped"))
	for name := range want {
		if string(got[name]) != string(want[name]) {
			t.Errorf("%s differs", name)
		}
	}
}

// whole is a recorder that sees whether what is saved is the state after a step, and how many calls a step has.
type whole struct {
	memory
	t      *testing.T
	device *crowded
	saved  []int
	calls  int64
}

func (w *whole) Step(StepMetrics) error { w.calls = w.device.calls.Load(); return nil }

func (w *whole) Save(tr *Trainer) error {
	if int(tr.adam.Steps()) != tr.step {
		w.t.Errorf("saved at step %d with moments of %d", tr.step, tr.adam.Steps())
	}
	w.saved = append(w.saved, tr.step)
	return nil
}

// TestFailedUpdateIsSavedWhole: where the device fails in an update the state after the step before is saved, unless the
// adapters have been changed already, and no failure passes for numbers that are not finite.
func TestFailedUpdateIsSavedWhole(t *testing.T) {
	g := small(t)
	o := goldenOptions(g, 1)
	o.Pace = Pace{Workers: 1, MicroBatch: 1} // which cannot be divided
	run := func(failAt int64) (*whole, error) {
		m, device := crowdedMethod(t, g, 2)
		device.calls.Store(0)
		device.failAt = failAt
		w := &whole{t: t, device: device}
		return w, newTrainer(t, m, o, g.cases[:1], nil).Run(context.Background(), w)
	}
	fine, err := run(0)
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[int64]bool{fine.calls / 2: true, fine.calls/2 - 5: true, fine.calls: false, fine.calls - 3: false} {
		w, err := run(at)
		var broken *NotFiniteError
		if err == nil || errors.As(err, &broken) {
			t.Fatalf("call %d of %d fails: got error %v", at, fine.calls, err)
		}
		if got := strings.Contains(err.Error(), "after step 0 is saved"); got != want || len(w.saved) > 0 != want {
			t.Errorf("call %d of %d fails: saved %v, which the error tells: %t; want saved: %t: %v", at, fine.calls, w.saved, got, want, err)
		}
	}
}
