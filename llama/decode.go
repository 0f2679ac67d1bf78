package llama

import (
	"fmt"
	"slices"
	"time"
)

// Decoder continues sequences token by token. The keys, rotated, and the values of every token are kept, so that a step
// computes one token a row. A row has the same bits whatever other rows there are: see panelDecoder and graphDecoder.
//
// Rows are numbered in the order in which they came. A Decoder belongs to one goroutine.
type Decoder struct {
	engine *Engine
	cached cached
	rows   []decoded
	live   []int // those not finished, in order
}

// decoded is what a Decoder knows of a row.
type decoded struct {
	length   int       // tokens in the cache
	logits   []float32 // [V] behind the last of them; nil once finished
	finished bool
}

// cached computes rows and keeps their keys and values. It is handed what has been checked.
type cached interface {
	// begin computes a prompt for each of the rows from first on and returns the logits [V] behind each.
	begin(first int, prompts []Prompt) ([][]float32, error)
	// step adds a token to each of the given rows, at its position, and returns the logits [V] behind it.
	step(rows []int, tokens, positions []int32) ([][]float32, error)
	// drop gives up what is kept of a row.
	drop(row int)
	// bytes is what keys and values take in memory.
	bytes() int64
}

// What a Decoder's work is booked under in the engine's ledger: prompts run as a stream of that name, steps are a pass.
const (
	DecoderName = "decoder"
	StepPass    = "step"
)

// NewDecoder returns a decoder without rows. overlay, or nil, is added to the projections as in a stream.
func (e *Engine) NewDecoder(overlay Overlay) (*Decoder, error) {
	if e.panels == nil {
		return &Decoder{engine: e, cached: newGraphDecoder(e, overlay)}, nil
	}
	if err := checkLowRank(overlay); err != nil {
		return nil, err
	}
	return &Decoder{engine: e, cached: newPanelDecoder(e, overlay)}, nil
}

// Prefill adds a row for each prompt and computes it.
func (d *Decoder) Prefill(prompts [][]int32) error {
	plain := make([]Prompt, len(prompts))
	for i, tokens := range prompts {
		plain[i].Tokens = tokens
	}
	return d.PrefillEdited(plain)
}

// PrefillEdited is Prefill for prompts of which some of the keys and values are replaced. It closes the edits.
func (d *Decoder) PrefillEdited(prompts []Prompt) error {
	defer func() {
		for _, p := range prompts {
			p.Edit.close()
		}
	}()
	for i, prompt := range prompts {
		if err := d.check(len(d.rows)+i, prompt); err != nil {
			return err
		}
	}
	if len(prompts) == 0 {
		return nil
	}
	logits, err := d.cached.begin(len(d.rows), prompts)
	if err != nil {
		return fmt.Errorf("prompts: %w", err)
	}
	for i, prompt := range prompts {
		d.live = append(d.live, len(d.rows))
		d.rows = append(d.rows, decoded{length: len(prompt.Tokens), logits: logits[i]})
	}
	return nil
}

// check refuses a prompt that cannot be computed.
func (d *Decoder) check(row int, prompt Prompt) error {
	cfg := d.engine.Weights.Config
	switch n := len(prompt.Tokens); {
	case n == 0:
		return fmt.Errorf("prompt of row %d is empty", row)
	case n > cfg.MaxPositionEmbeddings:
		return fmt.Errorf("prompt of row %d has %d tokens, the model's context is %d", row, n, cfg.MaxPositionEmbeddings)
	}
	for at, id := range prompt.Tokens {
		if id < 0 || int(id) >= cfg.VocabSize {
			return fmt.Errorf("token %d of row %d is %d, outside the model's vocabulary of %d", at, row, id, cfg.VocabSize)
		}
	}
	if prompt.Edit == nil {
		return nil
	}
	if err := prompt.Edit.check(len(prompt.Tokens)); err != nil {
		return fmt.Errorf("prompt of row %d: %w", row, err)
	}
	return nil
}

// Step adds one token to every row that is not finished; tokens has one for each row there ever was, in order. Tokens that
// are refused change nothing; where the computation itself fails the decoder can only be closed.
func (d *Decoder) Step(tokens []int32) error {
	if len(tokens) != len(d.rows) {
		return fmt.Errorf("step: %d tokens for %d rows", len(tokens), len(d.rows))
	}
	live := make([]int32, len(d.live))
	for i, row := range d.live {
		live[i] = tokens[row]
	}
	return d.StepLive(live)
}

// Live are the rows that are not finished, in order, until the next Prefill or Finish.
func (d *Decoder) Live() []int { return d.live }

// StepLive is Step with tokens for Live's rows alone.
func (d *Decoder) StepLive(tokens []int32) error {
	if len(tokens) != len(d.live) {
		return fmt.Errorf("step: %d tokens for %d rows that are not finished", len(tokens), len(d.live))
	}
	cfg := d.engine.Weights.Config
	positions := make([]int32, len(tokens))
	for i, row := range d.live {
		switch id := tokens[i]; {
		case id < 0 || int(id) >= cfg.VocabSize:
			return fmt.Errorf("step: the token of row %d is %d, outside the model's vocabulary of %d", row, id, cfg.VocabSize)
		case d.rows[row].length >= cfg.MaxPositionEmbeddings:
			return fmt.Errorf("step: row %d has %d tokens already, as many as the model's context", row, d.rows[row].length)
		}
		positions[i] = int32(d.rows[row].length)
	}
	if len(tokens) == 0 {
		return nil
	}
	start := time.Now()
	logits, err := d.cached.step(d.live, tokens, positions)
	if err != nil {
		return fmt.Errorf("step: %w", err)
	}
	if d.engine.panels != nil { // graphs are booked call by call
		d.engine.clerk.called(Work{DecoderName, StepPass}, time.Since(start))
	}
	for i, row := range d.live {
		d.rows[row].length++
		d.rows[row].logits = logits[i]
	}
	return nil
}

// Logits are the logits [V] behind the last token of a row, until the next Step, or nil if it is finished.
func (d *Decoder) Logits(row int) []float32 { return d.rows[row].logits }

// Length is the number of tokens of a row, its prompt included.
func (d *Decoder) Length(row int) int { return d.rows[row].length }

// Finish ends a row and frees what is kept of it. The other rows go on as if nothing had happened.
func (d *Decoder) Finish(row int) {
	if r := &d.rows[row]; !r.finished {
		d.cached.drop(row)
		r.finished, r.logits = true, nil
		at, _ := slices.BinarySearch(d.live, row)
		d.live = slices.Delete(d.live, at, at+1)
	}
}

// CacheBytes is what keys and values take in memory.
func (d *Decoder) CacheBytes() int64 { return d.cached.bytes() }

// Close finishes all rows.
func (d *Decoder) Close() {
	for row := range d.rows {
		d.Finish(row)
	}
}

// Greedy is the token with the largest logit, the lowest of them if there are several.
func Greedy(logits []float32) int32 {
	best := 0
	for i, v := range logits {
		if v > logits[best] {
			best = i
		}
	}
	return int32(best)
}
