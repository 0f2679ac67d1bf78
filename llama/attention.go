package llama

import (
	"math"

	"gotransplant/internal/matmul"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
)

// attention holds what a block's attention needs besides q, k and v. inserted is nil where nothing is moved in.
type attention struct {
	cos, sin *Node // [B, K, D/2] float32, at the positions of the own keys, then of the prefix's, then of the inserted ones
	mask     *Node // [B, Q, K] float32: 0 where the query may look, hidden elsewhere
	last     *Node // nil, or [B, 1, 1] flat index of the only query position
	inserted *inserted
	tiles    *tiles // in place of mask where attention is blockwise
	fused    bool
	// replacement, when not nil, says that inserted states take own tokens' places instead of standing behind them.
	replacement *replacement
}

// inserted are keys and values of another stream, [B, I, G, D] before rotation.
type inserted struct{ k, v *Node }

// hidden is added to the score of a key that must not be seen. Finite, so that a query that sees no key, as padding may,
// gets a harmless average and not a NaN.
const hidden = -1e30

// places are the vectors from which masks are made: a query sees a key when the key's position is not later and its
// branch is the trunk (0) or the query's own. Padding has the branch -1, so that no token sees it but other padding.
type places struct {
	position, branch *Node // [B, n] int32
}

// sees gives the additive mask [B, Q, K] float32 of queries q over keys k.
func sees(q, k places) *Node {
	row := func(x *Node) *Node { return InsertAxes(x, -1) } // [B, Q, 1]
	col := func(x *Node) *Node { return InsertAxes(x, 1) }  // [B, 1, K]
	g := q.position.Graph()
	zero := ScalarZero(g, dtypes.Int32)
	trunk := Equal(k.branch, zero)
	same := LogicalOr(col(trunk), Equal(col(k.branch), row(q.branch)))
	seen := LogicalAnd(same, LessOrEqual(col(k.position), row(q.position)))
	return Where(seen, ScalarZero(g, dtypes.Float32), Scalar(g, dtypes.Float32, hidden))
}

// rotaryTables gives cos and sin [B, n, D/2] float32 for positions [B, n] int32 (RoFormer, Su et al. 2021). The angle
// is computed in float64: a float32 angle at position 2000 is already wrong in the fourth digit of its cosine.
func rotaryTables(position *Node, inverseFrequencies []float64) (cos, sin *Node) {
	g := position.Graph()
	frequency := InsertAxes(Const(g, inverseFrequencies), 0, 0) // [1, 1, D/2]
	angle := Mul(InsertAxes(ConvertDType(position, dtypes.Float64), -1), frequency)
	return ConvertDType(Cos(angle), dtypes.Float32), ConvertDType(Sin(angle), dtypes.Float32)
}

// rotate turns x [B, n, heads, D] by cos and sin [B, n, D/2], dimension i paired with i + D/2 (Hugging Face's layout).
func rotate(x, cos, sin *Node) *Node {
	heads, half := x.Shape().Dim(2), x.Shape().Dim(3)/2
	c := repeat(InsertAxes(ConvertDType(cos, dtypes.Float32), 2), 2, heads) // [B, n, 1 or heads, D/2]
	s := repeat(InsertAxes(ConvertDType(sin, dtypes.Float32), 2), 2, heads)
	wide := ConvertDType(x, dtypes.Float32)
	first := SliceAxis(wide, 3, AxisRange(0, half))
	second := SliceAxis(wide, 3, AxisRange(half))
	turned := Concatenate([]*Node{Sub(Mul(first, c), Mul(second, s)), Add(Mul(second, c), Mul(first, s))}, 3)
	return ConvertDType(turned, x.DType())
}

// tables are cos and sin for queries, [B, Q, D/2], and for keys, [B, K, D/2]; positions is the number of own keys.
func (a attention) tables(positions int) (qCos, qSin, kCos, kSin *Node) {
	own := func(table *Node) *Node {
		switch {
		case a.last != nil:
			return takeRows(SliceAxis(table, 1, AxisRange(0, positions)), a.last)
		case a.inserted != nil:
			return SliceAxis(table, 1, AxisRange(0, positions))
		}
		return table
	}
	return own(a.cos), own(a.sin), a.cos, a.sin
}

// arrange joins own and inserted keys and values, rotates, and lays heads out for two plain matrix products:
// q [B, G, R*Q, D], k and v [B, G, K, D]. Grouped heads share their keys without copies.
func (a attention) arrange(q, k, v *Node) (qr, kr, vr *Node) {
	qCos, qSin, kCos, kSin := a.tables(k.Shape().Dim(1))
	if a.inserted != nil {
		k = Concatenate([]*Node{k, a.inserted.k}, 1) // [B, K, G, D]
		v = Concatenate([]*Node{v, a.inserted.v}, 1)
	}
	qr = grouped(headsFirst(rotate(q, qCos, qSin)), k.Shape().Dim(2))
	return qr, headsFirst(rotate(k, kCos, kSin)), headsFirst(v)
}

// grouped joins the R heads of a group: [B, H, Q, D] as [B, G, R*Q, D].
func grouped(x *Node, groups int) *Node {
	return Reshape(x, x.Shape().Dim(0), groups, -1, x.Shape().Dim(3))
}

// takePositions picks states [B, S, G, D] at the flat indices source [B, I, 1]: [B, I, G, D]. A nil source takes all.
func takePositions(states, source *Node) *Node {
	if source == nil {
		return states
	}
	s := states.Shape()
	return Gather(Reshape(states, s.Dim(0)*s.Dim(1), s.Dim(2), s.Dim(3)), source) // of [B*S, G, D]
}

