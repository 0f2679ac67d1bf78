package llama

import (
	"fmt"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// captureKey names what a layer's executable hands out beside its output; "" is nothing.
func (s *Stream) captureKey(layer int) string {
	key := ""
	for _, info := range s.options.Capture.in(layer) {
		key += string(info.Site) + " "
	}
	return key
}

// prepareCapture uploads the tokens to capture, [N, 1] flat indices. Their number is rounded up, for which the first
// stands in again, since every number is a graph of its own.
func (s *Stream) prepareCapture() (err error) {
	if c := s.options.Capture; c != nil {
		s.captured, err = s.engine.positions(c.Source)
	}
	return err
}

// positions are flat indices [N, 1], N being at least their number.
func (e *Engine) positions(source []int32) (*tensors.Tensor, error) {
	n := 1
	for n < len(source) {
		n *= 2
	}
	padded := append(make([]int32, 0, n), source...)
	for len(padded) < n {
		padded = append(padded, source[0])
	}
	return e.int32s(padded, n, 1)
}

// readNodes are the states of sites at the tokens source [N, 1]: [N, width] each, in float32 but for the residual stream.
// node gives what a site names.
func readNodes(sites []SiteInfo, source *Node, node func(Site) *Node) []*Node {
	out := make([]*Node, len(sites))
	for i, info := range sites {
		y, x := node(SiteResidPost), node(info.Site)
		if !info.Residual {
			x = ConvertDType(x, dtypes.Float32)
		}
		tokens := y.Shape().Dim(0) * y.Shape().Dim(1)   // B*S: all positions go on, see Capture.check
		out[i] = Gather(Reshape(x, tokens, -1), source) // [N, width]
	}
	return out
}

// siteNode is what a site names in the block's graph.
func siteNode(site Site, y *Node, keep kept, a attention) *Node {
	switch site {
	case SiteResidPre:
		return keep.x
	case SiteK:
		return keep.k
	case SiteV:
		return keep.v
	case SiteKRot:
		own := func(table *Node) *Node { return SliceAxis(table, 1, AxisRange(0, keep.k.Shape().Dim(1))) }
		return rotate(keep.k, own(a.cos), own(a.sin))
	case SiteQ:
		return keep.q
	case SiteZ:
		return keep.z
	case SiteAttnOut:
		return keep.attn
	case SiteResidMid:
		return keep.mid
	case SiteMLPOut:
		return keep.mlp
	default: // SiteResidPost
		return y
	}
}

// handCaptured reads the states of a layer from its executable's last outputs, frees them and hands them out.
func (s *Stream) handCaptured(layer int, out []*tensors.Tensor) error {
	defer free(out...)
	for i, info := range s.options.Capture.in(layer) {
		state := State{Site: info.Site, Layer: layer, Count: len(s.options.Capture.Source), Width: out[i].Shape().Dim(1)}
		n := state.Count * state.Width
		if out[i].DType() == dtypes.Float64 {
			all, err := tensors.CopyFlatData[float64](out[i])
			if err != nil {
				return err
			}
			state.Wide = all[:n]
		} else {
			all, err := tensors.CopyFlatData[float32](out[i])
			if err != nil {
				return err
			}
			state.Narrow = all[:n]
		}
		if err := s.hand(state); err != nil {
			return err
		}
	}
	return nil
}

// graphLogitsAt are the logits of tokens, row-major.
func (s *Stream) graphLogitsAt(source []int32) ([]float32, error) {
	e := s.engine
	at, err := e.positions(source)
	if err != nil {
		return nil, err
	}
	defer free(at)
	_, head := e.Weights.head()
	out, err := s.run(ScorePass, "logits of some", func(in *inputs) []*Node {
		x, at, gain, head := in.next(), in.next(), in.next(), in.next()
		rows := Gather(Reshape(x, -1, x.Shape().Dim(2)), at) // [N, M]
		return []*Node{e.logits(InsertAxes(rows, 0), gain, head)}
	}, s.x, at, e.Weights.tensors[finalNormName], head)
	if err != nil {
		return nil, fmt.Errorf("logits: %w", err)
	}
	defer free(out...)
	all, err := tensors.CopyFlatData[float32](out[0])
	if err != nil {
		return nil, err
	}
	return all[:len(source)*e.Weights.Config.VocabSize], nil
}
