package transplant

import "gotransplant/llama"

// panelSweep follows a micro-batch through the layers, forward and back, adding and taking off what streams computed on
// panels hold.
type panelSweep struct {
	*Method
	train           bool
	arguer, chooser llama.PanelNeeds
	// extras are what adapters add to a layer on its way back: a whole one, and one of keys and values alone
	arguerExtras, arguerKeyExtras, chooserExtras int64
	tables                                       int64
	streams                                      int64 // residual streams, or their gradients
	kept, moved                                  int64
	peak                                         llama.Peak
}

// rehearsePanels is rehearse for an engine that computes on panels.
func (m *Method) rehearsePanels(g group, train bool) (begun, peak llama.Peak) {
	var need Shape
	for _, c := range g.cases {
		need = need.join(m.need(c))
	}
	s := &panelSweep{Method: m, train: train, chooser: m.Engine.PanelNeeds(llama.PanelShape{Rows: g.rows, Length: need.Chooser,
		Prefix: len(m.Prefix.Chooser), MovedIn: g.shape.Moved})}
	if last, _ := m.span(); last >= 0 {
		s.arguer = m.Engine.PanelNeeds(llama.PanelShape{Rows: g.rows, Length: need.Arguer, Prefix: len(m.Prefix.Arguer),
			MovedOut: g.shape.Moved})
	}
	s.arguerExtras, s.arguerKeyExtras = m.Arguer.extraNeeds(g.rows, need.Arguer)
	s.chooserExtras, _ = m.Chooser.extraNeeds(g.rows, need.Chooser)
	s.tables, s.streams = s.arguer.Tables+s.chooser.Tables, s.arguer.Residual+s.chooser.Residual
	begun = s.now(0)
	for layer := range m.layers() {
		s.forward(layer)
	}
	s.note(s.chooser.Score)
	if train {
		s.streams = s.chooser.Residual
		for layer := m.layers() - 1; layer >= 0; layer-- {
			s.backward(layer)
		}
	}
	return begun, s.peak
}

// prefixOnPanels is what the prefixes hold.
func (m *Method) prefixOnPanels(train bool) llama.Peak {
	var kept, moved int64
	s := panelSweep{Method: m, train: train}
	last, _ := m.span()
	for _, o := range []struct {
		tokens, depth int
		trained       bool
	}{{len(m.Prefix.Arguer), max(last, 0), m.TrainsArguer()}, {len(m.Prefix.Chooser), m.layers(), m.Chooser != nil}} {
		if o.tokens == 0 {
			continue
		}
		n := m.Engine.PanelNeeds(llama.PanelShape{Rows: 1, Length: o.tokens, Prefix: o.tokens, MovedIn: o.tokens, MovedOut: o.tokens})
		moved += int64(o.depth) * (n.Moved + n.Rotated)
		kept += int64(max(o.depth-1, 0)) * s.keeps(n, n.Kept, o.trained)
	}
	return llama.Peak{Held: map[string]int64{llama.ForwardPass: kept, llama.KeysValuesPass: moved}}
}

// extraNeeds are the largest of any layer's, see Engine.ExtraNeeds.
func (r *Role) extraNeeds(rows, length int) (whole, keys int64) {
	if r == nil {
		return 0, 0
	}
	for _, extras := range r.overlay {
		w, k := r.engine.ExtraNeeds(extras, rows, length)
		whole, keys = max(whole, w), max(keys, k)
	}
	return whole, keys
}

// now is what is held, with so much in use by a layer.
func (s *panelSweep) now(work int64) llama.Peak {
	return llama.Peak{Workspace: work, Held: map[string]int64{llama.Preparing: s.tables, llama.ForwardPass: s.kept + s.moved,
		llama.Embedding: s.streams}}
}

func (s *panelSweep) note(work int64) {
	if now := s.now(work); now.Bytes() > s.peak.Bytes() {
		s.peak = now
	}
}

// keeps is what a layer leaves for its way back, of all that it makes.
func (s *panelSweep) keeps(n llama.PanelNeeds, all int64, trained bool) int64 {
	switch {
	case !s.train || !trained:
		return 0
	case s.Remat:
		return n.Residual // the stream before the layer
	}
	return all
}

// made is all that a layer of the chooser makes and may keep.
func (s *panelSweep) made(layer int) int64 {
	if layer == s.layers()-1 {
		return s.chooser.KeptLast
	}
	return s.chooser.Kept
}

func (s *panelSweep) forward(layer int) {
	last, _ := s.span()
	handed := int64(0)
	if s.transplants(layer) {
		handed = s.arguer.Moved
	}
	switch {
	case layer < last:
		s.note(s.arguer.Kept - s.arguer.Residual + s.arguer.Forward + handed)
		s.kept += s.keeps(s.arguer, s.arguer.Kept, s.TrainsArguer())
	case layer == last:
		s.note(s.arguer.ForwardKeys + handed)
		s.kept += s.keeps(s.arguer, s.arguer.Residual, s.TrainsArguer())
		s.streams -= s.arguer.Residual
	}
	if s.transplants(layer) {
		handed += s.chooser.Rotated
	}
	all := s.made(layer)
	s.note(handed + all - s.chooser.Residual + s.chooser.Forward)
	s.kept += s.keeps(s.chooser, all, true)
	if s.train {
		s.moved += handed
	}
}

func (s *panelSweep) backward(layer int) {
	last, _ := s.span()
	handed := int64(0)
	if s.transplants(layer) {
		handed = s.arguer.Moved
		defer func() { s.moved -= s.arguer.Moved + s.chooser.Rotated }()
	}
	s.note(s.again(s.chooser) + s.chooser.Backward + s.chooserExtras)
	s.kept -= s.keeps(s.chooser, s.made(layer), true)
	switch {
	case layer > last || !s.TrainsArguer():
	case layer == last:
		s.streams += s.arguer.Residual
		s.note(s.arguer.BackwardInput + s.arguerKeyExtras - s.arguer.Residual + handed)
		s.kept -= s.arguer.Residual
	default:
		s.note(s.again(s.arguer) + s.arguer.Backward + s.arguerExtras + handed)
		s.kept -= s.keeps(s.arguer, s.arguer.Kept, true)
	}
}

// again is what a layer holds that runs again on its way back.
func (s *panelSweep) again(n llama.PanelNeeds) int64 {
	if s.Remat {
		return n.Again
	}
	return 0
}
