package llama

import (
	"fmt"
	"maps"
	"sync"

	"gotransplant/internal/guard"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Rehearsal counts the memory of an engine whose calls build their graphs and run nothing: its tensors have a shape and
// no buffer. So what a run will need is found out by the code of the run itself, without the device's memory.
type Rehearsal struct {
	backend compute.Backend
	room    func(shapes.Shape) int64

	mu    sync.Mutex
	calls map[string]rehearsed
	held  map[string]int64 // bytes of tensors not yet freed, by the pass that made them
	peak  Peak
}

// rehearsed is what is known of a call: the shapes it returns and what it holds at its worst moment.
type rehearsed struct {
	outputs   []shapes.Shape
	workspace int64
}

// Peak is the moment at which most memory is held.
type Peak struct {
	Held      map[string]int64 // bytes of tensors by the pass that made them, a constant of Work; what was uploaded is Preparing's
	Workspace int64            // bytes of the executable that runs, without its arguments
}

// Bytes is all of it.
func (p Peak) Bytes() int64 {
	total := p.Workspace
	for _, bytes := range p.Held {
		total += bytes
	}
	return total
}

// Beside is what is held at this moment but not at an earlier one.
func (p Peak) Beside(earlier Peak) Peak {
	held := maps.Clone(p.Held)
	for pass, bytes := range earlier.Held {
		held[pass] -= bytes
	}
	return Peak{held, p.Workspace}
}

// Rehearse returns an engine over the same weights that only rehearses, and its books. Values that are read from it are
// zeros.
func (e *Engine) Rehearse() (*Engine, *Rehearsal) {
	backend := rehearser(e.backend)
	r := &Rehearsal{backend: backend, room: e.room(), calls: make(map[string]rehearsed), held: make(map[string]int64)}
	return &Engine{Weights: e.Weights, Options: e.Options, backend: stage{backend, r}, clerk: newClerk(), rehearsal: r}, r
}

// room is how much of the device's memory a tensor takes.
func (e *Engine) room() func(shapes.Shape) int64 {
	if e.backend.String() == "go" {
		return goRoom
	}
	return exactRoom
}

// Room is how many bytes of the device's memory a tensor takes, the backend's rounding included.
func (e *Engine) Room(s shapes.Shape) int64 { return e.room()(s) }

// WeightBytes is how many bytes of the device's memory the weights take.
func (e *Engine) WeightBytes() (total int64) {
	if o, ok := e.Weights.backend.(outlined); ok && e.panels != nil {
		return o.panelBytes(e.Weights, e.Options.Compute)
	}
	if e.panels != nil {
		return e.panels.bytes()
	}
	for _, t := range e.Weights.tensors {
		total += e.Room(t.Shape())
	}
	return total
}

// Peak is the worst moment so far.
func (r *Rehearsal) Peak() Peak {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.peak
}

// Now is this moment, between two calls: what has not been freed.
func (r *Rehearsal) Now() Peak {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Peak{Held: maps.Clone(r.held)}
}

// run stands in for the engine's.
func (r *Rehearsal) run(work Work, key string, build func(in *inputs) []*graph.Node, args []*tensors.Tensor) ([]*tensors.Tensor, error) {
	full := key
	for _, a := range args {
		full += a.Shape().String()
	}
	r.mu.Lock()
	call, known := r.calls[full]
	r.mu.Unlock()
	if !known {
		var err error
		if call, err = r.measure(key, build, args); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	r.calls[full] = call
	r.note(call.workspace)
	r.mu.Unlock()
	out := make([]*tensors.Tensor, len(call.outputs))
	for i, s := range call.outputs {
		var err error
		if out[i], err = tensors.FromBuffer(r.take(work.Pass, s)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// measure builds the graph of a call.
func (r *Rehearsal) measure(key string, build func(in *inputs) []*graph.Node, args []*tensors.Tensor) (call rehearsed, err error) {
	err = guard.Do(key, func() error {
		g := graph.NewGraph(r.backend, key)
		defer g.Finalize()
		nodes := make([]*graph.Node, len(args))
		for i, a := range args {
			nodes[i] = graph.Parameter(g, fmt.Sprintf("argument %d", i), a.Shape())
		}
		outputs := build(&inputs{nodes})
		for _, y := range outputs {
			call.outputs = append(call.outputs, y.Shape())
		}
		call.workspace = workspace(outputs, r.room, !interpreted(outputs[0]))
		return nil
	})
	return call, err
}

// note compares this moment with the worst; the caller holds the lock.
func (r *Rehearsal) note(workspace int64) {
	if now := (Peak{r.held, workspace}); now.Bytes() > r.peak.Bytes() {
		r.peak = Peak{maps.Clone(r.held), workspace}
	}
}

// take makes a buffer without memory.
func (r *Rehearsal) take(pass string, s shapes.Shape) *prop {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[pass] += r.room(s)
	r.note(0)
	return &prop{r, pass, s, false}
}

// stage is the backend of a rehearsing engine.
type stage struct {
	compute.Backend
	r *Rehearsal
}

// HasSharedBuffers is false, so that uploads come through BufferFromFlatData.
func (s stage) HasSharedBuffers() bool { return false }

// BufferFromFlatData keeps no more than the shape.
func (s stage) BufferFromFlatData(_ compute.DeviceNum, _ any, shape shapes.Shape) (compute.Buffer, error) {
	return s.r.take(Preparing, shape), nil
}

// prop is a buffer that has a shape and no content.
type prop struct {
	r     *Rehearsal
	pass  string
	shape shapes.Shape
	freed bool
}

func (p *prop) Backend() compute.Backend              { return stage{p.r.backend, p.r} }
func (p *prop) Shape() (shapes.Shape, error)          { return p.shape, nil }
func (p *prop) DeviceNum() (compute.DeviceNum, error) { return 0, nil }
func (p *prop) ToFlatData(any) error                  { return nil } // the slice is new, and zeros
func (p *prop) Data() (any, error) {
	return nil, fmt.Errorf("rehearsal: a tensor of shape %s has no values", p.shape)
}
func (p *prop) CopyToDevice(compute.DeviceNum) (compute.Buffer, error) {
	return nil, compute.ErrNotImplemented
}

// Finalize takes the buffer off the books.
func (p *prop) Finalize() error {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if !p.freed {
		p.freed = true
		p.r.held[p.pass] -= p.r.room(p.shape)
	}
	return nil
}
