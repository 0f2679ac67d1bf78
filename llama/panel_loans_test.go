package llama

import (
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/gomlx/compute/dtypes"
)

// poison has an engine's lent memory hold NaN, to its last element: when it is lent, so that what must begin as zeros shows, and
// when it comes back, so that what is read later shows.
func poison(m *panelMemory) {
	m.wide.lent = func(s []float64) { fillWith(s[:cap(s)], math.NaN()) }
	m.narrow.lent = func(s []float32) { fillWith(s[:cap(s)], float32(math.NaN())) }
	m.rounded.lent = func(s []uint16) { fillWith(s[:cap(s)], 0x7fc0) } // NaN in bfloat16
	m.wide.back, m.narrow.back, m.rounded.back = m.wide.lent, m.narrow.lent, m.rounded.lent
}

func fillWith[T any](s []T, v T) {
	for i := range s {
		s[i] = v
	}
}

// TestLentMemoryMayHoldAnything: losses and gradients of everything that streams on panels do have the same bits on memory
// full of NaN. Sizes leave rows of tiles and lanes of panels unused.
func TestLentMemoryMayHoldAnything(t *testing.T) {
	c := smallConfig(false)
	c.HeadDim = 8
	for _, compute := range []dtypes.DType{dtypes.Float32, dtypes.BFloat16} {
		clean, poisoned := panelEngine(t, c, compute), panelEngine(t, c, compute)
		poison(&poisoned.memory)
		for _, gains := range []string{"none", "kept", "again"} {
			for _, o := range []StreamOptions{{}, {Keep: true}, {Keep: true, Remat: true}} {
				t.Run(fmt.Sprintf("%s, gains %s, keep=%t, remat=%t", compute, gains, o.Keep, o.Remat), func(t *testing.T) {
					want := movedStates(t, clean, adaptedTo(t, clean, "all", gains), o)
					got := movedStates(t, poisoned, adaptedTo(t, poisoned, "all", gains), o)
					for i := range want {
						if !slices.EqualFunc(got[i], want[i], func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }) {
							t.Errorf("result %d of %d: got %v, want %v", i, len(want), got[i], want[i])
						}
					}
				})
			}
		}
	}
}

// TestPaddingLeftOutHasNumbers: losses and logits at padding that no panel was made for do not come from what memory held.
func TestPaddingLeftOutHasNumbers(t *testing.T) {
	c := smallConfig(false)
	c.HeadDim = 8
	e := panelEngine(t, c, dtypes.Float32)
	poison(&e.memory)
	seq := rowsOf(e, 40, 0, 7, 12) // one panel of three
	m := moving{T: t, e: e}
	s := m.stream(seq, StreamOptions{})
	defer s.Close()
	m.layer(s.Forward(0, nil, false))
	m.layer(s.Forward(1, nil, false))
	logits, err := s.Logits()
	m.ok(err)
	scores, err := s.Score(Targets{Token: seq.Token, Weight: make([]float32, len(seq.Token))}, false)
	m.ok(err)
	for name, values := range map[string][]float64{"logit": wideOf(logits), "loss": scores.Loss} {
		if at := slices.IndexFunc(values, math.IsNaN); at >= 0 {
			t.Errorf("%s %d of %d is NaN", name, at, len(values))
		}
	}
}

// movedStates takes two rows through a stream whose keys and values move to another, both behind one prefix, forward and,
// with Keep, back: the losses, the log-probabilities, and the gradients of all three streams.
func movedStates(t *testing.T, e *Engine, overlay Overlay, o StreamOptions) (results [][]float64) {
	t.Helper()
	m := moving{T: t, e: e}
	o.Overlay = overlay
	const length, tokens, count = 16, 11, 3 // of the prefix; states moved a row
	m.begin = m.stream(rowsOf(e, length, 0, tokens), o)
	defer m.begin.Close()
	states := []KV{m.layer(m.begin.Forward(0, nil, true)), m.layer(m.begin.KeysValues(1))}
	prefix, err := e.NewPrefix(states, length, tokens)
	m.ok(err)
	defer prefix.Close()
	o.Prefix = prefix
	from, to := o, o
	from.Export = &Export{Count: count, Source: []int32{4, 4, 19, 25, 30, 31}} // one twice, some in another panel
	to.Insertion = &Insertion{Count: count, Position: []int32{14, 15, 16, 12, 13, 0}, Valid: []bool{true, true, true, true, true, false}}
	to.Last = []int32{19, 20 + 16}
	m.arguer, m.chooser = m.stream(rowsOf(e, 20, tokens, 20, 12), from), m.stream(rowsOf(e, 20, tokens, 20, 17), to)
	defer m.arguer.Close()
	defer m.chooser.Close()
	first := m.layer(m.arguer.Forward(0, nil, true))
	m.layer(m.chooser.Forward(0, &first, false))
	second := m.layer(m.arguer.KeysValues(1))
	m.layer(m.chooser.Forward(1, &second, false))
	scores, err := m.chooser.Score(Targets{Token: []int32{3, 5}, Weight: []float32{0.5, 0.25}, Watch: []int32{3, 5}}, o.Keep)
	m.ok(err)
	if o.Keep {
		m.back()
	}
	return append(append(scores.LogProb, scores.Loss), m.gradients...)
}

