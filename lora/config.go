package lora

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Config is a PEFT adapter_config.json of type LORA, reduced to what this package supports; [ParseConfig] refuses the
// rest by key. Field names and meanings are PEFT's LoraConfig.
type Config struct {
	BaseModel         string   // base_model_name_or_path, carried along
	TaskType          string   // task_type, carried along
	Rank              int      // r
	Alpha             float64  // lora_alpha
	RSLoRA            bool     // use_rslora: scale by 1/sqrt(r) instead of 1/r
	DoRA              bool     // use_dora: directions by A and B, magnitudes apart
	Dropout           float64  // lora_dropout: inactive at inference, refused by [Adapter.CheckTrainable]
	Targets           Targets  // target_modules
	Exclude           Targets  // exclude_modules
	RankPattern       Patterns // rank_pattern
	AlphaPattern      Patterns // alpha_pattern
	LayersToTransform []int    // layers_to_transform; nil means every layer
	LayersPattern     []string // layers_pattern: the name before the layer's number; nil means any
}

// ParseConfig reads the content of an adapter_config.json. Absent keys have PEFT's defaults (r 8, lora_alpha 8). The
// error lists every key that asks for something unsupported; name is the file's name, for that error.
func ParseConfig(name string, content []byte) (Config, error) {
	members, err := orderedObject(content)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", name, err)
	}
	c := Config{Rank: 8, Alpha: 8, Targets: Targets{Names: []string{"q_proj", "v_proj"}}} // PEFT's targets for llama
	var errs []error
	typed := false
	for _, m := range members {
		typed = typed || m.key == "peft_type"
		if err := c.set(m.key, m.value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", name, m.key, err))
		}
	}
	if !typed {
		errs = append(errs, fmt.Errorf("%s: peft_type: missing; only LORA is supported", name))
	}
	if err := c.validate(); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", name, err))
	}
	return c, errors.Join(errs...)
}

// set stores or judges one key of the file.
func (c *Config) set(key string, value json.RawMessage) error {
	switch key {
	case "base_model_name_or_path":
		return optional(value, &c.BaseModel)
	case "task_type":
		return optional(value, &c.TaskType)
	case "r":
		return json.Unmarshal(value, &c.Rank)
	case "lora_alpha":
		return json.Unmarshal(value, &c.Alpha)
	case "use_rslora":
		return optional(value, &c.RSLoRA)
	case "use_dora":
		return optional(value, &c.DoRA)
	case "lora_dropout":
		return json.Unmarshal(value, &c.Dropout)
	case "target_modules":
		return optional(value, &c.Targets)
	case "exclude_modules":
		return optional(value, &c.Exclude)
	case "rank_pattern":
		return optional(value, &c.RankPattern)
	case "alpha_pattern":
		return optional(value, &c.AlphaPattern)
	case "layers_to_transform":
		return oneOrMany(value, &c.LayersToTransform)
	case "layers_pattern":
		return oneOrMany(value, &c.LayersPattern)
	default:
		return refuse(key, value)
	}
}

// refuse judges a key that is not stored: nil when its value leaves LoRA and DoRA as they are.
func refuse(key string, value json.RawMessage) error {
	var text string
	isText := json.Unmarshal(value, &text) == nil
	switch key {
	case "peft_type":
		if text != "LORA" {
			return fmt.Errorf("%s is not supported, only \"LORA\" is", value)
		}
		return nil
	case "bias":
		if !isText || text != "none" {
			return fmt.Errorf("%s is not supported, only \"none\" is", value)
		}
		return nil
	case "init_lora_weights":
		// The other methods change the base weights, or come with files that do.
		if !isText || slices.Contains([]string{"gaussian", "orthogonal"}, text) {
			return nil
		}
		return fmt.Errorf("%q may change the base weights and is not supported", text)
	case "auto_mapping", "revision", "inference_mode", "peft_version":
		return nil // say where the adapter came from, not what it computes
	case "megatron_core", "qalora_group_size":
		return nil // have values by default, which megatron_config and use_qalora switch on
	}
	if isEmpty(value) {
		return nil
	}
	return fmt.Errorf("%s is not supported; use an adapter without it", value)
}

// isEmpty says whether a JSON value is null, false, zero, or an empty string, list or object.
func isEmpty(value json.RawMessage) bool {
	var compact bytes.Buffer
	err := json.Compact(&compact, value)
	return err == nil && slices.Contains([]string{"null", "false", "0", "0.0", `""`, "[]", "{}"}, compact.String())
}

func (c *Config) validate() error {
	var errs []error
	if c.Rank < 1 {
		errs = append(errs, fmt.Errorf("r: %d, must be at least 1", c.Rank))
	}
	if math.IsNaN(c.Alpha) || math.IsInf(c.Alpha, 0) || c.Alpha == 0 {
		errs = append(errs, fmt.Errorf("lora_alpha: %v, must be a finite number other than 0", c.Alpha))
	}
	if c.Dropout < 0 || c.Dropout >= 1 {
		errs = append(errs, fmt.Errorf("lora_dropout: %v, must be in [0, 1)", c.Dropout))
	}
	for _, p := range c.RankPattern {
		if p.Value < 1 || p.Value != math.Trunc(p.Value) || p.Value > math.MaxInt32 {
			errs = append(errs, fmt.Errorf("rank_pattern: %q: %v, must be a whole number of at least 1", p.Key, p.Value))
		}
	}
	if c.LayersToTransform != nil && c.Targets.Regex != "" {
		errs = append(errs, errors.New("layers_to_transform: cannot be combined with a regex in target_modules"))
	}
	if c.LayersToTransform == nil && c.LayersPattern != nil {
		errs = append(errs, errors.New("layers_pattern: has no meaning without layers_to_transform"))
	}
	return errors.Join(errs...)
}

// MarshalJSON writes the keys PEFT itself writes for LoRA and DoRA, in a fixed order.
func (c Config) MarshalJSON() ([]byte, error) {
	orNull := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	var exclude any
	if !c.Exclude.empty() {
		exclude = c.Exclude
	}
	members := []struct {
		key   string
		value any
	}{
		{"peft_type", "LORA"}, {"task_type", orNull(c.TaskType)}, {"base_model_name_or_path", orNull(c.BaseModel)},
		{"r", c.Rank}, {"lora_alpha", c.Alpha}, {"use_rslora", c.RSLoRA}, {"lora_dropout", c.Dropout},
		{"target_modules", c.Targets}, {"exclude_modules", exclude},
		{"rank_pattern", c.RankPattern}, {"alpha_pattern", c.AlphaPattern},
		{"layers_to_transform", c.LayersToTransform}, {"layers_pattern", c.LayersPattern},
		{"bias", "none"}, {"fan_in_fan_out", false}, {"init_lora_weights", true}, {"modules_to_save", nil},
		{"use_dora", c.DoRA}, {"inference_mode", true},
	}
	var b strings.Builder
	for i, m := range members {
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.key, err)
		}
		fmt.Fprintf(&b, "%s%q:%s", separator(i), m.key, value)
	}
	return []byte("{" + b.String() + "}"), nil
}
