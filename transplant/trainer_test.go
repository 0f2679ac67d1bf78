package transplant

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gotransplant/lora"

	"github.com/gomlx/compute/dtypes"
)

// memory is a Recorder that keeps what it is told; it interrupts the run, if asked, on entering a step.
type memory struct {
	steps  []StepMetrics
	points []CurvePoint
	last   []Prediction
	saves  int
}

func (m *memory) Step(s StepMetrics) error          { m.steps = append(m.steps, s); return nil }
func (m *memory) Scored(p CurvePoint) error         { m.points = append(m.points, p); return nil }
func (m *memory) Predicted(p []Prediction) error    { m.last = p; return nil }
func (m *memory) Save(*Trainer) error               { m.saves++; return nil }
func (m *memory) Progress(what string, done, n int) {}

// goldenOptions are those of the golden runs: the whole file as one batch.
func goldenOptions(g golden, steps int) TrainOptions {
	return TrainOptions{
		Steps: steps, BatchSize: len(g.cases), Pace: Pace{Workers: 2, MicroBatch: 1},
		Adam:     lora.AdamWOptions{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8},
		Schedule: lora.Schedule{Kind: "constant", Peak: g.run.Train.LR},
	}
}

func fileOrder(n int) func(int) []int {
	return func(int) []int {
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		return order
	}
}

func newTrainer(t *testing.T, m *Method, o TrainOptions, train, test []Case) *Trainer {
	t.Helper()
	trainer, err := NewTrainer(m, o, train, test)
	if err != nil {
		t.Fatal(err)
	}
	trainer.Order = fileOrder(len(train))
	return trainer
}

// TestGoldenTrajectory: the loss before each of five AdamW steps on both adapters, and after them.
func TestGoldenTrajectory(t *testing.T) {
	for _, dir := range goldenDirs() {
		for _, micro := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s micro-batch %d", filepath.Base(dir), micro), func(t *testing.T) {
				onBoth(t, dir, func(t *testing.T, g golden) {
					o := goldenOptions(g, len(g.run.Train.Loss))
					o.Pace.MicroBatch = micro
					var seen memory
					if err := newTrainer(t, g.method(t, dtypes.Float32), o, g.cases, nil).Run(context.Background(), &seen); err != nil {
						t.Fatal(err)
					}
					for i, want := range g.run.Train.Loss {
						within(t, fmt.Sprintf("loss before step %d", i+1), seen.steps[i].Loss, want, 1e-3)
					}
					within(t, "loss after", Summarize(seen.last).Loss.Value(), g.run.Train.LossAfter, 1e-3)
				})
			})
		}
	}
}

// TestWorkersDoNotChangeBits: the same run on one and on three workers ends with the same bits.
func TestWorkersDoNotChangeBits(t *testing.T) {
	onBoth(t, smallDir(), func(t *testing.T, g golden) {
		var ends [][]float32
		for _, workers := range []int{1, 3} {
			m := g.method(t, dtypes.Float32)
			o := goldenOptions(g, 2)
			o.Pace.Workers = workers
			if err := newTrainer(t, m, o, g.cases, nil).Run(context.Background(), &memory{}); err != nil {
				t.Fatal(err)
			}
			var all []float32
			for _, p := range append(m.Arguer.Adapter.Params(), m.Chooser.Adapter.Params()...) {
				all = append(all, p.Value...)
			}
			ends = append(ends, all)
		}
		for i := range ends[0] {
			if math.Float32bits(ends[0][i]) != math.Float32bits(ends[1][i]) {
				t.Fatalf("value %d: %v with one worker, %v with three", i, ends[0][i], ends[1][i])
			}
		}
	})
}

// crash is a run directory that dies without a trace, or is interrupted, on entering a given step.
type crash struct {
	*RunDir
	at    int
	abort func()
}

var errCrash = errors.New("crash")

func (c *crash) Step(m StepMetrics) error {
	if err := c.RunDir.Step(m); err != nil {
		return err
	}
	if m.Step != c.at {
		return nil
	}
	if c.abort != nil {
		c.abort()
		return nil
	}
	return errCrash
}

