package standin

import (
	"fmt"
	"strings"

	"gotransplant/model"
)

// shapes are what the names stand for, small to large. Rotary scaling is left out where the model has it: it costs
// nothing. What is zero here is filled in by Shape.
var shapes = []struct {
	name   string
	config model.Config
}{
	{"tiny", model.Config{VocabSize: 512, HiddenSize: 64, IntermediateSize: 172, NumHiddenLayers: 2,
		NumAttentionHeads: 4, NumKeyValueHeads: 4}},
	{"stories260k", model.Config{VocabSize: 512, HiddenSize: 64, IntermediateSize: 172, NumHiddenLayers: 5, // of TinyStories
		NumAttentionHeads: 8, NumKeyValueHeads: 4, TieWordEmbeddings: true, MaxPositionEmbeddings: 512}},
	{"42m", model.Config{VocabSize: 32000, HiddenSize: 512, IntermediateSize: 1376, NumHiddenLayers: 8,
		NumAttentionHeads: 8, NumKeyValueHeads: 8}},
	{"1b", model.Config{VocabSize: 128256, HiddenSize: 2048, IntermediateSize: 8192, NumHiddenLayers: 16, // LLaMA-3.2-1B
		NumAttentionHeads: 32, NumKeyValueHeads: 8, TieWordEmbeddings: true, RopeTheta: 500000, MaxPositionEmbeddings: 131072}},
	{"7b", model.Config{VocabSize: 32000, HiddenSize: 4096, IntermediateSize: 11008, NumHiddenLayers: 32, // LLaMA-7B
		NumAttentionHeads: 32, NumKeyValueHeads: 32}},
	{"8b-gqa", model.Config{VocabSize: 128256, HiddenSize: 4096, IntermediateSize: 14336, NumHiddenLayers: 32, // LLaMA-3-8B
		NumAttentionHeads: 32, NumKeyValueHeads: 8, RopeTheta: 500000, MaxPositionEmbeddings: 8192}},
}

// Names are the shapes that have a name, small to large.
func Names() []string {
	names := make([]string, len(shapes))
	for i, s := range shapes {
		names[i] = s.name
	}
	return names
}

// Shape is the config of a named shape.
func Shape(name string) (model.Config, error) {
	for _, s := range shapes {
		if s.name != name {
			continue
		}
		c := s.config
		c.HeadDim = c.HiddenSize / c.NumAttentionHeads
		c.RMSNormEps, c.BOSTokenID, c.EOSTokenIDs = 1e-5, 1, []int{2}
		if c.RopeTheta == 0 {
			c.RopeTheta = 10000
		}
		if c.MaxPositionEmbeddings == 0 {
			c.MaxPositionEmbeddings = 2048
		}
		return c, c.Validate()
	}
	return model.Config{}, fmt.Errorf("no shape %q: there are %s", name, strings.Join(Names(), ", "))
}
