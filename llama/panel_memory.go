package llama

import "gotransplant/internal/panel"

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
func (l *LowRank) Bytes() int64 { return l.A.Bytes() + l.B.Bytes() }

// PanelNeeds are the bytes that a stream computed on panels holds, for as many positions as it has.
type PanelNeeds struct {
	Tables        int64 // rotary tables
	Residual      int64 // the residual stream
	Kept          int64 // by a layer for its backward pass, its input included
	KeptLast      int64 // by the last layer, of which one position a row goes on
	Rotated       int64 // of what is moved in: a layer's keys, turned to their places
	Moved         int64 // of what is moved out: a layer's keys and values
	Forward       int64 // by a layer while it runs, beside what it keeps
	Score         int64 // by the head
	Backward      int64 // by a layer on the way back, beside the gradient of the stream
	BackwardInput int64 // by a layer of which keys and values alone were used
}

// PanelNeeds counts what the functions of panel_stream.go and panel_gradient.go allocate for rows sequences of up to
// length tokens; movedIn and movedOut are the states that each may take in or hand over. Go's collector frees what is no
// longer reachable when it comes to it; garbage is not counted.
func (e *Engine) PanelNeeds(rows, length, movedIn, movedOut int) PanelNeeds {
	c := e.Weights.Config
	columns := func(n int) int64 { return int64(rows * panelsOf(n) * panel.Lanes) }
	width, feed := int64(c.HiddenSize), int64(c.IntermediateSize)
	heads, queries, keys := int64(c.NumAttentionHeads), int64(c.NumAttentionHeads*c.HeadDim), int64(c.NumKeyValueHeads*c.HeadDim)
	own, in, out, last := columns(length), columns(movedIn), columns(movedOut), columns(1)

	// of a position: mid, q, z, gate, up, maximum and inverse; and x, k, v
	reader, read := 8*width+8*queries+8*feed+8*heads, 8*width+8*keys
	feedBack := 8*width + 4*feed        // dy narrowed, the norm again, dh
	attentionBack := 8*queries + 8*keys // dz, dq, dk, dv
	returned := 8 * keys * own          // what came back, spread over the positions
	words := int64(c.VocabSize)
	return PanelNeeds{
		Tables: 4 * int64(c.HeadDim) * (own + in), Residual: 8 * width * own,
		Kept: (reader + read) * own, KeptLast: read*own + (reader+8*width)*last,
		Rotated: 4 * keys * in, Moved: 8 * keys * out,
		Forward:       (4*feed + 4*width) * own,           // the input of down_proj and its product
		Score:         (4*words+28*width)*last + 12*words, // logits; the stream there, its norm and their gradients
		Backward:      max(feedBack*own, attentionBack*own+8*keys*in+returned),
		BackwardInput: 8*width*own + 2*returned,
	}
}
