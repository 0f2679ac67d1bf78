package llama

import (
	"fmt"
	"math"

	"gotransplant/internal/panel"

	"github.com/gomlx/compute/dtypes"
)

// LowRank is an addition to a projection that the panel kernels know: y += Scale B A x, with A [r, in] and B [out, r].
type LowRank struct {
	A, B  *panel.Weight
	Scale float32
	Gain  *Gain // nil, or a gain of the sum
}

// panelStream is a Stream computed by the kernels of internal/panel, on the calling goroutine alone: everything of a
// block happens on panels of 16 tokens, and attention keeps no more than 16 queries' scores, so that memory grows with
// the length alone.
type panelStream struct {
	engine  *Engine
	options StreamOptions
	model   *panelModel
	rows    int         // B sequences
	given   int         // tokens a sequence, as given
	own     int         // panels a sequence; padding beyond is left out
	moved   int         // panels of inserted states a sequence
	before  panelPlaces // of the prefix's states, which all sequences share; none has no panels

	x                  panel.Wide    // [M] the residual stream before the next layer
	cos, sin           panel.Matrix  // [D/2]
	movedCos, movedSin panel.Matrix  // [D/2] of the inserted states
	routes             []panel.Run   // of exported states
	sights             []panel.Sight // by panel of queries
	sightsMoved        []panel.Sight // in layers with insertion
	last               []int         // columns of the positions read after the last layer, one a sequence
	dy                 panel.Wide    // on the way back: of the residual stream after the next layer
	layers             []panelLayer
	lent               loans // since the last settle, and x and dy
	tables             loans // until the stream is closed
	scratch            *panel.Scratch
	capture            *panelCapture // nil: no states are read
}

// panelLayer is what a layer leaves for its backward pass.
type panelLayer struct {
	x, xq, mid       panel.Wide   // xq is x at the queries: x itself but in the last layer
	q, k, v, z       panel.Matrix // q and k rotated
	gate, up         panel.Matrix
	maximum, inverse []float32         // [H][query columns] of the softmax
	half             []*panel.HalfKeys // while attention is computed in bfloat16: of the keys in the order of panelStream.keys
	moved            *panelKV          // keys rotated to their places here
	exported         *panelKV
	lent             loans
	keysValuesOnly   bool
}

// panelKV are keys and values [G*D] of some panels a sequence.
type panelKV struct{ k, v panel.Matrix }

func newMatrix(rows, panels int) panel.Matrix {
	return panel.Matrix{Rows: rows, Panels: panels, Data: make([]float32, rows*panels*panel.Lanes)}
}

func panelsOf(n int) int { return (n + panel.Lanes - 1) / panel.Lanes }

// newPanelStream embeds the tokens and prepares rotary tables and masks.
func (e *Engine) newPanelStream(seq Sequences, o StreamOptions) *panelStream {
	if o.Export == nil {
		o.Export = everyPosition(seq)
	}
	s := &panelStream{engine: e, options: o, model: e.panels, rows: seq.Rows, given: seq.Length,
		layers: make([]panelLayer, e.Weights.Config.NumHiddenLayers)}
	longest := 1
	for i, branch := range seq.Branch {
		if branch >= 0 {
			longest = max(longest, i%seq.Length+1)
		}
	}
	s.own = panelsOf(longest)
	s.routes = s.exportRoutes()
	s.scratch = e.memory.borrowScratch()
	s.scratch.Share(e.cores)
	s.x = s.wideZeros(e.Weights.Config.HiddenSize, s.rows*s.own)
	row := make([]float32, s.x.Rows)
	own := newPlaces(s.rows, s.own)
	for i, id := range seq.Token {
		c, ok := s.column(i)
		if !ok {
			continue
		}
		s.model.embedding.Row(int(id), row)
		to := s.x.Panel(c / panel.Lanes)[c%panel.Lanes:]
		for r, v := range row {
			to[r*panel.Lanes] = float64(v)
		}
		own.position[c], own.branch[c] = seq.Position[i], seq.Branch[i]
	}
	s.cos, s.sin = s.model.rotary(own.position, s.lasting)
	if o.Prefix != nil {
		s.before = o.Prefix.panels.places
	}
	s.sights = s.see(own, own, nil)
	for _, flat := range o.Last {
		c, _ := s.column(int(flat))
		s.last = append(s.last, c)
	}
	if o.Insertion != nil {
		s.prepareInsertion(own)
	}
	s.capture = s.newPanelCapture(o.Capture)
	return s
}

