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
	if jobs := w.jobs(); jobs.Count == 1 && w.options.out == "" && !w.jsonOutput {
		return w.stream(ctx, r, jobs)
	}
	var stats generate.Stats
	if w.options.out == "" {
		stats, err = w.inOrder(ctx, r, w.write)
	} else {
		var failed error // of the run; a failure to write names the file
		err = atomicfile.Write(w.options.out, func(out io.Writer) error {
			stats, failed = w.inOrder(ctx, r, func(result generate.Result) error { return program.JSONLine(out, result) })
			return failed
		})
		if failed != nil {
			err = failed
		}
	}
	if err == nil {
		w.summary(stats)
	}
	return err
}

// inOrder continues all jobs and hands each result to write when those before it are written.
func (w *work) inOrder(ctx context.Context, r *generate.Runner, write func(generate.Result) error) (generate.Stats, error) {
	o, jobs := &ordered{waiting: make(map[int]generate.Result), write: write}, w.jobs()
	progress, done := program.NewProgress(w.progress), 0
	defer progress.Clear()
	r.Done = func(job int, result generate.Result) error {
		done++
		progress.Clear() // the results may go to the same terminal
		err := o.add(job, result)
		progress.Update("generate", done, jobs.Count)
		return err
	}
	return r.Run(ctx, jobs)
}

// stream prints the only job's text as it comes.
func (w *work) stream(ctx context.Context, r *generate.Runner, job generate.Jobs) error {
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
	stats, err := r.Run(ctx, job)
	w.endLine(err, text)
	if err == nil {
		w.summary(stats)
	}
	return err
}

// ordered hands results on in the order of the jobs.
type ordered struct {
	waiting map[int]generate.Result // for others before them
	next    int
	write   func(r generate.Result) error
}

func (o *ordered) add(job int, r generate.Result) error {
	o.waiting[job] = r
	for {
		r, ended := o.waiting[o.next]
		if !ended {
			return nil
		}
		delete(o.waiting, o.next)
		o.next++
		if err := o.write(r); err != nil {
			return err
		}
	}
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
