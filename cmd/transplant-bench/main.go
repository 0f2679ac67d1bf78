// Transplant-bench measures training, evaluation and generation on made weights and rows of given lengths, shows where
// the time goes, and measures the same in PyTorch, and generation in plain C.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"gotransplant/cmd/internal/program"
)

const head = `transplant-bench makes random weights of a named shape on the device and rows of given token lengths, runs whole
training steps or evaluations of them, or continues them, and prints speed, where the time went, and how far from the
device's limit it was. The lengths are those of the published data set unless told otherwise.

  transplant-bench --shape 42m --peer
  transplant-bench --shape stories260k --part generate --rows 1 --peer-c cc
  transplant-bench --shape 7b --backend xla:cuda --dtype bfloat16 --rows 16 --micro-batch 8 --json
  transplant-bench --shape 7b --backend xla:cuda --dtype bfloat16 --rows 16 --device-memory 80 --dry-run
`

func main() {
	os.Exit(run(program.Context(), os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return program.Status("transplant-bench", measureAll(ctx, args, stdout, stderr), stderr)
}

// measureAll does what the flags say. The peers come first, so that they have the device's memory to themselves.
func measureAll(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s, o, err := parse(args, stdout)
	if err != nil {
		return err
	}
	config, err := o.config()
	if err != nil {
		return err
	}
	if longest := max(o.lengths.arguer, o.lengths.chooser); longest > config.MaxPositionEmbeddings {
		return fmt.Errorf("prompts of %d tokens: the context of --shape %s is %d", longest, o.shape, config.MaxPositionEmbeddings)
	}
	if longest := o.lengths.chooser + o.newTokens; longest > config.MaxPositionEmbeddings && o.generates() {
		return fmt.Errorf("prompts of %d tokens and --new-tokens %d: the context of --shape %s is %d", o.lengths.chooser, o.newTokens,
			o.shape, config.MaxPositionEmbeddings)
	}
	out, j := report{w: stdout, asJSON: o.JSON}, job{s, o, config, stderr}
	switch {
	case o.DryRun:
		return dryRun(s, o, &out, stderr)
	case o.check && o.compiler != "":
		return j.checkC(ctx, &out)
	case o.check:
		return j.check(ctx, &out)
	}
	theirs, err := j.runPeers(ctx)
	if err != nil {
		return err
	}
	for _, p := range theirs {
		out.peer(p)
	}
	b, err := j.open()
	if err != nil {
		return err
	}
	out.setUp(b)
	for _, part := range o.parts {
		if err := b.report(ctx, part, theirs, &out); err != nil {
			return fmt.Errorf("--part %s: %w", part, err)
		}
	}
	return out.err
}

// report measures a part and prints its figure and ratios.
func (b *benchmark) report(ctx context.Context, part string, theirs []peerFigure, out *report) error {
	theirs = slices.DeleteFunc(slices.Clone(theirs), func(p peerFigure) bool { return p.Part != part })
	if part == generate {
		g, err := b.generate(ctx)
		if err != nil {
			return err
		}
		out.generation(g)
		for _, p := range theirs {
			out.generationRatios(g, p)
		}
		return nil
	}
	f, err := b.measure(ctx, part)
	if err != nil {
		return err
	}
	out.figure(f)
	for _, p := range theirs {
		out.ratio(f, p)
	}
	return nil
}