// moving are the streams of movedStates, and the gradients they left.
type moving struct {
	*testing.T
	e                      *Engine
	begin, arguer, chooser *Stream
	gradients              [][]float64
}

func (m *moving) ok(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *moving) stream(seq Sequences, o StreamOptions) *Stream {
	s, err := m.e.NewStream(seq, o)
	m.ok(err)
	return s
}

func (m *moving) layer(kv KV, err error) KV {
	m.ok(err)
	return kv
}

// back goes back through all layers, the prefix's after the rows'.
func (m *moving) back() {
	said := make([]KV, 2) // of the prefix's states, by layer
	for layer := 1; layer >= 0; layer-- {
		g := m.take(m.chooser, layer, KV{})
		m.ok(m.e.AddStates("", &said[layer], g.Prefix))
		g = m.take(m.arguer, layer, g.Moved)
		if layer == 0 { // of the other, keys and values alone, nothing looks at the prefix
			m.ok(m.e.AddStates("", &said[layer], g.Prefix))
		}
	}
	for layer := 1; layer >= 0; layer-- {
		m.take(m.begin, layer, said[layer])
	}
}

// take goes back through a layer of a stream and collects the gradients of what was added to its projections.
func (m *moving) take(s *Stream, layer int, returned KV) Gradients {
	_, g, err := s.Backward(layer, nil, returned, layer > 0)
	m.ok(err)
	for _, values := range g.Values {
		m.gradients = append(m.gradients, wideOf(values))
	}
	m.e.Recycle(g.Values)
	return g
}

// rowsOf are rows of the given numbers of tokens, padded to a length, which stand from a position on.
func rowsOf(e *Engine, length, position int, tokens ...int) Sequences {
	seq := Sequences{Rows: len(tokens), Length: length}
	for row, n := range tokens {
		for i := range length {
			branch := int32(0)
			if i >= n {
				branch = -1
			}
			seq.Token = append(seq.Token, int32((7*i+5*row+3)%e.Weights.Config.VocabSize))
			seq.Position, seq.Branch = append(seq.Position, int32(position+i)), append(seq.Branch, branch)
		}
	}
	return seq
}

// TestLargerSlicesServe: what rows of one length leave serves rows of others, the smallest slice first, and none that is more than
// twice as large.
func TestLargerSlicesServe(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would give back what is idle
	cases := []struct {
		name string
		idle []int // sizes, in the order in which they come back
		n    int
		want int // the size lent
	}{
		{"nothing idle", nil, 1000, 1024},
		{"its own size", []int{1024}, 1000, 1024},
		{"twice the size", []int{2048}, 1000, 2048},
		{"the smallest", []int{2048, 1280, 1536}, 1000, 1280},
		{"its own before larger ones", []int{1536, 1024}, 1000, 1024},
		{"more than twice", []int{2304}, 1000, 1024},
		{"smaller", []int{960}, 1000, 1024},
		{"a few elements", []int{5}, 3, 5},
		{"twice a few elements, and one", []int{7}, 3, 3},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var b shelf[float32]
			var all [][]float32
			for _, size := range c.idle { // all at once: one that came back would be lent again
				all = append(all, b.borrow(size))
			}
			for _, s := range all {
				b.giveBack(s)
			}
			got := b.borrow(c.n)
			if len(got) != c.n || cap(got) != c.want {
				t.Errorf("of %v, %d elements: got %d with room for %d, want room for %d", c.idle, c.n, len(got), cap(got), c.want)
			}
			again := b.borrow(c.n)
			if &again[0] == &got[0] {
				t.Error("one slice was lent twice")
			}
		})
	}
}
