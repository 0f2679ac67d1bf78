package main

import (
	"fmt"
	"io"
	"strings"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/setup"
	"gotransplant/llama"
	"gotransplant/model/safetensors"
)

// plan is the JSON object of a dry run.
type plan struct {
	Part string `json:"part"` // "plan"
	facts
	Parts          []string         `json:"parts"`
	Trials         int              `json:"trials"`
	PlainTokens    int              `json:"plain_tokens"`    // of a row
	ComputedTokens int              `json:"computed_tokens"` // of a row, behind the prefix
	TrainFlop      float64          `json:"train_flop_per_step"`
	EvalFlop       float64          `json:"eval_flop_per_step"`
	Memory         setup.MemoryPlan `json:"memory"` // of a training step
}

// dryRun prints what would be measured and whether it fits, and makes no weights.
func dryRun(s setup.Settings, o options, out *report, stderr io.Writer) error {
	c, err := o.config()
	if err != nil {
		return err
	}
	at, err := program.Planned(s.Backend, stderr)
	if err != nil {
		return err
	}
	kept, err := llama.ParseStorage(s.Weights)
	if err != nil {
		return fmt.Errorf("--%w", err)
	}
	weights, err := llama.Outline(at, c, kept, func(string) safetensors.DType { return o.made() })
	if err != nil {
		return err
	}
	b, err := assemble(s, o, at.Builder, weights)
	if err != nil {
		return err
	}
	line, refusal := b.session.PlanMemory(program.Capacity(s), setup.Controls{})
	b.facts.Workers = b.session.Pace.Workers
	tokens := b.session.Method.Count(b.session.Cases[:1])
	_, _, flop := b.work()
	b.facts.Device = "not opened"
	p := plan{"plan", b.facts, o.parts, o.trials, tokens.Plain, tokens.Computed, flop.Total(), flop.Forward(),
		b.session.MemoryPlan()}
	if out.asJSON {
		out.line(p)
	} else {
		out.work(b)
		out.printf("parts    %s, %d timed runs of each; a training step is %.4g GFLOP, an evaluation %.4g\n%s%s", strings.Join(o.parts, ", "),
			o.trials, p.TrainFlop/1e9, p.EvalFlop/1e9, line, setup.DryRun)
	}
	if refusal != nil {
		return refusal
	}
	return out.err
}
