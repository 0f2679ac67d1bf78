package llama

import (
	"math/bits"
	"sync"

	"gotransplant/internal/panel"
)

// panelMemory hands out slices and takes them back: fresh memory costs page faults and zeroing, which together are a
// tenth of a training step. Slices come back with what was last in them.
type panelMemory struct {
	wide    shelf[float64]
	narrow  shelf[float32]
	rounded shelf[uint16]

	scratch sync.Pool // of *panel.Scratch
}

func (m *panelMemory) borrowScratch() *panel.Scratch {
	if s, ok := m.scratch.Get().(*panel.Scratch); ok {
		return s
	}
	return &panel.Scratch{}
}

// shelf are the slices of one type that nobody uses.
type shelf[T any] struct {
	pools      sync.Map    // by capacity, of *sync.Pool of *[]T
	lent, back func(s []T) // see what is lent and what comes back, as long as was asked for; nil but in tests
}

// capacity rounds n up to one of eight sizes in every octave, so that slices for lengths that differ a little are the same.
func capacity(n int) int {
	step := 1 << max(0, bits.Len(uint(n))-4)
	return (n + step - 1) / step * step
}

func (b *shelf[T]) borrow(n int) []T {
	s := b.idle(n)
	if s == nil {
		fresh := make([]T, capacity(n))
		b.pools.LoadOrStore(len(fresh), &sync.Pool{})
		s = &fresh
	}
	lent := (*s)[:n]
	if b.lent != nil {
		b.lent(lent)
	}
	return lent
}

// idle is a slice of n elements or up to twice as many, the smallest there is, or nil. Rows of every length leave slices of their
// own sizes: if only equal ones served again, those of all lengths would lie about at a time.
func (b *shelf[T]) idle(n int) *[]T {
	for size := capacity(n); size <= 2*capacity(n); size = capacity(size + 1) {
		if pool, ok := b.pools.Load(size); ok {
			if s, ok := pool.(*sync.Pool).Get().(*[]T); ok {
				return s
			}
		}
	}
	return nil
}

func (b *shelf[T]) giveBack(s []T) {
	if pool, ok := b.pools.Load(cap(s)); ok {
		if b.back != nil {
			b.back(s)
		}
		s = s[:cap(s)]
		pool.(*sync.Pool).Put(&s)
	}
}

// Recycle gives back gradients that a stream left, once their values have been read: fresh slices for every sweep cost page
// faults, a twentieth of a bfloat16 step.
func (e *Engine) Recycle(values [][]float32) {
	if e.panels == nil {
		return
	}
	for _, v := range values {
		e.memory.narrow.giveBack(v)
	}
}

// loans are slices of a panelMemory in use.
type loans struct {
	wide    [][]float64
	narrow  [][]float32
	rounded [][]uint16
}

// giveBack returns all that was lent; nobody may use it any more.
func (l *loans) giveBack(m *panelMemory) {
	for _, s := range l.wide {
		m.wide.giveBack(s)
	}
	for _, s := range l.narrow {
		m.narrow.giveBack(s)
	}
	for _, s := range l.rounded {
		m.rounded.giveBack(s)
	}
	*l = loans{}
}

// part moves the loans of which keep says so to another list. Those for rounding are never kept.
func (l *loans) part(to *loans, keep func(first any) bool) {
	var rest loans
	for _, s := range l.wide {
		list := &rest
		if keep(&s[0]) {
			list = to
		}
		list.wide = append(list.wide, s)
	}
	for _, s := range l.narrow {
		list := &rest
		if keep(&s[0]) {
			list = to
		}
		list.narrow = append(list.narrow, s)
	}
	rest.rounded = l.rounded
	*l = rest
}

// lend and lendWide borrow n elements that hold anything, as matrix does.
func (s *panelStream) lend(n int) []float32 {
	values := s.engine.memory.narrow.borrow(n)
	s.lent.narrow = append(s.lent.narrow, values)
	return values
}

func (s *panelStream) lendWide(n int) []float64 {
	values := s.engine.memory.wide.borrow(n)
	s.lent.wide = append(s.lent.wide, values)
	return values
}

// matrix borrows a matrix that holds anything; it is given back at the end of the stream's call unless it is kept.
func (s *panelStream) matrix(rows, panels int) panel.Matrix {
	return panel.Matrix{Rows: rows, Panels: panels, Data: s.lend(rows * panels * panel.Lanes)}
}

// lasting is matrix until the stream is closed.
func (s *panelStream) lasting(rows, panels int) panel.Matrix {
	m := panel.Matrix{Rows: rows, Panels: panels, Data: s.engine.memory.narrow.borrow(rows * panels * panel.Lanes)}
	s.tables.narrow = append(s.tables.narrow, m.Data)
	return m
}

// leaving borrows keys and values that hold anything, for gradients that leave the stream. Whoever reads them last gives
// them back.
func (s *panelStream) leaving(rows, panels int) *panelKV {
	of := func() panel.Matrix {
		return panel.Matrix{Rows: rows, Panels: panels, Data: s.engine.memory.narrow.borrow(rows * panels * panel.Lanes)}
	}
	return &panelKV{of(), of()}
}

// giveBack returns what leaving lent, or nothing.
func (kv *panelKV) giveBack(m *panelMemory) {
	if kv == nil {
		return
	}
	m.narrow.giveBack(kv.k.Data)
	m.narrow.giveBack(kv.v.Data)
	*kv = panelKV{}
}

// zeros is matrix with zeros in it.
func (s *panelStream) zeros(rows, panels int) panel.Matrix {
	m := s.matrix(rows, panels)
	clear(m.Data)
	return m
}

// wide and wideZeros are matrix and zeros in float64.
func (s *panelStream) wide(rows, panels int) panel.Wide {
	return panel.Wide{Rows: rows, Panels: panels, Data: s.lendWide(rows * panels * panel.Lanes)}
}

func (s *panelStream) wideZeros(rows, panels int) panel.Wide {
	m := s.wide(rows, panels)
	clear(m.Data)
	return m
}

// halves is the memory of an operand in bfloat16.
func (s *panelStream) halves(m panel.Matrix) []uint16 {
	h := s.engine.memory.rounded.borrow(panel.Halves(m))
	s.lent.rounded = append(s.lent.rounded, h)
	return h
}

// settle gives back what was borrowed since the last call, but for the stream itself, its gradient, and what a layer keeps.
func (s *panelStream) settle(l *panelLayer) {
	if l != nil {
		kept := make(map[any]bool)
		for _, m := range []panel.Wide{l.x, l.xq, l.mid} {
			if len(m.Data) > 0 {
				kept[&m.Data[0]] = true
			}
		}
		narrow := []panel.Matrix{l.q, l.k, l.v, l.z, l.gate, l.up}
		for _, kv := range []*panelKV{l.moved, l.exported} {
			if kv != nil {
				narrow = append(narrow, kv.k, kv.v)
			}
		}
		for _, m := range narrow {
			if len(m.Data) > 0 {
				kept[&m.Data[0]] = true
			}
		}
		if len(l.maximum) > 0 {
			kept[&l.maximum[0]], kept[&l.inverse[0]] = true, true
		}
		s.lent.part(&l.lent, func(first any) bool { return kept[first] })
	}
	var live loans
	s.lent.part(&live, func(first any) bool {
		return len(s.x.Data) > 0 && first == any(&s.x.Data[0]) || len(s.dy.Data) > 0 && first == any(&s.dy.Data[0])
	})
	s.lent.giveBack(&s.engine.memory)
	s.lent = live
}
