package llama

import (
	"fmt"

	"gotransplant/internal/panel"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Prefix are the keys and values of tokens with which all rows of other streams begin. They depend on nothing behind them,
// so that they are computed once, by a stream of one row, and every row of the others sees them as its trunk (Hydragen,
// Juravsky et al. 2024, shares them in decoding; here gradients come back as well). The rows themselves start behind them.
type Prefix struct {
	length int             // P, padding included
	tokens int             // positions 0 to tokens-1
	states []KV            // by layer, [1, P, G, D], keys before rotation; they belong to the stream that made them
	panels *prefixOnPanels // the same for engines that compute on panels
}

// prefixOnPanels is what streams on panels need of a prefix: keys turned to their places once for all.
type prefixOnPanels struct {
	places   panelPlaces
	cos, sin panel.Matrix // [D/2]
	rotated  []panelKV    // by layer; the keys are lent by memory
	memory   *panelMemory
}

// NewPrefix makes a prefix of what a stream of one row, length positions of which the first tokens count, has left in its
// layers: all its keys, before rotation, and values. Layers without states must not compute attention.
func (e *Engine) NewPrefix(states []KV, length, tokens int) (*Prefix, error) {
	if layers := e.Weights.Config.NumHiddenLayers; len(states) > layers || tokens < 1 || tokens > length {
		return nil, fmt.Errorf("prefix: states of %d layers for %d, %d tokens of %d", len(states), layers, tokens, length)
	}
	p := &Prefix{length: length, tokens: tokens, states: states}
	if e.panels == nil {
		return p, nil
	}
	places := newPlaces(1, panelsOf(length))
	for i := range tokens {
		places.position[i], places.branch[i] = int32(i), 0
	}
	p.panels = &prefixOnPanels{places: places, memory: &e.memory}
	p.panels.cos, p.panels.sin = e.panels.rotary(places.position, newMatrix)
	for _, kv := range states {
		k := kv.panels.k
		turned := panelKV{panel.Matrix{Rows: k.Rows, Panels: k.Panels, Data: e.memory.narrow.borrow(len(k.Data))}, kv.panels.v}
		copy(turned.k.Data, k.Data)
		panel.Rotate(turned.k, p.panels.cos, p.panels.sin, e.Weights.Config.HeadDim, false)
		p.panels.rotated = append(p.panels.rotated, turned)
	}
	return p, nil
}

// Close gives back what the prefix has beside the states, which stay with the stream that made them. The streams of rows
// behind the prefix must be done.
func (p *Prefix) Close() {
	if p == nil || p.panels == nil {
		return
	}
	for _, kv := range p.panels.rotated {
		p.panels.memory.narrow.giveBack(kv.k.Data)
	}
	p.panels.rotated = nil
}

// size is P; a nil prefix has none.
func (p *Prefix) size() int {
	if p == nil {
		return 0
	}
	return p.length
}

// seats are the position and branch of the prefix's places in each of rows rows, [rows, P].
func (p *Prefix) seats(rows int) (position, branch []int32) {
	for range rows {
		for i := range p.length {
			place, in := int32(i), int32(0)
			if i >= p.tokens {
				place, in = 0, -1
			}
			position, branch = append(position, place), append(branch, in)
		}
	}
	return position, branch
}

// joinRows joins vectors of rows rows each, [B, n] and [B, m] to [B, n+m]; empty ones have rows without anything.
func joinRows(rows int, parts ...[]int32) (all []int32) {
	for row := range rows {
		for _, p := range parts {
			n := len(p) / rows
			all = append(all, p[row*n:(row+1)*n]...)
		}
	}
	return all
}

// before puts the states of a prefix [1, P, G, D] before those moved in [B, I, G, D], if there are any, in each of rows rows.
func (i *inserted) before(moved *inserted, rows int) *inserted {
	join := func(shared, moved *graph.Node) *graph.Node {
		dims := shared.Shape().Clone().Dimensions
		dims[0] = rows
		if shared = repeat(shared, 0, rows); shared.Shape().Dim(0) != rows {
			shared = graph.BroadcastToDims(shared, dims...) // [B, P, G, D]
		}
		if moved == nil {
			return shared
		}
		return graph.Concatenate([]*graph.Node{shared, moved}, 1) // [B, P+I, G, D]
	}
	if moved == nil {
		return &inserted{join(i.k, nil), join(i.v, nil)}
	}
	return &inserted{join(i.k, moved.k), join(i.v, moved.v)}
}

// apart takes gradients of joined states [B, P+I, G, D] apart: the prefix's, summed over the rows in float32, [1, P, G, D],
// and those of what was moved in, if anything was.
func apart(joined []*graph.Node, prefix int, moved bool) (all []*graph.Node) {
	for _, d := range joined {
		shared := graph.ConvertDType(graph.SliceAxis(d, 1, graph.AxisRange(0, prefix)), dtypes.Float32)
		all = append(all, graph.ReduceAndKeep(shared, graph.ReduceSum, 0))
	}
	if !moved {
		return all
	}
	for _, d := range joined {
		all = append(all, graph.SliceAxis(d, 1, graph.AxisRange(prefix)))
	}
	return all
}

// AddStates adds d, which is freed whatever happens, to sum: gradients of a prefix's states from different streams. A zero
// sum becomes d.
func (e *Engine) AddStates(name string, sum *KV, d KV) error {
	if sum.None() {
		*sum = d
		return nil
	}
	if e.panels != nil {
		panel.AddTo(sum.panels.k, d.panels.k)
		panel.AddTo(sum.panels.v, d.panels.v)
		d.panels.giveBack(&e.memory)
		return nil
	}
	defer free(d.K, d.V)
	out, err := e.run(Work{name, BackwardPass}, "add states", func(in *inputs) []*graph.Node {
		k, v, dk, dv := in.next(), in.next(), in.next(), in.next()
		return []*graph.Node{graph.Add(k, dk), graph.Add(v, dv)}
	}, sum.K, sum.V, d.K, d.V)
	if err != nil {
		return err
	}
	free(sum.K, sum.V)
	sum.K, sum.V = out[0], out[1]
	return nil
}

// prefixArgs are the prefix's keys and values of a layer.
func (s *Stream) prefixArgs(layer int) []*tensors.Tensor {
	if s.options.Prefix == nil {
		return nil
	}
	kv := s.options.Prefix.states[layer]
	return []*tensors.Tensor{kv.K, kv.V}
}
