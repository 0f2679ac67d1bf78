package llama

import "github.com/gomlx/gomlx/core/graph"

// buildRecompute is the backward pass of a layer of which only the input x [B, S, M] was kept: it runs the block again
// and differentiates it on what that leaves, in one graph. Of the block only what the stages' gradients read is run:
// the last product, for one, is dead. The nodes are those of the forward pass, so the gradients have the same bits as
// those of a layer that kept everything, on a backend that computes equal graphs equally; the Go backend does.
func (s *Stream) buildRecompute(layer int, k kind) func(in *inputs) []*graph.Node {
	e, extras := s.engine, s.extras(layer)
	return func(in *inputs) []*graph.Node {
		x, cot := in.next(), cotangents{dy: in.next()}
		a := readAttention(in, k)
		if k.exports {
			cot.dk, cot.dv = readReturned(in, k, e.likeKeys(x))
		}
		b := e.block(in, extras)
		again := *b // no gradient passes through it, so it may take the layouts of a forward pass
		again.forwardOnly, again.uses = true, make(map[string][]use)
		_, keep := again.forward(x, a, a.last)
		return gradientOutputs(k, b, keep, a, cot)
	}
}
