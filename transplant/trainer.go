package transplant

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"gotransplant/internal/spelling"
	"gotransplant/lora"
)

// TrainOptions are the choices of a training run.
type TrainOptions struct {
	Steps     int // updates; Epochs counts where it is 0
	Epochs    int
	BatchSize int // rows an update; the last of an epoch may be smaller
	Pace      Pace
	Adam      lora.AdamWOptions
	Schedule  lora.Schedule // Total is filled in by NewTrainer
	ClipNorm  float64       // 0 does not clip
	EvalEvery int           // updates between held-out scores; 0: only before the first and after the last
	SaveEvery int           // updates between saves; 0: only after the last
}

// Trainer fits the adapters of a Method to cases. Its results depend on the options and the cases alone, not on timing
// or the number of cores.
type Trainer struct {
	Method      *Method
	Options     TrainOptions
	Train, Test []Case
	Order       func(epoch int) []int // indices into Train, a permutation for every epoch

	tensors []lora.Tensor
	adam    *lora.AdamW
	sums    *sums
	step    int           // updates done
	samples int           // rows trained on
	scored  int           // the step after which rows were last scored, -1 for never
	points  int           // scores of the held-out rows so far: lines of curve.csv
	saved   int           // updates after which the state was last saved, -1 for never
	before  time.Duration // spent by earlier processes of the same run
	started time.Time

	optimizing time.Duration // see Optimizing
}

// StepMetrics is one line of metrics.jsonl: an update seen from before it.
type StepMetrics struct {
	Step            int     `json:"step"`    // 1 is the first
	Samples         int     `json:"samples"` // rows trained on, this step's included
	Loss            float64 `json:"loss"`    // mean over the batch, before the update
	Tokens          int     `json:"tokens"`  // really computed in this step
	Seconds         float64 `json:"seconds"` // since the run began, pauses between processes left out
	FractionCorrect float64 `json:"fraction_correct"`
	LearningRate    float64 `json:"lr"`
	GradientNorm    float64 `json:"gradient_norm"` // before clipping
}

// CurvePoint is one line of curve.csv: the held-out set scored after some step.
type CurvePoint struct {
	Test    int     // 0 is before the first update
	Seconds float64 // as in StepMetrics
	Samples int
	Summary
}

// Recorder is told what happens during training; Run writes it to a directory.
type Recorder interface {
	Step(StepMetrics) error
	Scored(CurvePoint) error
	Predicted([]Prediction) error
	Save(t *Trainer) error
	Progress(what string, done, total int)
}

// NewTrainer prepares a trainer at step 0.
func NewTrainer(m *Method, o TrainOptions, train, test []Case) (*Trainer, error) {
	if len(train) == 0 {
		return nil, errors.New("no rows to train on")
	}
	if o.BatchSize < 1 || o.Pace.MicroBatch < 1 || o.Pace.Workers < 1 {
		return nil, fmt.Errorf("batch size %d, micro-batch %d and workers %d must be at least 1",
			o.BatchSize, o.Pace.MicroBatch, o.Pace.Workers)
	}
	t := &Trainer{Method: m, Options: o, Train: train, Test: test, scored: -1, saved: -1, started: time.Now()}
	t.Options.Schedule.Total = t.Total() + 1 // a schedule ends at zero, after the last step
	if err := t.Options.Schedule.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", t.length(), err)
	}
	t.sums, t.tensors = m.newSums()
	if len(t.tensors) == 0 {
		return nil, errors.New("no adapter to train")
	}
	err := t.sums.each(func(r *roleSums) error { return r.role.Adapter.CheckTrainable() })
	if err != nil {
		return nil, err
	}
	t.adam, err = lora.NewAdamW(o.Adam, t.tensors)
	return t, err
}

// StepsPerEpoch is the number of updates that a pass over the training rows takes.
func (t *Trainer) StepsPerEpoch() int {
	return (len(t.Train) + t.Options.BatchSize - 1) / t.Options.BatchSize
}

// Total is the number of updates of the whole run.
func (t *Trainer) Total() int {
	if t.Options.Steps > 0 {
		return t.Options.Steps
	}
	return t.Options.Epochs * t.StepsPerEpoch()
}

// length is the flag that says how long the run is.
func (t *Trainer) length() string {
	if t.Options.Steps > 0 {
		return fmt.Sprintf("--steps %d", t.Options.Steps)
	}
	return fmt.Sprintf("--epochs %d", t.Options.Epochs)
}