// everyPosition exports all positions of every row.
func everyPosition(seq Sequences) *Export {
	all := &Export{Count: seq.Length, Source: make([]int32, seq.Rows*seq.Length)}
	for i := range all.Source {
		all.Source[i] = int32(i)
	}
	return all
}

// checkLowRank refuses overlays that the kernels do not know.
func checkLowRank(overlay Overlay) error {
	for layer, extras := range overlay {
		for proj, e := range extras {
			if e.LowRank == nil {
				return fmt.Errorf("layer %d: %s has an addition that is no product of low rank: it needs graphs", layer, proj)
			}
		}
	}
	return nil
}

// column is where token i of the sequences as given lies; padding that was left out lies nowhere.
func (s *panelStream) column(i int) (c int, ok bool) {
	at := i % s.given
	return i/s.given*s.own*panel.Lanes + at, at < s.own*panel.Lanes
}

// panelPlaces are the positions and branches of columns; padding has the branch -1.
type panelPlaces struct {
	panels           int // a sequence
	position, branch []int32
}

func newPlaces(rows, panels int) panelPlaces {
	n := rows * panels * panel.Lanes
	p := panelPlaces{panels, make([]int32, n), make([]int32, n)}
	for i := range p.branch {
		p.branch[i] = -1
	}
	return p
}

func (s *panelStream) prepareInsertion(own panelPlaces) {
	in := s.options.Insertion
	s.moved = panelsOf(in.Count)
	places := newPlaces(s.rows, s.moved)
	for i, ok := range in.Valid {
		if ok {
			c := i/in.Count*s.moved*panel.Lanes + i%in.Count
			places.position[c], places.branch[c] = in.Position[i], 0
		}
	}
	s.movedCos, s.movedSin = s.model.rotary(places.position, s.lasting)
	visible := panelPlaces{own.panels, own.position, append([]int32(nil), own.branch...)}
	for i, replaced := range in.Replaced {
		if c, ok := s.column(i); ok && replaced {
			visible.branch[c] = -1
		}
	}
	s.sightsMoved = s.see(own, visible, &places)
}

// rotary are the tables of cosines and sines for positions, in matrices of which all elements are written.
func (m *panelModel) rotary(position []int32, matrix func(rows, panels int) panel.Matrix) (cos, sin panel.Matrix) {
	cos, sin = matrix(len(m.frequencies), len(position)/panel.Lanes), matrix(len(m.frequencies), len(position)/panel.Lanes)
	for c, p := range position {
		for i, f := range m.frequencies {
			angle := float64(p) * f
			at := (c/panel.Lanes*cos.Rows+i)*panel.Lanes + c%panel.Lanes
			cos.Data[at], sin.Data[at] = float32(math.Cos(angle)), float32(math.Sin(angle))
		}
	}
	return cos, sin
}

// see gives for every panel of queries what it sees of the own keys, of the prefix's and of the moved ones, as far as there
// are any.
func (s *panelStream) see(queries, own panelPlaces, moved *panelPlaces) []panel.Sight {
	all := make([]panel.Sight, s.rows*queries.panels)
	for i := range all {
		b := i / queries.panels
		all[i].Append(queries.at(i), own.of(b), 0)
		if s.before.panels > 0 {
			all[i].Append(queries.at(i), s.before.of(0), own.panels)
		}
		if moved != nil {
			all[i].Append(queries.at(i), moved.of(b), own.panels+s.before.panels)
		}
	}
	return all
}

// at are the columns of one panel.
func (p panelPlaces) at(i int) panel.Places {
	from, to := i*panel.Lanes, (i+1)*panel.Lanes
	return panel.Places{Position: p.position[from:to], Branch: p.branch[from:to]}
}

// of are the columns of one sequence.
func (p panelPlaces) of(row int) panel.Places {
	from, to := row*p.panels*panel.Lanes, (row+1)*p.panels*panel.Lanes
	return panel.Places{Position: p.position[from:to], Branch: p.branch[from:to]}
}

func (s *panelStream) extra(layer int, proj string) *LowRank {
	if s.options.Overlay == nil {
		return nil
	}
	return s.options.Overlay[layer][proj].LowRank
}

