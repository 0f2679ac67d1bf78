package llama

import (
	"fmt"
	"testing"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// TestBlockRunAgain: running a block again takes its products once more and nothing else: the base's gradients have no part
// in what was run again, nor have those of an overlay that is given the outputs.
func TestBlockRunAgain(t *testing.T) {
	c := smallConfig(false)
	values := randomValues(c)
	for _, trainBase := range []bool{true, false} {
		w, err := NewWeights(goBackend(t), c, func(name string, _ []int) []float32 { return values[name] })
		if err != nil {
			t.Fatal(err)
		}
		e, err := NewEngine(w, Options{Compute: dtypes.Float32, Residual: dtypes.Float64, TrainBase: trainBase})
		if err != nil {
			t.Fatal(err)
		}
		o, ofLast := StreamOptions{Keep: true}, 1 // whose outcome nobody reads on the way back
		if !trainBase {
			o.Overlay, ofLast = overlayOf(t, e, gainedChanges(e, "")), 3
		}
		forward, backward := passesOfLayer(t, e, o)
		o.Remat = true
		_, again := passesOfLayer(t, e, o)
		if want := forward + backward - ofLast; again > want || forward <= ofLast {
			t.Errorf("train base %t: %d products where the block is run again, %d forward and %d back where it is not; want at most %d",
				trainBase, again, forward, backward, want)
		}
	}
}

// passesOfLayer counts the products of layer 0's passes.
func passesOfLayer(t *testing.T, e *Engine, o StreamOptions) (forward, backward int) {
	t.Helper()
	seq, _ := batch(e.Weights.Config)
	s, err := e.NewStream(seq, o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	x := s.x
	shared := append(s.attentionArgs(0), s.layerArgs(0)...)
	k := s.kind(ForwardPass, 0)
	k.keep = !o.Remat
	forward = products(e, s.buildForward(0, k), append([]*tensors.Tensor{x}, shared...))
	if _, err := s.Forward(0, nil, false); err != nil {
		t.Fatal(err)
	}
	k = s.kind(BackwardPass, 0)
	k.toInput = true
	if o.Remat {
		return forward, products(e, s.buildRecompute(0, k), append([]*tensors.Tensor{x, x}, shared...)) // dy is like x
	}
	l := s.layers[0]
	kept := []*tensors.Tensor{l.x, l.q, l.z, l.mid, l.gate, l.up, l.k, l.v, x}
	return forward, products(e, s.buildBackward(0, k), append(kept, shared...))
}

// products counts those in a graph that its outputs need.
func products(e *Engine, build func(in *inputs) []*Node, args []*tensors.Tensor) (n int) {
	g, in := NewGraph(e.backend, "products"), &inputs{}
	for i, a := range args {
		in.nodes = append(in.nodes, Parameter(g, fmt.Sprint(i), a.Shape()))
	}
	seen := make(map[*Node]bool)
	var visit func(x *Node)
	visit = func(x *Node) {
		if seen[x] {
			return
		}
		seen[x] = true
		if x.Type() == NodeTypeDotGeneral {
			n++
		}
		for _, input := range x.Inputs() {
			visit(input)
		}
	}
	for _, y := range build(in) {
		visit(y)
	}
	return n
}
