package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"gotransplant/internal/strictjson"
)

// ParseConfig reads the text of a config.json; name stands for the file in errors. It lists every key whose value this
// program could not honour exactly. Keys that change nothing in the forward pass are ignored.
func ParseConfig(name string, text []byte) (Config, error) {
	members, err := strictjson.Object(text)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", name, err)
	}
	f := &fields{members: members}
	f.checkArchitecture()
	f.checkUnsupported()
	c := f.config()
	if len(f.errs) == 0 {
		f.errs = append(f.errs, c.Validate())
	}
	if err := errors.Join(f.errs...); err != nil {
		return Config{}, fmt.Errorf("%s: not a config this program can compute:\n%w", name, err)
	}
	return c, nil
}

// fields reads the members of one JSON object and gathers what is wrong with them. An absent member and a null one are
// the same to it, as they are to Hugging Face.
type fields struct {
	members map[string]json.RawMessage
	prefix  string // before the key in errors
	errs    []error
}

// refuse notes what is wrong with key.
func (f *fields) refuse(key, format string, args ...any) {
	f.errs = append(f.errs, fmt.Errorf("%s%s: %s", f.prefix, key, fmt.Sprintf(format, args...)))
}

// value returns the member key unless it is absent or null.
func (f *fields) value(key string) (json.RawMessage, bool) {
	raw, ok := f.members[key]
	return raw, ok && string(raw) != "null"
}

// integer reads a whole number, otherwise when there is none.
func (f *fields) integer(key string, otherwise int) int {
	raw, ok := f.value(key)
	if !ok {
		return otherwise
	}
	n, err := strconv.Atoi(string(raw))
	if err != nil {
		f.refuse(key, "want a whole number, got %s", strictjson.Excerpt(raw))
	}
	return n
}

// required is integer for a key that must be there.
func (f *fields) required(key string) int {
	if _, ok := f.value(key); !ok {
		f.refuse(key, "is missing; it says the shape of the weights and has no default here")
	}
	return f.integer(key, 0)
}

// number reads a number, otherwise when there is none.
func (f *fields) number(key string, otherwise float64) float64 {
	raw, ok := f.value(key)
	if !ok {
		return otherwise
	}
	x, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		f.refuse(key, "want a number, got %s", strictjson.Excerpt(raw))
	}
	return x
}

// boolean reads true or false, false when there is neither.
func (f *fields) boolean(key string) bool {
	raw, ok := f.value(key)
	if ok && string(raw) != "true" && string(raw) != "false" {
		f.refuse(key, "want true or false, got %s", strictjson.Excerpt(raw))
	}
	return string(raw) == "true"
}

// text reads a string, otherwise when there is none.
func (f *fields) text(key, otherwise string) string {
	raw, ok := f.value(key)
	if !ok {
		return otherwise
	}
	s, err := strictjson.String(raw)
	if err != nil {
		f.refuse(key, "%v", err)
	}
	return s
}

// integers reads a whole number or a list of them, none for null, otherwise when the key is absent.
func (f *fields) integers(key string, otherwise []int) []int {
	raw, ok := f.members[key]
	switch {
	case !ok:
		return otherwise
	case string(raw) == "null":
		return nil
	case raw[0] != '[':
		return []int{f.integer(key, 0)}
	}
	var numbers []int
	if err := json.Unmarshal(raw, &numbers); err != nil {
		f.refuse(key, "want whole numbers, got %s", strictjson.Excerpt(raw))
	}
	return numbers
}

// texts reads a list of strings, none for null or an absent key.
func (f *fields) texts(key string) []string {
	raw, ok := f.value(key)
	if !ok {
		return nil
	}
	var texts []string
	if err := json.Unmarshal(raw, &texts); err != nil {
		f.refuse(key, "want a list of strings, got %s", strictjson.Excerpt(raw))
	}
	return texts
}

// checkArchitecture refuses models of other families. The first conversions of LLaMA-1 say LLaMAForCausalLM.
func (f *fields) checkArchitecture() {
	const remedy = "only LlamaForCausalLM of model_type llama is supported; use a LLaMA checkpoint"
	architectures := f.texts("architectures")
	kind := f.text("model_type", "")
	for _, a := range architectures {
		if a != "LlamaForCausalLM" && a != "LLaMAForCausalLM" {
			f.refuse("architectures", "%q: %s", a, remedy)
		}
	}
	if kind != "llama" && (kind != "" || len(architectures) == 0) {
		f.refuse("model_type", "%q: %s", kind, remedy)
	}
}

// checkUnsupported refuses the options of LLaMA and of its relatives that change the numbers.
func (f *fields) checkUnsupported() {
	if act := f.text("hidden_act", "silu"); act != "silu" {
		f.refuse("hidden_act", "%q is not supported; only silu is", act)
	}
	for _, layer := range f.texts("layer_types") {
		if layer != "full_attention" {
			f.refuse("layer_types", "%q is not supported; only full_attention is", layer)
			break
		}
	}
	for _, option := range []struct{ key, neutral, remedy string }{
		{"attention_bias", "false", "projections with a bias are not supported"},
		{"mlp_bias", "false", "projections with a bias are not supported"},
		{"quantization_config", "null", "quantised weights are not supported; use a checkpoint in bf16, f16, f32 or f64"},
		{"sliding_window", "null", "only full attention is supported"},
		{"attention_chunk_size", "null", "only full attention is supported"},
		{"attn_logit_softcapping", "null", "attention scores are not capped here"},
		{"final_logit_softcapping", "null", "logits are not capped here"},
		{"partial_rotary_factor", "1", "only full rotary embeddings are supported"},
		{"num_local_experts", "null", "mixtures of experts are not supported"},
		{"num_experts", "null", "mixtures of experts are not supported"},
	} {
		raw, ok := f.value(option.key)
		if ok && strings.TrimSuffix(string(raw), ".0") != option.neutral {
			f.refuse(option.key, "%s: %s", strictjson.Excerpt(raw), option.remedy)
		}
	}
}

