package model

import (
	"errors"
	"fmt"
	"math"

	"gotransplant/model/safetensors"
)

// Config is what config.json says about the computation. The field comments give the file's keys.
type Config struct {
	VocabSize             int // vocab_size
	HiddenSize            int // hidden_size: width of the residual stream
	IntermediateSize      int // intermediate_size: width inside the MLP
	NumHiddenLayers       int // num_hidden_layers
	NumAttentionHeads     int // num_attention_heads
	NumKeyValueHeads      int // num_key_value_heads: num_attention_heads unless the file says fewer
	HeadDim               int // head_dim: hidden_size / num_attention_heads unless the file says otherwise
	MaxPositionEmbeddings int // max_position_embeddings: the context in tokens
	RMSNormEps            float64
	RopeTheta             float64
	RopeScaling           *RopeScaling // nil for plain rotary embeddings
	TieWordEmbeddings     bool         // the head is the embedding; no lm_head.weight is stored
	BOSTokenID            int          // -1 when the file says null
	EOSTokenIDs           []int        // empty when the file says null
}

// RopeScaling changes the rotary frequencies for a longer context, by one of the formulas of Hugging Face's
// modeling_rope_utils.py.
type RopeScaling struct {
	Type                          string // "linear" or "llama3"
	Factor                        float64
	LowFreqFactor                 float64 // llama3 only, as the two below
	HighFreqFactor                float64
	OriginalMaxPositionEmbeddings int // the context before scaling, in tokens
}

// The two rotary scalings that change anything; "default" is read as none.
const (
	ropeLinear = "linear"
	ropeLlama3 = "llama3"
)

// Bounds that no checkpoint comes near and that keep every product of two sizes countable.
const (
	maxSize   = 1 << 30
	maxLayers = 1 << 16
)

// Validate reports everything in c that no LLaMA can have, key by key. ParseConfig and Write have done it.
func (c Config) Validate() error {
	var errs []error
	for _, s := range []struct {
		key       string
		size, top int
	}{
		{"vocab_size", c.VocabSize, maxSize},
		{"hidden_size", c.HiddenSize, maxSize},
		{"intermediate_size", c.IntermediateSize, maxSize},
		{"num_hidden_layers", c.NumHiddenLayers, maxLayers},
		{"num_attention_heads", c.NumAttentionHeads, maxSize},
		{"num_key_value_heads", c.NumKeyValueHeads, maxSize},
		{"head_dim", c.HeadDim, maxSize},
		{"max_position_embeddings", c.MaxPositionEmbeddings, math.MaxInt32},
	} {
		if s.size < 1 || s.size > s.top {
			errs = append(errs, fmt.Errorf("%s: %d is not between 1 and %d", s.key, s.size, s.top))
		}
	}
	if len(errs) == 0 {
		errs = c.validateHeads()
	}
	if !positive(c.RMSNormEps) {
		errs = append(errs, fmt.Errorf("rms_norm_eps: %v is not a positive number", c.RMSNormEps))
	}
	if !positive(c.RopeTheta) {
		errs = append(errs, fmt.Errorf("rope_theta: %v is not a positive number", c.RopeTheta))
	}
	return errors.Join(append(errs, c.RopeScaling.validate()...)...)
}

// validateHeads checks how the sizes, each of them sensible, fit together.
func (c Config) validateHeads() []error {
	var errs []error
	if c.NumAttentionHeads%c.NumKeyValueHeads != 0 {
		errs = append(errs, fmt.Errorf("num_key_value_heads: %d attention heads cannot share %d key-value heads evenly",
			c.NumAttentionHeads, c.NumKeyValueHeads))
	}
	if c.HeadDim%2 != 0 {
		errs = append(errs, fmt.Errorf("head_dim: %d is odd, and rotary embeddings turn pairs", c.HeadDim))
	}
	if c.NumAttentionHeads*c.HeadDim > maxSize {
		errs = append(errs, fmt.Errorf("head_dim: %d heads of %d are wider than %d", c.NumAttentionHeads, c.HeadDim, maxSize))
	}
	return errs
}