// operand is m as the engine multiplies it.
func (s *panelStream) operand(m panel.Matrix) panel.Operand {
	switch {
	case s.engine.Options.Compute != dtypes.BFloat16:
		return panel.Exact(m)
	case panel.HalfAvailable():
		return panel.Rounded(m, s.halves(m))
	}
	return panel.RoundedIn32(m, s.lend(len(m.Data)))
}

// linear is the named projection of x: [out].
func (s *panelStream) linear(layer int, proj string, x panel.Operand) panel.Matrix {
	y := s.sum(layer, proj, x)
	if g := s.gain(layer, proj); g != nil {
		panel.Gain(y, g.quotient)
	}
	return y
}

// sum is linear before the gain.
func (s *panelStream) sum(layer int, proj string, x panel.Operand) panel.Matrix {
	w := s.model.layers[layer].projections[proj]
	y := s.matrix(w.Out, x.Panels)
	w.MultiplyColumns(s.scratch, x, y, false, s.few(layer, proj))
	if e := s.extra(layer, proj); e != nil {
		e.B.Multiply(s.scratch, s.operand(s.inner(e, x)), y, true)
	}
	return y
}

// inner is Scale A x: [r].
func (s *panelStream) inner(e *LowRank, x panel.Operand) panel.Matrix {
	u := s.matrix(e.A.Out, x.Panels)
	e.A.Multiply(s.scratch, x, u, false)
	panel.Scale(u, e.Scale)
	return u
}

// norm is the RMSNorm of x with the given gain: [M], and what its gradient needs.
func (s *panelStream) norm(x panel.Wide, gain []float32) (y panel.Operand, inverse []float64) {
	normed, inverse := s.matrix(x.Rows, x.Panels), s.lendWide(x.Panels*panel.Lanes)
	panel.Normalize(x, gain, s.engine.Weights.Config.RMSNormEps, normed, inverse)
	return s.operand(normed), inverse
}

// isLast says whether a layer's output is read at one position a sequence alone.
func (s *panelStream) isLast(layer int) bool { return s.last != nil && layer == len(s.layers)-1 }

// few are the columns of a projection's input that count where not all do: in the last layer those of readers, of which only
// keys and values are made of all.
func (s *panelStream) few(layer int, proj string) []int {
	if !s.isLast(layer) || proj == "k_proj" || proj == "v_proj" {
		return nil
	}
	return s.final()
}

// readers are the columns of x that go on as queries: all, or in the last layer each sequence's last, in the first lane
// of a panel of its own.
func (s *panelStream) readers(layer int, x panel.Wide) panel.Wide {
	if !s.isLast(layer) {
		return x
	}
	xq := s.wideZeros(x.Rows, s.rows)
	for b, c := range s.last {
		xq.Copy(b*panel.Lanes, x, c)
	}
	return xq
}

// keysValues are the keys, not yet rotated, and values of a layer's normed input.
func (s *panelStream) keysValues(layer int, normed panel.Operand) panelKV {
	return panelKV{s.linear(layer, "k_proj", normed), s.linear(layer, "v_proj", normed)}
}

// forward runs one layer and returns the keys and values at the positions to export.
func (s *panelStream) forward(layer int, moved *panelKV, export bool) (exported *panelKV) {
	block := &s.model.layers[layer]
	l := panelLayer{x: s.x}
	s.capture.seeWide(SiteResidPre, layer, s.x)
	normed, _ := s.norm(s.x, block.attention)
	own := s.keysValues(layer, normed)
	s.capture.see(SiteK, layer, own.k)
	s.capture.see(SiteV, layer, own.v)
	if export {
		exported = s.export(own)
	}
	if moved != nil {
		l.moved = &panelKV{s.matrix(moved.k.Rows, moved.k.Panels), moved.v}
		copy(l.moved.k.Data, moved.k.Data)
		panel.Rotate(l.moved.k, s.movedCos, s.movedSin, s.engine.Weights.Config.HeadDim, false)
	}
	h := s.run(layer, &l, normed, own)
	y := l.mid
	if s.options.Keep {
		y = s.copyWide(l.mid)
	}
	down := s.linear(layer, "down_proj", h)
	s.capture.see(SiteMLPOut, layer, down)
	y.Add(down)
	s.capture.seeWide(SiteResidPost, layer, y)
	s.x = y
	switch {
	case !s.options.Keep:
		l = panelLayer{}
	case s.options.Remat:
		l = panelLayer{x: l.x, moved: l.moved}
	}
	l.exported = exported
	s.settle(&l)
	s.layers[layer] = l
	return exported
}

