package llama

import (
	"gotransplant/internal/panel"

	"github.com/gomlx/compute/dtypes"
)

// bytes are those of all weights.
func (m *panelModel) bytes() int64 {
	total := m.embedding.Bytes() + 4*int64(len(m.finalNorm))
	if m.head != m.embedding {
		total += m.head.Bytes()
	}
	for _, b := range m.layers {
		total += 4 * int64(len(b.attention)+len(b.feed))
		for _, w := range b.projections {
			total += w.Bytes()
		}
	}
	return total
}

// Bytes is the memory that the factors take.
func (l *LowRank) Bytes() int64 { return l.A.Bytes() + l.B.Bytes() + l.Gain.bytes() }

// PanelNeeds are the bytes that a stream computed on panels holds.
type PanelNeeds struct {
	Tables        int64 // rotary tables
	Residual      int64 // the residual stream
	Kept          int64 // by a layer for its backward pass, its input included
	KeptLast      int64 // by the last layer, of which one position a row goes on
	Rotated       int64 // of what is moved in: a layer's keys, turned to their places
	Moved         int64 // of what is moved out: a layer's keys and values
	Forward       int64 // by a layer until it has run, beside what it keeps; its output included
	Again         int64 // by a layer that runs again on its way back, what it would have kept included
	Backward      int64 // by a layer on its way back, beside what it kept and the gradient of the stream
	ForwardKeys   int64 // by a layer of which keys and values alone are computed
	BackwardInput int64 // by such a layer on its way back
	Score         int64 // by the head
}

// PanelShape is what a stream computed on panels is as large as: Rows sequences of up to Length tokens, behind a prefix of
// Prefix tokens, each of which may take in MovedIn states and hand over MovedOut.
type PanelShape struct{ Rows, Length, Prefix, MovedIn, MovedOut int }

// narrowBytes and wideBytes are those of a matrix that a stream borrows, in float32 and in float64.
func narrowBytes(height, columns int) int64 { return 4 * int64(capacity(height*columns)) }
func wideBytes(height, columns int) int64   { return 8 * int64(capacity(height*columns)) }

// operandBytes are those of what a product reads, beside the matrix itself.
func (e *Engine) operandBytes(height, columns int) int64 {
	switch {
	case e.Options.Compute != dtypes.BFloat16:
		return 0
	case panel.HalfAvailable():
		return 2 * int64(capacity(height*columns))
	}
	return narrowBytes(height, columns)
}

// PanelNeeds counts what the functions of panel_stream.go, panel_gradient.go and panel_head.go borrow. What is borrowed in
// a call is given back at its end. What additions to projections have them borrow is told by ExtraNeeds.
func (e *Engine) PanelNeeds(p PanelShape) PanelNeeds {
	c := e.Weights.Config
	columns := func(n int) int { return p.Rows * panelsOf(n) * panel.Lanes }
	narrow, wide, operand := narrowBytes, wideBytes, e.operandBytes
	width, feed := c.HiddenSize, c.IntermediateSize
	queries, keys := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	own, in, out, last := columns(p.Length), columns(p.MovedIn), columns(p.MovedOut), columns(1)
	before := panelsOf(p.Prefix) * panel.Lanes

	stream, pair := wide(width, own), 2*narrow(keys, own) // x; k and v
	norm := func(n int) int64 { return narrow(width, n) + operand(width, n) }
	reader := func(n int) int64 { // mid, q, z, gate, up, and the softmax's maximum and inverse
		return wide(width, n) + 2*narrow(queries, n) + 2*narrow(feed, n) + 2*narrow(c.NumAttentionHeads, n)
	}
	rounded := int64(0)
	if panel.CanRound(c.HeadDim) {
		rounded = 4 * operand(keys, own+before+in) // what attention in bfloat16 reads
	}
	run := norm(own) + operand(queries, own) + rounded + narrow(width, own) + norm(own) + narrow(feed, own) + operand(feed, own)
	spread := int64(0)
	if p.MovedOut > 0 {
		spread = pair
	}
	grouped := 2 * narrow(c.NumKeyValueHeads*panel.Padded(c.HeadDim), own+p.Rows*before+in) // dk and dv by key
	return PanelNeeds{
		Tables: 2 * (narrow(c.HeadDim/2, own) + narrow(c.HeadDim/2, in)), Residual: stream,
		Kept: stream + pair + reader(own), KeptLast: stream + pair + wide(width, last) + reader(last),
		Rotated: narrow(keys, in), Moved: 2 * narrow(keys, out),
		Forward: run + stream + narrow(width, own), Again: run + pair + reader(own),
		Backward: 2*norm(own) + narrow(feed, own) + norm(own) + 2*operand(feed, own) + // dy, dMid, dh, the norm again
			2*narrow(queries, own) + operand(queries, own) + pair + operand(2*keys, own) + rounded + grouped + 2*narrow(keys, in) + 8*int64(keys*before) +
			spread + norm(own) + narrow(width, own),
		ForwardKeys:   norm(own) + pair,
		BackwardInput: spread + operand(2*keys, own) + norm(own) + narrow(width, own) + stream,
		Score:         narrow(c.VocabSize, last) + 2*wide(width, last) + 2*norm(last) + stream + 12*int64(c.VocabSize),
	}
}

// ExtraNeeds are the bytes that additions to a layer's projections have it borrow on its way back, beside PanelNeeds, for
// rows sequences of up to length tokens: for a whole layer, and for one of which keys and values alone were computed. What is
// only as high as their rank is left out.
func (e *Engine) ExtraNeeds(extras map[string]Extra, rows, length int) (whole, keys int64) {
	columns := rows * panelsOf(length) * panel.Lanes
	for proj, x := range extras {
		if x.LowRank == nil {
			continue
		}
		switch in := x.LowRank.A.In; proj { // of other projections the input is there without an addition too
		case "down_proj":
			whole += narrowBytes(in, columns) + e.operandBytes(in, columns)
		case "o_proj":
			whole += e.operandBytes(in, columns)
		}
		w, k := x.LowRank.gainNeeds(proj, columns)
		whole, keys = whole+w, keys+k
	}
	return whole, keys
}