// validate checks the numbers that the formula of s.Type uses.
func (s *RopeScaling) validate() []error {
	if s == nil {
		return nil
	}
	var errs []error
	if s.Type != ropeLinear && s.Type != ropeLlama3 {
		errs = append(errs, fmt.Errorf("rope_scaling: type %q is not supported; only default, linear and llama3 are", s.Type))
	}
	if !positive(s.Factor) {
		errs = append(errs, fmt.Errorf("rope_scaling: factor: %v is not a positive number", s.Factor))
	}
	if s.Type != ropeLlama3 {
		return errs
	}
	if !positive(s.LowFreqFactor) || !positive(s.HighFreqFactor) || s.LowFreqFactor >= s.HighFreqFactor {
		errs = append(errs, fmt.Errorf("rope_scaling: want 0 < low_freq_factor < high_freq_factor, got %v and %v",
			s.LowFreqFactor, s.HighFreqFactor))
	}
	if s.OriginalMaxPositionEmbeddings < 1 || s.OriginalMaxPositionEmbeddings > math.MaxInt32 {
		errs = append(errs, fmt.Errorf("rope_scaling: original_max_position_embeddings: %d is not between 1 and %d",
			s.OriginalMaxPositionEmbeddings, math.MaxInt32))
	}
	return errs
}

// CheckTokenizer refuses a tokenizer of so many tokens if the model has fewer. One with fewer leaves rows of the embedding unused.
func (c Config) CheckTokenizer(tokens int) error {
	if tokens > c.VocabSize {
		return fmt.Errorf("the tokenizer has %d tokens, the model's vocab_size is %d", tokens, c.VocabSize)
	}
	return nil
}

// positive reports whether x is a number above zero and below infinity.
func positive(x float64) bool { return x > 0 && !math.IsInf(x, 1) }

// InverseFrequencies returns the HeadDim/2 rotary frequencies in radians per position, rope_theta^(-2i/head_dim) with
// the scaling applied.
func (c Config) InverseFrequencies() []float64 {
	frequencies := make([]float64, c.HeadDim/2)
	for i := range frequencies {
		frequencies[i] = c.RopeScaling.apply(1 / math.Pow(c.RopeTheta, float64(2*i)/float64(c.HeadDim)))
	}
	return frequencies
}

// apply scales one frequency. For llama3, as in _compute_llama3_parameters: waves longer than the original context over
// low_freq_factor are stretched by factor, those shorter than it over high_freq_factor are kept, and between the two
// the result goes linearly, in the number of waves that fit the original context, from the one to the other.
func (s *RopeScaling) apply(frequency float64) float64 {
	if s == nil {
		return frequency
	}
	scaled := frequency / s.Factor
	if s.Type == ropeLinear {
		return scaled
	}
	waves := float64(s.OriginalMaxPositionEmbeddings) * frequency / (2 * math.Pi)
	kept := (waves - s.LowFreqFactor) / (s.HighFreqFactor - s.LowFreqFactor)
	kept = min(max(kept, 0), 1)
	return float64((1-kept)*scaled) + float64(kept*frequency) // rounded, or some processors would give other bits
}

// Specs lists the tensors of a checkpoint with this config under their Hugging Face names, in the order of the
// computation, all of dtype d. Projections are [out, in]; with tied embeddings there is no lm_head.weight.
func (c Config) Specs(d safetensors.DType) []safetensors.Spec {
	var specs []safetensors.Spec
	add := func(name string, shape ...int) {
		specs = append(specs, safetensors.Spec{Name: name, DType: d, Shape: shape})
	}
	hidden, inner := c.HiddenSize, c.IntermediateSize
	queries, keys := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	add(embeddingName, c.VocabSize, hidden)
	for layer := range c.NumHiddenLayers {
		prefix := fmt.Sprintf("model.layers.%d.", layer)
		add(prefix+"input_layernorm.weight", hidden)
		add(prefix+"self_attn.q_proj.weight", queries, hidden)
		add(prefix+"self_attn.k_proj.weight", keys, hidden)
		add(prefix+"self_attn.v_proj.weight", keys, hidden)
		add(prefix+"self_attn.o_proj.weight", hidden, queries)
		add(prefix+"post_attention_layernorm.weight", hidden)
		add(prefix+"mlp.gate_proj.weight", inner, hidden)
		add(prefix+"mlp.up_proj.weight", inner, hidden)
		add(prefix+"mlp.down_proj.weight", hidden, inner)
	}
	add("model.norm.weight", hidden)
	if !c.TieWordEmbeddings {
		add(headName, c.VocabSize, hidden)
	}
	return specs
}

// The two tensors that tie_word_embeddings makes one.
const (
	embeddingName = "model.embed_tokens.weight"
	headName      = "lm_head.weight"
)