// run fills in what a layer keeps, given its normed input and what it makes of it, and returns the input of down_proj.
func (s *panelStream) run(layer int, l *panelLayer, normed panel.Operand, own panelKV) (h panel.Operand) {
	dim, block := s.engine.Weights.Config.HeadDim, &s.model.layers[layer]
	l.k, l.v = own.k, own.v
	panel.Rotate(l.k, s.cos, s.sin, dim, false)
	s.capture.see(SiteKRot, layer, l.k)
	l.xq = s.readers(layer, l.x)
	if s.isLast(layer) {
		normed, _ = s.norm(l.xq, block.attention)
	}
	l.q = s.linear(layer, "q_proj", normed)
	s.capture.see(SiteQ, layer, l.q)
	cos, sin := s.queryTables(layer)
	panel.Rotate(l.q, cos, sin, dim, false)
	s.attend(layer, l)
	s.capture.see(SiteZ, layer, l.z)
	l.mid = s.copyWide(l.xq)
	out := s.linear(layer, "o_proj", s.operand(l.z))
	s.capture.see(SiteAttnOut, layer, out)
	l.mid.Add(out)
	s.capture.seeWide(SiteResidMid, layer, l.mid)
	normed, _ = s.norm(l.mid, block.feed)
	l.gate, l.up = s.linear(layer, "gate_proj", normed), s.linear(layer, "up_proj", normed)
	product := s.matrix(l.gate.Rows, l.gate.Panels)
	panel.SwiGLU(l.gate, l.up, product)
	return s.operand(product)
}

// again runs a layer of which only the input was kept.
func (s *panelStream) again(layer int) {
	l := &s.layers[layer]
	normed, _ := s.norm(l.x, s.model.layers[layer].attention)
	s.run(layer, l, normed, s.keysValues(layer, normed))
}

func (s *panelStream) copyWide(x panel.Wide) panel.Wide {
	y := s.wide(x.Rows, x.Panels)
	copy(y.Data, x.Data)
	return y
}

// queryTables are the rotary tables of a layer's queries.
func (s *panelStream) queryTables(layer int) (cos, sin panel.Matrix) {
	if !s.isLast(layer) {
		return s.cos, s.sin
	}
	cos, sin = s.zeros(s.cos.Rows, s.rows), s.zeros(s.sin.Rows, s.rows)
	for b, c := range s.last {
		cos.Copy(b*panel.Lanes, s.cos, c)
		sin.Copy(b*panel.Lanes, s.sin, c)
	}
	return cos, sin
}

// attend fills in z and the statistics of the softmax.
func (s *panelStream) attend(layer int, l *panelLayer) {
	heads, dim := s.engine.Weights.Config.NumAttentionHeads, s.engine.Weights.Config.HeadDim
	l.z = s.matrix(l.q.Rows, l.q.Panels)
	queries := heads * l.q.Panels * panel.Lanes
	l.maximum, l.inverse = s.lend(queries), s.lend(queries)
	s.round(layer, l)
	defer func() { l.half = nil }() // its memory is given back
	perSequence := l.q.Panels / s.rows
	parts := (perSequence + attendTogether - 1) / attendTogether
	s.scratch.Each(s.rows*parts*heads, func(scratch *panel.Scratch, from, to int) {
		var keys []panel.Keys
		var queries []panel.Queries
		for of, i := -1, from; i < to; i++ {
			b, part, h := i/heads/parts, i/heads%parts, i%heads
			if b != of {
				keys, of = s.keys(layer, l, b), b
			}
			queries = queries[:0]
			for p := part * attendTogether; p < min((part+1)*attendTogether, perSequence); p++ {
				q := s.queries(layer, l, b*perSequence+p, h)
				q.Z = head(l.z, b*perSequence+p, h, dim)
				queries = append(queries, q)
			}
			s.head(keys, h).Attend(scratch, queries)
		}
	})
}

// attendTogether is the number of panels of queries in a task: so many that the kernels meet in twos, so few that all cores have some.
const attendTogether = 2

