package llama

import (
	"sync"

	"gotransplant/internal/panel"
)

// lowRankGradient are the gradients of a projection's addition, row-major.
type lowRankGradient struct{ a, b, gain []float32 }

// wayBack is the backward pass of one layer.
type wayBack struct {
	*panelStream
	layer   int
	l       *panelLayer
	g       gradientsOf
	toInput bool // the gradient of the layer's input is wanted
}

// projected is a projection on its way back.
type projected struct {
	proj string
	dy   panel.Matrix                // the gradient of its output
	made func(p int, into []float32) // copies panel p of its output; nil: it was not kept
	x    func() panel.Operand        // makes its input again, where an addition needs it
}

// linear goes back through a projection: given dy it adds to the gradients of what the overlay added, and makes dx, or adds to
// it, where it has rows.
func (b wayBack) linear(o projected, dx panel.Matrix, add bool) {
	b.gainGradient(o)
	dy, e := b.operand(o.dy), b.extra(b.layer, o.proj)
	if dx.Rows > 0 {
		w := b.model.layers[b.layer].projections[o.proj]
		w.MultiplyTransposedColumns(b.scratch, dy, dx, add, b.few(b.layer, o.proj))
	}
	if e == nil {
		return
	}
	input, sum := o.x(), b.sums(b.g, o.proj, e)
	panel.AddProduct(b.scratch, dy.Matrix, b.inner(e, input), sum.b)
	du := b.matrix(e.A.Out, dy.Panels)
	e.B.MultiplyTransposed(b.scratch, dy, du, false)
	panel.Scale(du, e.Scale)
	panel.AddProduct(b.scratch, du, input.Matrix, sum.a)
	if dx.Rows > 0 {
		e.A.MultiplyTransposed(b.scratch, b.operand(du), dx, true)
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
	b := wayBack{s, layer, &s.layers[layer], gradientsOf{}, toInput}
	l := b.l
	defer func() {
		returned.giveBack(&s.engine.memory)
		s.release(layer)
		s.settle(nil)
	}()
	if l.keysValuesOnly {
		b.keysValues(s.spread(l.x.Panels, returned), panel.Wide{})
		return s.values(layer, b.g), othersGradient{}
	}
	if s.options.Remat {
		s.again(layer)
	}
	dMid := b.feed()
	dz := s.matrix(l.z.Rows, l.z.Panels)
	narrow := s.matrix(dMid.Rows, dMid.Panels)
	dMid.Narrow(narrow)
	attended := sync.OnceValue(func() panel.Operand { return s.operand(l.z) })
	b.linear(projected{"o_proj", narrow, l.added, attended}, dz, false)
	dq, own, others := b.attention(dz)
	if returned != nil {
		back := s.spread(l.x.Panels, returned)
		panel.AddTo(own.k, back.k)
		panel.AddTo(own.v, back.v)
	}
	b.queriesKeysValues(dMid, dq, own)
	return s.values(layer, b.g), others
}

// othersGradient are the gradients of keys, before rotation, and values that a layer took from other streams: those moved
// in, and the prefix's, summed over the sequences. nil where there are none.
type othersGradient struct{ moved, prefix *panelKV }

// feed goes back through the feed-forward half and returns the gradient of the stream in the middle of the layer.
func (b wayBack) feed() (dMid panel.Wide) {
	l, gains := b.l, b.model.layers[b.layer].feed
	dy := b.matrix(b.dy.Rows, b.dy.Panels)
	b.dy.Narrow(dy)
	dh := b.matrix(l.gate.Rows, l.gate.Panels)
	hidden := sync.OnceValue(func() panel.Operand {
		h := b.matrix(l.gate.Rows, l.gate.Panels)
		panel.SwiGLU(l.gate, l.up, h)
		return b.operand(h)
	})
	b.linear(projected{"down_proj", dy, nil, hidden}, dh, false)
	gate, up := b.asMade(b.layer, "gate_proj", l.gate), b.asMade(b.layer, "up_proj", l.up)
	panel.SwiGLUGradient(dh, l.gate, l.up) // gate and up are now their gradients
	normed, inverse := b.norm(l.mid, gains)
	input := func() panel.Operand { return normed }
	dNormed := dy // no longer needed
	b.linear(projected{"gate_proj", l.gate, gate, input}, dNormed, false)
	b.linear(projected{"up_proj", l.up, up, input}, dNormed, true)
	panel.NormalizeGradient(dNormed, gains, l.mid, inverse, b.dy)
	return b.dy
}

// attention goes back through attention and rotation: the gradients of queries, own keys and values, and others'.
func (b wayBack) attention(dz panel.Matrix) (dq panel.Matrix, own panelKV, others othersGradient) {
	l, cfg := b.l, b.engine.Weights.Config
	groups, dim := cfg.NumKeyValueHeads, cfg.HeadDim
	dq = b.matrix(l.q.Rows, l.q.Panels)
	own = panelKV{b.matrix(l.k.Rows, l.k.Panels), b.matrix(l.v.Rows, l.v.Panels)}
	behind := b.own + b.before.panels // where the panels of moved keys begin
	n := behind                       // panels of keys a sequence
	if l.moved != nil {
		others.moved = b.leaving(l.k.Rows, l.moved.k.Panels)
		n += b.moved
	}
	column := panel.Lanes * panel.Padded(dim)
	size := n * column
	dk, dv := b.zeros(b.rows*groups, size/panel.Lanes).Data, b.zeros(b.rows*groups, size/panel.Lanes).Data
	b.round(b.layer, l)
	b.scratch.Each(b.rows*groups, func(scratch *panel.Scratch, from, to int) {
		for i := from; i < to; i++ {
			row, group := i/groups, i%groups
			dk, dv := dk[i*size:(i+1)*size], dv[i*size:(i+1)*size] // [n*Lanes keys][Padded(dim)]
			b.attendGroup(scratch, i, queryGradients{dz, dq}, panel.Cotangents{K: dk, V: dv})
			b.collect(dk[:b.own*column], own.k, row*b.own, group)
			b.collect(dv[:b.own*column], own.v, row*b.own, group)
			if moved := others.moved; moved != nil {
				b.collect(dk[behind*column:], moved.k, row*b.moved, group)
				b.collect(dv[behind*column:], moved.v, row*b.moved, group)
			}
		}
	})
	cos, sin := b.queryTables(b.layer)
	panel.Rotate(dq, cos, sin, dim, true) // a rotation is undone by its inverse
	panel.Rotate(own.k, b.cos, b.sin, dim, true)
	if moved := others.moved; moved != nil {
		panel.Rotate(moved.k, b.movedCos, b.movedSin, dim, true)
	}
	if b.before.panels > 0 {
		others.prefix = b.prefixGradient(dk, dv, size)
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
		s.collect(of(0), to, 0, group)
	}
	for group := range groups {
		add(dk, sum.k, group)
		add(dv, sum.v, group)
	}
	panel.Rotate(sum.k, prefix.cos, prefix.sin, cfg.HeadDim, true)
	return sum
}

// queryGradients are those of attention's output, and room for those of the queries.
type queryGradients struct{ dz, dq panel.Matrix }

// attendGroup goes back through the attention of heads that share their keys and values: those of the i-th group, counted
// through all sequences.
func (b wayBack) attendGroup(scratch *panel.Scratch, i int, of queryGradients, to panel.Cotangents) {
	l, cfg := b.l, b.engine.Weights.Config
	row, group := i/cfg.NumKeyValueHeads, i%cfg.NumKeyValueHeads
	dim, shared, perSequence := cfg.HeadDim, cfg.NumAttentionHeads/cfg.NumKeyValueHeads, l.q.Panels/b.rows
	keys := b.keys(b.layer, l, row)
	queries := make([]panel.Queries, perSequence)
	for h := group * shared; h < (group+1)*shared; h++ {
		for i := range queries {
			p := row*perSequence + i
			queries[i] = b.queries(b.layer, l, p, h)
			queries[i].DZ, queries[i].DQ = head(of.dz, p, h, dim), head(of.dq, p, h, dim)
		}
		b.head(keys, h).Gradient(scratch, queries, to)
	}
}

// collect turns columns into panels of m, from panel first on, in the rows of a group.
func (s *panelStream) collect(columns []float32, m panel.Matrix, first, group int) {
	dim := s.engine.Weights.Config.HeadDim
	size := panel.Lanes * panel.Padded(dim)
	for p := range len(columns) / size {
		panel.FromColumns(columns[p*size:(p+1)*size], head(m, first+p, group, dim), dim)
	}
}

// queriesKeysValues goes back through queries, keys, values and the norm before them.
func (b wayBack) queriesKeysValues(dMid panel.Wide, dq panel.Matrix, own panelKV) {
	if !b.isLast(b.layer) {
		b.keysValuesAnd(&dq, own, dMid)
		return
	}
	l, gains := b.l, b.model.layers[b.layer].attention
	normed, inverse := b.norm(l.xq, gains)
	var dNormed panel.Matrix
	if b.toInput {
		dNormed = b.matrix(normed.Rows, normed.Panels)
	}
	input := func() panel.Operand { return normed }
	cos, sin := b.queryTables(b.layer)
	b.linear(projected{"q_proj", dq, b.turnedBack(l.q, cos, sin), input}, dNormed, false)
	if !b.toInput {
		b.keysValues(own, panel.Wide{})
		return
	}
	panel.NormalizeGradient(dNormed, gains, l.xq, inverse, dMid)
	dx := b.wideZeros(l.x.Rows, l.x.Panels)
	for i, c := range b.last {
		dx.AddColumn(c, dMid, i*panel.Lanes)
	}
	b.keysValues(own, dx)
}

// keysValues goes back through keys and values alone; dx, if it has rows, already holds what came another way.
func (b wayBack) keysValues(own panelKV, dx panel.Wide) { b.keysValuesAnd(nil, own, dx) }

// keysValuesAnd is keysValues with the queries, if dq is not nil.
func (b wayBack) keysValuesAnd(dq *panel.Matrix, own panelKV, dx panel.Wide) {
	l, gains := b.l, b.model.layers[b.layer].attention
	normed, inverse := b.norm(l.x, gains)
	input := func() panel.Operand { return normed }
	var dNormed panel.Matrix
	if b.toInput {
		dNormed = b.matrix(normed.Rows, normed.Panels)
	}
	b.linear(projected{"k_proj", own.k, b.turnedBack(l.k, b.cos, b.sin), input}, dNormed, false)
	b.linear(projected{"v_proj", own.v, panelsOfKept(l.v), input}, dNormed, true)
	if dq != nil {
		b.linear(projected{"q_proj", *dq, b.turnedBack(l.q, b.cos, b.sin), input}, dNormed, true)
	}
	b.dy = panel.Wide{}
	if !b.toInput {
		return
	}
	if dx.Rows == 0 {
		dx = b.wideZeros(l.x.Rows, l.x.Panels)
	}
	panel.NormalizeGradient(dNormed, gains, l.x, inverse, dx)
	b.dy = dx
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
