package main

import (
	"context"
	"time"

	"gotransplant/internal/spelling"
	"gotransplant/llama"
)

// generation is what was measured of greedy decoding by the base alone. The first new token of a row comes with its
// prompt, every other with a step, which adds one to each row.
type generation struct {
	Part string `json:"part"`
	facts
	PromptTokens           int       `json:"prompt_tokens"` // of each row
	NewTokens              int       `json:"new_tokens"`
	PrefillTokensPerSecond float64   `json:"prefill_tokens_per_second"` // of prompts
	DecodeTokensPerSecond  float64   `json:"decode_tokens_per_second"`
	SecondsPerToken        float64   `json:"seconds_per_token"` // of a step, median of the trials
	PrefillTrials          []float64 `json:"prefill_trials"`    // seconds for all prompts, in order
	DecodeTrials           []float64 `json:"decode_trials"`     // seconds for all steps
	FirstSeconds           float64   `json:"first_seconds"`     // of the first trial in all, compilation included
	Kinds                  int       `json:"kinds"`             // of executables compiled
	Compilations           int       `json:"compilations"`
	CompileSeconds         float64   `json:"compile_seconds"`
	CacheBytes             int64     `json:"cache_bytes"`     // of keys and values in the end
	PeakHostBytes          int64     `json:"peak_host_bytes"` // VmHWM: the most the process ever had resident
}

// generate times greedy continuations of the rows' prompts for the chooser.
func (b *benchmark) generate(ctx context.Context) (generation, error) {
	engine := b.session.Method.Engine
	g := generation{Part: generate, facts: b.facts, PromptTokens: b.options.lengths.chooser, NewTokens: b.options.newTokens}
	start := engine.Ledger()
	for i := range 2 + b.options.trials {
		prefill, decode, cache, err := b.continueRows(ctx)
		if err != nil {
			return g, err
		}
		g.CacheBytes = cache
		if i == 0 {
			g.FirstSeconds = (prefill + decode).Seconds()
		}
		if i >= 2 {
			g.PrefillTrials = append(g.PrefillTrials, prefill.Seconds())
			g.DecodeTrials = append(g.DecodeTrials, decode.Seconds())
		}
	}
	all := engine.Ledger().Since(start)
	g.Kinds, g.Compilations, g.CompileSeconds = all.Kinds, all.Compilations, all.CompileSeconds
	rows := float64(b.options.rows)
	g.SecondsPerToken = median(g.DecodeTrials) / float64(g.NewTokens-1)
	g.DecodeTokensPerSecond = rows / g.SecondsPerToken
	g.PrefillTokensPerSecond = rows * float64(g.PromptTokens) / median(g.PrefillTrials)
	g.PeakHostBytes = peakHostBytes()
	return g, nil
}

// continueRows decodes all rows once.
func (b *benchmark) continueRows(ctx context.Context) (prefill, decode time.Duration, cache int64, err error) {
	start := time.Now()
	d, tokens, err := begin(b.session.Method.Engine, b.prompts())
	if err != nil {
		return 0, 0, 0, err
	}
	defer d.Close()
	first := time.Now()
	for range b.options.newTokens - 1 {
		if err := ctx.Err(); err != nil {
			return 0, 0, 0, err
		}
		if err := next(d, tokens); err != nil {
			return 0, 0, 0, err
		}
	}
	return first.Sub(start), time.Since(first), d.CacheBytes(), nil
}

func (b *benchmark) prompts() [][]int32 {
	prompts := make([][]int32, len(b.session.Cases))
	for i, c := range b.session.Cases {
		prompts[i] = c.Choose
	}
	return prompts
}

// begin computes prompts and chooses each one's first new token.
func begin(e *llama.Engine, prompts [][]int32) (d *llama.Decoder, tokens []int32, err error) {
	if d, err = e.NewDecoder(nil); err != nil {
		return nil, nil, err
	}
	if err := d.Prefill(prompts); err != nil {
		d.Close()
		return nil, nil, err
	}
	tokens = make([]int32, len(prompts))
	choose(d, tokens)
	return d, tokens, nil
}

// next adds tokens and replaces them by the next ones.
func next(d *llama.Decoder, tokens []int32) error {
	if err := d.Step(tokens); err != nil {
		return err
	}
	choose(d, tokens)
	return nil
}

func choose(d *llama.Decoder, tokens []int32) {
	for row := range tokens {
		tokens[row] = llama.Greedy(d.Logits(row))
	}
}

func (r *report) generation(g generation) {
	if r.asJSON {
		r.line(g)
		return
	}
	r.printf("\n%-8s %s of %d tokens, %d new ones each: %.4g s a token (a step of all rows), %.4g tokens/s\n", g.Part,
		spelling.Count(g.Rows, "row"), g.PromptTokens, g.NewTokens, g.SecondsPerToken, g.DecodeTokensPerSecond)
	r.printf("  decoding      %s s for %s\n", seconds(g.DecodeTrials), spelling.Count(g.NewTokens-1, "step"))
	r.printf("  prompts       %.4g tokens/s; %s s for all\n", g.PrefillTokensPerSecond, seconds(g.PrefillTrials))
	r.printf("  first run     %.4g s; %s of executables, %s of %.4g s in all\n", g.FirstSeconds, spelling.Count(g.Kinds, "kind"),
		spelling.Count(g.Compilations, "compilation"), g.CompileSeconds)
	r.printf("  memory        keys and values %.2f MB; %.2f GB at most resident on the host\n", float64(g.CacheBytes)/1e6,
		float64(g.PeakHostBytes)/1e9)
}

// peerGeneration prints a figure of PyTorch's or of the C program's.
func (r *report) peerGeneration(p peerFigure) {
	how, built := "on the device", "torch "+p.Torch
	if p.Threads > 0 {
		how = spelling.Count(p.Threads, "thread")
	}
	if p.Implementation == plainC {
		how, built = "one row at a time on one core", p.Compiler+", "+p.CompilerFlags
	}
	r.printf("peer     %s, %s (%s) in %s on %s, %s: %d rows of %d tokens, %d new ones: %.4g s a token (%s s in all), "+
		"%.4g tokens/s; prompts %.4g tokens/s\n", p.Part, p.Implementation, built, p.DType, p.Device, how, p.Rows, p.PromptTokens, p.NewTokens, p.SecondsPerToken, seconds(p.DecodeTrials), p.DecodeTokensPerSecond, p.PrefillTokensPerSecond)
}

// generationRatios compares tokens a second.
func (r *report) generationRatios(g generation, p peerFigure) {
	decode, prefill := g.DecodeTokensPerSecond/p.DecodeTokensPerSecond, g.PrefillTokensPerSecond/p.PrefillTokensPerSecond
	if r.asJSON {
		r.line(map[string]any{"part": "ratio", "of": g.Part, "peer": p.name(), "dtype": g.DType, "peer_dtype": p.DType, "ratio": decode,
			"prefill_ratio": prefill, "shape": g.Shape, "commit": g.Commit})
		return
	}
	r.printf("  ratio         %.2f times the tokens/s of %s in %s; in prompts %.2f times\n", decode, p.name(), p.DType, prefill)
}
