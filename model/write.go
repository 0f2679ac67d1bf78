package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"gotransplant/internal/atomicfile"
	"gotransplant/model/safetensors"
)

// Write makes dir a checkpoint of tensors, which must be those of c.Specs, each in a type of its own choice: it writes
// model.safetensors and config.json, each atomically. A lm_head.weight is left out when c ties it to the embedding.
func Write(dir string, c Config, tensors []safetensors.Tensor) error {
	stored := map[string]located{}
	for _, t := range tensors {
		if _, ok := stored[t.Name]; ok {
			return fmt.Errorf("write %s: tensor %s is given twice", dir, t.Name)
		}
		stored[t.Name] = located{t, "(to be written)"}
	}
	check := &Checkpoint{Config: c, tensors: map[string]safetensors.Tensor{}}
	if err := c.Validate(); err != nil {
		return fmt.Errorf("write %s: %w", dir, err)
	}
	if problems := check.take(stored); len(problems) > 0 {
		return fmt.Errorf("write %s: the tensors are not those of the config, %d problems:\n%s",
			dir, len(problems), strings.Join(problems, "\n"))
	}
	kept := make([]safetensors.Tensor, len(check.names))
	for i, name := range check.names {
		kept[i] = check.tensors[name]
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	metadata := map[string]string{"format": "pt"} // Hugging Face refuses a file without it
	if err := safetensors.Write(filepath.Join(dir, "model.safetensors"), kept, metadata); err != nil {
		return err
	}
	return WriteConfig(dir, c, kept[0].DType)
}

// WriteConfig writes dir/config.json alone, for weights of type d that are written as a stream or in shards.
func WriteConfig(dir string, c Config, d safetensors.DType) error {
	name := filepath.Join(dir, "config.json")
	text, err := c.encode(d)
	if err == nil {
		var back Config
		if back, err = ParseConfig(name, text); err == nil && !back.equal(c) {
			err = errors.New("the config does not survive being written")
		}
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return atomicfile.WriteBytes(name, text)
}

// encode returns c as a config.json that Hugging Face reads, with d as its torch_dtype.
func (c Config) encode(d safetensors.DType) ([]byte, error) {
	dtypes := map[safetensors.DType]string{
		safetensors.F64: "float64", safetensors.F32: "float32", safetensors.F16: "float16", safetensors.BF16: "bfloat16",
	}
	if dtypes[d] == "" {
		return nil, fmt.Errorf("weights of type %q: want BF16, F16, F32 or F64", string(d))
	}
	members := map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "torch_dtype": dtypes[d],
		"hidden_act": "silu", "attention_bias": false, "mlp_bias": false,
		"vocab_size": c.VocabSize, "hidden_size": c.HiddenSize, "intermediate_size": c.IntermediateSize,
		"num_hidden_layers": c.NumHiddenLayers, "num_attention_heads": c.NumAttentionHeads,
		"num_key_value_heads": c.NumKeyValueHeads, "head_dim": c.HeadDim,
		"max_position_embeddings": c.MaxPositionEmbeddings, "rms_norm_eps": c.RMSNormEps, "rope_theta": c.RopeTheta,
		"rope_scaling": nil, "tie_word_embeddings": c.TieWordEmbeddings, "bos_token_id": nil, "eos_token_id": nil,
	}
	if s := c.RopeScaling; s != nil {
		scaling := map[string]any{"rope_type": s.Type, "factor": s.Factor}
		if s.Type == ropeLlama3 {
			scaling["low_freq_factor"], scaling["high_freq_factor"] = s.LowFreqFactor, s.HighFreqFactor
			scaling["original_max_position_embeddings"] = s.OriginalMaxPositionEmbeddings
		}
		members["rope_scaling"] = scaling
	}
	if c.BOSTokenID >= 0 {
		members["bos_token_id"] = c.BOSTokenID
	}
	if len(c.EOSTokenIDs) > 0 {
		members["eos_token_id"] = c.EOSTokenIDs
	}
	text, err := json.MarshalIndent(members, "", "  ")
	return append(text, '\n'), err
}

// equal compares two configs by value.
func (c Config) equal(d Config) bool {
	if !equalScaling(c.RopeScaling, d.RopeScaling) || !slices.Equal(c.EOSTokenIDs, d.EOSTokenIDs) {
		return false
	}
	a, b := c, d
	a.RopeScaling, b.RopeScaling, a.EOSTokenIDs, b.EOSTokenIDs = nil, nil, nil, nil
	return reflect.DeepEqual(a, b)
}