// batchDot multiplies l and r, both [B, G, ...], contracting the last axis of l with the given one of r.
func batchDot(l, r *Node, axis int) *Node {
	return settled(matmul.Of(l, r).General([]int{3}, []int{0, 1}, []int{axis}, []int{0, 1}))
}

// weights are the softmax of the scaled scores, float32 [B, G, R*Q, K].
func (a attention) weights(qr, kr *Node) *Node {
	scores := matmul.Of(qr, kr).WithOutputDType(dtypes.Float32).General([]int{3}, []int{0, 1}, []int{3}, []int{0, 1})
	scores = MulScalar(settled(scores), 1/math.Sqrt(float64(qr.Shape().Dim(3)))) // [B, G, R*Q, K]
	dims := scores.Shape().Dimensions
	mask := a.mask // [B, S, K]
	if a.last != nil && mask.Shape().Dim(1) > 1 {
		mask = takeRows(mask, a.last) // [B, 1, K]
	}
	queries := mask.Shape().Dim(1)
	heads := dims[1] * dims[2] / queries
	split := Reshape(scores, dims[0], heads, queries, dims[3])                              // [B, H, Q, K]
	return Reshape(Softmax(Add(split, repeat(InsertAxes(mask, 1), 1, heads)), -1), dims...) // [B, G, R*Q, K]
}

// forward is softmax(q kᵀ / sqrt(D)) v with rotation: q [B, Q, H, D], k and v [B, S, G, D] -> [B, Q, H*D].
func (a attention) forward(q, k, v *Node) *Node {
	qr, kr, vr := a.arrange(q, k, v)
	p := ConvertDType(a.weights(qr, kr), vr.DType())
	z := batchDot(p, vr, 2) // [B, G, R*Q, D]
	batch, queries, heads, dim := q.Shape().Dim(0), q.Shape().Dim(1), q.Shape().Dim(2), q.Shape().Dim(3)
	return Reshape(headsLast(Reshape(z, batch, heads, queries, dim)), batch, queries, heads*dim) // [B, Q, H*D]
}

// gradient returns the cotangents of q, k, v and, when something is inserted, of the other stream's keys and values,
// given dz [B, Q, H*D]. The softmax is differentiated by hand: with p the weights and dp = dz vᵀ, ds = p (dp - Σ dp p).
// Σ dp p equals Σ dz z over the head dimension, which is cheaper (FlashAttention, Dao et al. 2022, appendix B.2), but the
// rounding of dp cancels only in the sum over dp itself, and the gradients of q and k live on what is left.
//
// The gradients of k and v are computed transposed, because that needs no transposition of anything of size Q times K.
func (a attention) gradient(q, k, v, dz *Node) []*Node {
	qr, kr, vr := a.arrange(q, k, v)
	batch, queries, heads, dim := q.Shape().Dim(0), q.Shape().Dim(1), q.Shape().Dim(2), q.Shape().Dim(3)
	groups := vr.Shape().Dim(1)
	swapped := func(x *Node) *Node { return TransposeAllAxes(x, 0, 1, 3, 2) }
	dzr := grouped(headsFirst(Reshape(dz, batch, queries, heads, dim)), groups) // [B, G, R*Q, D]
	p := a.weights(qr, kr)                                                      // [B, G, R*Q, K]
	dv := swapped(batchDot(swapped(dzr), ConvertDType(p, dz.DType()), 2))       // [B, G, K, D]
	dp := ConvertDType(batchDot(dzr, vr, 3), dtypes.Float32)                    // [B, G, R*Q, K]
	mean := widen(ReduceAndKeep(Mul(dp, p), ReduceSum, -1), p.Shape().Dim(3))
	ds := ConvertDType(MulScalar(Mul(p, Sub(dp, mean)), 1/math.Sqrt(float64(dim))), qr.DType())
	dq := batchDot(ds, kr, 2)                   // [B, G, R*Q, D]
	dk := swapped(batchDot(swapped(qr), ds, 2)) // [B, G, K, D]
	return a.apart(q, k, dq, dk, dv)
}

// apart turns the gradients of what arrange made into those of what it was made from. A rotation is undone by its
// inverse.
func (a attention) apart(q, k, dq, dk, dv *Node) []*Node {
	batch, queries, heads, dim := q.Shape().Dim(0), q.Shape().Dim(1), q.Shape().Dim(2), q.Shape().Dim(3)
	own := k.Shape().Dim(1)
	qCos, qSin, kCos, kSin := a.tables(own)
	dq = rotate(headsLast(Reshape(dq, batch, heads, queries, dim)), qCos, Neg(qSin)) // [B, Q, H, D]
	dk, dv = rotate(headsLast(dk), kCos, Neg(kSin)), headsLast(dv)                   // [B, K, G, D]
	if a.inserted == nil {
		return []*Node{dq, dk, dv}
	}
	part := func(x *Node, r SliceAxisSpec) *Node { return SliceAxis(x, 1, r) }
	mine, moved := AxisRange(0, own), AxisRange(own)
	return []*Node{dq, part(dk, mine), part(dv, mine), part(dk, moved), part(dv, moved)}
}

// pullBack is the vector-Jacobian product of ys with cotangents dys, with respect to each of wrt: GoMLX differentiates
// scalars only, and the gradient of Σ y·dy, dy held constant, is just that. The sum itself is never computed.
func pullBack(ys, dys, wrt []*Node) []*Node {
	var total *Node
	for i, y := range ys {
		term := ConvertDType(ReduceAllSum(Mul(y, StopGradient(ConvertDType(dys[i], y.DType())))), dtypes.Float64)
		if total == nil {
			total = term
		} else {
			total = Add(total, term)
		}
	}
	return Gradient(total, wrt...)
}
