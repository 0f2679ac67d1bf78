package transplant

import (
	"slices"

	"gotransplant/model"
)

// Lengths are what the work of a case depends on when every layer is transplanted.
type Lengths struct {
	Arguer, Chooser int // tokens really computed behind the prefix, padding not counted
	// Pairs of a query and a key that it sees, moved keys included. In the last layer only the chooser's final token has
	// a query, which sees LastPairs keys.
	ArguerPairs, ChooserPairs, LastPairs int
}

// Lengths counts what Train and Evaluate compute of a case behind a prefix when every layer is transplanted.
func (c Case) Lengths(p Prefix) Lengths {
	arguer, chooser := packArguer(c).behind(len(p.Arguer)), packChooser(c, true).behind(len(p.Chooser))
	l := Lengths{Arguer: len(arguer.token), Chooser: len(chooser.token)}
	for _, position := range arguer.position { // sees the trunk, and its own branch, up to itself
		l.ArguerPairs += int(position) + 1
	}
	for _, position := range chooser.position { // sees its own tokens, and moved states, up to itself
		l.LastPairs = int(position) + 1
		l.ChooserPairs += l.LastPairs
	}
	return l
}

// Flop are floating-point operations by part, two for each multiplication with its addition. Elementwise work, softmax,
// norms and rotation are not counted, and neither is anything that is computed a second time.
type Flop struct {
	ArguerForward, ChooserForward, HeadForward, HeadBackward, ChooserBackward, ArguerBackward float64
}

// Forward is the sum over what an evaluation needs.
func (f Flop) Forward() float64 { return f.ArguerForward + f.ChooserForward + f.HeadForward }

// Plus adds the parts of both.
func (f Flop) Plus(g Flop) Flop {
	return Flop{f.ArguerForward + g.ArguerForward, f.ChooserForward + g.ChooserForward, f.HeadForward + g.HeadForward,
		f.HeadBackward + g.HeadBackward, f.ChooserBackward + g.ChooserBackward, f.ArguerBackward + g.ArguerBackward}
}

// Total is the sum over what a training step needs.
func (f Flop) Total() float64 {
	return f.Forward() + f.HeadBackward + f.ChooserBackward + f.ArguerBackward
}

