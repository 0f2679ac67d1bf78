// Package generate continues prompts: it keeps a decoder's rows busy, draws their tokens, turns these into text as they come,
// and ends each row where it is to end.
package generate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gotransplant/llama"
	"gotransplant/model/tokenizer"
)

// Job is a prompt to be continued. What is drawn for it depends on the seed, its ID and Sample, and on no other job.
type Job struct {
	ID     string
	Sample int // number of the continuation, for a prompt that has several
	Prompt llama.Prompt
}

// Jobs are what a run continues. Each is made when its turn comes, once: prompts times samples may be more than memory holds.
type Jobs struct {
	Count int
	At    func(i int) (Job, error)
}

// List are jobs that are there already.
func List(jobs ...Job) Jobs {
	return Jobs{len(jobs), func(i int) (Job, error) { return jobs[i], nil }}
}

// Options say how rows go on and where they end.
type Options struct {
	MaxTokens   int // new tokens a row, at most
	Sampling    llama.Sampling
	Seed        uint64
	Stop        []int32  // a row ends with any of these tokens
	StopStrings []string // a row's text ends before any of these
	Rows        int      // computed together, at most
	LogProbs    bool
}

// Why a row ended.
const (
	ByToken  = "stop"        // one of the stop ids
	ByString = "stop-string" // one of the stop strings
	ByLength = "length"      // as many tokens as were asked for, or as fit the model's context
)

// Result is a continued prompt, a line of the output.
type Result struct {
	ID           string    `json:"id"`
	Sample       int       `json:"sample"`
	PromptTokens []int32   `json:"prompt_tokens"`
	Tokens       []int32   `json:"tokens"` // the stop id, or those of the stop string, included
	Text         string    `json:"text"`   // what they say behind the prompt, without either
	Finish       string    `json:"finish"`
	StoppedBy    string    `json:"stopped_by,omitempty"`   // the stop string, or the stop id's spelling
	ContextFull  bool      `json:"context_full,omitempty"` // the length was the context's
	LogProbs     []float64 `json:"logprobs,omitempty"`     // of each token, by the model itself: without temperature or cuts
}

// Stats are what a run took.
type Stats struct {
	Rows, PromptTokens, Tokens   int
	PromptSeconds, DecodeSeconds float64
	ByToken, ByString, ByLength  int
	ContextFull                  []string // ids of rows that ended because the context was full
}

// Runner continues jobs on one decoder, which has no rows yet.
type Runner struct {
	Decoder   *llama.Decoder
	Context   int // tokens that a row has at most, those of its prompt included
	Tokenizer *tokenizer.Tokenizer
	Options   Options
	// Said, when not nil, is told the text of a job as it becomes certain: never half a character, nor what may yet turn out
	// to begin a stop string.
	Said func(job int, text string) error
	// Done is told each job's result, as they end.
	Done func(job int, r Result) error
}

// row is a job under way.
type row struct {
	job     int
	result  Result
	sampler *llama.Sampler
	text    *text
}

// Run continues all jobs, Options.Rows at a time: where a row ends, the next job begins.
func (r *Runner) Run(ctx context.Context, jobs Jobs) (Stats, error) {
	stats := Stats{Rows: jobs.Count}
	live := make(map[int]*row) // by the decoder's number
	next, begun := 0, 0
	for next < jobs.Count || len(live) > 0 {
		if err := ctx.Err(); err != nil {
			return stats, err
		}
		if n := min(r.Options.Rows-len(live), jobs.Count-next); n > 0 {
			some := make([]Job, n)
			if err := r.begin(some, jobs, next, &stats); err != nil {
				return stats, err
			}
			for i, job := range some {
				live[begun+i] = r.newRow(next+i, job)
			}
			if err := r.draw(live, begun, &stats); err != nil {
				return stats, err
			}
			next, begun = next+n, begun+n
			continue
		}
		tokens := make([]int32, 0, len(live))
		for _, number := range r.Decoder.Live() {
			drawn := live[number].result.Tokens
			tokens = append(tokens, drawn[len(drawn)-1])
		}
		start := time.Now()
		if err := r.Decoder.StepLive(tokens); err != nil {
			return stats, err
		}
		stats.DecodeSeconds += time.Since(start).Seconds()
		if err := r.draw(live, 0, &stats); err != nil {
			return stats, err
		}
	}
	return stats, nil
}

