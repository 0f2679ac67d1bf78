package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"gotransplant/cmd/internal/program"
	"gotransplant/lora"
	"gotransplant/model"
)

const mergeHead = `transplant-adapter merge writes a checkpoint whose weights have an adapter added to them, W + scale B A, summed in
float64 and rounded once. It holds a few MB of the weights in memory at a time. The output directory appears when
it is whole. Then both, base with adapter and merged model, read a text, and the largest difference of their logits
is printed.

  transplant-adapter merge --model path/to/llama-7b --adapter runs/first/chooser --out merged
`

// mergeOptions are the flags of merge.
type mergeOptions struct {
	output
	adapter, sample string
	noCheck         bool
}

// merging is what merge did.
type merging struct {
	plan
	Adapter adapterFacts   `json:"adapter"`
	Merged  []mergedModule `json:"merged"`
	Drift   *drift         `json:"drift"` // null with --no-check
}

// mergedModule is what became of one projection. Norms are Frobenius norms.
type mergedModule struct {
	Layer    int      `json:"layer"`
	Proj     string   `json:"projection"`
	Weight   float64  `json:"weight_norm"`
	Delta    float64  `json:"delta_norm"`
	Largest  float64  `json:"largest_delta"`
	Relative *float64 `json:"relative_norm"`    // delta_norm / weight_norm
	Lost     *float64 `json:"lost_by_rounding"` // norm of what rounding took, as a share of delta_norm
}

func parseMerge(args []string, stdout io.Writer) (o mergeOptions, err error) {
	files, check := program.NewGroup("Files"), program.NewGroup("Comparison")
	files.Flags.StringVar(&o.adapter, "adapter", o.adapter, "PEFT `directory` of the adapter")
	o.bind(files.Flags)
	check.Flags.StringVar(&o.sample, "sample", o.sample, "text `file` that both models read (none: a sentence of the program's own)")
	check.Flags.BoolVar(&o.noCheck, "no-check", o.noCheck, "leave the comparison out: it loads the whole model, first the one, then the other")
	if _, err := parse(args, nil, mergeHead, stdout, files, check); err != nil {
		return o, err
	}
	switch {
	case o.adapter == "":
		return o, errors.New("--adapter is missing: name the PEFT directory to merge")
	case o.noCheck && o.sample != "":
		return o, errors.New("--sample is read by the comparison that --no-check leaves out: leave out one of them")
	}
	return o, nil
}

func merge(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseMerge(args, stdout)
	if err != nil {
		return err
	}
	r, err := o.rewriting()
	if err != nil {
		return err
	}
	if err := o.checkOut(); err != nil {
		return err
	}
	c, err := openModel(o.model)
	if err != nil {
		return err
	}
	defer c.Close()
	m, ids, err := prepare(o, c, r)
	if err != nil {
		return err
	}
	if !o.asJSON {
		m.plan.print(stdout, c.Config)
		m.Adapter.print(stdout)
	}
	if o.dryRun {
		return m.dry(o.asJSON, ids, driftMemory(c, r, len(ids)), stdout)
	}
	if err := m.write(ctx, c, r, stderr); err != nil {
		return err
	}
	if !o.noCheck {
		if m.Drift, err = measureDrift(ctx, comparison{o.model, o.out, m.Adapter.adapter, ids, ""}, stderr); err != nil {
			fmt.Fprintf(stderr, "note     %s is written and whole, but its logits were not compared\n", o.out) // all that an interruption tells
			return fmt.Errorf("compare the logits: %w", err)
		}
	}
	if o.asJSON {
		return printJSON(stdout, m)
	}
	return m.print(stdout)
}

// prepare opens the adapter and refuses, before anything is written, what could not be finished.
func prepare(o mergeOptions, c *model.Checkpoint, r model.Rewriting) (*merging, []int32, error) {
	adapter, err := lora.Open(o.adapter, c.Config)
	if err != nil {
		return nil, nil, err
	}
	m := &merging{Adapter: factsOf(o.adapter, adapter), Merged: []mergedModule{}}
	if m.Adapter.Idle == m.Adapter.Modules {
		return nil, nil, fmt.Errorf("%s changes nothing: A or B is zero in all of its %d modules, as in an adapter that was never trained; "+
			"to copy the checkpoint use convert", o.adapter, m.Adapter.Modules)
	}
	if m.plan, err = newPlan(o.output, c, r); err != nil || o.noCheck {
		return m, nil, err
	}
	ids, err := sampleIDs(o.model, o.sample, c.Config)
	if err != nil {
		return nil, nil, err
	}
	return m, ids, checkMemory(driftMemory(c, r, len(ids)), checkBackend)
}

// dry ends a dry run.
func (m *merging) dry(asJSON bool, ids []int32, need int64, stdout io.Writer) error {
	if len(ids) == 0 {
		need = 0
	}
	if asJSON {
		return printJSON(stdout, struct {
			plan
			Adapter adapterFacts `json:"adapter"`
			Tokens  int          `json:"comparison_tokens"` // 0 with --no-check
			Memory  int64        `json:"comparison_bytes"`  // of memory, at least
		}{m.plan, m.Adapter, len(ids), need})
	}
	if len(ids) > 0 {
		fmt.Fprintf(stdout, "check    logits on a text of %d tokens, in at least %s of memory\n", len(ids), bytesText(need))
	}
	return nil
}

// write merges into the output directory.
func (m *merging) write(ctx context.Context, c *model.Checkpoint, r model.Rewriting, stderr io.Writer) error {
	progress := program.NewProgress(stderr)
	r.Change = m.Adapter.adapter.Change
	r.Progress = func(done, total int) { progress.Update("merge", done, total) }
	altered, err := c.Rewrite(ctx, m.Out, r)
	progress.Clear()
	if err != nil {
		return err
	}
	byName := map[string]model.Altered{}
	for _, a := range altered {
		byName[a.Name] = a
	}
	for _, module := range m.Adapter.adapter.Modules() {
		a := byName[module.Name()+".weight"]
		m.Merged = append(m.Merged, mergedModule{Layer: module.Layer, Proj: module.Proj, Weight: a.Base, Delta: a.Moved,
			Largest: a.Largest, Relative: share(a.Moved, a.Base), Lost: share(a.Lost, a.Moved)})
	}
	return nil
}

// print tells, projection by projection, how much was added and what rounding took of it.
func (m *merging) print(w io.Writer) error {
	rows := [][]string{{"projection", "layers", "largest |dW|", "in layer", "norm dW / W", "lost by rounding"}}
	for _, proj := range lora.Projections() {
		var count, layer int
		var weight, delta, lost, largest float64
		for _, one := range m.Merged {
			if one.Proj != proj {
				continue
			}
			count++
			weight, delta = weight+one.Weight*one.Weight, delta+one.Delta*one.Delta
			if one.Lost != nil {
				lost += math.Pow(*one.Lost*one.Delta, 2)
			}
			if one.Largest > largest || count == 1 {
				largest, layer = one.Largest, one.Layer
			}
		}
		if count > 0 {
			rows = append(rows, []string{proj, fmt.Sprint(count), number(largest), fmt.Sprint(layer),
				optional(share(math.Sqrt(delta), math.Sqrt(weight))), optional(share(math.Sqrt(lost), math.Sqrt(delta)))})
		}
	}
	if err := table(w, rows); err != nil {
		return err
	}
	if m.Drift == nil {
		return nil
	}
	return m.Drift.print(w)
}
