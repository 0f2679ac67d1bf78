package extract

import (
	"slices"

	"gotransplant/data"
	"gotransplant/internal/states"
	"gotransplant/llama"
	"gotransplant/transplant"
)

// part is what a text has of the states of all that go through the layers together.
type part struct {
	first, count int
	ranges       []data.Span // of its states, by vector
	to           *gathering  // nil in a plan
}

// parts are those of texts of one padded length, and the tokens whose states are read. On graphs, which are others for another number
// of tokens, the first stands in for those of texts that are missing.
func (x *Extraction) parts(items []item) (source []int32, parts []part) {
	length, most := x.padded(items[0]), 0
	for i, it := range items {
		own, ranges := sources(it.vectors)
		most = max(most, len(own))
		parts = append(parts, part{first: len(source), count: len(own), ranges: ranges})
		for _, at := range own {
			source = append(source, int32(i*length)+at)
		}
	}
	for !x.reading.Engine.Panels() && len(source) < most*x.together(length) {
		source = append(source, source[0])
	}
	return source, parts
}

// read runs texts of one padded length through the model and writes their states to the jobs' buffers, one a tensor of the layout.
func (x *Extraction) read(jobs []*job, l states.Layout) error {
	items := make([]item, len(jobs))
	for i, j := range jobs {
		items[i] = j.item
	}
	source, parts := x.parts(items)
	for i, j := range jobs {
		p := &parts[i]
		for t, tensor := range l.Tensors {
			one := states.Layout{Tensors: []states.Tensor{tensor}}
			size := int(one.RowBytes(len(p.ranges)))
			j.out[t] = slices.Grow(j.out[t][:0], size)[:size]
		}
		p.to = &gathering{extraction: x, layout: l, ranges: p.ranges, out: j.out}
	}
	return x.capture(x.reading.Method, items, x.chosen(source, func(s llama.State) error { return handOut(s, parts) }))
}

// partError is an error of one of the texts that go together.
type partError struct {
	part int
	err  error
}

func (e *partError) Error() string { return e.err.Error() }
func (e *partError) Unwrap() error { return e.err }

// handOut gives every text its own of the states.
func handOut(s llama.State, parts []part) error {
	for i, p := range parts {
		from, to := max(s.First, p.first), min(s.First+s.Count, p.first+p.count)
		if from >= to {
			continue
		}
		own := s
		own.First, own.Count = from-p.first, to-from
		at, end := (from-s.First)*s.Width, (to-s.First)*s.Width
		if s.Wide != nil {
			own.Wide = s.Wide[at:end]
		} else {
			own.Narrow = s.Narrow[at:end]
		}
		if err := p.to.take(own); err != nil {
			return &partError{i, err}
		}
	}
	return nil
}

// chosen are the states to read.
func (x *Extraction) chosen(source []int32, take func(llama.State) error) *llama.Capture {
	c := &llama.Capture{Layers: x.layers, Source: source, Take: take}
	for _, info := range x.sites {
		c.Sites = append(c.Sites, info.Site)
	}
	return c
}

// capture reads them, with m's engine: of texts of one padded length, or of the chooser with the arguer's states moved in.
func (x *Extraction) capture(m *transplant.Method, items []item, c *llama.Capture) error {
	if moving := items[0].moving; moving != nil {
		return m.Capture(*moving, c)
	}
	return m.Engine.Capture(x.sequences(items), llama.StreamOptions{Name: "extract", Overlay: x.reading.Role.Overlay(),
		Attention: m.Attention, Capture: c})
}

// sequences are texts of one padded length. On graphs there are as many as go together, the first standing in for those that are
// missing.
func (x *Extraction) sequences(items []item) llama.Sequences {
	n := x.padded(items[0])
	rows := len(items)
	if !x.reading.Engine.Panels() {
		rows = x.together(n)
	}
	seq := llama.Sequences{Rows: rows, Length: n}
	for r := range rows {
		it := items[0]
		if r < len(items) {
			it = items[r]
		}
		ids := it.tokens.IDs
		seq.Token = append(append(seq.Token, ids...), make([]int32, n-len(ids))...)
		for i := range n {
			branch := int32(0)
			if i >= len(ids) {
				branch = -1
			}
			seq.Position, seq.Branch = append(seq.Position, int32(i)), append(seq.Branch, branch)
		}
	}
	return seq
}

// sources are the tokens that the vectors need, each once and in order, and for each vector the range of them.
func sources(vectors []data.Span) (source []int32, ranges []data.Span) {
	for _, v := range vectors {
		for i := v.Start; i < v.End; i++ {
			source = append(source, int32(i))
		}
	}
	slices.Sort(source)
	source = slices.Compact(source)
	for _, v := range vectors {
		at, _ := slices.BinarySearch(source, int32(v.Start))
		ranges = append(ranges, data.Span{Start: at, End: at + v.End - v.Start})
	}
	return source, ranges
}

// gathering puts the states of a text in their places.
type gathering struct {
	extraction *Extraction
	layout     states.Layout
	ranges     []data.Span // of the states handed out, by vector
	out        [][]byte
	sums       map[[2]int][]float64 // by tensor and vector, of means whose states come in parts
}

func (g *gathering) take(s llama.State) error {
	if s.Wide != nil {
		return gather(g, s, s.Wide)
	}
	return gather(g, s, s.Narrow)
}

func gather[T float32 | float64](g *gathering, s llama.State, values []T) error {
	tensor := g.extraction.tensor[key{s.Site, s.Layer}]
	kind := g.layout.Tensors[tensor].DType
	size, out := s.Width*kind.Bits()/8, g.out[tensor]
	for v := 0; v < len(g.ranges); {
		r, n := g.ranges[v], g.run(v)
		from, to := max(r.Start, s.First), min(r.Start+n, s.First+s.Count) // of the states that are vectors by themselves
		switch {
		case n > 0 && from < to:
			at := (v + from - r.Start) * size
			if _, err := states.Append(out[at:at], kind, values[(from-s.First)*s.Width:(to-s.First)*s.Width]); err != nil {
				return err
			}
		case n == 0:
			if err := mean(g, [2]int{tensor, v}, s, values); err != nil {
				return err
			}
		}
		v += max(n, 1)
	}
	return nil
}

// run is how many vectors from the v-th on are states by themselves, one after the other; 0 where the v-th is a mean.
func (g *gathering) run(v int) (n int) {
	first := g.ranges[v].Start
	for _, r := range g.ranges[v:] {
		if r.End-r.Start != 1 || r.Start != first+n {
			break
		}
		n++
	}
	return n
}

// mean adds to the sum for a vector what is there of its states, in float64 and in the order of the tokens, and divides
// when the last is there.
func mean[T float32 | float64](g *gathering, place [2]int, s llama.State, values []T) error {
	r := g.ranges[place[1]]
	from, to := max(r.Start, s.First), min(r.End, s.First+s.Count)
	if from >= to {
		return nil
	}
	if g.sums == nil {
		g.sums = make(map[[2]int][]float64)
	}
	sum := g.sums[place]
	if sum == nil {
		sum = make([]float64, s.Width)
		g.sums[place] = sum
	}
	for i, v := range values[(from-s.First)*s.Width : (to-s.First)*s.Width] {
		sum[i%s.Width] += float64(v)
	}
	if to < r.End {
		return nil
	}
	for i := range sum {
		sum[i] /= float64(r.End - r.Start)
	}
	kind := g.layout.Tensors[place[0]].DType
	at := place[1] * s.Width * kind.Bits() / 8
	_, err := states.Append(g.out[place[0]][at:at], kind, sum)
	return err
}
