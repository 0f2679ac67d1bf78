package llama

import "gotransplant/internal/panel"

// gain is what multiplies a projection's output, or nil.
func (s *panelStream) gain(layer int, proj string) *Gain {
	if e := s.extra(layer, proj); e != nil {
		return e.Gain
	}
	return nil
}

// gainGradient goes back through a projection's gain, if it has one: the gain's gradient is added up, and dy becomes the
// gradient of what the gain multiplies. Of an output y = value / over * u, kept as it was, a sum of dy y over the columns
// is the gradient times value; where y says nothing about u, that is computed again.
func (b wayBack) gainGradient(o projected) {
	gain := b.gain(b.layer, o.proj)
	if gain == nil {
		return
	}
	sums, divisor := b.zeros(o.dy.Rows, 1), gain.value
	if o.made != nil && gain.recoverable {
		y := b.matrix(o.dy.Rows, 1)
		for p := range o.dy.Panels {
			o.made(p, y.Data)
			panel.AddProducts(o.dy.Panel(p), y.Data, sums.Data)
		}
	} else {
		u := b.sum(b.layer, o.proj, o.x())
		for p := range o.dy.Panels {
			panel.AddProducts(o.dy.Panel(p), u.Panel(p), sums.Data)
		}
		divisor = gain.over
	}
	to := b.sums(b.g, o.proj, b.extra(b.layer, o.proj)).gain
	for r := range to {
		var sum float64
		for _, v := range sums.Data[r*panel.Lanes : (r+1)*panel.Lanes] {
			sum += float64(v)
		}
		to[r] += float32(sum / float64(divisor[r]))
	}
	panel.Gain(o.dy, gain.quotient)
}

// panelsOfKept copies panels of m, if it was kept.
func panelsOfKept(m panel.Matrix) func(p int, into []float32) {
	if m.Rows == 0 {
		return nil
	}
	return func(p int, into []float32) { copy(into, m.Panel(p)) }
}

// turnedBack copies panels of queries or keys as they were before they were rotated.
func (s *panelStream) turnedBack(m, cos, sin panel.Matrix) func(p int, into []float32) {
	if m.Rows == 0 {
		return nil
	}
	one := func(m panel.Matrix, p int) panel.Matrix {
		return panel.Matrix{Rows: m.Rows, Panels: 1, Data: m.Panel(p)}
	}
	return func(p int, into []float32) {
		copy(into, m.Panel(p))
		panel.Rotate(panel.Matrix{Rows: m.Rows, Panels: 1, Data: into}, one(cos, p), one(sin, p), s.engine.Weights.Config.HeadDim, true)
	}
}

// added makes panels of what o_proj added to the residual stream, which float64 holds to its last digit.
func (l *panelLayer) added(p int, into []float32) {
	panel.Difference(l.mid.Panel(p), l.xq.Panel(p), into)
}

// asMade makes panels of gate or up, which their gradients are about to replace, if a gain needs them.
func (s *panelStream) asMade(layer int, proj string, m panel.Matrix) func(p int, into []float32) {
	if g := s.gain(layer, proj); g == nil || !g.recoverable {
		return nil
	}
	kept := s.matrix(m.Rows, m.Panels)
	copy(kept.Data, m.Data)
	return panelsOfKept(kept)
}

// gainNeeds are the bytes that the gain of a projection's addition has a layer borrow on its way back, for so many columns:
// a whole layer, and one of which keys and values alone were computed.
func (l *LowRank) gainNeeds(proj string, columns int) (whole, keys int64) {
	if l.Gain == nil {
		return 0, 0
	}
	output := narrowBytes(l.B.Out, columns)
	switch proj {
	case "k_proj", "v_proj":
		keys = output
	case "gate_proj", "up_proj", "down_proj": // copied, or again
		return output, 0
	}
	if !l.Gain.recoverable {
		whole = output
	}
	return whole, keys
}
