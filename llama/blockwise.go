package llama

import (
	"math"

	"gotransplant/internal/matmul"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
)

// Blockwise attention (FlashAttention, Dao et al. 2022; online softmax, Milakov and Gimelshein 2018). Scores are made
// tile by tile, a block of queries against a block of keys, and added up into the output and the log of the sum of the
// exponentials (lse). The backward pass makes each tile again from q, k and lse. A tile begins when the last but one
// before it is done, so that memory grows with S and not with its square.

// tiles is what blockwise attention needs in place of a mask. Own keys come before inserted ones.
type tiles struct {
	queries places // [B, S]
	keys    places // [B, K]
	known   order  // of the own keys
	size    int    // edge of a tile
}

// own is S: so many of the keys are the stream's own.
func (t tiles) own() int { return t.queries.position.Shape().Dim(1) }

// order is what is known of own keys when the graph is built.
type order int

const (
	anyOrder     order = iota
	byIndex            // no query sees an own key of a later index
	wholeByIndex       // and every query that anyone reads sees all keys of earlier ones
)

// span is a range of positions [from, to).
type span struct{ from, to int }

// spans cuts [from, to) into blocks of at most size.
func spans(from, to, size int) []span {
	var all []span
	for ; from < to; from += size {
		all = append(all, span{from, min(from+size, to)})
	}
	return all
}

// seenBy are the blocks of keys of which queries in q may see some.
func (t tiles) seenBy(q span) []span {
	var all []span
	for _, k := range spans(0, t.own(), t.size) {
		if t.known == anyOrder || k.from < q.to {
			all = append(all, k)
		}
	}
	return append(all, spans(t.own(), t.keys.position.Shape().Dim(1), t.size)...)
}

// mask is what is added to the scores of a tile, [B or 1, q, k], or nil where every query sees every key. It is not
// computed before after.
func (t tiles) mask(q, k span, after []*Node) *Node {
	earlier := k.to <= q.from
	switch {
	case t.known == wholeByIndex && earlier:
		return nil
	case t.known == wholeByIndex && k.from == q.from && k.to <= t.own():
		return behind(triangle(t.queries.position.Graph(), q.to-q.from), after)
	}
	cut := func(x *Node, r span) *Node { return SliceAxis(x, 1, AxisRange(r.from, r.to)) }
	queries := places{cut(t.queries.position, q), cut(t.queries.branch, q)}
	keys := places{cut(behind(t.keys.position, after), k), cut(behind(t.keys.branch, after), k)}
	return sees(queries, keys)
}

// triangle hides later keys from earlier queries: [1, n, n] float32.
func triangle(g *Graph, n int) *Node {
	square := shapes.Make(dtypes.Int32, 1, n, n)
	return Where(LessOrEqual(Iota(g, square, 2), Iota(g, square, 1)), ScalarZero(g, dtypes.Float32),
		Scalar(g, dtypes.Float32, hidden))
}

// behind is x, not to be used before all of after have been computed.
func behind(x *Node, after []*Node) *Node {
	if len(after) == 0 {
		return x
	}
	return SchedulingBarrier(x, after...)
}

// queue delays tiles: each waits for what the last but one left, so that two are under way.
type queue struct{ done [][]*Node }

// turn is what the next tile has to wait for.
func (q *queue) turn() []*Node {
	if n := len(q.done); n >= 2 {
		return q.done[n-2]
	}
	return nil
}

func (q *queue) finish(left ...*Node) { q.done = append(q.done, left) }

// wideDot is batchDot in float32.
func wideDot(l, r *Node, axis int) *Node {
	product := matmul.Of(l, r).WithOutputDType(dtypes.Float32)
	return settled(product.General([]int{3}, []int{0, 1}, []int{axis}, []int{0, 1}))
}

// headed are the queries, keys and values as arrange leaves them, cut into blocks. The scale of the scores is in the
// queries where that rounds nothing that was not rounded before; elsewhere late is what remains.
type headed struct {
	tiles
	q, k, v *Node // [B, G, R*Q, D], [B, G, K, D], [B, G, K, D]
	late    float64
	heads   int // H
	blocks  map[span]keyBlock
}

// keyBlock are keys and values [B, G, k, D]. It is cut once: each cut is a copy, and nothing delays it.
type keyBlock struct{ k, v *Node }

// keyBlock takes the keys and values in r, not to be used before after.
func (h headed) keyBlock(r span, after []*Node) keyBlock {
	b, ok := h.blocks[r]
	if !ok {
		cut := func(x *Node) *Node { return SliceAxis(x, 2, AxisRange(r.from, r.to)) }
		b = keyBlock{cut(h.k), cut(h.v)}
		h.blocks[r] = b
	}
	return keyBlock{behind(b.k, after), behind(b.v, after)}
}

