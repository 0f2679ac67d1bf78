package extract

import (
	"slices"

	"gotransplant/data"
	"gotransplant/internal/states"
	"gotransplant/llama"
	"gotransplant/transplant"
)

// read runs a text through the model and writes its states to buffers, one a tensor of the layout, whose memory is used
// again. A text is a stream of its own, so that its states do not depend on what else there is.
func (x *Extraction) read(it item, l states.Layout, buffers [][]byte) ([][]byte, error) {
	source, ranges := sources(it.vectors)
	g := &gathering{extraction: x, layout: l, ranges: ranges, out: make([][]byte, len(l.Tensors))}
	for i, t := range l.Tensors {
		one := states.Layout{Tensors: []states.Tensor{t}}
		g.out[i] = slices.Grow(buffers[i][:0], int(one.RowBytes(len(ranges))))[:one.RowBytes(len(ranges))]
	}
	return g.out, x.capture(x.reading.Method, it, x.chosen(source, g.take))
}

// chosen are the states to read.
func (x *Extraction) chosen(source []int32, take func(llama.State) error) *llama.Capture {
	c := &llama.Capture{Layers: x.layers, Source: source, Take: take}
	for _, info := range x.sites {
		c.Sites = append(c.Sites, info.Site)
	}
	return c
}

// capture reads them, with m's engine: of a text alone, or of the chooser with the arguer's states moved in.
func (x *Extraction) capture(m *transplant.Method, it item, c *llama.Capture) error {
	if it.moving != nil {
		return m.Capture(*it.moving, c)
	}
	return m.Engine.Capture(x.sequence(it.tokens.IDs), llama.StreamOptions{Name: "extract", Overlay: x.reading.Role.Overlay(),
		Attention: m.Attention, Capture: c})
}

// sequence is a text by itself. Graphs are built for every length, so there it is padded to a step of an eighth at most;
// by how much depends on the text alone.
func (x *Extraction) sequence(ids []int32) llama.Sequences {
	n := len(ids)
	if !x.reading.Engine.Panels() {
		step := 8
		for step*16 <= n {
			step *= 2
		}
		n = (n + step - 1) / step * step
	}
	seq := llama.Sequences{Rows: 1, Length: n, Token: make([]int32, n), Position: make([]int32, n), Branch: make([]int32, n)}
	copy(seq.Token, ids)
	for i := range n {
		seq.Position[i] = int32(i)
		if i >= len(ids) {
			seq.Branch[i] = -1
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
