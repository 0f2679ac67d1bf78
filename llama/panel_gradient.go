package llama

import (
	"sync"

	"gotransplant/internal/panel"
)

// lowRankGradient are the gradients of a projection's addition, row-major.
type lowRankGradient struct{ a, b, gain []float32 }

// linearGradient goes back through linear: given dy it adds to the gradient of what the overlay added, and, where dx has
// rows, to dx. x makes the projection's input again, and is asked only where an addition needs it.
func (s *panelStream) linearGradient(layer int, proj string, x func() panel.Operand, dy panel.Operand, dx panel.Matrix, add bool, g gradientsOf) {
	w, e := s.model.layers[layer].projections[proj], s.extra(layer, proj)
	if dx.Rows > 0 {
		w.MultiplyTransposedColumns(s.scratch, dy, dx, add, s.few(layer, proj))
	}
	if e == nil {
		return
	}
	input, sum := x(), s.sums(g, proj, e)
	panel.AddProduct(s.scratch, dy.Matrix, s.inner(e, input), sum.b)
	du := s.matrix(e.A.Out, dy.Panels)
	e.B.MultiplyTransposed(s.scratch, dy, du, false)
	panel.Scale(du, e.Scale)
	panel.AddProduct(s.scratch, du, input.Matrix, sum.a)
	if dx.Rows > 0 {
		e.A.MultiplyTransposed(s.scratch, s.operand(du), dx, true)
	}
}

// gradientsOf are the gradients of a layer's additions by projection.
type gradientsOf map[string]*lowRankGradient

// sums are the gradients of a projection's addition, zeros at first. Their slices leave with the layer's gradients.
func (s *panelStream) sums(g gradientsOf, proj string, e *LowRank) *lowRankGradient {
	if g[proj] == nil {
		zeros := func(n int) []float32 {
			values := s.engine.memory.narrow.borrow(n)
			clear(values)
			return values
		}
		g[proj] = &lowRankGradient{a: zeros(e.A.Out * e.A.In), b: zeros(e.B.Out * e.B.In)}
		if e.Gain != nil {
			g[proj].gain = zeros(e.B.Out)
		}
	}
	return g[proj]
}

// values are the gradients in the order of Projections; what was not used has zeros.
func (s *panelStream) values(layer int, g gradientsOf) [][]float32 {
	var all [][]float32
	for _, proj := range Projections() {
		if e := s.extra(layer, proj); e != nil {
			sum := s.sums(g, proj, e)
			all = append(all, sum.a, sum.b)
			if e.Gain != nil {
				all = append(all, sum.gain)
			}
		}
	}
	return all
}

// backward goes back through a layer: s.dy, the gradient of the stream after it, becomes that before it, if toInput.
// returned is the gradient of what was exported, or nil, and given back. The gradients of what was moved in and of the
// prefix are returned, if there are any.
func (s *panelStream) backward(layer int, returned *panelKV, toInput bool) (values [][]float32, others othersGradient) {
	l, g := &s.layers[layer], gradientsOf{}
	defer func() {
		returned.giveBack(&s.engine.memory)
		s.release(layer)
		s.settle(nil)
	}()
	if l.keysValuesOnly {
		s.backwardKeysValues(layer, s.spread(l.x.Panels, returned), panel.Wide{}, toInput, g)
		return s.values(layer, g), othersGradient{}
	}
	if s.options.Remat {
		s.again(layer)
	}
	dMid := s.backwardFeed(layer, l, g)
	dz := s.matrix(l.z.Rows, l.z.Panels)
	narrow := s.matrix(dMid.Rows, dMid.Panels)
	dMid.Narrow(narrow)
	attended := sync.OnceValue(func() panel.Operand { return s.operand(l.z) })
	s.gainGradient(gained{layer, "o_proj", narrow, l.added, attended}, g)
	s.linearGradient(layer, "o_proj", attended, s.operand(narrow), dz, false, g)
	dq, own, others := s.attendGradient(layer, l, dz)
	if returned != nil {
		back := s.spread(l.x.Panels, returned)
		panel.AddTo(own.k, back.k)
		panel.AddTo(own.v, back.v)
	}
	s.backwardIn(layer, l, dMid, dq, own, toInput, g)
	return s.values(layer, g), others
}

// othersGradient are the gradients of keys, before rotation, and values that a layer took from other streams: those moved
// in, and the prefix's, summed over the sequences. nil where there are none.
type othersGradient struct{ moved, prefix *panelKV }