// cut prepares blockwise attention.
func (a attention) cut(q, k, v *Node) headed {
	h := headed{tiles: *a.tiles, heads: q.Shape().Dim(2), late: 1, blocks: make(map[span]keyBlock)}
	scale := 1 / math.Sqrt(float64(q.Shape().Dim(3)))
	h.q, h.k, h.v = a.arrange(q, k, v)
	if fraction, _ := math.Frexp(scale); fraction == 0.5 || q.DType() == dtypes.Float32 {
		h.q = MulScalar(h.q, scale)
	} else {
		h.late = scale
	}
	return h
}

// queryBlock takes positions r of x [B, G, R*Q, D]: [B, G, R*q, D].
func (h headed) queryBlock(x *Node, r span) *Node {
	d := x.Shape().Dimensions
	split := Reshape(x, d[0], d[1], d[2]/h.own(), h.own(), d[3])                       // [B, G, R, Q, D]
	return Reshape(SliceAxis(split, 3, AxisRange(r.from, r.to)), d[0], d[1], -1, d[3]) // [B, G, R*q, D]
}

// joinQueries is queryBlock backwards: blocks [B, G, R*q, D] to [B, G, R*Q, D].
func (h headed) joinQueries(blocks []*Node) *Node {
	d := blocks[0].Shape().Dimensions
	ratio := h.heads / d[1]
	parts := make([]*Node, len(blocks))
	for i, b := range blocks {
		parts[i] = Reshape(b, d[0], d[1], ratio, -1, d[3]) // [B, G, R, q, D]
	}
	return Reshape(Concatenate(parts, 3), d[0], d[1], -1, d[3]) // [B, G, R*Q, D]
}

// scores are those of queries qi [B, G, R*q, D], at q, with keys kj [B, G, k, D], at k: float32 [B, G, R*q, k], masked.
func (h headed) scores(qi, kj *Node, q, k span, after []*Node) *Node {
	s := wideDot(qi, kj, 3)
	if h.late != 1 {
		s = MulScalar(s, h.late)
	}
	mask := h.mask(q, k, after)
	if mask == nil {
		return s
	}
	d := s.Shape().Dimensions
	split := Reshape(s, d[0], h.heads, q.to-q.from, d[3])                     // [B, H, q, k]
	return Reshape(Add(split, repeat(InsertAxes(mask, 1), 1, h.heads)), d...) // [B, G, R*q, k]
}

// rowMax is the largest of the last axis of x, kept: [..., 1]. The Go backend compares two tensors eight times faster
// than it reduces one.
func rowMax(x *Node) *Node {
	for n := x.Shape().Dim(-1); interpreted(x) && n > 16; n = (n + 1) / 2 {
		half := (n + 1) / 2 // the middle of an odd number is in both halves
		x = Max(SliceAxis(x, -1, AxisRange(0, half)), SliceAxis(x, -1, AxisRange(n-half, n)))
	}
	return ReduceAndKeep(x, ReduceMax, -1)
}

// exponentials are exp(s - c), s [..., k] and c [..., 1], as p times scale [..., 1]: p is [..., k], and sum [..., 1] the
// sum over k of the exponentials themselves. On the Go backend they are a softmax with c as one more score: its
// exponential is faster than Exp, and what comes out in the additional place is 1/scale. No score is above c by much.
func exponentials(s, c *Node) (p, scale, sum *Node) {
	if !interpreted(s) {
		p = Exp(Sub(s, c))
		return p, OnesLike(c), ReduceAndKeep(p, ReduceSum, -1)
	}
	n := s.Shape().Dim(-1)
	w := Softmax(Concatenate([]*Node{s, c}, -1), -1) // [..., k+1]
	scale = Reciprocal(SliceAxis(w, -1, AxisElem(n)))
	return SliceAxis(w, -1, AxisRange(0, n)), scale, AddScalar(scale, -1)
}

// forwardBlockwise is forward by tiles. lse [B, G, R*Q, 1] float32 is what gradientBlockwise needs beside z.
func (a attention) forwardBlockwise(q, k, v *Node) (z, lse *Node) {
	h := a.cut(q, k, v)
	var order queue
	var zs, lses []*Node
	for _, at := range spans(0, h.own(), h.size) {
		qi := h.queryBlock(h.q, at)
		var sum partial
		for _, from := range h.seenBy(at) {
			turn := order.turn()
			keys := h.keyBlock(from, turn)
			sum = sum.add(weighted(h.scores(qi, keys.k, at, from, turn), keys.v))
			order.finish(sum.z, sum.total) // which are all that needs the scores
		}
		zs = append(zs, Div(sum.z, widen(sum.total, sum.z.Shape().Dim(3))))
		lses = append(lses, Add(sum.max, Log(sum.total)))
	}
	d := q.Shape().Dimensions
	joined := Reshape(h.joinQueries(zs), d[0], d[2], d[1], d[3])                  // [B, H, Q, D]
	return Reshape(headsLast(joined), d[0], d[1], d[2]*d[3]), h.joinQueries(lses) // [B, Q, H*D], [B, G, R*Q, 1]
}

// partial is the softmax-weighted sum of values over some keys, not yet divided by the total of the weights: the
// weights are exp(score - max). All are float32.
type partial struct {
	max, total *Node // [B, G, R*q, 1]
	z          *Node // [B, G, R*q, D]
}

