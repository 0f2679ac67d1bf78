package setup

import (
	"path/filepath"

	"gotransplant/llama"
	"gotransplant/model"
	"gotransplant/model/safetensors"
	"gotransplant/transplant"
)

// Outline is Open without the weights' values and without the device: everything else is read and checked, and what comes
// of it can plan but not run.
func Outline(s Settings, at llama.Planned) (*Session, error) {
	return s.open(func(c *model.Checkpoint, as llama.Storage) (*llama.Weights, error) {
		return llama.Outline(at, c.Config, as, func(name string) safetensors.DType { return c.Tensor(name).DType })
	})
}

// PlanTraining is the plan of training into the directory out, of which next is the next step, and its lines for people.
// Where only the memory does not suffice there is a plan and an error.
func (o *Session) PlanTraining(c Capacity, out string, next int) (plan *Plan, text string, err error) {
	t, err := o.Trainer()
	if err != nil {
		return nil, "", err
	}
	p, line, err := o.newPlan("transplant-train", c, Controls{})
	if p == nil {
		return nil, "", err
	}
	tokens := o.Method.Count(t.Train)
	p.Train = &TrainPlan{Tokens: tokens, HeldOut: o.Method.Count(t.Test), Scores: t.Scores(), BatchSize: o.BatchSize,
		StepsPerEpoch: t.StepsPerEpoch(), Steps: t.Total(), NextStep: next, RowsInAll: t.Rows(), Parameters: t.Parameters(),
		TokensInAll: int(float64(tokens.Computed)*float64(t.Rows())/float64(tokens.Rows)) + t.Total()*tokens.Shared}
	p.Writes = o.runFiles(out, t)
	return p, o.Describe() + line + p.Text(), err
}

// PlanEvaluation is the plan of an evaluation into the directory out, "" for none, as PlanTraining.
func (o *Session) PlanEvaluation(c Capacity, controls Controls, out string) (plan *Plan, text string, err error) {
	cases, err := o.Scored()
	if err != nil {
		return nil, "", err
	}
	p, line, memoryErr := o.newPlan("transplant-eval", c, controls)
	if p == nil {
		return nil, "", memoryErr
	}
	for _, condition := range o.conditions(controls) {
		arranged, tooLong, err := o.arrange(cases, condition)
		if err != nil {
			return nil, "", err
		}
		p.Conditions = append(p.Conditions, ConditionPlan{condition.name, o.under(condition).Count(arranged), tooLong})
	}
	if out != "" {
		p.Writes = []WritePlan{{filepath.Join(out, transplant.PredictionsFile), int64(len(cases)) * predictionBytes},
			{filepath.Join(out, SummaryFile), int64(len(p.Conditions)) * conditionBytes}}
	}
	return p, o.Describe() + line + p.Text(), memoryErr
}

// newPlan is what both have in common, and the line of PlanMemory. Where the memory does not suffice there is a plan and
// an error.
func (o *Session) newPlan(program string, c Capacity, controls Controls) (p *Plan, line string, err error) {
	if line, err = o.PlanMemory(c, controls); err != nil && o.Needs == (transplant.Memory{}) {
		return nil, "", err
	}
	if err != nil {
		line = ""
	}
	w, n := o.Method.Engine.Weights, o.Counts
	p = &Plan{Part: "plan", Program: program, Writes: []WritePlan{},
		Model: ModelPlan{orEmbedded(o.Model), o.Config.NumHiddenLayers, o.Config.HiddenSize, o.Config.VocabSize,
			o.Config.MaxPositionEmbeddings, parameters(o.Config), w.Describe(), w.Bytes()},
		Data:   DataPlan{orEmbedded(o.Data), o.Hash, n.Rows, n.ArgumentCorrect, n.Swapped, append([]int{}, o.TooLong...), o.limit},
		Device: DevicePlan{o.Backend, o.Kernels, o.DType, o.Residual, o.Pace.MicroBatch, o.Pace.Workers},
		Memory: o.MemoryPlan()}
	return p, line, err
}

// MemoryPlan is what PlanMemory found, in numbers.
func (o *Session) MemoryPlan() MemoryPlan {
	m := o.Needs
	p := MemoryPlan{m.Weights, m.Adapters, m.Kept, m.Moved, m.Tables, m.Workspace, m.Host, o.total(m), o.Capacity.Bytes,
		o.Capacity.Source, o.fits(m, o.Capacity), ""}
	if o.Training != nil {
		p.Remat = o.Remat
	}
	return p
}

// orEmbedded is a path, or the word for what is built in.
func orEmbedded(path string) string {
	if path == "" {
		return "embedded"
	}
	return path
}

// Sizes of lines and small files in bytes, as runs have left them: about.
const (
	metricsBytes    = 175
	curveBytes      = 130
	predictionBytes = 170
	conditionBytes  = 1800 // of summary.json
	configBytes     = 1900
	figureBytes     = 65_000
	headerBytes     = 140 // a tensor in the header of a safetensors file
	peftBytes       = 700 // adapter_config.json
)

// runFiles are the files of a run directory when the run is over.
func (o *Session) runFiles(dir string, t *transplant.Trainer) (files []WritePlan) {
	add := func(name string, bytes int64) { files = append(files, WritePlan{filepath.Join(dir, name), bytes}) }
	if !o.NoTransplant {
		add(transplant.ArguerDir, adapterBytes(o.Method.Arguer)+peftBytes)
	}
	add(transplant.ChooserDir, adapterBytes(o.Method.Chooser)+peftBytes)
	state := adapterBytes(o.Method.Chooser)
	if o.Method.TrainsArguer() && o.Method.Arguer != o.Method.Chooser {
		state += adapterBytes(o.Method.Arguer)
	}
	add(transplant.StateFile, 3*state) // values and two moments
	scored := t.Test
	if len(scored) == 0 {
		scored = t.Train
	}
	add(transplant.PredictionsFile, int64(len(scored))*predictionBytes)
	add(transplant.MetricsFile, int64(t.Total())*metricsBytes)
	add(transplant.CurveFile, int64(t.Scores()+1)*curveBytes)
	add(transplant.FigureFile, figureBytes)
	add(transplant.ConfigFile, configBytes)
	return files
}

// adapterBytes are those of an adapter's matrices in a safetensors file.
func adapterBytes(r *transplant.Role) (total int64) {
	for _, p := range r.Adapter.Params() {
		total += 4*int64(len(p.Value)) + headerBytes
	}
	return total
}

// parameters counts the values of a model.
func parameters(c model.Config) (total int64) {
	for _, spec := range c.Specs(safetensors.F32) {
		n := int64(1)
		for _, d := range spec.Shape {
			n *= int64(d)
		}
		total += n
	}
	return total
}
