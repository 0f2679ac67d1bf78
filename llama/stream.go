package llama

import (
	"cmp"
	"fmt"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Sequences are B rows of S tokens each, row-major. A token sees those of its row that are not later in Position and
// lie in the trunk (branch 0) or in its own branch; Branch -1 is padding, which nobody sees.
type Sequences struct {
	Rows, Length            int
	Token, Position, Branch []int32 // Rows*Length each
}

// Export chooses the positions whose keys and values leave a stream: I a row, row-major.
type Export struct {
	Rows   int     // of the stream they go to; 0: as many as this one has
	Count  int     // I
	Source []int32 // Rows*I: index into the stream's Rows*Length tokens
}

// Insertion makes room in a stream for exported keys and values: I states a row, row-major.
type Insertion struct {
	Count    int     // I
	Position []int32 // Rows*I: the position at which the moved key is rotated here
	Valid    []bool  // Rows*I: false is padding
	// Replaced, Rows*Length, marks own tokens whose keys and values the moved ones stand for: nobody sees them in a
	// layer with insertion. nil when those tokens were left out of the sequence.
	Replaced []bool
	// InPlace says that the moved states take the places of the own tokens at their positions, which must be trunk tokens
	// whose index in the row is their position. Replaced is not needed then.
	InPlace bool
}

// StreamOptions say what a stream does besides running the blocks.
type StreamOptions struct {
	Name      string     // in the engine's ledger
	Overlay   Overlay    // nil: the bare model
	Export    *Export    // nil: keys and values of all positions are exported where they are wanted
	Insertion *Insertion // nil: nothing can be inserted
	Prefix    *Prefix    // nil: the rows begin with their own tokens
	Last      []int32    // Rows: index into Rows*Length of the only position read after the last layer; nil: all are
	Keep      bool       // keep what Backward needs
	Remat     bool       // with Keep: keep no more than each block's input and run the block again in Backward
	Attention Attention
	Capture   *Capture // nil: no states are read
}

// KV are keys, before rotation, and values of one layer: [B, I, G, D] in the compute dtype, on the device, or [B, S, G,
// D] from a stream without Export. They belong to the stream that made them.
type KV struct {
	K, V   *tensors.Tensor
	panels *panelKV // instead, where the engine computes on panels
}

// None says that these are no states at all.
func (kv KV) None() bool { return kv.K == nil && kv.panels == nil }

// Stream is a batch of sequences on its way through the layers. It belongs to one goroutine.
type Stream struct {
	engine  *Engine
	options StreamOptions
	rows    int
	length  int

	own, with strategy // of layers without and with insertion

	x        *tensors.Tensor // the residual stream before the next layer
	cos, sin *tensors.Tensor // [B, S+P+I, D/2]
	maskOwn  *tensors.Tensor // [B, S, S+P]
	maskIns  *tensors.Tensor // [B, S, S+P+I], nil without insertion
	ownSeats seats           // of the own tokens, where there are no masks
	preSeats seats           // of own keys and the prefix's, S+P; empty without a prefix
	keySeats seats           // of these and inserted keys, S+P+I; empty without insertion
	place    *tensors.Tensor // [B, S] and
	target   *tensors.Tensor // [B, I, 1]: see replacement; nil without insertion in place
	source   *tensors.Tensor // [B, I, 1] what is exported, nil for all
	last     *tensors.Tensor // [B, 1, 1]
	captured *tensors.Tensor // [N, 1] the tokens whose states are read, nil for none
	tokens   *tensors.Tensor // [B, S]
	layers   []layerState

	panels *panelStream // computes instead of graphs
}

// layerState is what a layer leaves for its backward pass; inserted are the states that were moved in.
type layerState struct {
	x, q, k, v, z, lse, mid, gate, up *tensors.Tensor
	exported                          KV  // k and v themselves without Export
	inserted                          *KV // belongs to another stream
	keysValuesOnly                    bool
}

// NewStream embeds the tokens and prepares rotary tables and masks.
func (e *Engine) NewStream(seq Sequences, o StreamOptions) (*Stream, error) {
	if n := seq.Rows * seq.Length; n == 0 || len(seq.Token) != n || len(seq.Position) != n || len(seq.Branch) != n {
		return nil, fmt.Errorf("sequences: %d rows of %d, got %d tokens, %d positions, %d branches",
			seq.Rows, seq.Length, len(seq.Token), len(seq.Position), len(seq.Branch))
	}
	for i, id := range seq.Token {
		if id < 0 || int(id) >= e.Weights.Config.VocabSize {
			return nil, fmt.Errorf("token %d of row %d is %d, outside the model's vocabulary of %d",
				i%seq.Length, i/seq.Length, id, e.Weights.Config.VocabSize)
		}
	}
	if err := o.Capture.check(seq, o, e.Weights.Config.NumHiddenLayers); err != nil {
		return nil, err
	}
	s := &Stream{engine: e, options: o, rows: seq.Rows, length: seq.Length,
		layers: make([]layerState, e.Weights.Config.NumHiddenLayers)}
	if e.panels != nil {
		if ins := o.Insertion; o.Attention != AutoAttention || ins != nil && ins.InPlace {
			return nil, fmt.Errorf("attention %s, or an insertion in place, is none of the panels' kernels", o.Attention)
		}
		if err := checkLowRank(o.Overlay); err != nil {
			return nil, err
		}
		s.book(Embedding, func() { s.panels = e.newPanelStream(seq, o) })
		return s, nil
	}
	if err := s.embed(seq); err != nil {
		s.Close()
		return nil, err
	}
	if err := s.prepare(seq); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stream) embed(seq Sequences) (err error) {
	e := s.engine
	if s.tokens, err = e.int32s(seq.Token, s.rows, s.length); err != nil {
		return err
	}
	out, err := s.run(Embedding, "embed", func(in *inputs) []*graph.Node {
		tokens, table := in.next(), in.next()
		return []*graph.Node{graph.ConvertDType(graph.Gather(table, graph.InsertAxes(tokens, -1)), e.Options.Residual)}
	}, s.tokens, e.Weights.tensors[embedName])
	if err != nil {
		return err
	}
	s.x = out[0] // [B, S, M]
	return nil
}

// prepare makes, once for all layers, the rotary tables and the masks from the small vectors that describe them.
func (s *Stream) prepare(seq Sequences) error {
	e, ins := s.engine, s.options.Insertion
	err := s.choose(seq)
	if err != nil {
		return err
	}
	if s.options.Last != nil {
		if s.last, err = e.int32s(s.options.Last, s.rows, 1, 1); err != nil {
			return err
		}
	}
	if err := s.prepareCapture(); err != nil {
		return err
	}
	if out := s.options.Export; out != nil {
		if s.source, err = e.int32s(out.Source, cmp.Or(out.Rows, s.rows), out.Count, 1); err != nil {
			return err
		}
	}
	if ins != nil && ins.InPlace {
		if err := s.prepareReplacement(seq); err != nil {
			return err
		}
		ins = nil
	}
	if s.own.attention != PlainAttention {
		return s.prepareTiles(seq)
	}
	return s.prepareMasks(seq, ins)
}

// prepareMasks is prepare's part for plain attention: rotary tables, and who sees whom among the own keys and among those of ins,
// which may be nil.
func (s *Stream) prepareMasks(seq Sequences, ins *Insertion) error {
	e := s.engine
	args, err := e.upload(s.rows, seq.Position, seq.Branch)
	if err != nil {
		return err
	}
	defer func() { free(args...) }()
	key := "prepare"
	if s.options.Prefix != nil {
		key += " with prefix"
		position, branch := s.options.Prefix.seats(s.rows)
		before, err := e.upload(s.rows, position, branch)
		if err != nil {
			return err
		}
		args = append(args, before...)
	}
	if ins != nil {
		key += " with insertion"
		extra, err := e.upload(s.rows, ins.Position, ins.branches(), s.visible(seq.Branch))
		if err != nil {
			return err
		}
		args = append(args, extra...)
	}
	out, err := s.run(Preparing, key, e.buildPrepare(s.options.Prefix != nil, ins != nil), args...)
	if err != nil {
		return err
	}
	s.cos, s.sin, s.maskOwn = out[0], out[1], out[2]
	if ins != nil {
		s.maskIns = out[3]
	}
	return nil
}

// visible are the branches of the own keys in a layer with insertion.
func (s *Stream) visible(branch []int32) []int32 {
	visible := append([]int32(nil), branch...)
	for i, replaced := range s.options.Insertion.Replaced {
		if replaced {
			visible[i] = -1
		}
	}
	return visible
}

func (e *Engine) buildPrepare(prefix, insertion bool) func(in *inputs) []*graph.Node {
	frequencies := e.Weights.Config.InverseFrequencies()
	join := func(a, b places) places {
		join := func(a, b *graph.Node) *graph.Node { return graph.Concatenate([]*graph.Node{a, b}, 1) } // [B, n+m]
		return places{join(a.position, b.position), join(a.branch, b.branch)}
	}
	return func(in *inputs) []*graph.Node {
		own := places{in.next(), in.next()}
		keys, before := own, places{} // [B, S+P]
		if prefix {
			before = places{in.next(), in.next()}
			keys = join(own, before)
		}
		if !insertion {
			cos, sin := rotaryTables(keys.position, frequencies)
			return []*graph.Node{cos, sin, sees(own, keys)}
		}
		moved, all := places{in.next(), in.next()}, places{own.position, in.next()} // [B, S+P+I]
		if prefix {
			all = join(all, before)
		}
		all = join(all, moved)
		cos, sin := rotaryTables(all.position, frequencies)
		return []*graph.Node{cos, sin, sees(own, keys), sees(own, all)}
	}
}

// upload puts vectors of rows*n values on the device as [rows, n].
func (e *Engine) upload(rows int, vectors ...[]int32) ([]*tensors.Tensor, error) {
	var all []*tensors.Tensor
	for _, v := range vectors {
		t, err := e.int32s(v, rows, len(v)/rows)
		if err != nil {
			free(all...)
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

func (e *Engine) int32s(values []int32, dims ...int) (*tensors.Tensor, error) {
	return fromFlat(e.backend, dtypes.Int32, values, dims...)
}

// run is the engine's, noted as work of this stream.
func (s *Stream) run(pass, key string, build func(in *inputs) []*graph.Node, args ...*tensors.Tensor) ([]*tensors.Tensor, error) {
	return s.engine.run(Work{s.options.Name, pass}, key, build, args...)
}

// kind names an executable of one block.
type kind struct {
	pass                 string // one of Work's
	last, inserted, keep bool
	prefix               int  // P
	exports, some        bool // keys and values leave the stream; only some positions' do
	toInput              bool // backward: dx is wanted
	remat                bool // backward: the block is run again first
	strategy             strategy
	signature            string
	captures             string // see captureKey
}

func (k kind) name() string { return fmt.Sprintf("%+v", k) }

// Forward runs one layer. moved, when not nil, are the states inserted according to the stream's Insertion. The
// stream's own keys and values are returned when export is set.
func (s *Stream) Forward(layer int, moved *KV, export bool) (KV, error) {
	if moved != nil && s.options.Insertion == nil {
		return KV{}, fmt.Errorf("layer %d: states to insert, but the stream was made without an insertion", layer)
	}
	if s.panels != nil {
		return s.forwardPanels(layer, moved, export)
	}
	state := &s.layers[layer]
	state.x, state.inserted = s.x, moved
	k := s.kind(ForwardPass, layer)
	k.keep, k.exports, k.some = s.options.Keep && !s.options.Remat, export, export && s.source != nil
	k.captures = s.captureKey(layer)
	args := append([]*tensors.Tensor{s.x}, s.attentionArgs(layer)...)
	if k.some {
		args = append(args, s.source)
	}
	if k.captures != "" {
		args = append(args, s.captured)
	}
	out, err := s.run(k.pass, k.name(), s.buildForward(layer, k), append(args, s.layerArgs(layer)...)...)
	if err != nil {
		return KV{}, fmt.Errorf("layer %d: %w", layer, err)
	}
	s.x, out = out[0], out[1:]
	if k.keep {
		state.q, state.z, state.mid, state.gate, state.up = out[0], out[1], out[2], out[3], out[4]
		state.k, state.v, out = out[5], out[6], out[7:]
		if k.keepsLSE() {
			state.lse, out = out[0], out[1:]
		}
	} else if !s.options.Keep {
		free(state.x)
		state.x = nil
	}
	switch {
	case k.keep && export && !k.some:
		state.exported = KV{K: state.k, V: state.v}
	case export:
		state.exported, out = KV{K: out[0], V: out[1]}, out[2:]
	}
	return state.exported, s.handCaptured(layer, out)
}

func (s *Stream) buildForward(layer int, k kind) func(in *inputs) []*graph.Node {
	e, extras, sites := s.engine, s.extras(layer), s.options.Capture.in(layer)
	return func(in *inputs) []*graph.Node {
		x, a, source := in.next(), readAttention(in, k), in.optional(k.some)
		read := in.optional(k.captures != "")
		b := e.block(in, extras)
		b.forwardOnly = true
		y, keep := b.forward(x, a, a.last)
		out := []*graph.Node{y}
		if k.keep {
			out = append(out, keep.q, keep.z, keep.mid, keep.gate, keep.up, keep.k, keep.v)
			if keep.lse != nil {
				out = append(out, keep.lse)
			}
		}
		switch {
		case k.some:
			out = append(out, takePositions(keep.k, source), takePositions(keep.v, source))
		case k.exports && !k.keep:
			out = append(out, keep.k, keep.v)
		}
		return append(out, readNodes(sites, read, func(site Site) *graph.Node { return siteNode(site, y, keep, a) })...)
	}
}

// KeysValues runs no more of a layer than its keys and values, which is all that is needed of the last layer of a
// stream whose output nobody reads.
func (s *Stream) KeysValues(layer int) (KV, error) {
	if s.panels != nil {
		return s.keysValuesPanels(layer)
	}
	e, extras := s.engine, s.extras(layer)
	k := s.kind(KeysValuesPass, layer)
	k.some = s.source != nil
	args := []*tensors.Tensor{s.x}
	if k.some {
		args = append(args, s.source)
	}
	out, err := s.run(k.pass, k.name(), func(in *inputs) []*graph.Node {
		x, source := in.next(), in.optional(k.some)
		b := e.block(in, extras)
		b.forwardOnly = true
		keys, values := b.keysValues(x)
		return []*graph.Node{takePositions(keys, source), takePositions(values, source)}
	}, append(args, s.layerArgs(layer)...)...)
	if err != nil {
		return KV{}, fmt.Errorf("layer %d: %w", layer, err)
	}
	s.layers[layer] = layerState{x: s.x, exported: KV{K: out[0], V: out[1]}, keysValuesOnly: true}
	if !s.options.Keep {
		free(s.x)
		s.layers[layer].x = nil
	}
	s.x = nil
	return s.layers[layer].exported, nil
}

// Gradients are what one layer's backward pass leaves besides dx.
type Gradients struct {
	Trained
	Moved  KV // of the states inserted; zero KV without insertion
	Prefix KV // of the prefix's states, summed over the rows, in float32; zero KV without a prefix
}

// Backward takes dy, the gradient of the residual stream after the layer (nil after KeysValues), and dKV, the gradient
// that came back for the exported keys and values (zero KV if there is none). It returns the gradient of the residual
// stream before the layer, or nil unless toInput is set, and frees everything kept for the layer as well as dy and dKV,
// these two after an error as well.
func (s *Stream) Backward(layer int, dy *tensors.Tensor, dKV KV, toInput bool) (*tensors.Tensor, Gradients, error) {
	if s.panels != nil {
		return s.backwardPanels(layer, dKV, toInput)
	}
	defer free(dy, dKV.K, dKV.V)
	state := &s.layers[layer]
	k := s.kind(BackwardPass, layer)
	k.toInput, k.exports, k.some = toInput, dKV.K != nil, dKV.K != nil && s.source != nil
	build := s.buildBackward(layer, k)
	args := []*tensors.Tensor{state.x, state.q, state.z, state.mid, state.gate, state.up, state.k, state.v}
	if k.keepsLSE() {
		args = append(args, state.lse)
	}
	args = append(args, dy)
	switch {
	case state.keysValuesOnly:
		k.pass = BackwardKeysValues
		build, args = s.buildBackwardKeysValues(layer, k), args[:1]
	case s.options.Remat:
		k.remat = true
		build, args = s.buildRecompute(layer, k), append([]*tensors.Tensor{state.x, dy}, s.attentionArgs(layer)...)
	default:
		args = append(args, s.attentionArgs(layer)...)
	}
	if k.exports {
		args = append(args, dKV.K, dKV.V)
	}
	if k.some {
		args = append(args, s.source)
	}
	out, err := s.run(k.pass, k.name(), build, append(args, s.layerArgs(layer)...)...)
	if err != nil {
		return nil, Gradients{}, fmt.Errorf("layer %d: %w", layer, err)
	}
	s.Release(layer)
	var dx *tensors.Tensor
	if toInput {
		dx, out = out[0], out[1:]
	}
	g := Gradients{Trained: Trained{Params: out}}
	if k.prefix > 0 && k.pass != BackwardKeysValues {
		g.Prefix, g.Params = KV{K: out[0], V: out[1]}, g.Params[2:]
	}
	if k.inserted {
		g.Moved, g.Params = KV{K: g.Params[0], V: g.Params[1]}, g.Params[2:]
	}
	return dx, g, nil
}

func (s *Stream) buildBackward(layer int, k kind) func(in *inputs) []*graph.Node {
	e, extras := s.engine, s.extras(layer)
	return func(in *inputs) []*graph.Node {
		keep := kept{x: in.next(), q: in.next(), z: in.next(), mid: in.next(), gate: in.next(), up: in.next(),
			k: in.next(), v: in.next(), lse: in.optional(k.keepsLSE())}
		cot := cotangents{dy: in.next()}
		a := readAttention(in, k)
		if k.exports {
			cot.dk, cot.dv = readReturned(in, k, keep.k)
		}
		return gradientOutputs(k, e.block(in, extras), keep, a, cot)
	}
}

// gradientOutputs are the outputs of a backward executable as Backward reads them.
func gradientOutputs(k kind, b *block, keep kept, a attention, cot cotangents) []*graph.Node {
	dx, dInserted, dParams := b.backward(keep, a, cot)
	if k.prefix > 0 {
		dInserted = apart(dInserted, k.prefix, k.inserted)
	}
	out := append(dInserted, dParams...)
	if k.toInput {
		out = append([]*graph.Node{dx}, out...)
	}
	return out
}

func (s *Stream) buildBackwardKeysValues(layer int, k kind) func(in *inputs) []*graph.Node {
	e, extras := s.engine, s.extras(layer)
	return func(in *inputs) []*graph.Node {
		x := in.next()
		var cot cotangents
		cot.dk, cot.dv = readReturned(in, k, e.likeKeys(x))
		dx, dParams := e.block(in, extras).backwardKeysValues(x, cot)
		if k.toInput {
			return append([]*graph.Node{dx}, dParams...)
		}
		return dParams
	}
}

// likeKeys are zeros of the shape of the keys [B, S, G, D] of x [B, S, M].
func (e *Engine) likeKeys(x *graph.Node) *graph.Node {
	c := e.Weights.Config
	return graph.Zeros(x.Graph(), shapes.Make(e.Options.Compute, x.Shape().Dim(0), x.Shape().Dim(1), c.NumKeyValueHeads, c.HeadDim))
}

// readReturned reads the gradients that came back for exported keys and values and spreads them over all positions;
// like has the shape of the keys [B, S, G, D].
func readReturned(in *inputs, k kind, like *graph.Node) (dk, dv *graph.Node) {
	dk, dv = in.next(), in.next()
	if !k.some {
		return graph.ConvertDType(dk, like.DType()), graph.ConvertDType(dv, like.DType())
	}
	source := in.next()
	spread := func(d *graph.Node) *graph.Node {
		return pullBack([]*graph.Node{takePositions(like, source)}, []*graph.Node{d}, []*graph.Node{like})[0]
	}
	return spread(dk), spread(dv)
}

// Release frees what the stream holds of a layer: its keys and values and whatever was kept for Backward.
func (s *Stream) Release(layer int) {
	if s.panels != nil {
		s.panels.release(layer)
		return
	}
	l := &s.layers[layer]
	free(l.x, l.q, l.k, l.v, l.z, l.lse, l.mid, l.gate, l.up)
	if l.exported.K != l.k {
		free(l.exported.K, l.exported.V)
	}
	*l = layerState{}
}

// Close frees everything the stream still holds.
func (s *Stream) Close() {
	if s.panels != nil {
		s.panels.close()
	}
	for layer := range s.layers {
		s.Release(layer)
	}
	free(s.x, s.cos, s.sin, s.maskOwn, s.maskIns, s.place, s.target, s.source, s.last, s.captured, s.tokens)
	s.ownSeats.free()
	s.preSeats.free()
	s.keySeats.free()
	*s = Stream{engine: s.engine}
}

// kind starts the name of an executable with what the stream fixes.
func (s *Stream) kind(pass string, layer int) kind {
	k := kind{pass: pass, last: s.isLast(layer), inserted: s.layers[layer].inserted != nil, strategy: s.own,
		prefix: s.options.Prefix.size(), signature: signature(s.extras(layer))}
	if k.inserted {
		k.strategy = s.with
	}
	return k
}

// keepsLSE says that the layer keeps what blockwise attention needs beside its output.
func (k kind) keepsLSE() bool { return k.strategy.attention == BlockwiseAttention && !k.last }

func (s *Stream) isLast(layer int) bool { return s.last != nil && layer == len(s.layers)-1 }

func (s *Stream) extras(layer int) map[string]Extra {
	if s.options.Overlay == nil {
		return nil
	}
	return s.options.Overlay[layer]
}

func (s *Stream) layerArgs(layer int) []*tensors.Tensor {
	return s.engine.layerArgs(layer, s.extras(layer))
}

// attentionArgs are cos, sin, and mask or seats, the last position in the last layer, the prefix, what is inserted and its places;
// readAttention reads them back.
func (s *Stream) attentionArgs(layer int) []*tensors.Tensor {
	moved := s.layers[layer].inserted
	args := []*tensors.Tensor{s.cos, s.sin}
	behind := moved != nil && !s.with.inPlace
	switch {
	case s.own.attention != PlainAttention:
		keys := s.ownSeats
		if behind {
			keys = s.keySeats
		} else if s.options.Prefix != nil {
			keys = s.preSeats
		}
		args = append(args, s.ownSeats.position, s.ownSeats.branch, keys.position, keys.branch)
	case behind:
		args = append(args, s.maskIns)
	default:
		args = append(args, s.maskOwn)
	}
	if s.isLast(layer) {
		args = append(args, s.last)
	}
	args = append(args, s.prefixArgs(layer)...)
	if moved != nil {
		args = append(args, moved.K, moved.V)
	}
	if moved != nil && s.with.inPlace {
		args = append(args, s.place, s.target)
	}
	return args
}

func readAttention(in *inputs, k kind) attention {
	a := attention{cos: in.next(), sin: in.next(), fused: k.strategy.attention == FusedAttention}
	var keys int
	if k.strategy.attention == PlainAttention {
		a.mask = in.next()
		keys = a.mask.Shape().Dim(2)
	} else {
		a.tiles = &tiles{queries: places{in.next(), in.next()}, keys: places{in.next(), in.next()},
			known: k.strategy.known, size: k.strategy.tile}
		keys = a.tiles.keys.position.Shape().Dim(1)
	}
	if k.last {
		a.last = in.next()
	}
	if k.last && a.tiles != nil {
		take := func(x *graph.Node) *graph.Node { // [B, S] at the last position: [B, 1]
			return graph.Squeeze(takeRows(graph.InsertAxes(x, -1), a.last), -1)
		}
		a.mask = sees(places{take(a.tiles.queries.position), take(a.tiles.queries.branch)}, a.tiles.keys) // [B, 1, K]
	}
	var prefix *inserted
	if k.prefix > 0 {
		prefix = &inserted{k: in.next(), v: in.next()}
	}
	if k.inserted {
		a.inserted = &inserted{k: in.next(), v: in.next()}
		if k.strategy.inPlace {
			a.replacement = &replacement{place: in.next(), target: in.next()}
		}
	}
	if prefix != nil {
		a.inserted = prefix.before(a.inserted, a.cos.Shape().Dim(0))
	}
	if keys != a.cos.Shape().Dim(1) { // no insertion in this layer of a stream that has one
		a.cos = graph.SliceAxis(a.cos, 1, graph.AxisRange(0, keys))
		a.sin = graph.SliceAxis(a.sin, 1, graph.AxisRange(0, keys))
	}
	return a
}