// Rows is the number of rows trained on in the whole run, a row counting once an epoch.
func (t *Trainer) Rows() int { return t.rowsUntil(t.Total()) }

// rowsUntil is the number of rows trained on after so many steps.
func (t *Trainer) rowsUntil(step int) int {
	epochs, rest := step/t.StepsPerEpoch(), step%t.StepsPerEpoch()
	return epochs*len(t.Train) + rest*t.Options.BatchSize
}

// Step is the number of updates done.
func (t *Trainer) Step() int { return t.step }

// Seconds is the time spent on the run, by this process and those before it.
func (t *Trainer) Seconds() float64 { return (t.before + time.Since(t.started)).Seconds() }

// Optimizing is the time this process spent on updates once their gradients were there: clipping, AdamW and the upload.
func (t *Trainer) Optimizing() time.Duration { return t.optimizing }

// Describe tells what will be trained.
func (t *Trainer) Describe() string {
	return fmt.Sprintf("train    %s, %d held out; %s of up to %s, %d adapter parameters; step %d is next\n",
		spelling.Count(len(t.Train), "row"), len(t.Test), spelling.Count(t.Total(), "step"),
		spelling.Count(t.Options.BatchSize, "row"), t.Parameters(), t.step+1)
}

// Left tells what is left of a run that was stopped after a step, and that what stands before it is more than that.
func (t *Trainer) Left(step int) string {
	if step == t.Total() {
		return fmt.Sprintf("left     nothing: step %d was the last\n", step)
	}
	return fmt.Sprintf("left     steps %d to %d, %d of %d rows; the lines above are of the whole run\n", step+1, t.Total(),
		t.Rows()-t.rowsUntil(step), t.Rows())
}

// batch are the cases of an update, counted from 0.
func (t *Trainer) batch(step int) []Case {
	order := t.Order(step / t.StepsPerEpoch())
	from := step % t.StepsPerEpoch() * t.Options.BatchSize
	var cases []Case
	for _, i := range order[from:min(from+t.Options.BatchSize, len(order))] {
		cases = append(cases, t.Train[i])
	}
	return cases
}

// ErrInterrupted is returned by Run when its context was done; everything up to the last whole step has been saved.
var ErrInterrupted = errors.New("interrupted")

// Run trains from the current step to the last. When ctx is done the step under way is given up, the state is saved and
// ErrInterrupted returned; when the loss or a gradient is not finite, the state before that step is saved. Where rows come
// out not finite when they are scored, the state is what spoils them, and the one saved before it stays.
func (t *Trainer) Run(ctx context.Context, r Recorder) error {
	for {
		last := t.step == t.Total()
		if t.scored < t.step && (t.step == 0 || last || due(t.step, t.Options.EvalEvery)) {
			if err := t.score(ctx, r); err != nil {
				return t.stop(ctx, r, err)
			}
			t.scored = t.step
		}
		if last || due(t.step, t.Options.SaveEvery) {
			if err := t.keep(r); err != nil {
				return t.unwritten(err)
			}
		}
		if last {
			return nil
		}
		m, err := t.update(ctx, r)
		if err != nil {
			return t.givenUp(r, t.stop(ctx, r, err))
		}
		if err := r.Step(m); err != nil {
			return t.unwritten(err)
		}
	}
}

func due(step, every int) bool { return every > 0 && step%every == 0 }

// keep saves the state.
func (t *Trainer) keep(r Recorder) error {
	err := r.Save(t)
	if err == nil {
		t.saved = t.step
	}
	return err
}

// stop saves what is good when Run has to end early.
func (t *Trainer) stop(ctx context.Context, r Recorder, err error) error {
	var broken *NotFiniteError
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		if lost := t.keep(r); lost != nil {
			return t.unsaved(fmt.Errorf("interrupted after step %d", t.step), lost)
		}
		return ErrInterrupted
	case errors.As(err, &broken) && !broken.Scored:
		if lost := t.keep(r); lost != nil {
			return t.unsaved(fmt.Errorf("step %d: %w", broken.Step, broken.Err), lost)
		}
	}
	return err
}

// givenUp saves the state after the last step where an update failed that changed nothing, and stop has not saved it.
func (t *Trainer) givenUp(r Recorder, err error) error {
	var halfway halfwayError
	if t.saved == t.step || errors.Is(err, ErrInterrupted) || errors.As(err, &halfway) || errors.Is(err, errUnsaved) {
		return err
	}
	if lost := t.keep(r); lost != nil {
		return t.unsaved(err, lost)
	}
	return fmt.Errorf("%w; the state after step %d is saved: go on with --resume", err, t.step)
}

