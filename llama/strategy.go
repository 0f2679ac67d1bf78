package llama

import (
	"fmt"
	"slices"
	"strings"

	"gotransplant/internal/spelling"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Attention says how a stream computes attention. All ways give the same result, up to rounding. Its text is String's, which
// ParseAttention reads.
type Attention string

const (
	// AutoAttention, the zero value, is plain or blockwise, by the length of the sequences. Its text is "auto".
	AutoAttention Attention = ""
	// PlainAttention makes all scores of a layer at once, with memory that grows with the square of the length.
	PlainAttention Attention = "plain"
	// BlockwiseAttention makes them tile by tile, with memory that grows with the length.
	BlockwiseAttention Attention = "blockwise"
	// FusedAttention is the device's own kernel; see Engine.NotFused for what it asks.
	FusedAttention Attention = "fused"
)

// Attentions are all of them.
func Attentions() []Attention {
	return []Attention{AutoAttention, PlainAttention, BlockwiseAttention, FusedAttention}
}

func (a Attention) String() string {
	if a == AutoAttention {
		return "auto"
	}
	return string(a)
}

// ParseAttention reads one by its text.
func ParseAttention(text string) (Attention, error) {
	for _, a := range Attentions() {
		if text == a.String() {
			return a, nil
		}
	}
	return "", unknownAttention(text)
}

func unknownAttention(text string) error {
	var texts []string
	for _, a := range Attentions() {
		texts = append(texts, a.String())
	}
	return fmt.Errorf("attention %s", spelling.Unknown(text, texts...))
}

// NotFused says why streams of this engine cannot use the fused kernel, or "" if they can. It is cuDNN's, through XLA:
// half precision, a head dimension in steps of eight up to 128, causal masks alone and as many keys as queries, which
// only an insertion in place leaves (see Insertion).
func (e *Engine) NotFused() string {
	const step, largest = 8, 128
	var reasons []string
	missing := func(isMissing bool, format string, value any) {
		if isMissing {
			reasons = append(reasons, fmt.Sprintf(format, value))
		}
	}
	missing(!hasFused(e.backend), "it is part of XLA's CUDA plugin, and the backend is %s", e.backend.Description())
	missing(e.Options.Compute != dtypes.BFloat16, "it computes in half precision, and the compute type is %s", e.Options.Compute)
	dim := e.Weights.Config.HeadDim
	missing(dim%step != 0 || dim > largest, "it takes head dimensions in steps of 8 up to 128, and this one is %d", dim)
	return strings.Join(reasons, "; ")
}

// hasFused says that a backend has the fused kernel, forward and back.
func hasFused(b compute.Backend) bool {
	operations := b.Capabilities().Operations
	return operations[compute.OpTypeFusedScaledDotProductAttention] && operations[compute.OpTypeFusedScaledDotProductAttentionVJP] &&
		isCUDA(b.Description())
}

// isCUDA repeats how go-xla (v0.4.2) tells CUDA plugins from others: by their names, which the description holds.
func isCUDA(description string) bool {
	upper := strings.ToUpper(description)
	return strings.Contains(upper, "CUDA") || strings.Contains(upper, "NVIDIA")
}

// BlockwiseFrom is the number of tokens a row from which blockwise attention is preferred. On the Go backend the two break
// even between 384 and 512, and at 1,024 blockwise takes three quarters of the time (BenchmarkAttention): tiles of keys
// that come later than all of their queries are left out, and the others stay in the processor's caches. A compiled
// backend fuses what plain attention does to its scores; there the bound is their size, 1 GB a row for 32 heads of float32.
func (e *Engine) BlockwiseFrom() int {
	if e.interpreted() {
		return 512
	}
	return 2880
}

// interpreted says that the engine runs on the Go backend.
func (e *Engine) interpreted() bool { return e.backend.String() == "go" }

// tileSize is the edge of a tile for so many keys. On the Go backend tiles of 128 are the fastest; but every tile is a
// part of the graph, so their number is bounded: at most 16 blocks of keys a side up to 8,192 keys, and at most 64 beyond.
func (e *Engine) tileSize(keys int) int {
	size, largest := 128, 512
	if !e.interpreted() {
		size, largest = 512, 2048 // fewer and larger kernels, and a graph that compiles in reasonable time
	}
	for (size < largest && keys > 16*size) || keys > 64*size {
		size *= 2
	}
	return size
}

// strategy is how a stream computes attention, as far as its graphs depend on it.
type strategy struct {
	attention Attention // not AutoAttention
	tile      int       // edge, for BlockwiseAttention
	known     order     // of the own keys
	inPlace   bool      // what is inserted takes the places of own tokens
}

// choose resolves the stream's options: the strategy of its layers without insertion and of those with one.
func (s *Stream) choose(seq Sequences) error {
	attention := s.options.Attention
	if !slices.Contains(Attentions(), attention) {
		return unknownAttention(string(attention))
	}
	keys, ins := seq.Length+s.options.Prefix.size(), s.options.Insertion
	s.own = strategy{attention: attention, known: orderOf(seq, seq.Branch)}
	with := s.own
	switch {
	case ins != nil && ins.InPlace:
		with.inPlace = true
	case ins != nil:
		with.known = orderOf(seq, s.visible(seq.Branch))
		keys += ins.Count
	}
	if s.options.Prefix != nil && (attention == FusedAttention || with.inPlace) {
		return fmt.Errorf("fused attention, and an insertion in place, take rows that begin with their own tokens, not with a prefix")
	}
	if attention == FusedAttention && (s.own.known != wholeByIndex || ins != nil && !ins.InPlace) {
		return fmt.Errorf("fused attention of %d rows of %d tokens: the sequences must be single trunks, padded on the right, "+
			"and what is inserted must stand in place", seq.Rows, seq.Length)
	}
	for _, each := range []*strategy{&s.own, &with} {
		if each.attention == AutoAttention {
			each.attention = PlainAttention
			if seq.Length >= s.engine.BlockwiseFrom() {
				each.attention = BlockwiseAttention
			}
		}
		switch each.attention {
		case BlockwiseAttention:
			each.tile = s.engine.tileSize(keys)
		case PlainAttention:
			each.known = anyOrder // its graphs do not depend on it
		}
	}
	s.with = with
	return nil
}

// orderOf is what is known of own keys; visible are their branches as queries see them.
func orderOf(seq Sequences, visible []int32) order {
	known := wholeByIndex
	for row := range seq.Rows {
		from, to := row*seq.Length, (row+1)*seq.Length
		known = min(known, orderOfRow(seq.Position[from:to], seq.Branch[from:to], visible[from:to]))
	}
	return known
}

func orderOfRow(position, branch, visible []int32) order {
	known := wholeByIndex
	last := make(map[int32]int32) // by branch, the latest position so far
	latest := int32(-1)           // in any branch
	for i, b := range branch {
		if i > 0 && b >= 0 && branch[i-1] < 0 || b > 0 || visible[i] != b {
			known = byIndex // padding before tokens, a branch, or a key that is not seen
		}
		if b < 0 {
			continue
		}
		before, ok := last[b]
		switch {
		case ok && position[i] <= before, // its branch sees it from a position before
			b == 0 && position[i] <= latest,       // a branch sees this part of the trunk too early
			b > 0 && position[i] < trunkEnd(last): // or an earlier part not at all
			return anyOrder
		}
		last[b], latest = position[i], max(latest, position[i])
	}
	return known
}

// trunkEnd is the latest position in the trunk so far, or -1.
func trunkEnd(last map[int32]int32) int32 {
	if end, ok := last[0]; ok {
		return end
	}
	return -1
}

// seats are positions and branches on the device, [B, n] int32 each.
type seats struct{ position, branch *tensors.Tensor }

func (s *seats) free() {
	free(s.position, s.branch)
	*s = seats{}
}

// seat uploads them.
func (s *Stream) seat(position, branch []int32) (seats, error) {
	uploaded, err := s.engine.upload(s.rows, position, branch)
	if err != nil {
		return seats{}, err
	}
	return seats{uploaded[0], uploaded[1]}, nil
}

// prepareTiles is prepare without masks: tiles make their own.
func (s *Stream) prepareTiles(seq Sequences) (err error) {
	ins := s.options.Insertion
	if s.ownSeats, err = s.seat(seq.Position, seq.Branch); err != nil {
		return err
	}
	last := s.ownSeats // of all keys
	var place, branch []int32
	if p := s.options.Prefix; p != nil {
		place, branch = p.seats(s.rows)
		if s.preSeats, err = s.seat(joinRows(s.rows, seq.Position, place), joinRows(s.rows, seq.Branch, branch)); err != nil {
			return err
		}
		last = s.preSeats
	}
	if ins != nil && !ins.InPlace {
		s.keySeats, err = s.seat(joinRows(s.rows, seq.Position, place, ins.Position),
			joinRows(s.rows, s.visible(seq.Branch), branch, ins.branches()))
		if err != nil {
			return err
		}
		last = s.keySeats
	}
	frequencies := s.engine.Weights.Config.InverseFrequencies()
	out, err := s.run(Preparing, "rotary tables", func(in *inputs) []*graph.Node {
		cos, sin := rotaryTables(in.next(), frequencies)
		return []*graph.Node{cos, sin}
	}, last.position)
	if err != nil {
		return err
	}
	s.cos, s.sin = out[0], out[1]
	return nil
}

// branches are those of the moved states: trunk, or padding.
func (ins *Insertion) branches() []int32 {
	branch := make([]int32, len(ins.Valid))
	for i, ok := range ins.Valid {
		if !ok {
			branch[i] = -1
		}
	}
	return branch
}
