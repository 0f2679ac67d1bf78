package lora

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestParseConfig(t *testing.T) {
	content := `{"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "base", "r": 16,
		"lora_alpha": 24.5, "use_rslora": true, "use_dora": true, "lora_dropout": 0.05, "target_modules": ["q_proj", "up_proj"],
		"exclude_modules": "x.*", "rank_pattern": {"z": 4, "a": 2}, "alpha_pattern": {"b": 0.5},
		"layers_to_transform": 3, "layers_pattern": "layers"}`
	got, err := ParseConfig("c.json", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{BaseModel: "base", TaskType: "CAUSAL_LM", Rank: 16, Alpha: 24.5, RSLoRA: true, DoRA: true, Dropout: 0.05,
		Targets: Targets{Names: []string{"q_proj", "up_proj"}}, Exclude: Targets{Regex: "x.*"},
		RankPattern: Patterns{{"z", 4}, {"a", 2}}, AlphaPattern: Patterns{{"b", 0.5}},
		LayersToTransform: []int{3}, LayersPattern: []string{"layers"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	written, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ParseConfig("written", written); err != nil || !reflect.DeepEqual(again, want) {
		t.Errorf("written and read again: got %+v, %v\nwant %+v", again, err, want)
	}
}

func TestParseConfigDefaults(t *testing.T) {
	got, err := ParseConfig("c.json", []byte(`{"peft_type": "LORA", "target_modules": null, "layers_to_transform": []}`))
	want := Config{Rank: 8, Alpha: 8, Targets: Targets{Names: []string{"q_proj", "v_proj"}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	written, err := json.Marshal(got)
	if want := `"task_type":null,"base_model_name_or_path":null`; err != nil || !strings.Contains(string(written), want) {
		t.Errorf("written: got %s, %v; want %s in it", written, err, want)
	}
}

// Keys as PEFT writes them for a plain LoRA, and keys that mean nothing when empty.
func TestParseConfigIgnores(t *testing.T) {
	for _, extra := range []string{
		`"bias": "none"`, `"fan_in_fan_out": false`, `"modules_to_save": null`, `"use_dora": false`,
		`"init_lora_weights": true`, `"init_lora_weights": false`, `"init_lora_weights": "gaussian"`,
		`"megatron_core": "megatron.core"`, `"megatron_config": null`, `"qalora_group_size": 16`, `"use_qalora": false`,
		`"loftq_config": { }`, `"auto_mapping": {"a": 1}`, `"revision": "main"`, `"inference_mode": true`,
		`"peft_version": "0.18.0"`, `"trainable_token_indices": [ ]`, `"from_the_future": null`, `"lora_bias": false`,
	} {
		if _, err := ParseConfig("c.json", []byte(`{"peft_type": "LORA", `+extra+`}`)); err != nil {
			t.Errorf("%s: got %v, want no error", extra, err)
		}
	}
}

func TestParseConfigRefusesByKey(t *testing.T) {
	for _, c := range []struct{ member, key string }{
		{`"peft_type": "IA3"`, "peft_type"},
		{`"bias": "all"`, "bias"}, {`"bias": null`, "bias"},
		{`"fan_in_fan_out": true`, "fan_in_fan_out"},
		{`"modules_to_save": ["lm_head"]`, "modules_to_save"},
		{`"use_dora": "yes"`, "use_dora"},
		{`"init_lora_weights": "pissa_niter_16"`, "init_lora_weights"}, {`"init_lora_weights": "olora"`, "init_lora_weights"},
		{`"init_lora_weights": "loftq"`, "init_lora_weights"}, {`"init_lora_weights": "corda"`, "init_lora_weights"},
		{`"init_lora_weights": "eva"`, "init_lora_weights"},
		{`"trainable_token_indices": [1]`, "trainable_token_indices"},
		{`"lora_bias": true`, "lora_bias"},
		{`"target_parameters": ["mlp.w"]`, "target_parameters"},
		{`"megatron_config": {"a": 1}`, "megatron_config"},
		{`"layer_replication": [[0, 2]]`, "layer_replication"},
		{`"from_the_future": 7`, "from_the_future"},
		{`"R": 4`, "R"},
		{`"r": 0`, "r"}, {`"r": 2.5`, "r"}, {`"r": "8"`, "r"},
		{`"lora_alpha": 0`, "lora_alpha"}, {`"lora_alpha": "16"`, "lora_alpha"},
		{`"lora_dropout": 1`, "lora_dropout"}, {`"lora_dropout": -0.1`, "lora_dropout"},
		{`"rank_pattern": {"q": 0}`, "rank_pattern"}, {`"rank_pattern": {"q": 1.5}`, "rank_pattern"},
		{`"rank_pattern": [1]`, "rank_pattern"}, {`"alpha_pattern": {"q": "1"}`, "alpha_pattern"},
		{`"target_modules": 3`, "target_modules"},
		{`"target_modules": ".*q_proj", "layers_to_transform": [0]`, "layers_to_transform"},
		{`"layers_pattern": "layers"`, "layers_pattern"},
		{`"layers_to_transform": "x"`, "layers_to_transform"}, {`"layers_to_transform": ["x"]`, "layers_to_transform"},
	} {
		content := `{"peft_type": "LORA", ` + c.member + `}`
		t.Run(c.member, func(t *testing.T) {
			_, err := ParseConfig("c.json", []byte(content))
			wantError(t, err, "c.json: "+c.key+":")
		})
	}
}

func TestParseConfigListsEverything(t *testing.T) {
	_, err := ParseConfig("c.json", []byte(`{"bias": "all", "lora_bias": true, "r": -1}`))
	wantError(t, err, "bias", "lora_bias", "r: -1", "peft_type: missing")
	for _, broken := range []string{"", "[]", `{"r": 1`, `{"r": 1} x`, `{"r": }`, `"text"`} {
		if _, err := ParseConfig("c.json", []byte(broken)); err == nil || !strings.HasPrefix(err.Error(), "c.json: ") {
			t.Errorf("%q: got %v, want an error that names the file", broken, err)
		}
	}
}
