package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/spelling"
	"gotransplant/model"
)

const convertHead = `transplant-adapter convert writes a checkpoint anew as safetensors files: from PyTorch .bin files, with other
shards, in another type. Tensors whose type is kept are copied byte by byte. The output directory appears when it
is whole.

  transplant-adapter convert --model path/to/llama-7b --out converted --dtype bfloat16 --shard-size 2GB
`

// conversion is what convert did.
type conversion struct {
	plan
	Converted int       `json:"tensors_converted"`
	Rounded   []rounded `json:"tensors_rounded"` // those whose values are not all exact in the new type
}

// rounded is what a tensor lost.
type rounded struct {
	Tensor   string   `json:"tensor"`
	From     string   `json:"from"`
	To       string   `json:"to"`
	Largest  float64  `json:"largest_error"`
	Relative *float64 `json:"relative_error"` // |error| / |tensor|, as vectors
}

func convert(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o output
	g := program.NewGroup("Flags")
	o.bind(g.Flags)
	if _, err := parse(args, nil, convertHead, stdout, g); err != nil {
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
	result, err := rewrite(ctx, c, o, r, stdout, stderr)
	if err := errors.Join(err, c.Close()); err != nil || o.dryRun {
		return err
	}
	if o.asJSON {
		return printJSON(stdout, result)
	}
	return result.print(stdout)
}

// rewrite prints the plan and, unless that is all, carries it out.
func rewrite(ctx context.Context, c *model.Checkpoint, o output, r model.Rewriting, stdout, stderr io.Writer) (*conversion, error) {
	p, err := newPlan(o, c, r)
	if err != nil {
		return nil, err
	}
	if !o.asJSON {
		p.print(stdout, c.Config)
	}
	if o.dryRun {
		if o.asJSON {
			err = printJSON(stdout, p)
		}
		return nil, err
	}
	progress := program.NewProgress(stderr)
	r.Progress = func(done, total int) { progress.Update("write", done, total) }
	altered, err := c.Rewrite(ctx, o.out, r)
	progress.Clear()
	if err != nil {
		return nil, err
	}
	result := &conversion{plan: p, Converted: len(altered), Rounded: []rounded{}}
	for _, a := range altered {
		if a.LargestLost > 0 {
			result.Rounded = append(result.Rounded,
				rounded{a.Name, model.DTypeName(a.From), model.DTypeName(a.To), a.LargestLost, share(a.Lost, a.Base)})
		}
	}
	return result, nil
}

// print tells what was converted and the worst that rounding did.
func (c *conversion) print(w io.Writer) error {
	fmt.Fprintf(w, "copied   %s byte by byte\n", spelling.Count(c.Tensors-c.Converted, "tensor"))
	if c.Converted == 0 {
		return nil
	}
	fmt.Fprintf(w, "convert  %s", spelling.Count(c.Converted, "tensor"))
	if len(c.Rounded) == 0 {
		fmt.Fprintln(w, ", every value exact")
		return nil
	}
	worst := c.Rounded[0]
	for _, r := range c.Rounded {
		if r.Relative != nil && (worst.Relative == nil || *r.Relative > *worst.Relative) {
			worst = r
		}
	}
	_, err := fmt.Fprintf(w, ", %d of them rounded, to the nearest; most in %s: relative error %s, largest %s\n", len(c.Rounded),
		worst.Tensor, optional(worst.Relative), number(worst.Largest))
	return err
}