// head is the h-th head over the keys of a sequence.
func (s *panelStream) head(keys []panel.Keys, h int) panel.Head {
	cfg := s.engine.Weights.Config
	return panel.Head{Dim: cfg.HeadDim, Group: h / (cfg.NumAttentionHeads / cfg.NumKeyValueHeads) * cfg.HeadDim,
		Keys: keys, Scale: float32(1 / math.Sqrt(float64(cfg.HeadDim)))}
}

// queries are the p-th panel of queries of the h-th head.
func (s *panelStream) queries(layer int, l *panelLayer, p, h int) panel.Queries {
	dim, from := s.engine.Weights.Config.HeadDim, (h*l.q.Panels+p)*panel.Lanes
	return panel.Queries{Sight: s.sight(layer, l, p), Q: head(l.q, p, h, dim),
		Maximum: l.maximum[from : from+panel.Lanes], Inverse: l.inverse[from : from+panel.Lanes]}
}

// head are a head's rows of a panel.
func head(m panel.Matrix, p, h, dim int) []float32 {
	return m.Panel(p)[h*dim*panel.Lanes : (h+1)*dim*panel.Lanes]
}

// keys are what queries of a sequence may look at: its own keys, the prefix's, then those moved there.
func (s *panelStream) keys(layer int, l *panelLayer, b int) []panel.Keys {
	keys := []panel.Keys{{K: l.k, V: l.v, First: b * s.own, Size: s.own}}
	if s.before.panels > 0 {
		states := s.options.Prefix.panels.rotated[layer]
		keys = append(keys, panel.Keys{K: states.k, V: states.v, Size: s.before.panels})
	}
	if l.moved != nil {
		keys = append(keys, panel.Keys{K: l.moved.k, V: l.moved.v, First: b * s.moved, Size: s.moved})
	}
	for i, half := range l.half {
		keys[i].Half = half
	}
	return keys
}

// round prepares attention in bfloat16, where that is what the engine computes in.
func (s *panelStream) round(layer int, l *panelLayer) {
	if s.engine.Options.Compute != dtypes.BFloat16 || !panel.CanRound(s.engine.Weights.Config.HeadDim) {
		return
	}
	for _, k := range s.keys(layer, l, 0) {
		to := s.engine.memory.rounded.borrow(panel.RoundedKeys(k.K))
		s.lent.rounded = append(s.lent.rounded, to)
		l.half = append(l.half, panel.RoundKeys(k.K, k.V, to))
	}
}

// sight is what the p-th panel of queries sees.
func (s *panelStream) sight(layer int, l *panelLayer, p int) panel.Sight {
	all := s.sights
	if l.moved != nil {
		all = s.sightsMoved
	}
	if !s.isLast(layer) {
		return all[p]
	}
	c := s.last[p]
	return all[c/panel.Lanes].Only(c % panel.Lanes)
}

// export picks the keys and values at the exported positions.
func (s *panelStream) export(own panelKV) *panelKV {
	o := s.options.Export
	panels := panelsOf(o.Count)
	out := &panelKV{s.zeros(own.k.Rows, s.rows*panels), s.zeros(own.v.Rows, s.rows*panels)}
	out.k.CopyRuns(own.k, s.routes)
	out.v.CopyRuns(own.v, s.routes)
	return out
}

// exportRoutes are where exported states lie, among the exported columns and among the own ones. Padding that was left out has
// none.
func (s *panelStream) exportRoutes() (routes []panel.Run) {
	o := s.options.Export
	for i, flat := range o.Source {
		if own, ok := s.column(int(flat)); ok {
			routes = panel.Join(routes, i/o.Count*panelsOf(o.Count)*panel.Lanes+i%o.Count, own)
		}
	}
	return routes
}

// exportKeysValues runs no more of a layer than its keys and values at the exported positions.
func (s *panelStream) exportKeysValues(layer int) *panelKV {
	normed, _ := s.norm(s.x, s.model.layers[layer].attention)
	out := s.export(s.keysValues(layer, normed))
	l := panelLayer{exported: out, keysValuesOnly: true}
	if s.options.Keep {
		l.x = s.x
	}
	s.x = panel.Wide{}
	s.settle(&l)
	s.layers[layer] = l
	return out
}