// config reads the values, with the defaults of Hugging Face's LlamaConfig for all but the sizes.
func (f *fields) config() Config {
	c := Config{
		VocabSize:             f.required("vocab_size"),
		HiddenSize:            f.required("hidden_size"),
		IntermediateSize:      f.required("intermediate_size"),
		NumHiddenLayers:       f.required("num_hidden_layers"),
		NumAttentionHeads:     f.required("num_attention_heads"),
		MaxPositionEmbeddings: f.integer("max_position_embeddings", 2048),
		RMSNormEps:            f.number("rms_norm_eps", 1e-6),
		TieWordEmbeddings:     f.boolean("tie_word_embeddings"),
		BOSTokenID:            -1,
		EOSTokenIDs:           f.integers("eos_token_id", []int{2}),
	}
	if bos := f.integers("bos_token_id", []int{1}); len(bos) == 1 {
		c.BOSTokenID = bos[0]
	} else if len(bos) > 1 {
		f.refuse("bos_token_id", "want one token, got %v", bos)
	}
	c.NumKeyValueHeads = f.integer("num_key_value_heads", c.NumAttentionHeads)
	if _, ok := f.value("head_dim"); ok {
		c.HeadDim = f.integer("head_dim", 0)
	} else if c.NumAttentionHeads > 0 {
		if c.HeadDim = c.HiddenSize / c.NumAttentionHeads; c.HeadDim*c.NumAttentionHeads != c.HiddenSize {
			f.refuse("head_dim", "is missing, and %d heads do not divide hidden_size %d", c.NumAttentionHeads, c.HiddenSize)
		}
	}
	c.RopeTheta, c.RopeScaling = f.rope()
	return c
}

// rope reads rope_theta with rope_scaling, or rope_parameters, where newer releases of transformers keep both.
func (f *fields) rope() (theta float64, scaling *RopeScaling) {
	const defaultTheta = 10000
	theta = f.number("rope_theta", math.NaN())
	read := map[string]*RopeScaling{}
	for _, key := range []string{"rope_scaling", "rope_parameters"} {
		raw, ok := f.value(key)
		if !ok {
			continue
		}
		inside, s := f.ropeObject(key, raw)
		if !math.IsNaN(inside) && !math.IsNaN(theta) && inside != theta {
			f.refuse(key, "rope_theta %v contradicts %v elsewhere in the file; keep one", inside, theta)
		}
		if !math.IsNaN(inside) {
			theta = inside
		}
		read[key], scaling = s, s
	}
	if a, b := read["rope_scaling"], read["rope_parameters"]; len(read) == 2 && !equalScaling(a, b) {
		f.refuse("rope_parameters", "contradicts rope_scaling; keep one")
	}
	if math.IsNaN(theta) {
		theta = defaultTheta
	}
	return theta, scaling
}

// equalScaling compares two scalings, either of which may be none.
func equalScaling(a, b *RopeScaling) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// ropeObject reads {"rope_type": ..., "factor": ...} and the rope_theta inside, NaN when there is none.
func (f *fields) ropeObject(key string, raw json.RawMessage) (theta float64, scaling *RopeScaling) {
	members, err := strictjson.Members(raw)
	if err != nil {
		f.refuse(key, "%v", err)
		return math.NaN(), nil
	}
	in := &fields{members: members, prefix: key + ": "}
	defer func() { f.errs = append(f.errs, in.errs...) }()
	theta = in.number("rope_theta", math.NaN())
	s := RopeScaling{Type: in.text("rope_type", in.text("type", "default"))}
	if old := in.text("type", s.Type); old != s.Type {
		in.refuse("type", "%q contradicts rope_type %q; keep one", old, s.Type)
	}
	known := []string{"rope_theta", "rope_type", "type", "factor", "low_freq_factor", "high_freq_factor",
		"original_max_position_embeddings"}
	switch s.Type {
	case "default":
		in.refuseOthers(known)
		return theta, nil
	case ropeLlama3:
		s.LowFreqFactor = in.number("low_freq_factor", 0)
		s.HighFreqFactor = in.number("high_freq_factor", 0)
		s.OriginalMaxPositionEmbeddings = in.integer("original_max_position_embeddings", 0)
	case ropeLinear:
	default:
		in.refuse("rope_type", "%q is not supported; only default, linear and llama3 are", s.Type)
		return theta, nil
	}
	s.Factor = in.number("factor", 0)
	in.refuseOthers(known)
	return theta, &s
}

// refuseOthers refuses members that are not known: in a scaling they may change the numbers.
func (f *fields) refuseOthers(known []string) {
	for _, key := range slices.Sorted(maps.Keys(f.members)) {
		raw, ok := f.value(key)
		if neutral := key == "partial_rotary_factor" && strings.TrimSuffix(string(raw), ".0") == "1"; !ok || neutral {
			continue
		}
		if !slices.Contains(known, key) {
			f.refuse(key, "is not supported; remove it if it has no effect")
		}
	}
}
