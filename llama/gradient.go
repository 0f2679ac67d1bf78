package llama

import (
	"slices"

	"gotransplant/internal/matmul"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
)

// cotangents are what flows back into a block: dy of its output and, for a stream whose keys and values were moved
// elsewhere, what came back for them.
type cotangents struct {
	dy     *Node // [B, Q, M] residual dtype
	dk, dv *Node // nil, or [B, S, G, D]
}

// backward differentiates the block stage by stage, each on its own kept inputs, so that the forward products inside
// these gradients are dead code: with a frozen base the backward pass of y = xW needs neither x nor y. It returns dx
// [B, S, M], the gradients of the inserted keys and values (none when nothing is inserted) and those of what is trained,
// in the order of blockParts.
func (b *block) backward(keep kept, a attention, cot cotangents) (dx *Node, dInserted, dParams []*Node) {
	b.made = b.outputs(keep, a.last)

	// down: silu(gate) * up, down_proj
	grads, dDown := b.pullBack([]*Node{b.down(keep.gate, keep.up)}, []*Node{flat(cot.dy)},
		[]*Node{keep.gate, keep.up}, downParts)
	dGate, dUp := grads[0], grads[1]

	// gate and up
	gate, up := b.gateUp(keep.mid)
	grads, dGateUp := b.pullBack([]*Node{gate, up}, []*Node{dGate, dUp}, []*Node{keep.mid}, gateUpParts)
	dMid := Add(cot.dy, grads[0])

	// o_proj
	grads, dOut := b.pullBack([]*Node{b.attentionOut(keep.z)}, []*Node{dMid}, []*Node{keep.z}, attentionOutParts)

	// attention
	grads = a.differentiate(keep, grads[0])
	dq, dk, dv, dInserted := grads[0], plus(grads[1], cot.dk), plus(grads[2], cot.dv), grads[3:]

	// q, k, v
	dx, dIn := b.backwardIn(keep.x, a.last, []*Node{dq, dk, dv, dMid})
	return dx, dInserted, slices.Concat(dIn, dOut, dGateUp, dDown)
}

// outputs are those of the projections that the forward pass has kept, each [N, out]. That of o_proj is what it added to
// the residual stream, which only float64 holds to its last digit; that of down_proj is gone.
func (b *block) outputs(keep kept, last *Node) map[string]*Node {
	rows := func(x *Node) *Node { // [B, S, heads, D] -> [B*S, heads*D]
		return Reshape(x, -1, x.Shape().Dim(2)*x.Shape().Dim(3))
	}
	made := map[string]*Node{"q_proj": rows(keep.q), "k_proj": rows(keep.k), "v_proj": rows(keep.v),
		"gate_proj": keep.gate, "up_proj": keep.up}
	if keep.mid.DType() == dtypes.Float64 {
		xq := keep.x
		if last != nil {
			xq = takeRows(xq, last)
		}
		made["o_proj"] = ConvertDType(flat(Sub(keep.mid, xq)), dtypes.Float32)
	}
	return made
}

// backwardIn is the stage norm and q, k, v, together with the residual connection past the attention: cotangents dq,
// dk, dv and dMid.
func (b *block) backwardIn(x, last *Node, cots []*Node) (dx *Node, dParams []*Node) {
	if last == nil {
		q := b.queries(x)
		k, v := b.keysValues(x)
		grads, dParams := b.pullBack([]*Node{q, k, v}, cots[:3], []*Node{x}, attentionInParts)
		return Add(grads[0], cots[3]), dParams
	}
	xq := takeRows(x, last) // queries and the residual stream pass this position alone
	q := b.queries(xq)
	k, v := b.keysValues(x)
	grads, dParams := b.pullBack([]*Node{q, k, v, xq}, cots, []*Node{x}, attentionInParts)
	return grads[0], dParams
}

// backwardKeysValues is the backward pass of a block of which only k and v were used: x [B, S, M] gives dx and the
// gradients of what is trained in the order of blockParts; those of parts that were not used are zeros.
func (b *block) backwardKeysValues(x *Node, cot cotangents) (dx *Node, dParams []*Node) {
	k, v := b.keysValues(x)
	grads, dParams := b.pullBack([]*Node{k, v}, []*Node{cot.dk, cot.dv}, []*Node{x}, blockParts)
	return grads[0], dParams
}

// pullBack is the vector-Jacobian product of a stage: ys, just built, with cotangents dys, by the stage's inputs and by
// what is trained of its parts. A weight's gradient is made from the cotangent of the product it is used in.
func (b *block) pullBack(ys, dys, inputs []*Node, parts []string) (dInputs, dParams []*Node) {
	wrt := slices.Clone(inputs)
	for _, part := range parts {
		if b.trainBase {
			for _, u := range b.uses[part] {
				wrt = append(wrt, u.y)
			}
		}
		wrt = append(wrt, b.extras[part].values...)
	}
	grads := pullBack(ys, dys, wrt)
	dInputs, grads = grads[:len(inputs)], grads[len(inputs):]
	for _, part := range parts {
		if b.trainBase {
			w, uses := b.weights[part], b.uses[part]
			dw := ZerosLike(w)
			for i, u := range uses {
				dw = Add(dw, u.weightGradient(w, grads[i]))
			}
			dParams, grads = append(dParams, dw), grads[len(uses):]
		}
		extras := len(b.extras[part].values)
		dParams, grads = append(dParams, grads[:extras]...), grads[extras:]
	}
	return dInputs, dParams
}

// weightGradient is dyᵀ x for a projection w [out, in], the column sums of dy x for a norm's gain w [M]. Of x and dy
// the narrower one is transposed: transposing is what costs.
func (u use) weightGradient(w, dy *Node) *Node {
	var dw *Node
	dy = ConvertDType(dy, u.x.DType())
	switch {
	case w.Rank() == 1:
		product := Mul(dy, u.x)
		dw = Reshape(matmul.Of(Ones(w.Graph(), shapes.Make(dy.DType(), 1, dy.Shape().Dim(0))), product).Product(), -1)
	case u.x.Shape().Dim(1) <= dy.Shape().Dim(1):
		dw = Transpose(matmul.Of(Transpose(u.x, 0, 1), dy).Product(), 0, 1)
	default:
		dw = matmul.Of(Transpose(dy, 0, 1), u.x).Product()
	}
	return ConvertDType(settled(dw), w.DType())
}

// flat reshapes [B, Q, M] to [B*Q, M].
func flat(y *Node) *Node { return Reshape(y, -1, y.Shape().Dim(2)) }

// plus adds an optional term.
func plus(y, extra *Node) *Node {
	if extra == nil {
		return y
	}
	return Add(y, extra)
}
