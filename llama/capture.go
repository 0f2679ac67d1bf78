package llama

import (
	"fmt"
	"slices"

	"gotransplant/model"
)

// Site is a place in the computation at which every position has a state that can be read.
type Site string

// The sites, in the order in which a layer comes to them.
const (
	SiteResidPre  Site = "resid_pre"  // the residual stream before the block
	SiteK         Site = "k"          // keys, not rotated
	SiteV         Site = "v"          // values
	SiteKRot      Site = "k_rot"      // keys, rotated at their positions
	SiteQ         Site = "q"          // queries, not rotated
	SiteZ         Site = "z"          // what attention gives each head, before o_proj
	SiteAttnOut   Site = "attn_out"   // what attention adds to the residual stream
	SiteResidMid  Site = "resid_mid"  // the residual stream between attention and feed-forward
	SiteMLPOut    Site = "mlp_out"    // what the feed-forward adds to the residual stream
	SiteResidPost Site = "resid_post" // the residual stream after the block
	SiteLogits    Site = "logits"     // of the next token, behind the last layer
)

// NoLayer stands for the layer of a site behind all layers.
const NoLayer = -1

// SiteInfo says what is read at a site.
type SiteInfo struct {
	Site     Site
	PerLayer bool                       // in every layer; else once behind the last, as NoLayer
	Residual bool                       // in the dtype of the residual stream; else in float32, which holds every compute dtype
	Shape    func(c model.Config) []int // of one position: [M], [heads, D] or [V]
}

// Sites is the table of all sites, in the order of the computation.
func Sites() []SiteInfo {
	hidden := func(c model.Config) []int { return []int{c.HiddenSize} }
	keys := func(c model.Config) []int { return []int{c.NumKeyValueHeads, c.HeadDim} }
	queries := func(c model.Config) []int { return []int{c.NumAttentionHeads, c.HeadDim} }
	vocabulary := func(c model.Config) []int { return []int{c.VocabSize} }
	return []SiteInfo{
		{SiteResidPre, true, true, hidden},
		{SiteK, true, false, keys},
		{SiteV, true, false, keys},
		{SiteKRot, true, false, keys},
		{SiteQ, true, false, queries},
		{SiteZ, true, false, queries},
		{SiteAttnOut, true, false, hidden},
		{SiteResidMid, true, true, hidden},
		{SiteMLPOut, true, false, hidden},
		{SiteResidPost, true, true, hidden},
		{SiteLogits, false, false, vocabulary},
	}
}

// Capture chooses states that are read while a stream runs: those of Sites, in Layers, of the tokens Source. Nothing else
// is copied, and the stream computes what it would without.
type Capture struct {
	Sites  []Site
	Layers []bool  // by layer; nil: all
	Source []int32 // indices into the stream's Rows*Length tokens, none of them padding
	// Take is handed the states of one site as soon as they are computed, in the order of layers and of the table. What it
	// returns as an error ends the stream's Forward.
	Take func(s State) error
}

// State are a site's states of the tokens Source[First:First+Count], row-major. Wide holds those of the residual stream
// where that is float64, Narrow all others. Both are the stream's again when Take returns.
type State struct {
	Site                Site
	Layer               int // or NoLayer
	First, Count, Width int
	Wide                []float64 // Count*Width, or nil
	Narrow              []float32 // Count*Width, or nil
}

// wants says whether a site is read in a layer.
func (c *Capture) wants(site Site, layer int) bool {
	if c == nil || layer != NoLayer && c.Layers != nil && !c.Layers[layer] {
		return false
	}
	return slices.Contains(c.Sites, site)
}

// in are the sites read inside a layer, in the order of the table.
func (c *Capture) in(layer int) (sites []SiteInfo) {
	if c == nil {
		return nil
	}
	for _, info := range Sites() {
		if info.PerLayer && c.wants(info.Site, layer) {
			sites = append(sites, info)
		}
	}
	return sites
}

// Depth is how many of a model's layers must run for the capture.
func (c *Capture) Depth(layers int) int {
	if c.wants(SiteLogits, NoLayer) {
		return layers
	}
	for layer := layers - 1; layer >= 0; layer-- {
		if len(c.in(layer)) > 0 {
			return layer + 1
		}
	}
	return 0
}

// check refuses what cannot be captured of these sequences.
func (c *Capture) check(seq Sequences, o StreamOptions, layers int) error {
	switch {
	case c == nil:
		return nil
	case c.Take == nil:
		return fmt.Errorf("capture: nobody takes the states: set Take")
	case o.Keep:
		return fmt.Errorf("capture: a stream that keeps layers for a backward pass hands no states out: leave Keep off")
	case o.Last != nil:
		return fmt.Errorf("capture: a stream with Last computes one position of the last layer only: leave Last nil")
	case c.Layers != nil && len(c.Layers) != layers:
		return fmt.Errorf("capture: %d layers given, the model has %d", len(c.Layers), layers)
	case len(c.Source) == 0:
		return fmt.Errorf("capture: no positions")
	}
	for _, site := range c.Sites {
		if !slices.ContainsFunc(Sites(), func(i SiteInfo) bool { return i.Site == site }) {
			return fmt.Errorf("capture: there is no site %q", site)
		}
	}
	for _, at := range c.Source {
		if at < 0 || int(at) >= len(seq.Token) || seq.Branch[at] < 0 {
			return fmt.Errorf("capture: token %d is padding or outside the %d tokens of the sequences", at, len(seq.Token))
		}
	}
	return nil
}

// Capture runs sequences through as many layers as o.Capture needs, and through the head where it asks for logits.
func (e *Engine) Capture(seq Sequences, o StreamOptions) error {
	if o.Capture == nil {
		return fmt.Errorf("capture: the stream's options choose no states")
	}
	s, err := e.NewStream(seq, o)
	if err != nil {
		return err
	}
	defer s.Close()
	for layer := range o.Capture.Depth(e.Weights.Config.NumHiddenLayers) {
		if _, err := s.Forward(layer, nil, false); err != nil {
			return err
		}
	}
	if !o.Capture.wants(SiteLogits, NoLayer) {
		return nil
	}
	return s.CaptureLogits()
}

// LogitsAtATime bounds the positions whose logits CaptureLogits makes at a time: over a large vocabulary they take most
// memory.
const LogitsAtATime = 256

// CaptureLogits hands out the logits of the tokens to capture, some at a time. All layers must have run.
func (s *Stream) CaptureLogits() error {
	c := s.options.Capture
	if c == nil {
		return fmt.Errorf("capture: the stream was made without")
	}
	for first := 0; first < len(c.Source); first += LogitsAtATime {
		source := c.Source[first:min(first+LogitsAtATime, len(c.Source))]
		logits, err := s.logitsAt(source)
		if err != nil {
			return err
		}
		state := State{Site: SiteLogits, Layer: NoLayer, First: first, Count: len(source),
			Width: s.engine.Weights.Config.VocabSize, Narrow: logits}
		if err := s.hand(state); err != nil {
			return err
		}
	}
	return nil
}

// hand gives states to who takes them, unless this is a rehearsal, where there are none.
func (s *Stream) hand(state State) error {
	if s.engine.rehearsal != nil {
		return nil
	}
	if err := s.options.Capture.Take(state); err != nil {
		return fmt.Errorf("states of %s in layer %d: %w", state.Site, state.Layer, err)
	}
	return nil
}

func (s *Stream) logitsAt(source []int32) ([]float32, error) {
	if s.panels != nil {
		var out []float32
		s.book(ScorePass, func() { out = s.panels.logitsAt(source) })
		return out, nil
	}
	return s.graphLogitsAt(source)
}
