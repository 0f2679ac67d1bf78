package extract

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"gotransplant/internal/spelling"
	"gotransplant/internal/states"
	"gotransplant/transplant"
)

// job is a text on its way through a worker.
type job struct {
	window *window
	item   item
	out    [][]byte // by tensor; its memory serves again
	err    error
	done   chan struct{}
}

// Run computes the rows of the plan that w has not got yet and adds them in order. progress is told how many rows there
// are. When ctx is done the shard under way is dropped: it will be computed again.
func (x *Extraction) Run(ctx context.Context, p *Plan, w *states.Writer, progress func(done int)) error {
	ctx, cancel := context.WithCancel(ctx)
	workers := x.workers()
	texts := p.Memory.Window
	waiting := make(chan *job, 2*texts) // in the order of the input
	work := make(chan []*job)
	free := make(chan *window, 2) // one is filled while the other is worked on
	for range cap(free) {
		free <- newWindow(texts, len(p.Layout.Tensors))
	}
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	var input error // read when waiting is closed
	group.Go(func() {
		defer close(work)
		defer close(waiting)
		input = x.feed(ctx, w.Rows(), free, waiting, work)
	})
	for range workers {
		group.Go(func() {
			for jobs := range work {
				err := x.named(jobs, x.read(jobs, p.Layout))
				for _, j := range jobs {
					j.err = err
					close(j.done)
				}
			}
		})
	}
	done := w.Rows()
	err := x.deliver(ctx, waiting, func(j *job) error {
		if err := w.Add(j.item.row(), j.out); err != nil {
			return err
		}
		done++
		progress(done)
		if j.window.left--; j.window.left == 0 {
			j.window.left = texts
			free <- j.window // has room for both
		}
		return nil
	})
	if err != nil {
		return err
	}
	if input != nil {
		return input
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if w.Rows() != p.Rows {
		return fmt.Errorf("%s changed while it was read: %d texts at first, then %d", p.Input, p.Rows, w.Rows())
	}
	return nil
}

// named is an error with the text that it is of, or with the first of those that went together.
func (x *Extraction) named(jobs []*job, err error) error {
	if err == nil {
		return nil
	}
	of, others := jobs[0].item, ""
	var own *partError
	switch {
	case errors.As(err, &own):
		of = jobs[own.part].item
	case len(jobs) > 1:
		others = fmt.Sprintf(", and %s beside it", spelling.Count(len(jobs)-1, "text"))
	}
	return fmt.Errorf("%s, id %s, line %d%s: %w", x.input.name, of.ID, of.Line, others, err)
}

// deliver takes the jobs in order, each when it is done.
func (x *Extraction) deliver(ctx context.Context, waiting <-chan *job, take func(*job) error) error {
	for j := range waiting {
		select {
		case <-j.done:
		case <-ctx.Done():
			return transplant.ErrInterrupted
		}
		if j.err != nil {
			return j.err
		}
		if err := take(j); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return transplant.ErrInterrupted
	}
	return nil
}

// row is the item's line of the index.
func (it item) row() states.Row {
	r := states.Row{ID: it.ID, Line: it.Line, Label: it.Label, Count: len(it.vectors), Tokens: it.tokens.IDs, Text: it.Prompt.Text()}
	means := false
	for _, v := range it.vectors {
		r.Position, r.End = append(r.Position, v.Start), append(r.End, v.End)
		means = means || v.End-v.Start > 1
	}
	if !means {
		r.End = nil
	}
	for _, b := range it.bytes {
		r.Spans = append(r.Spans, [2]int{b.Start, b.End})
	}
	for name, s := range it.tokens.Spans {
		if r.Segments == nil {
			r.Segments = make(map[string][2]int)
		}
		r.Segments[name] = [2]int{s.Start, s.End}
	}
	return r
}
