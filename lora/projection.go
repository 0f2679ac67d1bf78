package lora

import (
	"fmt"
	"slices"

	"gotransplant/model"
)

// Projections returns the names of the seven linear maps of a LLaMA block in the order in which [Adapter.Params] lists
// them; the names are Hugging Face's.
func Projections() []string {
	return []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
}

// target is one projection of one layer.
type target struct {
	layer int
	proj  string
}

// module is the name of t inside the base model, the text PEFT matches its patterns against.
func (t target) module() string {
	block := "self_attn"
	if slices.Contains([]string{"gate_proj", "up_proj", "down_proj"}, t.proj) {
		block = "mlp"
	}
	return fmt.Sprintf("model.layers.%d.%s.%s", t.layer, block, t.proj)
}

// dims are the output and input widths of a projection: its weight is [out, in].
func dims(c model.Config, proj string) (out, in int) {
	attn, kv := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	switch proj {
	case "q_proj":
		return attn, c.HiddenSize
	case "k_proj", "v_proj":
		return kv, c.HiddenSize
	case "o_proj":
		return c.HiddenSize, attn
	case "down_proj":
		return c.HiddenSize, c.IntermediateSize
	default: // gate_proj, up_proj
		return c.IntermediateSize, c.HiddenSize
	}
}
