package llama

import (
	"fmt"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
)

// An insertion in place leaves as many keys as there are tokens, each where its token stands, so that the causal mask is
// all that attention needs.

// replacement says which moved state takes the place of which own token.
type replacement struct {
	place  *Node // [B, S] int32: where in own and moved states, S+I a row, the one for each token is
	target *Node // [B, I, 1] int32: flat index of the token whose place it takes; -1 for padding
}

// prepareReplacement uploads what readReplacement reads.
func (s *Stream) prepareReplacement(seq Sequences) error {
	ins := s.options.Insertion
	place, target := make([]int32, s.rows*s.length), make([]int32, s.rows*ins.Count)
	for i := range place {
		place[i] = int32(i % s.length)
	}
	for i := range target {
		if target[i] = -1; !ins.Valid[i] {
			continue
		}
		row, at := i/ins.Count, int(ins.Position[i])
		to := row*s.length + at
		if at < 0 || at >= s.length || seq.Branch[to] != 0 || seq.Position[to] != ins.Position[i] || place[to] != int32(at) {
			return fmt.Errorf("insertion in place: state %d of row %d has position %d, where no token or another state stands",
				i%ins.Count, row, ins.Position[i])
		}
		place[to], target[i] = int32(s.length+i%ins.Count), int32(to)
	}
	var err error
	if s.place, err = s.engine.int32s(place, s.rows, s.length); err != nil {
		return err
	}
	s.target, err = s.engine.int32s(target, s.rows, ins.Count, 1)
	return err
}

// merge puts moved states [B, I, G, D] in their places among own [B, S, G, D].
func (r replacement) merge(own, moved *Node) *Node {
	all := Concatenate([]*Node{own, moved}, 1) // [B, S+I, G, D]
	d := all.Shape().Dimensions
	begin := MulScalar(Iota(own.Graph(), shapes.Make(dtypes.Int32, d[0], own.Shape().Dim(1)), 0), d[1])
	return Gather(Reshape(all, d[0]*d[1], d[2], d[3]), InsertAxes(Add(begin, r.place), -1)) // at [B, S, 1] of [B*(S+I), G, D]
}

// split is the gradient of merge: that of the merged states, for own and moved ones.
func (r replacement) split(d *Node) (own, moved *Node) {
	zero := ScalarZero(d.Graph(), d.DType())
	stays := LessThan(r.place, Scalar(d.Graph(), dtypes.Int32, d.Shape().Dim(1))) // [B, S]
	none := ScalarZero(d.Graph(), dtypes.Int32)
	moves := GreaterOrEqual(r.target, none) // [B, I, 1]
	full := func(mask, like *Node) *Node {  // [B, n] to [B, n, G, D]
		return BroadcastToShape(InsertAxes(mask, -1, -1), shapes.Make(dtypes.Bool, like.Shape().Dimensions...))
	}
	own = Where(full(stays, d), d, zero)
	moved = takePositions(d, Max(r.target, none))
	return own, Where(full(Squeeze(moves, -1), moved), moved, zero) // by [B, I]
}
