package extract

import (
	"context"
	"io"
	"maps"
	"slices"

	"gotransplant/internal/panel"
)

// Texts of one padded length go through the layers together, so that a weight is read once for all of them. Which texts meet
// depends on the input, but their states do not: on panels no row sees how many others there are, and on graphs a padded length
// has its number of rows, filled up if need be.

// batchTokens is how many tokens, padding included, go through the layers together, unless a text alone has more. On panels
// what is gained ends where the kernels have a few panels to multiply a weight with. Graphs on the host gain less than filling up
// costs where there are few texts.
func (x *Extraction) batchTokens() int {
	switch {
	case x.options.BatchTokens > 0:
		return x.options.BatchTokens
	case x.reading.Engine.Panels():
		return 8 * panel.Lanes
	case x.reading.OnHost():
		return 1
	}
	return 1024
}

// together is how many texts of a padded length go through the layers together. The chooser with the arguer's states moved in, 0
// here, goes alone.
func (x *Extraction) together(padded int) int {
	if padded == 0 {
		return 1
	}
	return max(1, x.batchTokens()/padded)
}

// padded is the length that a text is padded to, by itself: on panels to whole ones, which they compute anyway; on graphs, of
// which every length is one, to a step of an eighth at most.
func (x *Extraction) padded(it item) int {
	step, n := 8, len(it.tokens.IDs)
	switch {
	case it.moving != nil:
		return 0
	case x.reading.Engine.Panels():
		step = panel.Lanes
	default:
		for step*16 <= n {
			step *= 2
		}
	}
	return (n + step - 1) / step * step
}

// window are texts that follow one another in the input. It is begun anew when all of them are written.
type window struct {
	jobs []*job
	left int // not written yet
}

func newWindow(texts, tensors int) *window {
	w := &window{left: texts}
	for range texts {
		w.jobs = append(w.jobs, &job{window: w, out: make([][]byte, tensors)})
	}
	return w
}

// windowBytes bounds the states of a window, where they are more than its least number of texts has.
const windowBytes = 128e6

// window is how many texts a window has at most: enough to find those of a length in it, and in any case work for all workers.
func (x *Extraction) window(p *Plan, workers int) int {
	most := 1 // that go together
	for n := range p.lengths {
		most = max(most, x.together(x.padded(ofLength(n))))
	}
	room := windowBytes / max(1, p.Layout.RowBytes(p.most))
	return max(2*workers, int(min(room, int64(8*most))))
}

// batches collects texts that go through the layers together.
type batches struct {
	x     *Extraction
	begun map[int][]*job // by padded length
	work  chan<- []*job
}

// add hands a batch on that has all its texts.
func (b *batches) add(ctx context.Context, j *job) bool {
	padded := b.x.padded(j.item)
	b.begun[padded] = append(b.begun[padded], j)
	if len(b.begun[padded]) < b.x.together(padded) {
		return true
	}
	whole := b.begun[padded]
	delete(b.begun, padded)
	return send(ctx, b.work, whole)
}

// flush hands on what there is, the shortest first.
func (b *batches) flush(ctx context.Context) bool {
	for _, padded := range slices.Sorted(maps.Keys(b.begun)) {
		if !send(ctx, b.work, b.begun[padded]) {
			return false
		}
	}
	clear(b.begun)
	return true
}

// feed reads the input and hands on every text that is to be computed, but for the first skip: to waiting in the order of the
// input, and to work as soon as a text has all that go with it, its window is full, or the input ends. It gives up when ctx is done.
func (x *Extraction) feed(ctx context.Context, skip int, free <-chan *window, waiting chan<- *job, work chan<- []*job) error {
	var room []*job // of a window, for what comes
	b := batches{x: x, begun: make(map[int][]*job), work: work}
	defer b.flush(ctx) // before an error too: what came in front of it is written
	for it, err := range x.input.items(io.Discard) {
		switch {
		case err != nil:
			return err
		case it.vectors == nil:
			continue
		case skip > 0:
			skip--
			continue
		}
		if len(room) == 0 {
			if !b.flush(ctx) {
				return nil
			}
			next := receive(ctx, free)
			if next == nil {
				return nil
			}
			room = next.jobs
		}
		j := room[0]
		room = room[1:]
		j.item, j.err, j.done = it, nil, make(chan struct{})
		if !send(ctx, waiting, j) || !b.add(ctx, j) {
			return nil
		}
	}
	return nil
}

// send gives up when ctx is done.
func send[T any](ctx context.Context, to chan<- T, v T) bool {
	select {
	case to <- v:
		return true
	case <-ctx.Done():
		return false
	}
}

// receive gives up, with nil, when ctx is done.
func receive[T any](ctx context.Context, from <-chan *T) *T {
	select {
	case v := <-from:
		return v
	case <-ctx.Done():
		return nil
	}
}
