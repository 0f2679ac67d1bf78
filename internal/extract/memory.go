package extract

import (
	"fmt"
	"slices"

	"gotransplant/data"
	"gotransplant/internal/setup"
	"gotransplant/llama"
)

// Memory is what an extraction holds at its worst moment, in bytes.
type Memory struct {
	Workers int   `json:"workers"` // sweeps at a time
	Window  int   `json:"window"`  // texts among which those that go together are found, of which there are two
	Weights int64 `json:"weights"` // with the adapter
	Sweeps  int64 `json:"sweeps"`  // of the texts that take most, as many at a time as there are workers
	Rows    int64 `json:"rows"`    // states of texts that wait for their turn, of the largest
	Shard   int64 `json:"shard"`   // the one being filled, with the room to let it grow
}

// Total is all of it.
func (m Memory) Total() int64 { return m.Weights + m.Sweeps + m.Rows + m.Shard }

// String is the sum with its parts.
func (m Memory) String() string {
	return fmt.Sprintf("weights %s, texts under way %s, their states %s, a shard %s = %s", megabytes(m.Weights), megabytes(m.Sweeps),
		megabytes(m.Rows), megabytes(m.Shard), megabytes(m.Total()))
}

// PlanMemory adds the memory to a plan, after Load. Where it does not suffice, fewer texts wait, and then fewer are computed at a time
// than there are cores, unless their number was asked for; what does not fit then is refused.
func (x *Extraction) PlanMemory(p *Plan, c setup.Capacity) error {
	sweep, err := x.largest(p)
	if err != nil {
		return fmt.Errorf("memory plan: %w", err)
	}
	most := max(1, min(x.workers(), p.Rows))
	least := 1
	if x.options.Workers > 0 {
		least = most
	}
	p.Memory = x.memory(p, sweep, most, x.window(p, most))
	for n := most; c.Bytes > 0 && x.needs(p.Memory) > c.Bytes && n >= least; n-- {
		p.Memory = x.memory(p, sweep, n, 2*n)
	}
	if n := p.Memory.Workers; n < most {
		x.options.Workers, p.fewer = n, fmt.Sprintf(", with %d and not %d batches at a time (--workers)", n, most)
	}
	if needs := x.needs(p.Memory); c.Bytes > 0 && needs > c.Bytes {
		return fmt.Errorf("the extraction needs %s of %s (%s): %s; try %sa smaller --shard-bytes, fewer --sites or --positions, or "+
			"--max-tokens with --skip-long", megabytes(needs), megabytes(c.Bytes), c.Source, p.Memory, lessThan(p.Memory.Workers))
	}
	return nil
}

// lessThan advises to compute fewer batches at a time where more than one was asked for.
func lessThan(workers int) string {
	if workers == 1 {
		return ""
	}
	return fmt.Sprintf("--workers less than %d, ", workers)
}

// memory is what so many sweeps at a time take, of which the largest takes sweep bytes, with two windows of so many texts.
func (x *Extraction) memory(p *Plan, sweep int64, workers, window int) *Memory {
	row := p.Layout.RowBytes(p.most)
	shard := min(p.Bytes, max(row, min(x.options.ShardBytes, row*int64(x.options.ShardRows))))
	return &Memory{Workers: workers, Window: window, Weights: x.reading.Engine.WeightBytes() + x.reading.Role.DeviceBytes(),
		Sweeps: int64(workers) * sweep, Rows: int64(min(2*window, p.Rows)) * row, Shard: 2 * shard}
}

// needs is what is asked of the backend's memory.
func (x *Extraction) needs(m *Memory) int64 {
	if x.reading.OnHost() {
		return m.Total()
	}
	return m.Weights + m.Sweeps
}

// largest is what the sweep holds that takes most.
func (x *Extraction) largest(p *Plan) (most int64, err error) {
	if p.longest.moving != nil {
		return x.sweep([]item{p.longest})
	}
	groups := make(map[int]tally) // by padded length
	for n, t := range p.lengths {
		padded := x.padded(ofLength(n))
		groups[padded] = groups[padded].plus(t)
	}
	for padded, t := range groups {
		it := ofLength(padded)
		it.vectors = []data.Span{{Start: 0, End: t.states}}
		needs, err := x.sweep(slices.Repeat([]item{it}, min(t.texts, x.together(padded))))
		if err != nil {
			return 0, err
		}
		most = max(most, needs)
	}
	return most, nil
}

// ofLength is a text of so many tokens.
func ofLength(n int) item { return item{tokens: data.Tokens{IDs: make([]int32, n)}} }

// sweep is what reading texts of one padded length, or the chooser with states moved in, holds.
func (x *Extraction) sweep(items []item) (int64, error) {
	engine, config := x.reading.Engine, x.reading.Config
	source, _ := x.parts(items)
	if !engine.Panels() {
		m := *x.reading.Method
		var books *llama.Rehearsal
		m.Engine, books = engine.Rehearse()
		err := x.capture(&m, items, x.chosen(source, func(llama.State) error { return nil }))
		return books.Peak().Bytes(), err
	}
	movedIn := 0
	var arguer int64
	if c := items[0].moving; c != nil {
		movedIn = c.Spans[0].End - c.Spans[0].Start + c.Spans[1].End - c.Spans[1].Start
		n := engine.PanelNeeds(llama.PanelShape{Rows: 1, Length: len(c.Argue[0].IDs) + len(c.Argue[1].IDs), MovedOut: movedIn})
		arguer = n.Tables + n.Kept + n.Forward + n.Moved
	}
	n := engine.PanelNeeds(llama.PanelShape{Rows: len(items), Length: len(items[0].tokens.IDs), MovedIn: movedIn})
	held := n.Tables + n.Kept + n.Forward + n.Rotated + arguer
	for _, info := range x.sites {
		values, size := int64(len(source)), int64(4)
		if info.Residual {
			size = 8
		}
		for _, d := range info.Shape(config) {
			values *= int64(d)
		}
		if !info.PerLayer {
			values = 2 * min(values, int64(llama.LogitsAtATime*config.VocabSize)) // as computed, and as they are handed out
		}
		held += values * size
	}
	return held, nil
}

// megabytes is a size in MB of 10^6 bytes, or in GB.
func megabytes(bytes int64) string {
	if bytes < 1e9 {
		return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(bytes)/1e9)
}