// begin makes jobs from the first on, and computes their prompts.
func (r *Runner) begin(jobs []Job, all Jobs, first int, stats *Stats) error {
	prompts := make([]llama.Prompt, len(jobs))
	for i := range jobs {
		var err error
		if jobs[i], err = all.At(first + i); err != nil {
			return err
		}
		prompts[i] = jobs[i].Prompt
		stats.PromptTokens += len(prompts[i].Tokens)
	}
	start := time.Now()
	if err := r.Decoder.PrefillEdited(prompts); err != nil {
		return fmt.Errorf("prompts %s to %s: %w", jobs[0].ID, jobs[len(jobs)-1].ID, err)
	}
	stats.PromptSeconds += time.Since(start).Seconds()
	return nil
}

func (r *Runner) newRow(number int, job Job) *row {
	return &row{job: number, text: newText(r.Tokenizer, job.Prompt.Tokens, r.Options.StopStrings),
		sampler: llama.NewSampler(r.Options.Sampling, r.Options.Seed, job.ID, job.Sample),
		result:  Result{ID: job.ID, Sample: job.Sample, PromptTokens: job.Prompt.Tokens, Tokens: []int32{}}}
}

// draw takes a token for every live row from number first on, and ends those that are through.
func (r *Runner) draw(live map[int]*row, first int, stats *Stats) error {
	start := time.Now()
	for _, number := range slices.Clone(r.Decoder.Live()) {
		if number < first {
			continue
		}
		w := live[number]
		ended, err := r.drawFor(w, number)
		if err != nil {
			return fmt.Errorf("row %s: %w", w.result.ID, err)
		}
		stats.Tokens++
		if ended {
			r.Decoder.Finish(number)
			delete(live, number)
			stats.count(w.result)
			if err := r.Done(w.job, w.result); err != nil {
				return err
			}
		}
	}
	stats.DecodeSeconds += time.Since(start).Seconds()
	return nil
}

// drawFor takes one token for a row and says whether the row ends with it.
func (r *Runner) drawFor(w *row, number int) (ended bool, err error) {
	logits := r.Decoder.Logits(number)
	id, err := w.sampler.Next(logits)
	if err != nil {
		return false, err
	}
	w.result.Tokens = append(w.result.Tokens, id)
	if r.Options.LogProbs {
		w.result.LogProbs = append(w.result.LogProbs, llama.LogProb(logits, id))
	}
	if slices.Contains(r.Options.Stop, id) {
		w.result.Finish, ended = ByToken, true
		w.result.StoppedBy, _ = r.Tokenizer.TokenString(id)
	} else {
		w.text.push(id)
		w.result.ContextFull = r.Decoder.Length(number) >= r.Context && len(w.result.Tokens) < r.Options.MaxTokens
		if len(w.result.Tokens) == r.Options.MaxTokens || w.result.ContextFull {
			w.result.Finish, ended = ByLength, true
		}
	}
	if ended {
		w.text.flush()
	}
	if w.text.stopped != "" {
		w.result.Finish, w.result.StoppedBy, w.result.ContextFull, ended = ByString, w.text.stopped, false, true
	}
	w.result.Text = w.text.said
	if said := w.text.certain(ended); r.Said != nil && said != "" {
		err = r.Said(w.job, said)
	}
	return ended, err
}

func (s *Stats) count(r Result) {
	switch r.Finish {
	case ByToken:
		s.ByToken++
	case ByString:
		s.ByString++
	default:
		s.ByLength++
	}
	if r.ContextFull {
		s.ContextFull = append(s.ContextFull, r.ID)
	}
}
