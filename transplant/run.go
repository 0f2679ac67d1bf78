package transplant

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gotransplant/internal/atomicfile"
	"gotransplant/internal/spelling"
	"gotransplant/model/safetensors"
)

// The files of a run directory.
const (
	ConfigFile      = "config.json"
	MetricsFile     = "metrics.jsonl"
	CurveFile       = "curve.csv"
	PredictionsFile = "predictions.jsonl"
	FigureFile      = "curve.png"
	StateFile       = "state.safetensors"
	ArguerDir       = "arguer"
	ChooserDir      = "chooser"
)

// curveHeader are the columns of the published test curves.
const curveHeader = "test,seconds,samples_trained,loss,fraction_correct,correct_when_argument_correct," +
	"correct_when_argument_incorrect,confidence_when_correct,confidence_when_incorrect"

// RunDir is the directory of one training run: a Recorder whose Save makes everything so far survive a crash.
type RunDir struct {
	dir            string
	metrics, curve *os.File
	progress       func(what string, done, total int)
	report         func(line string)
}

// CheckUnused refuses a directory that holds a run already, before anything long is done for a new one.
func CheckUnused(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, ConfigFile)); err == nil {
		return fmt.Errorf("%s already holds a run: continue it with --resume %s, or name another directory", dir, dir)
	}
	return nil
}

// CreateRun makes a run directory with config as its config.json; a directory that holds a run already is refused.
func CreateRun(dir string, config any) (*RunDir, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ConfigFile, err)
	}
	r, err := ownRun(dir)
	if err != nil {
		return nil, err
	}
	err = CheckUnused(dir) // with the lock: another process may have been here a moment ago
	if err == nil {
		err = atomicfile.WriteBytes(filepath.Join(dir, ConfigFile), append(text, '\n'))
	}
	if err == nil {
		err = r.cut(0, 0)
	}
	return r.orClose(err)
}

// OpenRun reopens a run directory for a trainer made from the same config: the trainer is set back to the last saved
// state, or left at step 0 if the run died before its first save, and lines written since then are cut off.
func OpenRun(dir string, t *Trainer) (*RunDir, error) {
	r, err := ownRun(dir)
	if err != nil {
		return nil, err
	}
	if err = t.restore(filepath.Join(dir, StateFile)); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = r.cut(t.step, t.points)
	}
	if err == nil {
		t.before, err = r.secondsSoFar()
	}
	t.started = time.Now()
	return r.orClose(err)
}

// ownRun opens the two logs and keeps other processes from writing to the directory.
func ownRun(dir string) (*RunDir, error) {
	r := &RunDir{dir: dir, progress: func(string, int, int) {}, report: func(string) {}}
	var err error
	if r.metrics, err = openLog(dir, MetricsFile); err != nil {
		return nil, err
	}
	if err := atomicfile.Lock(r.metrics); err != nil { // before anything is written, cut or removed that the other needs
		r.metrics.Close()
		return nil, fmt.Errorf("%s is being written by another process: %w", dir, err)
	}
	if r.curve, err = openLog(dir, CurveFile); err != nil {
		r.metrics.Close()
		return nil, err
	}
	return r, nil
}

// cut leaves so many lines in the logs, and nothing that a killed process was writing.
func (r *RunDir) cut(steps, tests int) error {
	return errors.Join(removeLeftovers(r.dir), cutLog(r.metrics, "", steps), cutLog(r.curve, curveHeader, tests))
}

// orClose is r, or closes it where it could not be opened whole.
func (r *RunDir) orClose(err error) (*RunDir, error) {
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// openLog opens a file of lines as it is.
func openLog(dir, name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o644)
}

// removeLeftovers deletes the temporary files that a killed process left beside the files of a run, and no others.
func removeLeftovers(dir string) error {
	files := []string{ConfigFile, PredictionsFile, FigureFile, StateFile}
	for _, role := range []string{ArguerDir, ChooserDir} {
		files = append(files, filepath.Join(role, "adapter_config.json"), filepath.Join(role, "adapter_model.safetensors"))
	}
	var errs []error
	for _, file := range files {
		errs = append(errs, atomicfile.RemoveLeftovers(filepath.Join(dir, file)))
	}
	return errors.Join(errs...)
}