// backwardFeed goes back through the feed-forward half and returns the gradient of the stream in the middle of the layer.
func (s *panelStream) backwardFeed(layer int, l *panelLayer, g gradientsOf) (dMid panel.Wide) {
	block := &s.model.layers[layer]
	dy := s.matrix(s.dy.Rows, s.dy.Panels)
	s.dy.Narrow(dy)
	dh := s.matrix(l.gate.Rows, l.gate.Panels)
	hidden := sync.OnceValue(func() panel.Operand {
		h := s.matrix(l.gate.Rows, l.gate.Panels)
		panel.SwiGLU(l.gate, l.up, h)
		return s.operand(h)
	})
	s.gainGradient(gained{layer, "down_proj", dy, nil, hidden}, g)
	s.linearGradient(layer, "down_proj", hidden, s.operand(dy), dh, false, g)
	gate, up := s.asMade(layer, "gate_proj", l.gate), s.asMade(layer, "up_proj", l.up)
	panel.SwiGLUGradient(dh, l.gate, l.up) // gate and up are now their gradients
	normed, inverse := s.norm(l.mid, block.feed)
	input := func() panel.Operand { return normed }
	s.gainGradient(gained{layer, "gate_proj", l.gate, gate, input}, g)
	s.gainGradient(gained{layer, "up_proj", l.up, up, input}, g)
	dNormed := dy // no longer needed
	s.linearGradient(layer, "gate_proj", input, s.operand(l.gate), dNormed, false, g)
	s.linearGradient(layer, "up_proj", input, s.operand(l.up), dNormed, true, g)
	panel.NormalizeGradient(dNormed, block.feed, l.mid, inverse, s.dy)
	return s.dy
}

// attendGradient goes back through attention and rotation: the gradients of queries, own keys and values, and others'.
func (s *panelStream) attendGradient(layer int, l *panelLayer, dz panel.Matrix) (dq panel.Matrix, own panelKV, others othersGradient) {
	cfg := s.engine.Weights.Config
	groups, dim := cfg.NumKeyValueHeads, cfg.HeadDim
	dq = s.matrix(l.q.Rows, l.q.Panels)
	own = panelKV{s.matrix(l.k.Rows, l.k.Panels), s.matrix(l.v.Rows, l.v.Panels)}
	behind := s.own + s.before.panels // where the panels of moved keys begin
	n := behind                       // panels of keys a sequence
	if l.moved != nil {
		others.moved = s.leaving(l.k.Rows, l.moved.k.Panels)
		n += s.moved
	}
	size := n * panel.Lanes * panel.Padded(dim)
	dk, dv := s.zeros(s.rows*groups, size/panel.Lanes).Data, s.zeros(s.rows*groups, size/panel.Lanes).Data
	s.round(layer, l)
	s.scratch.Each(s.rows*groups, func(scratch *panel.Scratch, from, to int) {
		for i := from; i < to; i++ {
			b, group := i/groups, i%groups
			dk, dv := dk[i*size:(i+1)*size], dv[i*size:(i+1)*size] // [n*Lanes keys][Padded(dim)]
			s.attendGroupGradient(scratch, layer, l, b, group, dz, dq, panel.Cotangents{K: dk, V: dv})
			s.collect(dk, own.k, b*s.own, s.own, 0, group)
			s.collect(dv, own.v, b*s.own, s.own, 0, group)
			if moved := others.moved; moved != nil {
				s.collect(dk, moved.k, b*s.moved, s.moved, behind, group)
				s.collect(dv, moved.v, b*s.moved, s.moved, behind, group)
			}
		}
	})
	cos, sin := s.queryTables(layer)
	panel.Rotate(dq, cos, sin, dim, true) // a rotation is undone by its inverse
	panel.Rotate(own.k, s.cos, s.sin, dim, true)
	if moved := others.moved; moved != nil {
		panel.Rotate(moved.k, s.movedCos, s.movedSin, dim, true)
	}
	if s.before.panels > 0 {
		others.prefix = s.prefixGradient(dk, dv, size)
	}
	return dq, own, others
}

// prefixGradient is that of the prefix's keys and values, given those of every sequence and group by key, size elements each.
func (s *panelStream) prefixGradient(dk, dv []float32, size int) *panelKV {
	cfg, prefix := s.engine.Weights.Config, s.options.Prefix.panels
	groups, column := cfg.NumKeyValueHeads, panel.Lanes*panel.Padded(cfg.HeadDim)
	sum := s.leaving(groups*cfg.HeadDim, s.before.panels)
	add := func(all []float32, to panel.Matrix, group int) {
		of := func(b int) []float32 { return all[(b*groups+group)*size:][s.own*column:][:s.before.panels*column] }
		for b := 1; b < s.rows; b++ {
			panel.AddTo(panel.Matrix{Data: of(0)}, panel.Matrix{Data: of(b)})
		}
		s.collect(of(0), to, 0, s.before.panels, 0, group)
	}
	for group := range groups {
		add(dk, sum.k, group)
		add(dv, sum.v, group)
	}
	panel.Rotate(sum.k, prefix.cos, prefix.sin, cfg.HeadDim, true)
	return sum
}

