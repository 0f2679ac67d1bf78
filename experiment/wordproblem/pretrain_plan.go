package wordproblem

import (
	"fmt"
	"slices"

	"gotransplant/llama"
	"gotransplant/model/safetensors"
)

// PretrainPlan is what a pre-training comes to, found out on samples of its documents and without running it. Memory is in
// bytes: Device's, and Host's for values, moments and gradients.
type PretrainPlan struct {
	Parameters  int     `json:"parameters"`
	Vocabulary  int     `json:"vocabulary"`
	Steps       int     `json:"steps"`
	Batch       int     `json:"batch_size"`
	Documents   int     `json:"documents"`
	PerDocument float64 `json:"tokens_per_document"` // mean over all lessons
	Longest     int     `json:"longest"`             // document of the samples, in tokens
	Context     int     `json:"context"`
	TokensInAll int     `json:"tokens_in_all"` // about
	Device      int64   `json:"device_memory"`
	Host        int64   `json:"host_memory"`
}

// sampled is the number of documents of each lesson that a plan looks at.
const sampled = 1000

// PlanPretraining plans for a backend, with a number of micro-batches at a time.
func PlanPretraining(at llama.Planned, t Tokenizer, r Recipe, workers int) (PretrainPlan, error) {
	p, err := prepare(t, r)
	if err != nil {
		return PretrainPlan{}, err
	}
	r = p.Recipe
	plan := PretrainPlan{Vocabulary: r.Model.VocabSize, Steps: r.Steps(), Batch: r.Batch, Documents: r.Steps() * r.Batch,
		Context: r.Model.MaxPositionEmbeddings}
	var longest []example
	tokens := 0.0
	for _, lesson := range r.Lessons {
		sum := 0
		for d := range Documents([]Lesson{{sampled, lesson.Mix}}, 1, r.Seed) {
			e := p.encode.example(d)
			sum += len(e.ids)
			longest = append(longest, e)
		}
		tokens += float64(sum) / sampled * float64(lesson.Steps*r.Batch)
	}
	slices.SortStableFunc(longest, func(a, b example) int { return len(b.ids) - len(a.ids) })
	plan.Longest, plan.TokensInAll, plan.PerDocument = len(longest[0].ids), int(tokens), tokens/float64(plan.Documents)
	if err := p.fits(longest[0]); err != nil {
		return plan, err
	}
	weights, err := llama.Outline(at, r.Model, llama.AsStored, func(string) safetensors.DType { return safetensors.F32 })
	if err != nil {
		return plan, err
	}
	if err := p.compute(weights); err != nil {
		return plan, err
	}
	plan.Parameters = int(weights.Bytes() / 4)
	sweep, err := p.rehearse(longest[:min(len(longest), r.MicroBatch)])
	if err != nil {
		return plan, fmt.Errorf("memory plan: %w", err)
	}
	groups := (r.Batch + r.MicroBatch - 1) / r.MicroBatch
	plan.Device = weights.Bytes() + int64(min(max(workers, 1), groups))*sweep
	plan.Host = weights.Bytes() * int64(1+2+groups) // values, two moments, and the gradients of every micro-batch of a step
	return plan, nil
}

// rehearse counts the bytes that a sweep over the examples holds at its worst moment.
func (p *Pretrainer) rehearse(examples []example) (int64, error) {
	quiet := *p
	var books *llama.Rehearsal
	quiet.engine, books = p.engine.Rehearse()
	quiet.rehearses = true
	if _, err := quiet.sweep(examples, 1); err != nil {
		return 0, err
	}
	return books.Peak().Bytes(), nil
}