// cutLog leaves of a file of lines the header, if any, and the first keep lines after it; the next comes behind them.
func cutLog(f *os.File, header string, keep int) error {
	content, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if header != "" {
		keep++
	}
	length := 0
	for n := range keep {
		i := bytes.IndexByte(content[length:], '\n')
		if i < 0 {
			if n == 0 && keep == 1 && header != "" { // a new file
				break
			}
			return fmt.Errorf("%s has %d whole lines, but the saved state comes after %d: restore the file, or remove "+
				"the directory and start again", f.Name(), n, keep)
		}
		length += i + 1
	}
	if err := f.Truncate(int64(length)); err != nil {
		return err
	}
	if _, err := f.Seek(int64(length), io.SeekStart); err != nil {
		return err
	}
	if header != "" && length == 0 {
		if _, err := f.WriteString(header + "\n"); err != nil {
			return err
		}
	}
	return nil
}

// Watch sets who is told about progress within a step and about finished steps and scores, in lines for people.
func (r *RunDir) Watch(progress func(what string, done, total int), report func(line string)) {
	r.progress, r.report = progress, report
}

// Progress passes on how far a step is.
func (r *RunDir) Progress(what string, done, total int) { r.progress(what, done, total) }

// Step appends to metrics.jsonl.
func (r *RunDir) Step(m StepMetrics) error {
	line, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("%s: step %d: %w", MetricsFile, m.Step, err)
	}
	if _, err := r.metrics.Write(append(line, '\n')); err != nil {
		return err
	}
	r.report(fmt.Sprintf("step %4d  %11s  loss %.4f  right %.3f  |g| %.3g  lr %.2g  %.0f s",
		m.Step, spelling.Count(m.Samples, "row"), m.Loss, m.FractionCorrect, m.GradientNorm, m.LearningRate, m.Seconds))
	return nil
}

// Predicted replaces predictions.jsonl.
func (r *RunDir) Predicted(predictions []Prediction) error {
	return WritePredictions(filepath.Join(r.dir, PredictionsFile), predictions)
}

// Scored appends to curve.csv.
func (r *RunDir) Scored(p CurvePoint) error {
	if _, err := r.curve.WriteString(p.csv() + "\n"); err != nil {
		return err
	}
	r.report(fmt.Sprintf("held out   %11s  loss %.4f  right %s  third writer right: %s, wrong: %s",
		spelling.Count(p.Samples, "row"), p.Loss.Value(), p.FractionCorrect, p.CorrectWhenArgumentCorrect, p.CorrectWhenArgumentIncorrect))
	return nil
}

// csv is the point in the columns of curveHeader; a figure over no rows is left empty.
func (p CurvePoint) csv() string {
	fields := []string{strconv.Itoa(p.Test), number(p.Seconds), strconv.Itoa(p.Samples)}
	for _, v := range []float64{p.Loss.Value(), p.FractionCorrect.Value(), p.CorrectWhenArgumentCorrect.Value(),
		p.CorrectWhenArgumentIncorrect.Value(), p.ConfidenceWhenCorrect.Value(), p.ConfidenceWhenIncorrect.Value()} {
		fields = append(fields, number(v))
	}
	return strings.Join(fields, ",")
}

