package extract

import (
	"fmt"

	"gotransplant/internal/setup"
	"gotransplant/llama"
)

// Memory is what an extraction holds at its worst moment, in bytes.
type Memory struct {
	Weights int64 `json:"weights"` // with the adapter
	Sweeps  int64 `json:"sweeps"`  // of the longest text, as many at a time as there are workers
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

// PlanMemory adds the memory to a plan, after Load, and refuses what does not fit.
func (x *Extraction) PlanMemory(p *Plan, c setup.Capacity) error {
	sweep, err := x.sweep(p)
	if err != nil {
		return fmt.Errorf("memory plan: %w", err)
	}
	row := p.Layout.RowBytes(p.most)
	shard := min(p.Bytes, max(row, min(x.options.ShardBytes, row*int64(x.options.ShardRows))))
	workers := int64(min(x.workers(), p.Rows))
	p.Memory = &Memory{Weights: x.reading.Engine.WeightBytes() + x.reading.Role.DeviceBytes(), Sweeps: workers * sweep,
		Rows: min(3*workers+1, int64(p.Rows)) * row, Shard: 2 * shard}
	needs := p.Memory.Weights + p.Memory.Sweeps
	if x.reading.OnHost() {
		needs = p.Memory.Total()
	}
	if c.Bytes > 0 && needs > c.Bytes {
		return fmt.Errorf("the extraction needs %s of %s (%s): %s; try --workers less than %d, a smaller --shard-bytes, fewer --sites or "+
			"--positions, or --max-tokens with --skip-long", megabytes(needs), megabytes(c.Bytes), c.Source, p.Memory, workers)
	}
	return nil
}

// sweep is what reading the longest text holds.
func (x *Extraction) sweep(p *Plan) (int64, error) {
	engine, config := x.reading.Engine, x.reading.Config
	source, _ := sources(p.longest.vectors)
	if !engine.Panels() {
		m := *x.reading.Method
		var books *llama.Rehearsal
		m.Engine, books = engine.Rehearse()
		err := x.capture(&m, p.longest, x.chosen(source, func(llama.State) error { return nil }))
		return books.Peak().Bytes(), err
	}
	movedIn := 0
	var arguer int64
	if c := p.longest.moving; c != nil {
		movedIn = c.Spans[0].End - c.Spans[0].Start + c.Spans[1].End - c.Spans[1].Start
		n := engine.PanelNeeds(llama.PanelShape{Rows: 1, Length: len(c.Argue[0].IDs) + len(c.Argue[1].IDs), MovedOut: movedIn})
		arguer = n.Tables + n.Kept + n.Forward + n.Moved
	}
	n := engine.PanelNeeds(llama.PanelShape{Rows: 1, Length: len(p.longest.tokens.IDs), MovedIn: movedIn})
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
