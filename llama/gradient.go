package llama

import (
	"slices"

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
// [B, S, M], the gradients of the inserted keys and values (none when nothing is inserted) and those of b.trainable in
// the order of blockParts.
func (b *block) backward(keep kept, a attention, cot cotangents) (dx *Node, dInserted, dParams []*Node) {
	// down: silu(gate) * up, down_proj
	wrt := append([]*Node{keep.gate, keep.up}, b.params(downParts)...)
	grads := pullBack([]*Node{b.down(keep.gate, keep.up)}, []*Node{flat(cot.dy)}, wrt)
	dGate, dUp, dDown := grads[0], grads[1], grads[2:]

	// gate and up
	gate, up := b.gateUp(keep.mid)
	wrt = append([]*Node{keep.mid}, b.params(gateUpParts)...)
	grads = pullBack([]*Node{gate, up}, []*Node{dGate, dUp}, wrt)
	dMid, dGateUp := Add(cot.dy, grads[0]), grads[1:]

	// o_proj
	wrt = append([]*Node{keep.z}, b.params(attentionOutParts)...)
	grads = pullBack([]*Node{b.attentionOut(keep.z)}, []*Node{dMid}, wrt)
	dz, dOut := grads[0], grads[1:]

	// attention
	grads = a.gradient(keep.q, keep.k, keep.v, dz)
	dq, dk, dv, dInserted := grads[0], plus(grads[1], cot.dk), plus(grads[2], cot.dv), grads[3:]

	// q, k, v
	dx, dIn := b.backwardIn(keep.x, a.last, []*Node{dq, dk, dv, dMid})
	return dx, dInserted, slices.Concat(dIn, dOut, dGateUp, dDown)
}

// backwardIn is the stage norm and q, k, v, together with the residual connection past the attention: cotangents dq,
// dk, dv and dMid.
func (b *block) backwardIn(x, last *Node, cots []*Node) (dx *Node, dParams []*Node) {
	k, v := b.keysValues(x)
	wrt := append([]*Node{x}, b.params(attentionInParts)...)
	if last == nil {
		grads := pullBack([]*Node{b.queries(x), k, v}, cots[:3], wrt)
		return Add(grads[0], cots[3]), grads[1:]
	}
	xq := takeRows(x, last) // queries and the residual stream pass this position alone
	grads := pullBack([]*Node{b.queries(xq), k, v, xq}, cots, wrt)
	return grads[0], grads[1:]
}

// backwardKeysValues is the backward pass of a block of which only k and v were used: x [B, S, M] gives dx and the
// gradients of b.trainable in the order of blockParts; those of parts that were not used are zeros.
func (b *block) backwardKeysValues(x *Node, cot cotangents) (dx *Node, dParams []*Node) {
	k, v := b.keysValues(x)
	grads := pullBack([]*Node{k, v}, []*Node{cot.dk, cot.dv}, append([]*Node{x}, b.params(blockParts)...))
	return grads[0], grads[1:]
}

// params are the trainable nodes of the given parts.
func (b *block) params(parts []string) []*Node {
	var all []*Node
	for _, part := range parts {
		all = append(all, b.trainable[part]...)
	}
	return all
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
