package main

import (
	"fmt"
	"slices"
	"strings"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/spelling"
	"gotransplant/transplant"
)

// plan is what --dry-run tells.
type plan struct {
	Prompts         int     `json:"prompts"`
	Samples         int     `json:"samples"`
	PromptTokens    int     `json:"prompt_tokens"` // of all rows
	ShortestPrompt  int     `json:"shortest_prompt"`
	LongestPrompt   int     `json:"longest_prompt"`
	NewTokens       int     `json:"new_tokens_at_most"`
	Steps           int     `json:"steps_at_most"`
	Batch           int     `json:"batch"`
	WeightBytes     int64   `json:"weight_bytes"` // as stored in the checkpoint
	CacheBytes      int64   `json:"cache_bytes_at_most"`
	Context         int     `json:"context"`
	StopIDs         []int32 `json:"stop_ids"`
	Template        string  `json:"chat_template,omitempty"`
	FirstPrompt     []int32 `json:"first_prompt_tokens"`
	FirstPromptText string  `json:"first_prompt"`
}

// plan prints what a run would do.
func (w *work) plan() error {
	c := w.base.Config
	p := plan{Prompts: len(w.given), Samples: w.samples, Batch: min(w.batch, len(w.given)*w.samples), Context: c.MaxPositionEmbeddings,
		WeightBytes: w.base.StoredBytes(), StopIDs: w.stop, FirstPrompt: w.given[0].tokens}
	p.FirstPromptText = w.base.Tokenizer.Decode(p.FirstPrompt)
	if w.template != nil {
		p.Template = w.template.Name
	}
	var totals []int
	for i, given := range w.given {
		n := len(given.tokens)
		p.PromptTokens += n * w.samples
		p.LongestPrompt = max(p.LongestPrompt, n)
		if i == 0 || n < p.ShortestPrompt {
			p.ShortestPrompt = n
		}
		more := min(w.maxTokens, c.MaxPositionEmbeddings-n+1)
		p.NewTokens += more * w.samples
		totals = append(totals, n+more)
	}
	p.Steps = (p.NewTokens + p.Batch - 1) / p.Batch
	slices.SortFunc(totals, func(a, b int) int { return b - a })
	free := p.Batch // places in the cache, of which the longest rows take all
	for _, n := range totals {
		rows := min(free, w.samples)
		p.CacheBytes += int64(rows*n) * int64(2*c.NumHiddenLayers*c.NumKeyValueHeads*c.HeadDim) * w.valueBytes()
		free -= rows
	}
	if w.jsonOutput {
		return program.JSONLine(w.streams.out, p)
	}
	return p.print(w)
}

// valueBytes is the size of a number in the cache, at most: panels keep float32, graphs the compute type.
func (w *work) valueBytes() int64 {
	if onGraphs := w.base.Kernels == transplant.Graphs || !strings.HasPrefix(w.base.Backend, "go"); onGraphs && w.base.DType == "bfloat16" {
		return 2
	}
	return 4
}

func (p plan) print(w *work) error {
	template := ""
	if p.Template != "" {
		template = fmt.Sprintf("chat     template %s\n", p.Template)
	}
	_, err := fmt.Fprintf(w.streams.out, "prompts  %d of %d to %d tokens, %s each; context %d\n"+
		"tokens   %d of prompts, at most %d new ones in about %s of %s\n"+
		"memory   weights %.2f MB as stored, keys and values at most %.2f MB\n"+
		"stop     ids %v, texts %q\n%s"+
		"first    %q\n         %v\n", p.Prompts, p.ShortestPrompt, p.LongestPrompt, spelling.Count(p.Samples, "text"), p.Context,
		p.PromptTokens, p.NewTokens, spelling.Count(p.Steps, "step"), spelling.Count(p.Batch, "row"),
		float64(p.WeightBytes)/1e6, float64(p.CacheBytes)/1e6, p.StopIDs, w.stops, template, p.FirstPromptText, p.FirstPrompt)
	return err
}
