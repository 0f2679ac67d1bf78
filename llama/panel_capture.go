package llama

import "gotransplant/internal/panel"

// panelCapture reads states off panels while a layer runs.
type panelCapture struct {
	*Capture
	columns []int   // of Source
	states  []State // of the layer just run; their memory serves again in the next
	used    int
}

// newPanelCapture prepares what a stream is to capture, or nil.
func (s *panelStream) newPanelCapture(c *Capture) *panelCapture {
	if c == nil {
		return nil
	}
	p := &panelCapture{Capture: c}
	for _, flat := range c.Source {
		column, _ := s.column(int(flat))
		p.columns = append(p.columns, column)
	}
	return p
}

// next is the place for a site's states, with memory that an earlier layer may have used; nil where they are not wanted.
func (p *panelCapture) next(site Site, layer, width int) *State {
	if p == nil || !p.wants(site, layer) {
		return nil
	}
	if p.used == len(p.states) {
		p.states = append(p.states, State{})
	}
	state := &p.states[p.used]
	p.used++
	state.Site, state.Layer, state.Count, state.Width = site, layer, len(p.columns), width
	return state
}

// see copies the states of a site, unless they are not wanted.
func (p *panelCapture) see(site Site, layer int, m panel.Matrix) {
	state := p.next(site, layer, m.Rows)
	if state == nil {
		return
	}
	state.Wide, state.Narrow = nil, sized(state.Narrow, len(p.columns)*m.Rows)
	readColumns(state.Narrow, m.Rows, m.Panel, p.columns)
}

// seeWide is see for the residual stream.
func (p *panelCapture) seeWide(site Site, layer int, m panel.Wide) {
	state := p.next(site, layer, m.Rows)
	if state == nil {
		return
	}
	state.Narrow, state.Wide = nil, sized(state.Wide, len(p.columns)*m.Rows)
	readColumns(state.Wide, m.Rows, m.Panel, p.columns)
}

// sized is a slice of n elements, s itself where it has room.
func sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// readColumns writes columns one after the other.
func readColumns[T float32 | float64](to []T, rows int, panelOf func(int) []T, columns []int) {
	for i, c := range columns {
		from := panelOf(c / panel.Lanes)[c%panel.Lanes:]
		column := to[i*rows : (i+1)*rows]
		for r := range column {
			column[r] = from[r*panel.Lanes]
		}
	}
}

// handPanels gives out what the layer just run was read of.
func (s *Stream) handPanels() error {
	p := s.panels.capture
	if p == nil {
		return nil
	}
	defer func() { p.used = 0 }()
	for _, state := range p.states[:p.used] {
		if err := s.hand(state); err != nil {
			return err
		}
	}
	return nil
}

// logitsAt are the logits of tokens, row-major.
func (s *panelStream) logitsAt(source []int32) []float32 {
	columns := make([]int, len(source))
	for i, flat := range source {
		columns[i], _ = s.column(int(flat))
	}
	return s.logitsOf(columns)
}