// attendGroupGradient goes back through the attention of one sequence's heads that share their keys and values.
func (s *panelStream) attendGroupGradient(scratch *panel.Scratch, layer int, l *panelLayer, b, group int, dz, dq panel.Matrix, to panel.Cotangents) {
	cfg := s.engine.Weights.Config
	dim, shared, perSequence := cfg.HeadDim, cfg.NumAttentionHeads/cfg.NumKeyValueHeads, l.q.Panels/s.rows
	keys := s.keys(layer, l, b)
	queries := make([]panel.Queries, perSequence)
	for h := group * shared; h < (group+1)*shared; h++ {
		for i := range queries {
			p := b*perSequence + i
			queries[i] = s.queries(layer, l, p, h)
			queries[i].DZ, queries[i].DQ = head(dz, p, h, dim), head(dq, p, h, dim)
		}
		s.head(keys, h).Gradient(scratch, queries, to)
	}
}

// collect turns n panels of columns, from panel from on, into panels first to first+n of m, in the rows of a group.
func (s *panelStream) collect(columns []float32, m panel.Matrix, first, n, from, group int) {
	dim := s.engine.Weights.Config.HeadDim
	size := panel.Lanes * panel.Padded(dim)
	for p := range n {
		panel.FromColumns(columns[(from+p)*size:(from+p+1)*size], head(m, first+p, group, dim), dim)
	}
}

// backwardIn goes back through queries, keys, values and the norm before them.
func (s *panelStream) backwardIn(layer int, l *panelLayer, dMid panel.Wide, dq panel.Matrix, own panelKV, toInput bool, g gradientsOf) {
	if !s.isLast(layer) {
		s.backwardKeysValuesAnd(layer, own, &dq, dMid, toInput, g)
		return
	}
	block := &s.model.layers[layer]
	normed, inverse := s.norm(l.xq, block.attention)
	var dNormed panel.Matrix
	if toInput {
		dNormed = s.matrix(normed.Rows, normed.Panels)
	}
	input := func() panel.Operand { return normed }
	cos, sin := s.queryTables(layer)
	s.gainGradient(gained{layer, "q_proj", dq, s.turnedBack(l.q, cos, sin), input}, g)
	s.linearGradient(layer, "q_proj", input, s.operand(dq), dNormed, false, g)
	if !toInput {
		s.backwardKeysValues(layer, own, panel.Wide{}, false, g)
		return
	}
	panel.NormalizeGradient(dNormed, block.attention, l.xq, inverse, dMid)
	dx := s.wideZeros(l.x.Rows, l.x.Panels)
	for b, c := range s.last {
		dx.AddColumn(c, dMid, b*panel.Lanes)
	}
	s.backwardKeysValues(layer, own, dx, true, g)
}

// backwardKeysValues goes back through keys and values alone; dx, if it has rows, already holds what came another way.
func (s *panelStream) backwardKeysValues(layer int, own panelKV, dx panel.Wide, toInput bool, g gradientsOf) {
	s.backwardKeysValuesAnd(layer, own, nil, dx, toInput, g)
}

func (s *panelStream) backwardKeysValuesAnd(layer int, own panelKV, dq *panel.Matrix, dx panel.Wide, toInput bool, g gradientsOf) {
	l, block := &s.layers[layer], &s.model.layers[layer]
	normed, inverse := s.norm(l.x, block.attention)
	input := func() panel.Operand { return normed }
	var dNormed panel.Matrix
	if toInput {
		dNormed = s.matrix(normed.Rows, normed.Panels)
	}
	s.gainGradient(gained{layer, "k_proj", own.k, s.turnedBack(l.k, s.cos, s.sin), input}, g)
	s.gainGradient(gained{layer, "v_proj", own.v, panelsOfKept(l.v), input}, g)
	s.linearGradient(layer, "k_proj", input, s.operand(own.k), dNormed, false, g)
	s.linearGradient(layer, "v_proj", input, s.operand(own.v), dNormed, true, g)
	if dq != nil {
		s.gainGradient(gained{layer, "q_proj", *dq, s.turnedBack(l.q, s.cos, s.sin), input}, g)
		s.linearGradient(layer, "q_proj", input, s.operand(*dq), dNormed, true, g)
	}
	s.dy = panel.Wide{}
	if !toInput {
		return
	}
	if dx.Rows == 0 {
		dx = s.wideZeros(l.x.Rows, l.x.Panels)
	}
	panel.NormalizeGradient(dNormed, block.attention, l.x, inverse, dx)
	s.dy = dx
}

// spread puts the gradients of exported states back to the positions they came from, among panels columns. A position may be
// exported twice, as that of tokens with which both arguments begin.
func (s *panelStream) spread(panels int, returned *panelKV) panelKV {
	own := panelKV{s.zeros(returned.k.Rows, panels), s.zeros(returned.v.Rows, panels)}
	returned.k.AddRunsTo(own.k, s.routes)
	returned.v.AddRunsTo(own.v, s.routes)
	return own
}

// release gives back what is held of a layer.
func (s *panelStream) release(layer int) {
	s.layers[layer].lent.giveBack(&s.engine.memory)
	s.layers[layer] = panelLayer{}
}

// close gives back everything.
func (s *panelStream) close() {
	for layer := range s.layers {
		s.release(layer)
	}
	s.lent.giveBack(&s.engine.memory)
	s.tables.giveBack(&s.engine.memory)
	s.engine.memory.scratch.Put(s.scratch)
	s.scratch = nil
}
