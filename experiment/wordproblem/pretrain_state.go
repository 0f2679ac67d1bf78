package wordproblem

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gotransplant/lora"
	"gotransplant/model/safetensors"
)

// StateFile is what a pre-training that was stopped goes on from. It is a safetensors file without that ending, for programs
// that take every file with it for weights.
const StateFile = "pretraining.state"

// pretrainState is the part of a state that is not tensors.
type pretrainState struct {
	Step int               `json:"step"`
	Run  map[string]string `json:"run"`
}

// SaveState writes all that the rest of the run depends on into dir, which it makes. run tells this run from others: what
// was chosen for it, by the names of the flags.
func (p *Pretrainer) SaveState(dir string, run map[string]string) error {
	tensors := p.adam[0].State()
	for _, t := range p.adam[1].State() {
		if t.Name != "step" { // the same in both
			tensors = append(tensors, t)
		}
	}
	for _, t := range p.all() {
		value, err := safetensors.FromFloat32s("value."+t.Name, "F32", []int{len(t.Value)}, t.Value)
		if err != nil {
			return err
		}
		tensors = append(tensors, value)
	}
	state, err := json.Marshal(pretrainState{p.step, run})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return safetensors.Write(filepath.Join(dir, StateFile), tensors, map[string]string{"pretraining": string(state)})
}

// Resume sets a fresh Pretrainer to where SaveState was called. What follows has the bytes of a run that was left alone.
func (p *Pretrainer) Resume(dir string, run map[string]string) error {
	f, step, err := openState(dir, run)
	if err != nil {
		return err
	}
	defer f.Close()
	for kind := range p.tensors {
		err := p.adam[kind].Restore(f.Tensor)
		for _, t := range p.tensors[kind] {
			if err == nil {
				err = p.takeValues(f, t)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, StateFile), err)
		}
	}
	p.step = step
	return nil
}

// takeValues reads a trained tensor back and puts it on the device.
func (p *Pretrainer) takeValues(f *safetensors.File, t lora.Tensor) error {
	stored, ok := f.Tensor("value." + t.Name)
	if !ok {
		return fmt.Errorf("no tensor value.%s", t.Name)
	}
	values, err := stored.Float32s()
	if err != nil || len(values) != len(t.Value) {
		return fmt.Errorf("value.%s has shape %v, want %d values (%v)", t.Name, stored.Shape, len(t.Value), err)
	}
	copy(t.Value, values)
	return p.engine.Weights.Set(t.Name, t.Value)
}

// SavedStep is the number of updates that were done when the state in dir was written, by this run.
func SavedStep(dir string, run map[string]string) (int, error) {
	f, step, err := openState(dir, run)
	if err != nil {
		return 0, err
	}
	return step, f.Close()
}

// openState opens the state in dir and refuses that of another run.
func openState(dir string, run map[string]string) (f *safetensors.File, step int, err error) {
	path := filepath.Join(dir, StateFile)
	if f, err = safetensors.Open(path); err != nil {
		return nil, 0, err
	}
	var state pretrainState
	if err = json.Unmarshal([]byte(f.Metadata()["pretraining"]), &state); err != nil {
		err = fmt.Errorf("%s: metadata pretraining: %w", path, err)
	} else if err = sameRun(state.Run, run); err != nil {
		err = fmt.Errorf("%s is of an interrupted run, which goes on as it began: %w; to begin another, name another directory, or "+
			"remove %s first", path, err, dir)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, state.Step, nil
}

// sameRun names all that is not as it was.
func sameRun(was, is map[string]string) error {
	var errs []string
	for _, flag := range slices.Sorted(maps.Keys(is)) {
		if was[flag] != is[flag] {
			errs = append(errs, fmt.Sprintf("--%s was %s and is %s", flag, was[flag], is[flag]))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return errors.New(strings.Join(errs, ", "))
}
