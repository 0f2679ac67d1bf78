// Transplant-extract writes the hidden states of a model that reads texts to files.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/extract"
	"gotransplant/internal/states"
	"gotransplant/transplant"
)

const head = `transplant-extract reads texts with a model and writes its states at chosen sites, layers and positions to a directory:
shards of safetensors (or .npy) and index.jsonl, which maps every row to its text, tokens, positions and place in them.

  transplant-extract --model llama-7b --text lines.txt --sites resid_post,k --layers 0-3,31 --out states
  transplant-extract --resume states

`

func main() {
	os.Exit(run(program.Context(), os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}

// streams are the standard ones.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func run(ctx context.Context, args []string, std streams) int {
	return program.Status("transplant-extract", extractStates(ctx, args, std), std.err)
}

func extractStates(ctx context.Context, args []string, std streams) error {
	o, err := parse(args, std.out)
	if err != nil {
		return err
	}
	for _, note := range o.Notes() {
		fmt.Fprintf(std.err, "note     %s\n", note)
	}
	x, err := extract.Open(ctx, o.Options, std.in)
	if err != nil {
		return err
	}
	defer x.Close()
	plan, err := x.Plan(ctx)
	if err != nil {
		return err
	}
	backend, err := program.Backend(o.Settings, std.err)
	if err != nil {
		return err
	}
	if err := x.Load(backend); err != nil {
		return err
	}
	if err := x.PlanMemory(plan, program.Capacity(o.Settings)); err != nil {
		return err
	}
	report := report{Plan: plan}
	if !o.json {
		fmt.Fprint(std.out, x.Describe(), plan)
	}
	if o.dryRun {
		return report.print(o, std.out)
	}
	w, err := open(o, x, plan)
	if err != nil {
		return err
	}
	defer w.Close()
	if o.resume != "" && !o.json {
		fmt.Fprintf(std.out, "resume   %d of %d rows are there\n", w.Rows(), plan.Rows)
	}
	start, before := time.Now(), w.Rows()
	progress := program.NewProgress(std.err)
	err = x.Run(ctx, plan, w, func(n int) { progress.Update("extract", n, plan.Rows) })
	progress.Clear()
	if err != nil {
		if errors.Is(err, transplant.ErrInterrupted) {
			return fmt.Errorf("%w with %d of %d rows written; go on with: transplant-extract --resume %s%s", err, w.Rows(), plan.Rows, o.dir(), o.again())
		}
		return err
	}
	report.Done = &done{o.dir(), w.Rows() - before, w.Bytes(), time.Since(start).Seconds()}
	return report.print(o, std.out)
}

// open makes the directory, or reopens the one to resume.
func open(o options, x *extract.Extraction, plan *extract.Plan) (*states.Writer, error) {
	c := program.NewExtraction(extract.Program, o.content)
	c.Options["kernels"] = x.Kernels() // resolved: the bits depend on it
	if err := x.Fill(&c, plan); err != nil {
		return nil, err
	}
	if o.resume != "" {
		w, err := x.Resume(o.resume, o.begun, c)
		if err != nil {
			return nil, err
		}
		if err := o.recordMoved(); err != nil {
			w.Close()
			return nil, err
		}
		return w, nil
	}
	return x.Create(o.out, c)
}

// recordMoved has a directory's next resumption find its files where this one did.
func (o options) recordMoved() error {
	moved := false
	for _, flag := range places() {
		if old := o.begun.Options[flag]; old != o.content[flag] {
			o.begun.Options[flag], moved = o.content[flag], true
		}
	}
	if !moved {
		return nil
	}
	return states.Rewrite(o.resume, o.begun)
}