// TestResumeIsByteIdentical: a run killed after any step, or interrupted, and resumed leaves the files of one that was
// not, seconds apart.
func TestResumeIsByteIdentical(t *testing.T) {
	g := openGolden(t, filepath.Join("testdata", "golden-small"))
	train, test := g.cases[:4], g.cases[4:]
	trainer := func() *Trainer {
		o := goldenOptions(g, 5)
		o.BatchSize, o.EvalEvery, o.SaveEvery = 3, 2, 2
		return newTrainer(t, g.method(t, dtypes.Float32), o, train, test)
	}
	whole := t.TempDir()
	run, err := CreateRun(filepath.Join(whole, "run"), map[string]int{"seed": 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := trainer().Run(context.Background(), run); err != nil {
		t.Fatal(err)
	}
	run.Close()
	want := contents(t, filepath.Join(whole, "run"))
	for step := 1; step <= 5; step++ {
		for _, interrupted := range []bool{false, true} {
			t.Run(fmt.Sprintf("stopped at step %d, interrupted=%t", step, interrupted), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "run")
				first, err := CreateRun(dir, map[string]int{"seed": 1})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				stop := &crash{RunDir: first, at: step}
				wantErr := errCrash
				if interrupted {
					stop.abort, wantErr = cancel, ErrInterrupted
				}
				if err := trainer().Run(ctx, stop); !errors.Is(err, wantErr) && !(interrupted && step == 5 && err == nil) {
					t.Fatalf("got error %v, want %v", err, wantErr)
				}
				first.Close()
				second := trainer()
				resumed, err := OpenRun(dir, second)
				if err != nil {
					t.Fatal(err)
				}
				onDisk := fmt.Sprintf("on disk is the state after step %d,", second.step)
				if lost := second.unsaved(errCrash, errCrash); !strings.Contains(lost.Error(), onDisk) {
					t.Errorf("a resumed run that cannot be saved says %q, want %q in it", lost, onDisk)
				}
				if err := second.Run(context.Background(), resumed); err != nil {
					t.Fatal(err)
				}
				resumed.Close()
				got := contents(t, dir)
				for name := range want {
					if !bytes.Equal(got[name], want[name]) {
						t.Errorf("%s differs:\n%.300q\nwant\n%.300q", name, got[name], want[name])
					}
				}
				if len(got) != len(want) {
					t.Errorf("%d files, want %d", len(got), len(want))
				}
			})
		}
	}
}

// contents reads all files below dir, without the seconds in metrics.jsonl and curve.csv.
func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		name := strings.TrimPrefix(path, dir)
		switch filepath.Base(path) {
		case MetricsFile:
			content = regexp.MustCompile(`"seconds":[^,]*,`).ReplaceAll(content, nil)
		case CurveFile:
			content = regexp.MustCompile(`(?m)^(\d+),[^,]*,`).ReplaceAll(content, []byte("$1,"))
		}
		files[name] = content
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestScoreThatIsNotFinite: the run stops, names step and rows and what is on disk, and neither the predictions, the curve
// nor the state are replaced.
func TestScoreThatIsNotFinite(t *testing.T) {
	g := small(t)
	for _, c := range []struct {
		name             string
		fresh            bool // the model gives NaN before any step
		saveEvery, saves int
		wantStep         int
		want             []string
	}{
		{"nothing saved", false, 0, 0, 1, []string{"scoring after step 1 (rows 5)", "nothing was saved", "--lr", "--clip-norm"}},
		{"saved before", false, 1, 1, 1, []string{"the state after step 0 is kept", "--resume"}},
		{"the model itself", true, 1, 0, 0, []string{"scoring after step 0 (rows 5)", "output is not finite before anything", "--dtype"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := g.method(t, dtypes.Float32)
			o := goldenOptions(g, 3)
			o.EvalEvery, o.SaveEvery = 1, c.saveEvery
			seen := &poisoned{method: m}
			if c.fresh {
				seen.Step(StepMetrics{})
			}
			err := newTrainer(t, m, o, g.cases[:4], g.cases[4:]).Run(context.Background(), seen)
			var broken *NotFiniteError
			if !errors.As(err, &broken) {
				t.Fatalf("got error %v, want a NotFiniteError", err)
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %q, want %q in it", err, part)
				}
			}
			if broken.Step != c.wantStep || !slices.Equal(broken.Rows, []int{5}) {
				t.Errorf("got step %d and rows %v, want step %d and the first micro-batch's row 5", broken.Step, broken.Rows, c.wantStep)
			}
			if seen.saves != c.saves || len(seen.points) != c.wantStep || len(seen.last) > 0 && !finite(seen.last[0].Loss) {
				t.Errorf("saved %d times, %d scores, last predictions %v; want %d, %d and none that is not finite",
					seen.saves, len(seen.points), seen.last, c.saves, c.wantStep)
			}
		})
	}
}