func number(v float64) string {
	if v != v {
		return ""
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// WritePredictions writes predictions.jsonl, sorted by row.
func WritePredictions(path string, predictions []Prediction) error {
	sorted := slices.Clone(predictions)
	slices.SortStableFunc(sorted, func(a, b Prediction) int { return a.Row - b.Row })
	return atomicfile.Write(path, func(w io.Writer) error {
		lines := json.NewEncoder(w)
		for _, p := range sorted {
			if err := lines.Encode(p); err != nil {
				return fmt.Errorf("row %d: %w", p.Row, err)
			}
		}
		return nil
	})
}

// Save makes the run as it is now survive: logs, both adapters, then the state from which OpenRun goes on.
func (r *RunDir) Save(t *Trainer) error {
	for _, log := range []*os.File{r.metrics, r.curve} {
		if err := log.Sync(); err != nil {
			return err
		}
	}
	roles := map[string]*Role{ChooserDir: t.Method.Chooser}
	if !t.Method.NoTransplant {
		roles[ArguerDir] = t.Method.Arguer
	}
	for name, role := range roles {
		if role == nil {
			continue
		}
		if err := role.Adapter.Save(filepath.Join(r.dir, name)); err != nil {
			return err
		}
	}
	if err := r.drawFigure(); err != nil {
		return err
	}
	return t.save(filepath.Join(r.dir, StateFile))
}

// Close closes the logs.
func (r *RunDir) Close() error { return errors.Join(r.metrics.Close(), r.curve.Close()) }

// secondsSoFar is the time of the last line of metrics.jsonl.
func (r *RunDir) secondsSoFar() (time.Duration, error) {
	var seconds float64
	err := readLines(filepath.Join(r.dir, MetricsFile), func(line []byte) error {
		var m StepMetrics
		err := json.Unmarshal(line, &m)
		seconds = m.Seconds
		return err
	})
	return time.Duration(seconds * float64(time.Second)), err
}

// readLines calls visit with every line of a file; its errors name file and line.
func readLines(path string, visit func(line []byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<24)
	for n := 1; lines.Scan(); n++ {
		if err := visit(lines.Bytes()); err != nil {
			return fmt.Errorf("%s:%d: %w", path, n, err)
		}
	}
	return lines.Err()
}

// trainerState is the part of a state file that is not tensors. It holds no time, so that an interrupted run leaves the
// same bytes as an uninterrupted one.
type trainerState struct {
	Step    int `json:"step"`
	Samples int `json:"samples"`
	Scored  int `json:"scored"`
	Points  int `json:"points"` // lines of curve.csv
	// Limits keep the division of micro-batches, and with it the rounding of sums, when the run goes on.
	Limits []Limit `json:"limits,omitempty"`
}

// save writes values, moments and position of the training to one file, so that they are replaced together.
func (t *Trainer) save(path string) error {
	tensors := t.adam.State()
	for _, p := range t.tensors {
		value, err := safetensors.FromFloat32s("value."+p.Name, "F32", []int{len(p.Value)}, p.Value)
		if err != nil {
			return err
		}
		tensors = append(tensors, value)
	}
	state, err := json.Marshal(trainerState{t.step, t.samples, t.scored, t.points, t.Method.Limits.list()})
	if err != nil {
		return err
	}
	return safetensors.Write(path, tensors, map[string]string{"trainer": string(state)})
}

// restore reads back what save wrote.
func (t *Trainer) restore(path string) error {
	f, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var state trainerState
	if err := json.Unmarshal([]byte(f.Metadata()["trainer"]), &state); err != nil {
		return fmt.Errorf("%s: metadata trainer: %w", path, err)
	}
	if state.Step > t.Total() {
		return fmt.Errorf("%s: saved after step %d, but the run has %d steps", path, state.Step, t.Total())
	}
	values := make([][]float32, len(t.tensors))
	for i, p := range t.tensors {
		stored, ok := f.Tensor("value." + p.Name)
		if !ok {
			return fmt.Errorf("%s: no tensor value.%s", path, p.Name)
		}
		if values[i], err = stored.Float32s(); err != nil || len(values[i]) != len(p.Value) {
			return fmt.Errorf("%s: value.%s has shape %v, want %d values (%v)", path, p.Name, stored.Shape, len(p.Value), err)
		}
	}
	if err := t.adam.Restore(f.Tensor); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for i, p := range t.tensors {
		copy(p.Value, values[i])
	}
	if err := t.upload(); err != nil {
		return err
	}
	t.step, t.samples, t.scored, t.points, t.saved = state.Step, state.Samples, state.Scored, state.Points, state.Step
	t.Method.Limits.restore(state.Limits)
	return nil
}