// errUnsaved is in the error of a run whose state could not be saved.
var errUnsaved = errors.New("the state could not be saved")

// unsaved tells why a run ended, that this was not saved, and from where it can go on: it is no ErrInterrupted.
func (t *Trainer) unsaved(why, lost error) error {
	from := "nothing was saved before, and --resume begins at step 1"
	if t.saved >= 0 {
		from = fmt.Sprintf("on disk is the state after step %d, from which --resume goes on", t.saved)
	}
	return fmt.Errorf("%w; %w: %w; %s", why, errUnsaved, lost, from)
}

// unwritten is unsaved where nothing else was wrong than what could not be written.
func (t *Trainer) unwritten(err error) error {
	if err == nil {
		return nil
	}
	return t.unsaved(fmt.Errorf("stopped after step %d", t.step), err)
}

// NotFiniteError says at which update, or at the score after which one, and over which rows, training broke down.
type NotFiniteError struct {
	Step   int
	Scored bool // rows were scored after the step
	Fresh  bool // nothing was trained yet, so that it is the model's own output
	Saved  int  // of a score: the last step whose state was saved, -1 for none
	Rows   []int
	Err    error
}

func (e *NotFiniteError) Error() string {
	at := fmt.Sprintf("step %d (rows %s): %v", e.Step, ListRows(e.Rows), e.Err)
	if e.Scored {
		at = "scoring after " + at
	}
	switch {
	case e.Fresh:
		return at + ": the model's output is not finite before anything was trained: check the checkpoint, the adapters it was given and --dtype"
	case !e.Scored:
		return at + "; the state before this step is kept: lower --lr, or set --clip-norm, and start again from the saved adapters"
	case e.Saved < 0:
		return at + "; nothing was saved before: lower --lr, or set --clip-norm, and start again"
	}
	return fmt.Sprintf("%s; the state after step %d is kept, and --resume would come here again: lower --lr, or set --clip-norm, "+
		"and start again from the saved adapters", at, e.Saved)
}

func (e *NotFiniteError) Unwrap() error { return e.Err }

// ListRows names rows, the first few of many.
func ListRows(numbers []int) string {
	text := ""
	for i, n := range numbers {
		switch {
		case i == 10:
			return text + ", ..."
		case i > 0:
			text += ", "
		}
		text += fmt.Sprint(n)
	}
	return text
}

// update does one step: sweeps over the batch, gradients summed in the order of the rows, AdamW.
func (t *Trainer) update(ctx context.Context, r Recorder) (StepMetrics, error) {
	cases := t.batch(t.step)
	m := StepMetrics{Step: t.step + 1, Samples: t.samples + len(cases)}
	batches := t.Method.groups(cases, t.Options.Pace.MicroBatch)
	method, err := t.Method.share(true)
	if err != nil {
		return m, err
	}
	defer method.shared.close()
	method.decide(batches, true)
	weight := 1 / float64(len(cases))
	sweeps := sweeping{method, true, func(p *pair) (Sweep, error) { return p.fit(weight) }}
	done, scores := 0, tally{losses: make([]float64, len(cases))}
	defer t.sums.reset() // an interrupted step may leave something
	err = inOrder(ctx, len(batches), t.Options.Pace.Workers, stages[*pair, []Sweep]{
		prepare: func(i int) (*pair, error) { return method.prepare(batches[i], true) },
		discard: discard,
		work:    func(i int, p *pair) ([]Sweep, error) { return sweeps.inParts(batches[i], p) },
		drop:    discardAll,
		deliver: func(i int, parts []Sweep) error {
			if e := scores.add(batches[i], parts); e != nil {
				discardAll(parts)
				e.Step, e.Fresh = m.Step, t.step == 0
				return e
			}
			done += len(batches[i].cases)
			r.Progress(fmt.Sprintf("step %d of %d", m.Step, t.Total()), t.samples+done, t.Rows())
			return t.accumulate(method, parts)
		}})
	if err != nil {
		return m, err
	}
	rest, err := method.backward()
	if err == nil {
		err = t.sums.add(&rest)
	}
	if err != nil {
		return m, err
	}
	for _, loss := range scores.losses {
		m.Loss += float64(loss * weight)
	}
	m.Tokens = method.shared.tokens() + scores.tokens
	m.FractionCorrect = float64(scores.correct) / float64(len(cases))
	m.LearningRate = t.Options.Schedule.LR(m.Step)
	if m.GradientNorm, err = t.apply(m.LearningRate, rowsOf(cases)); err != nil {
		return m, err
	}
	t.step, t.samples = m.Step, m.Samples
	m.Seconds = t.Seconds()
	return m, nil
}