// The projections of a block by what the last layer needs of them: the keys and values of every token, the rest of the
// final token alone.
var (
	keyValueProjections = []string{"k_proj", "v_proj"}
	singleProjections   = []string{"q_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
)

// Flop counts by formula what a training step needs of a case of these lengths, in a model of shape c with every layer
// transplanted and adapters of one rank for both roles on the targets, a list of projections.
//
// A projection of in to out features costs a token 2 in out forward and as much for the gradient of its input; its
// weight has none. An adapter of rank r costs 2 r (in + out) forward and twice that backward: for its input and for its
// matrices. Attention multiplies twice forward and four times backward, each time 2 H D a pair. In the last layer the
// arguer has keys and values alone, and the chooser one query a case. The input of layer 0 has no gradient.
func (l Lengths) Flop(c model.Config, rank int, targets []string) Flop {
	cost := cost{c, rank, targets}
	inner := float64(c.NumHiddenLayers - 1) // the layers but the last
	arguer, chooser := float64(l.Arguer), float64(l.Chooser)
	token := slices.Concat(keyValueProjections, singleProjections)
	f := Flop{
		ArguerForward: inner*(arguer*cost.forward(token)+cost.attention(l.ArguerPairs)) +
			arguer*cost.forward(keyValueProjections),
		ChooserForward: inner*(chooser*cost.forward(token)+cost.attention(l.ChooserPairs)) +
			chooser*cost.forward(keyValueProjections) + cost.forward(singleProjections) + cost.attention(l.LastPairs),
		ArguerBackward: inner*(arguer*cost.backward(token)+2*cost.attention(l.ArguerPairs)) +
			arguer*cost.backward(keyValueProjections),
		ChooserBackward: inner*(chooser*cost.backward(token)+2*cost.attention(l.ChooserPairs)) +
			chooser*cost.backward(keyValueProjections) + cost.backward(singleProjections) + 2*cost.attention(l.LastPairs),
		HeadForward: 2 * float64(c.VocabSize) * float64(c.HiddenSize),
	}
	f.HeadBackward = f.HeadForward
	arguerQueries, chooserQueries := arguer, chooser // in layer 0
	if inner == 0 {
		arguerQueries, chooserQueries = 0, 1
	}
	queries, keysValues := cost.toInput([]string{"q_proj"}), cost.toInput(keyValueProjections)
	f.ArguerBackward -= arguerQueries*queries + arguer*keysValues
	f.ChooserBackward -= chooserQueries*queries + chooser*keysValues
	return f
}

// Flop is the count for a prefix, which is computed once for all cases of a step. Of the last layer the chooser's has keys
// and values alone; the arguer's has no more of the last but one, since in the last nobody looks at it.
func (p Prefix) Flop(c model.Config, rank int, targets []string) (f Flop) {
	cost := cost{c, rank, targets}
	f.ArguerForward, f.ArguerBackward = cost.prefix(len(p.Arguer), c.NumHiddenLayers-1)
	f.ChooserForward, f.ChooserBackward = cost.prefix(len(p.Chooser), c.NumHiddenLayers)
	return f
}

// prefix counts layers of which the last has keys and values alone.
func (k cost) prefix(length, layers int) (forward, backward float64) {
	if layers == 0 {
		return 0, 0
	}
	tokens, whole, attention := float64(length), float64(layers-1), k.attention(length*(length+1)/2)
	all := slices.Concat(keyValueProjections, singleProjections)
	forward = whole*(tokens*k.forward(all)+attention) + tokens*k.forward(keyValueProjections)
	backward = whole*(tokens*k.backward(all)+2*attention) + tokens*k.backward(keyValueProjections)
	backward -= tokens * k.toInput(keyValueProjections) // layer 0 has no gradient of its input
	if layers > 1 {
		backward -= tokens * k.toInput([]string{"q_proj"})
	}
	return forward, backward
}

// cost counts the FLOP of one layer, of a token in a list of projections or of a number of pairs in its attention.
type cost struct {
	config  model.Config
	rank    int
	targets []string
}

func (k cost) forward(projections []string) (flop float64) {
	for _, p := range projections {
		in, out, rank := k.dims(p)
		flop += 2*in*out + 2*rank*(in+out)
	}
	return flop
}

func (k cost) backward(projections []string) float64 {
	flop := k.toInput(projections)
	for _, p := range projections {
		in, out, rank := k.dims(p)
		flop += 2 * rank * (in + 2*out) // of A, of B, and of what is between them
	}
	return flop
}

// toInput is the last step of backward, which gives the gradient of the projections' inputs.
func (k cost) toInput(projections []string) (flop float64) {
	for _, p := range projections {
		in, out, rank := k.dims(p)
		flop += 2*in*out + 2*rank*in
	}
	return flop
}

// attention is the forward cost of scores and weighted values.
func (k cost) attention(pairs int) float64 {
	return 4 * float64(pairs) * float64(k.config.NumAttentionHeads*k.config.HeadDim)
}

// dims are the features of a projection and the rank of its adapter, 0 where there is none.
func (k cost) dims(projection string) (in, out, rank float64) {
	c := k.config
	hidden, inner := float64(c.HiddenSize), float64(c.IntermediateSize)
	if slices.Contains(k.targets, projection) {
		rank = float64(k.rank)
	}
	switch projection {
	case "q_proj":
		return hidden, float64(c.NumAttentionHeads * c.HeadDim), rank
	case "k_proj", "v_proj":
		return hidden, float64(c.NumKeyValueHeads * c.HeadDim), rank
	case "o_proj":
		return float64(c.NumAttentionHeads * c.HeadDim), hidden, rank
	case "down_proj":
		return inner, hidden, rank
	default: // gate_proj, up_proj
		return hidden, inner, rank
	}
}
