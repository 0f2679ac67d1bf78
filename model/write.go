package model

import (
	"encoding/json"
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
	config, err := c.encode(filepath.Join(dir, configFile), kept[0].DType)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	metadata := map[string]string{"format": "pt"} // Hugging Face refuses a file without it
	if err := safetensors.Write(filepath.Join(dir, "model.safetensors"), kept, metadata); err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(dir, configFile), config)
}

// WriteConfig writes dir/config.json alone, for weights of type d that are written as a stream or in shards.
func WriteConfig(dir string, c Config, d safetensors.DType) error {
	name := filepath.Join(dir, configFile)
	text, err := c.encode(name, d)
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(name, text)
}

// encode returns c as the text of the config.json name, with d as its torch_dtype, and makes sure that it reads back.
func (c Config) encode(name string, d safetensors.DType) ([]byte, error) {
	text, err := json.MarshalIndent(c.members(d), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	back, err := ParseConfig(name, text)
	if err != nil {
		return nil, fmt.Errorf("write %w", err)
	}
	if !isWeight(d) || !back.equal(c) {
		return nil, fmt.Errorf("write %s: the file cannot hold %+v with weights of type %q", name, c, string(d))
	}
	return append(text, '\n'), nil
}

// members returns what a config.json says of c for Hugging Face.
func (c Config) members(d safetensors.DType) map[string]any {
	members := map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "torch_dtype": DTypeName(d),
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
	return members
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