// tally is what the rows of a batch have come to so far.
type tally struct {
	losses          []float64 // summed in the order of the rows, however they were divided
	correct, tokens int
}

// add takes in the parts of a micro-batch, or returns the error of the first row whose loss is not finite.
func (s *tally) add(g group, parts []Sweep) *NotFiniteError {
	for j, o := range outcomes(parts) {
		if !finite(o.Loss) {
			return &NotFiniteError{Rows: []int{g.cases[j].Row}, Err: fmt.Errorf("the loss is %v", o.Loss)}
		}
		s.losses[g.index[j]] = o.Loss
		s.tokens += o.Tokens
		if predict(g.cases[j], o).Correct {
			s.correct++
		}
	}
	return nil
}

// accumulate adds what the parts of a micro-batch left, and frees it.
func (t *Trainer) accumulate(m *Method, parts []Sweep) error {
	for i := range parts {
		err := m.shared.add(m.Engine, &parts[i])
		if err == nil {
			err = t.sums.add(&parts[i])
		}
		if err != nil {
			discardAll(parts[i:])
			return err
		}
	}
	return nil
}

// outcomes are those of all sweeps, one after the other.
func outcomes(sweeps []Sweep) (all []Outcome) {
	for _, s := range sweeps {
		all = append(all, s.Outcomes...)
	}
	return all
}

// halfwayError says that an update failed when some of it was done: the state is of no step and must not be saved.
type halfwayError struct{ error }

func (e halfwayError) Unwrap() error { return e.error }

// apply takes the summed gradients of rows, clips them and updates host and device. It returns the norm before clipping.
func (t *Trainer) apply(lr float64, rows []int) (norm float64, err error) {
	start := time.Now()
	defer func() { t.optimizing += time.Since(start) }()
	if err := t.sums.take(); err != nil {
		return 0, err
	}
	if norm, err = lora.ClipGlobalNorm(t.tensors, t.Options.ClipNorm); err != nil {
		return 0, &NotFiniteError{Step: t.step + 1, Rows: rows, Err: err}
	}
	err = t.adam.Step(t.tensors, lr)
	if err == nil {
		err = t.upload()
	}
	if err != nil {
		return 0, halfwayError{fmt.Errorf("step %d: %w", t.step+1, err)}
	}
	return norm, nil
}

// upload has the engine compute with the adapters' new values.
func (t *Trainer) upload() error {
	return t.sums.each(func(r *roleSums) error { return r.role.Upload() })
}

// score runs the held-out cases and hands the figures over. Without held-out cases there is nothing to do until the end
// of the run, when the rows trained on are scored, for their predictions alone.
func (t *Trainer) score(ctx context.Context, r Recorder) error {
	cases := t.Test
	if len(cases) == 0 {
		if t.step < t.Total() {
			return nil
		}
		cases = t.Train
	}
	predictions, err := t.Method.Predict(ctx, cases, t.Options.Pace, func(done int) {
		r.Progress(fmt.Sprintf("scoring after step %d", t.step), done, len(cases))
	})
	if err != nil {
		return t.broke(err)
	}
	if err := r.Predicted(predictions); err != nil || len(t.Test) == 0 {
		return t.unwritten(err)
	}
	// The first score comes before any training and is number 0.
	err = r.Scored(CurvePoint{t.points, t.Seconds(), t.samples, Summarize(predictions)})
	t.points++
	return t.unwritten(err)
}

// broke says of rows that scored as no numbers after which step they did, and what of the run is on disk.
func (t *Trainer) broke(err error) error {
	var rows *NotFiniteRowsError
	if !errors.As(err, &rows) {
		return err
	}
	return &NotFiniteError{Step: t.step, Scored: true, Fresh: t.step == 0, Saved: t.saved, Rows: rows.Rows,
		Err: fmt.Errorf("log-probabilities %v and %v", rows.First[0], rows.First[1])}
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

func rowsOf(cases []Case) []int {
	var rows []int
	for _, c := range cases {
		rows = append(rows, c.Row)
	}
	return rows
}
