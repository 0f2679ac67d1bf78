// Transplant-train fine-tunes an arguer and a chooser by moving the arguer's keys and values into the chooser. Without
// flags it runs the whole experiment on an embedded model and data set.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/setup"
	"gotransplant/transplant"
)

const head = `transplant-train trains a chooser that sees two arguments only through the keys and values which an arguer
left at them, and scores it on held-out rows. Without --model and --data it runs on the embedded ones.

  transplant-train --model llama-7b --data dataset.csv --out runs/first --dtype bfloat16
  transplant-train --model llama-7b --data dataset.csv --dry-run   # before renting a machine
  transplant-train --resume runs/first
`

func main() {
	os.Exit(run(program.Context(), os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return program.Status("transplant-train", train(ctx, args, stdout, stderr), stderr)
}

func train(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s, o, err := parse(args, stdout)
	if err != nil {
		return err
	}
	if o.DryRun {
		return dryRun(s, o, stdout, stderr)
	}
	session, err := program.Open(s, stderr)
	if err != nil {
		return err
	}
	trainer, plan, err := planned(session, program.Capacity(s))
	if err != nil {
		return err
	}
	dir, record, err := open(o, session, trainer)
	if err != nil {
		return err
	}
	defer record.Close()
	text := o.Text(stdout, stderr)
	fmt.Fprint(text, session.Describe(), plan, trainer.Describe(), o.left(trainer, trainer.Step()))
	if err := o.printPlan(session, dir, trainer.Step()+1, stdout); err != nil {
		return err
	}
	progress := program.NewProgress(stderr)
	defer progress.Clear() // before an error is told
	session.Compete(progress.Line)
	if err := session.Compile(ctx, text, setup.Controls{}); err != nil {
		return interrupted(ctx, err, trainer, dir)
	}
	record.Watch(progress.Update, progress.Line)
	session.Method.Limits.Report = progress.Line
	watched := &watcher{RunDir: record}
	if err := trainer.Run(ctx, watched); err != nil {
		return interrupted(ctx, err, trainer, dir)
	}
	fmt.Fprintf(text, "done after %.0f s; adapters, predictions and %s are in %s\n", trainer.Seconds(), transplant.FigureFile, dir)
	if o.JSON {
		return program.JSONLine(stdout, watched.summary(trainer, dir))
	}
	return nil
}

// planned prepares a training at the pace for which there is memory, and tells the plan.
func planned(session *setup.Session, c setup.Capacity) (trainer *transplant.Trainer, plan string, err error) {
	if plan, err = session.PlanMemory(c, setup.Controls{}); err != nil {
		return nil, "", err
	}
	trainer, err = session.Trainer() // after the plan, which settles the pace that it takes
	return trainer, plan, err
}

// interrupted tells how to go on where that is what err is. Compiling leaves the directory as it found it, or new and empty,
// and nothing has to be saved.
func interrupted(ctx context.Context, err error, t *transplant.Trainer, dir string) error {
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) { // of compiling; Run has its own
		err = transplant.ErrInterrupted
	}
	if !errors.Is(err, transplant.ErrInterrupted) {
		return err
	}
	return fmt.Errorf("%w after step %d of %d; go on with: transplant-train --resume %s", err, t.Step(), t.Total(), dir)
}

// open makes the run directory, or sets the trainer back to where the one to resume was saved.
func open(o options, session *setup.Session, trainer *transplant.Trainer) (dir string, record *transplant.RunDir, err error) {
	if o.resume != "" {
		if err := same(o.resume, session); err != nil {
			return "", nil, err
		}
		if record, err = transplant.OpenRun(o.resume, trainer); err != nil {
			return "", nil, err
		}
		if err := recordMoved(o.resume, session.Settings); err != nil {
			record.Close()
			return "", nil, err
		}
		return o.resume, record, nil
	}
	c := config{Config: program.NewConfig("transplant-train", session)}
	if c.Inputs, err = inputs(session.Settings); err != nil {
		return "", nil, err
	}
	record, err = transplant.CreateRun(o.out, c)
	return o.out, record, err
}
