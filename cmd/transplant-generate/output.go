package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/atomicfile"
	"gotransplant/internal/generate"
	"gotransplant/internal/spelling"
)

// runner continues jobs on a new decoder, which is the caller's to close.
func (w *work) runner() (*generate.Runner, error) {
	d, err := w.method.NewDecoder()
	if err != nil {
		return nil, err
	}
	return &generate.Runner{Decoder: d, Context: w.base.Config.MaxPositionEmbeddings, Tokenizer: w.base.Tokenizer,
		Options: generate.Options{MaxTokens: w.maxTokens, Sampling: w.sampling(), Seed: w.base.Seed, Stop: w.stop, StopStrings: w.stops,
			Rows: w.batch, LogProbs: w.logProbs}}, nil
}

// generate continues all jobs and writes the results in the order of the prompts.
func (w *work) generate(ctx context.Context) error {
	r, err := w.runner()
	if err != nil {
		return err
	}
	defer r.Decoder.Close()
	if len(w.jobs) == 1 && w.options.out == "" && !w.jsonOutput {
		return w.stream(ctx, r)
	}
	o := &ordered{results: make([]*generate.Result, len(w.jobs)), write: w.write}
	if w.options.out != "" {
		o.write = func(generate.Result) error { return nil } // all at the end
	}
	progress, done := program.NewProgress(w.progress), 0
	r.Done = func(job int, result generate.Result) error {
		done++
		progress.Update("generate", done, len(w.jobs))
		return o.add(job, result)
	}
	stats, err := r.Run(ctx, w.jobs)
	progress.Finish()
	if err != nil {
		return err
	}
	if w.options.out != "" {
		err := atomicfile.Write(w.options.out, func(out io.Writer) error {
			for _, result := range o.results {
				if err := program.JSONLine(out, result); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	w.summary(stats)
	return nil
}

// stream prints the only job's text as it comes.
func (w *work) stream(ctx context.Context, r *generate.Runner) error {
	text := ""
	r.Said = func(_ int, more string) error {
		text += more
		_, err := io.WriteString(w.streams.out, more)
		return err
	}
	r.Done = func(_ int, result generate.Result) (err error) {
		if !strings.HasSuffix(text, "\n") {
			_, err = fmt.Fprintln(w.streams.out)
		}
		if err == nil && w.logProbs {
			_, err = fmt.Fprintf(w.streams.out, "logprobs %.4f\n", result.LogProbs)
		}
		return err
	}
	stats, err := r.Run(ctx, w.jobs)
	if err == nil {
		w.summary(stats)
	}
	return err
}

// ordered hands results on in the order of the jobs.
type ordered struct {
	results []*generate.Result
	next    int
	write   func(r generate.Result) error
}

func (o *ordered) add(job int, r generate.Result) error {
	o.results[job] = &r
	for ; o.next < len(o.results) && o.results[o.next] != nil; o.next++ {
		if err := o.write(*o.results[o.next]); err != nil {
			return err
		}
	}
	return nil
}

// write prints a result: a JSON line, or its text under a line with its id and how it ended.
func (w *work) write(r generate.Result) error {
	if w.jsonOutput {
		return program.JSONLine(w.streams.out, r)
	}
	name := r.ID
	if w.samples > 1 {
		name = fmt.Sprintf("%s, sample %d", r.ID, r.Sample+1)
	}
	ended := r.Finish
	if r.StoppedBy != "" {
		ended += fmt.Sprintf(" %q", r.StoppedBy)
	}
	_, err := fmt.Fprintf(w.streams.out, "== %s (%s, %s)\n%s\n", name, spelling.Count(len(r.Tokens), "token"), ended,
		strings.TrimSuffix(r.Text, "\n"))
	if err == nil && w.logProbs {
		_, err = fmt.Fprintf(w.streams.out, "logprobs %.4f\n", r.LogProbs)
	}
	return err
}

// summary tells on the standard error what a run did and how fast.
func (w *work) summary(s generate.Stats) {
	rate := func(tokens int, seconds float64) float64 { return float64(tokens) / max(seconds, 1e-9) }
	fmt.Fprintf(w.progress, "%s: %s in %.3g s (%.0f tokens/s), %d new in %.3g s (%.0f tokens/s); ended by a stop id %d, by a stop "+
		"string %d, by length %d\n", spelling.Count(s.Rows, "row"), spelling.Count(s.PromptTokens, "prompt token"), s.PromptSeconds,
		rate(s.PromptTokens, s.PromptSeconds), s.Tokens, s.DecodeSeconds, rate(s.Tokens, s.DecodeSeconds), s.ByToken, s.ByString, s.ByLength)
	if n := len(s.ContextFull); n > 0 {
		fmt.Fprintf(w.progress, "note     %s filled the model's context of %d tokens and ended there: %s\n", spelling.Count(n, "row"),
			w.base.Config.MaxPositionEmbeddings, some(s.ContextFull))
	}
}

// some lists the first few ids.
func some(ids []string) string {
	const most = 10
	if len(ids) > most {
		return strings.Join(ids[:most], ", ") + ", ..."
	}
	return strings.Join(ids, ", ")
}
