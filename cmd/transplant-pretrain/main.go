// Transplant-pretrain makes the embedded model: it trains a small LLaMA from scratch on generated documents and writes
// it as a Hugging Face checkpoint. The same flags give the same bytes on one kind of machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"gotransplant/cmd/internal/program"
	"gotransplant/experiment/wordproblem"
	"gotransplant/internal/spelling"
	"gotransplant/model/tokenizer"
	"gotransplant/transplant"
)

const head = `transplant-pretrain trains a small LLaMA from scratch on generated word problems and writes a checkpoint.
Ctrl-C stops after the step under way and writes what there is; the same command then goes on from there. After a kill
it goes on from the last state of --save-every.

  transplant-datagen --out made
  transplant-pretrain --tokenizer made --out made/model --dry-run
  transplant-pretrain --tokenizer made --out made/model
`

func main() {
	os.Exit(run(program.Context(), os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process: it returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return program.Status("transplant-pretrain", execute(ctx, args, stdout, stderr), stderr)
}

func execute(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, r, err := parse(args, stdout)
	if err != nil {
		return err
	}
	step, err := o.prepare()
	if err != nil {
		return err
	}
	if o.DryRun {
		return dryRun(o, r, step, stdout, stderr)
	}
	return pretrain(ctx, o, r, step, outputs{stdout, stderr})
}

// outputs are where JSON goes, and text.
type outputs struct{ json, text io.Writer }

// pretrain trains what is left after a step, and writes the model also when it is interrupted.
func pretrain(ctx context.Context, o options, r wordproblem.Recipe, step int, to outputs) error {
	t, err := tokenizer.Open(o.tokenizer)
	if err != nil {
		return err
	}
	backend, err := program.OpenBackend(o.backend, to.text)
	if err != nil {
		return err
	}
	p, err := wordproblem.NewPretrainer(backend, t, r)
	if err != nil {
		return err
	}
	p.Workers = o.workers
	progress := program.NewProgress(to.text)
	progress.Line(fmt.Sprintf("%d parameters, vocabulary of %d, %s of %s", p.Parameters(), t.VocabSize(),
		spelling.Count(r.Steps(), "step"), spelling.Count(r.Batch, "document")))
	if step > 0 {
		if err := p.Resume(o.out, o.decides); err != nil {
			return err
		}
		progress.Line(strings.TrimSuffix(left(step, r.Steps()), "\n"))
	}
	f := &follower{p, o, to.json, progress, time.Now()}
	stopped := p.Run(ctx, f.updated)
	progress.Clear()
	if stopped != nil && !errors.Is(stopped, context.Canceled) {
		return stopped
	}
	if err := saveAll(p, o, stopped != nil); err != nil { // not joined: whoever reads that it was stopped believes that it is saved
		return err
	}
	if stopped != nil {
		return fmt.Errorf("%w after step %d of %d; the model as it is was written to %s, and the same command goes on from there",
			transplant.ErrInterrupted, p.Step(), r.Steps(), o.out)
	}
	return nil
}

// follower does what is due after updates.
type follower struct {
	*wordproblem.Pretrainer
	options  options
	json     io.Writer
	progress *program.Progress
	printed  time.Time
}

// updated prints the loss every ten seconds, and the score of held-out documents and saves the state when it is due: the state
// last, for what goes on from it does not score this update again.
func (f *follower) updated(m wordproblem.PretrainMetrics) error {
	total := f.Recipe.Steps()
	f.progress.Update("pre-training", m.Step*f.Recipe.Batch, total*f.Recipe.Batch)
	last := m.Step == total
	if time.Since(f.printed) >= 10*time.Second || last {
		f.printed = time.Now()
		f.progress.Line(fmt.Sprintf("step %d of %d: loss %.4f, judged %.4f, gradient %.2f, lr %.2e, %.0f tokens/s, %.0f s",
			m.Step, total, m.Loss, m.Judged, m.GradientNorm, m.LearningRate, m.TokensPerSec, m.Seconds))
	}
	if last || due(m.Step, f.options.every) {
		if err := f.score(m, last); err != nil {
			return err
		}
	}
	if !last && due(m.Step, f.options.save) { // the model comes behind the last
		return f.SaveState(f.options.out, f.options.decides)
	}
	return nil
}

func due(step, every int) bool { return every > 0 && step%every == 0 }

// score tells how good the model is at held-out documents after an update.
func (f *follower) score(m wordproblem.PretrainMetrics, last bool) error {
	s, err := f.Evaluate(f.options.evaluated)
	if err != nil {
		return err
	}
	f.progress.Line(fmt.Sprintf("after step %d: %s", m.Step, s))
	switch {
	case !f.options.JSON:
		return nil
	case last:
		return program.JSONLine(f.json, score{"summary", m, &s, f.options.out})
	}
	return program.JSONLine(f.json, score{"score", m, &s, ""})
}