// weighted is the part of a tile with scores s [B, G, R*q, k] and values vj [B, G, k, D].
func weighted(s, vj *Node) partial {
	m := rowMax(s)
	p, scale, total := exponentials(s, m)
	z := wideDot(ConvertDType(p, vj.DType()), vj, 2)
	return partial{m, total, Mul(z, widen(scale, z.Shape().Dim(3)))}
}

// add joins parts over different keys.
func (p partial) add(o partial) partial {
	if p.z == nil {
		return o
	}
	m := Max(p.max, o.max)
	mine, other := Exp(Sub(p.max, m)), Exp(Sub(o.max, m))
	wide := func(x *Node) *Node { return widen(x, p.z.Shape().Dim(3)) }
	return partial{m, Add(Mul(p.total, mine), Mul(o.total, other)), Add(Mul(p.z, wide(mine)), Mul(o.z, wide(other)))}
}

// gradientBlockwise is gradient by tiles, given z and lse of forwardBlockwise besides.
func (a attention) gradientBlockwise(q, k, v, z, lse, dz *Node) []*Node {
	d := q.Shape().Dimensions
	arranged := func(x *Node) *Node { // [B, Q, H*D] to [B, G, R*Q, D]
		return grouped(headsFirst(Reshape(x, d...)), k.Shape().Dim(2))
	}
	b := backward{headed: a.cut(q, k, v), lse: lse, dz: arranged(ConvertDType(dz, v.DType())), grads: make(map[span]keyGradient)}
	b.mean = rowDot(b.dz, arranged(z))
	var dqs []*Node
	for _, at := range spans(0, b.own(), b.size) {
		dqs = append(dqs, b.queries(at))
	}
	dq := MulScalar(b.joinQueries(dqs), 1/math.Sqrt(float64(d[3]))) // [B, G, R*Q, D]
	var dks, dvs []*Node
	for _, r := range append(spans(0, b.own(), b.size), spans(b.own(), b.k.Shape().Dim(2), b.size)...) {
		dks, dvs = append(dks, b.grads[r].k), append(dvs, b.grads[r].v)
	}
	return a.apart(q, k, ConvertDType(dq, q.DType()), b.joinKeys(dks, b.late), b.joinKeys(dvs, 1))
}

// rowDot is the float32 sum over the last axis of the product of x and y, kept: [..., 1].
func rowDot(x, y *Node) *Node {
	return ReduceAndKeep(Mul(ConvertDType(x, dtypes.Float32), ConvertDType(y, dtypes.Float32)), ReduceSum, -1)
}

// backward is blockwise attention on its way back.
type backward struct {
	headed
	dz    *Node // [B, G, R*Q, D]
	lse   *Node // [B, G, R*Q, 1]
	mean  *Node // [B, G, R*Q, 1]: Σ dp p of every query, which is Σ dz z
	grads map[span]keyGradient
	order queue
}

// keyGradient are the gradients of a block of keys and values so far, transposed: float32 [B, G, D, k].
type keyGradient struct{ k, v *Node }

// queries goes through the tiles of a block of queries and returns its gradient [B, G, R*q, D], not yet scaled.
func (b *backward) queries(at span) (dq *Node) {
	qi, dzi := b.queryBlock(b.q, at), b.queryBlock(b.dz, at)
	lse, mean := b.queryBlock(b.lse, at), b.queryBlock(b.mean, at)
	swapped := func(x *Node) *Node { return TransposeAllAxes(x, 0, 1, 3, 2) }
	qT, dzT := swapped(qi), swapped(dzi) // [B, G, D, R*q]
	for _, from := range b.seenBy(at) {
		turn := b.order.turn()
		keys := b.keyBlock(from, turn)
		p, scale, _ := exponentials(b.scores(qi, keys.k, at, from, turn), lse)
		p = Mul(p, widen(scale, p.Shape().Dim(3))) // [B, G, R*q, k]
		dp := wideDot(dzi, keys.v, 3)
		wide := widen(behind(mean, turn), p.Shape().Dim(3))
		ds := ConvertDType(Mul(p, Sub(dp, wide)), keys.k.DType())
		dq = plus(wideDot(ds, keys.k, 2), dq)
		sum := b.grads[from]
		sum = keyGradient{plus(wideDot(qT, ds, 2), sum.k), plus(wideDot(dzT, ConvertDType(p, keys.v.DType()), 2), sum.v)}
		b.grads[from] = sum
		b.order.finish(dq, sum.k, sum.v)
	}
	return dq
}

// joinKeys joins blocks [B, G, D, k], times factor, to [B, G, K, D] in the compute dtype.
func (h headed) joinKeys(blocks []*Node, factor float64) *Node {
	joined := Concatenate(blocks, 3)
	if factor != 1 {
		joined = MulScalar(joined, factor)
	}
	return ConvertDType(TransposeAllAxes(joined, 0, 1, 3, 2), h.k.DType())
}
