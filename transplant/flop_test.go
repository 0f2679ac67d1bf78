package transplant

import (
	"testing"

	"gotransplant/data"
	"gotransplant/model"
)

// TestLengths: a trunk of 3, arguments of 2 and 3 tokens at the end of the arguer's prompts, and a chooser of 9 tokens.
func TestLengths(t *testing.T) {
	c := Case{
		Argue: [2]Passage{
			{IDs: []int32{1, 2, 3, 10, 11}, Span: data.Span{Start: 3, End: 5}},
			{IDs: []int32{1, 2, 3, 20, 21, 22}, Span: data.Span{Start: 3, End: 6}},
		},
		Choose: []int32{1, 4, 10, 11, 5, 20, 21, 22, 6},
		Spans:  [2]data.Span{{Start: 2, End: 4}, {Start: 5, End: 8}},
	}
	// The arguer: positions 0 1 2, then 3 of the first branch, then 3 4 of the second; the last token of an argument
	// produces nothing that moves. The chooser: positions 1 2 and 4 5 6 are moved in, and 0 3 7 8 are its own.
	want := Lengths{Arguer: 6, Chooser: 4, ArguerPairs: 1 + 2 + 3 + 4 + 4 + 5, ChooserPairs: 1 + 4 + 8 + 9, LastPairs: 9}
	if got := c.Lengths(Prefix{}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// Behind a prefix of 2 and 1 tokens their queries are gone, and everybody else still sees their keys.
	want = Lengths{Arguer: 4, Chooser: 3, ArguerPairs: 3 + 4 + 4 + 5, ChooserPairs: 4 + 8 + 9, LastPairs: 9}
	if got := c.Lengths(Prefix{Arguer: []int32{1, 2}, Chooser: []int32{1}}); got != want {
		t.Errorf("behind a prefix: got %+v, want %+v", got, want)
	}
}

// TestPrefixFlop: a prefix and the rows behind it come to what one row costs by itself, but for keys and values of the
// arguer's last layer, at which nobody looks.
func TestPrefixFlop(t *testing.T) {
	c := model.Config{VocabSize: 5, HiddenSize: 4, IntermediateSize: 6, NumAttentionHeads: 2, NumKeyValueHeads: 1, HeadDim: 3,
		NumHiddenLayers: 4}
	p := Prefix{Arguer: make([]int32, 3), Chooser: make([]int32, 5)}
	whole := Lengths{Arguer: 7, Chooser: 11, ArguerPairs: 20, ChooserPairs: 40, LastPairs: 9}
	rest := Lengths{Arguer: 4, Chooser: 6, ArguerPairs: 20 - (1 + 2 + 3), ChooserPairs: 40 - (1 + 2 + 3 + 4 + 5), LastPairs: 9}
	targets := []string{"k_proj", "o_proj"}
	want := whole.Flop(c, 2, targets)
	// The arguer's prefix needs keys and values of layer 2 alone, and nothing of layer 3: together one layer less.
	const (
		token = 2 * (24 + 2*12 + 24 + 3*24)
		low   = 2 * 2 * (4 + 3 + 6 + 4) // in and out of k and o
		pairs = 4 * 6 * (1 + 2 + 3)
	)
	want.ArguerForward -= 3*(token+low) + pairs
	want.ArguerBackward -= 3*(token+2*low) + 2*pairs
	if got := p.Flop(c, 2, targets).Plus(rest.Flop(c, 2, targets)); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestFlop: against a count by hand. Hidden 4, feed-forward 6, 2 query heads and 1 key head of dimension 3, vocabulary 5,
// rank 2 on q and o. Products of in and out: q 4*6, k and v 4*3, o 6*4, gate, up and down 4*6; in + out: 10 at q and o.
func TestFlop(t *testing.T) {
	c := model.Config{VocabSize: 5, HiddenSize: 4, IntermediateSize: 6, NumAttentionHeads: 2, NumKeyValueHeads: 1, HeadDim: 3}
	l := Lengths{Arguer: 7, Chooser: 11, ArguerPairs: 20, ChooserPairs: 40, LastPairs: 9}
	const (
		base     = 2 * (24 + 2*12 + 24 + 3*24) // forward, and backward to the input, a token
		low      = 2 * 2 * 10 * 2              // both adapters forward, a token
		kv       = 2 * 2 * 12                  // k and v
		pair     = 4 * 6                       // scores and values
		firstQ   = 2*24 + 2*2*4                // what layer 0 need not compute behind q
		arguer   = 7*(base+low) + 20*pair      // one whole layer
		chooser  = 11*(base+low) + 40*pair
		arguerB  = 7*(base+2*low) + 2*20*pair
		chooserB = 11*(base+2*low) + 2*40*pair
		last     = 11*kv + (base - kv + low) + 9*pair
		lastB    = 11*kv + (base - kv + 2*low) + 2*9*pair
	)
	cases := []struct {
		name   string
		layers int
		want   Flop
	}{
		{"three layers", 3, Flop{
			ArguerForward: 2*arguer + 7*kv, ChooserForward: 2*chooser + last, HeadForward: 40, HeadBackward: 40,
			ArguerBackward: 2*arguerB + 7*kv - 7*(firstQ+kv), ChooserBackward: 2*chooserB + lastB - 11*(firstQ+kv)}},
		{"one layer", 1, Flop{
			ArguerForward: 7 * kv, ChooserForward: last, HeadForward: 40, HeadBackward: 40,
			ArguerBackward: 0, ChooserBackward: lastB - firstQ - 11*kv}},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			c.NumHiddenLayers = k.layers
			got := l.Flop(c, 2, []string{"q_proj", "o_proj"})
			if got != k.want {
				t.Errorf("got  %+v\nwant %+v", got, k.want)
			}
			if total := k.want.Forward() + 40 + k.want.ArguerBackward + k.want.ChooserBackward; got.Total() != total {
				t.Errorf("total %v, want %v", got.Total(), total)
			}
		})
	}
}
