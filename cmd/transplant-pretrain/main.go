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
Ctrl-C stops after the step under way and writes what there is; the same command then goes on from there.

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
	stopped := p.Run(ctx, follow(p, o, to.json, progress))
	progress.Finish()
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

// follow prints the loss every ten seconds, and the score of held-out documents when it is due.
func follow(p *wordproblem.Pretrainer, o options, stdout io.Writer, progress *program.Progress) func(wordproblem.PretrainMetrics) error {
	printed := time.Now()
	return func(m wordproblem.PretrainMetrics) error {
		total := p.Recipe.Steps()
		progress.Update("pre-training", m.Step*p.Recipe.Batch, total*p.Recipe.Batch)
		if time.Since(printed) >= 10*time.Second || m.Step == total {
			printed = time.Now()
			progress.Line(fmt.Sprintf("step %d of %d: loss %.4f, judged %.4f, gradient %.2f, lr %.2e, %.0f tokens/s, %.0f s",
				m.Step, total, m.Loss, m.Judged, m.GradientNorm, m.LearningRate, m.TokensPerSec, m.Seconds))
		}
		if m.Step != total && (o.every == 0 || m.Step%o.every != 0) {
			return nil
		}
		s, err := p.Evaluate(o.evaluated)
		if err != nil {
			return err
		}
		progress.Line(fmt.Sprintf("after step %d: %s", m.Step, s))
		switch {
		case !o.JSON:
			return nil
		case m.Step == total:
			return program.JSONLine(stdout, score{"summary", m, &s, o.out})
		}
		return program.JSONLine(stdout, score{"score", m, &s, ""})
	}
}