// TestLossOfTheModelItself: where the first loss is not finite no learning rate is to blame.
func TestLossOfTheModelItself(t *testing.T) {
	g := small(t)
	m := g.method(t, dtypes.Float32)
	poison := &poisoned{method: m}
	poison.Step(StepMetrics{})
	err := newTrainer(t, m, goldenOptions(g, 1), g.cases, nil).Run(context.Background(), poison)
	if err == nil || !strings.Contains(err.Error(), "before anything was trained") || strings.Contains(err.Error(), "--lr") {
		t.Errorf("got %v, want that it is the model's own output, and nothing of --lr", err)
	}
}

// TestInterruptedAndNotSaved: the error is none of an interruption, and says which step is on disk. Saving is not tried again.
func TestInterruptedAndNotSaved(t *testing.T) {
	g := small(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o := goldenOptions(g, 3)
	o.SaveEvery = 3
	full := &fullDisk{cancel: cancel, err: errors.New("no space left on device")}
	err := newTrainer(t, g.method(t, dtypes.Float32), o, g.cases[:1], nil).Run(ctx, full)
	if errors.Is(err, ErrInterrupted) || !errors.Is(err, full.err) || !strings.Contains(err.Error(), "after step 0, from which --resume") {
		t.Errorf("got %v, want that there is no space and that step 0 is on disk", err)
	}
	if full.saves != 2 {
		t.Errorf("tried to save %d times, want once after step 0 and once when it was interrupted", full.saves)
	}
}

// fullDisk takes one save and is interrupted after the first step.
type fullDisk struct {
	memory
	cancel func()
	err    error
}

func (f *fullDisk) Step(StepMetrics) error { f.cancel(); return nil }

func (f *fullDisk) Save(*Trainer) error {
	if f.saves++; f.saves > 1 {
		return f.err
	}
	return nil
}

// TestNotWritten: whatever of a run cannot be written, its end says which step is on disk.
func TestNotWritten(t *testing.T) {
	g := small(t)
	for _, what := range []string{"step", "predictions", "score", "state"} {
		full := &fullLater{what: what, err: errors.New("no space left on device")}
		o := goldenOptions(g, 2)
		o.SaveEvery, o.EvalEvery = 1, 1
		err := newTrainer(t, g.method(t, dtypes.Float32), o, g.cases[:1], g.cases[1:2]).Run(context.Background(), full)
		if !errors.Is(err, full.err) || !strings.Contains(err.Error(), "stopped after step 1") ||
			!strings.Contains(err.Error(), "on disk is the state after step 0, from which --resume goes on") {
			t.Errorf("%s: got %v, want that it stopped after step 1 for want of space, and that step 0 is on disk", what, err)
		}
	}
}

// fullLater is a disk that has no room for one thing once a step was made.
type fullLater struct {
	memory
	what string
	err  error
	made bool
}

func (f *fullLater) write(what string) error {
	if f.made && what == f.what {
		return f.err
	}
	return nil
}

func (f *fullLater) Step(StepMetrics) error       { f.made = true; return f.write("step") }
func (f *fullLater) Predicted([]Prediction) error { return f.write("predictions") }
func (f *fullLater) Scored(CurvePoint) error      { return f.write("score") }
func (f *fullLater) Save(*Trainer) error          { return f.write("state") }

// TestTally: a batch's losses lie in the order of its rows, and its tokens and right answers are those of all its micro-batches,
// also of one that was divided.
func TestTally(t *testing.T) {
	first := group{cases: []Case{{Row: 7, Label: 1}, {Row: 9, Label: 2}}, index: []int{2, 0}}
	second := group{cases: []Case{{Row: 8, Label: 2}}, index: []int{1}}
	one, two := [2]float64{-0.1, -3}, [2]float64{-3, -0.1} // by what is chosen
	got := tally{losses: make([]float64, 3)}
	for _, add := range []struct {
		group group
		parts []Sweep
	}{
		{first, []Sweep{{Outcomes: []Outcome{{one, 0.5, 10}}}, {Outcomes: []Outcome{{one, 0.25, 20}}}}},
		{second, []Sweep{{Outcomes: []Outcome{{two, 0.125, 40}}}}},
	} {
		if err := got.add(add.group, add.parts); err != nil {
			t.Fatal(err)
		}
	}
	if want := (tally{losses: []float64{0.25, 0.125, 0.5}, correct: 2, tokens: 70}); !reflect.DeepEqual(got, want) {
		t.Errorf("rows 7, 9 and 8 of labels 1, 2 and 2, of which 9 chooses 1: got %+v, want %+v", got, want)
	}
	err := got.add(second, []Sweep{{Outcomes: []Outcome{{one, math.NaN(), 1}}}})
	if err == nil || !slices.Equal(err.Rows, []int{8}) {
		t.Errorf("row 8 has no finite loss: got error %v, want one of row 8", err)
	}
}
