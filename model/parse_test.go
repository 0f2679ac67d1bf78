package model

import (
	"math"
	"reflect"
	"strings"
	"testing"
)

// sizes are the members every config.json must have, as LLaMA 1 has them but for the numbers.
const sizes = `"vocab_size":7,"hidden_size":12,"intermediate_size":10,"num_hidden_layers":2,"num_attention_heads":2`

// withModel adds the architecture to members.
func withModel(members string) string {
	return `{"architectures":["LlamaForCausalLM"],"model_type":"llama",` + members + `}`
}

func TestParseConfig(t *testing.T) {
	plain := Config{
		VocabSize: 7, HiddenSize: 12, IntermediateSize: 10, NumHiddenLayers: 2, NumAttentionHeads: 2, NumKeyValueHeads: 2,
		HeadDim: 6, MaxPositionEmbeddings: 2048, RMSNormEps: 1e-6, RopeTheta: 10000, BOSTokenID: 1, EOSTokenIDs: []int{2},
	}
	llama3JSON := `{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,` +
		`"original_max_position_embeddings":8192}`
	cases := []struct {
		name   string
		text   string
		change func(c *Config)
	}{
		{"defaults", withModel(sizes), func(*Config) {}},
		{"null is absent", withModel(sizes + `,"num_key_value_heads":null,"head_dim":null,"rope_scaling":null,` +
			`"rope_theta":null,"sliding_window":null,"quantization_config":null,"layer_types":null,"hidden_act":null`),
			func(*Config) {}},
		{"without architectures", `{"model_type":"llama",` + sizes + `}`, func(*Config) {}},
		{"without model_type", `{"architectures":["LlamaForCausalLM"],` + sizes + `}`, func(*Config) {}},
		{"first spelling of the class", `{"architectures":["LLaMAForCausalLM"],` + sizes + `}`, func(*Config) {}},
		{"harmless options", withModel(sizes + `,"pretraining_tp":2,"attention_bias":false,"mlp_bias":false,` +
			`"hidden_act":"silu","use_cache":true,"attention_dropout":0.0,"pad_token_id":-1,"layer_types":["full_attention"],` +
			`"partial_rotary_factor":1.0,"Hidden_Size":99`), func(*Config) {}},
		{"grouped heads", withModel(sizes + `,"num_key_value_heads":1,"head_dim":4`),
			func(c *Config) { c.NumKeyValueHeads, c.HeadDim = 1, 4 }},
		{"numbers", withModel(sizes + `,"rms_norm_eps":1e-05,"rope_theta":500000,"max_position_embeddings":131072`),
			func(c *Config) { c.RMSNormEps, c.RopeTheta, c.MaxPositionEmbeddings = 1e-5, 500000, 131072 }},
		{"tied", withModel(sizes + `,"tie_word_embeddings":true`), func(c *Config) { c.TieWordEmbeddings = true }},
		{"several ends", withModel(sizes + `,"bos_token_id":128000,"eos_token_id":[128001,128008,128009]`),
			func(c *Config) { c.BOSTokenID, c.EOSTokenIDs = 128000, []int{128001, 128008, 128009} }},
		{"no special tokens", withModel(sizes + `,"bos_token_id":null,"eos_token_id":null`),
			func(c *Config) { c.BOSTokenID, c.EOSTokenIDs = -1, nil }},
		{"default scaling", withModel(sizes + `,"rope_scaling":{"rope_type":"default"}`), func(*Config) {}},
		{"linear, old key", withModel(sizes + `,"rope_scaling":{"type":"linear","factor":4}`),
			func(c *Config) { c.RopeScaling = &RopeScaling{Type: "linear", Factor: 4} }},
		{"both keys, agreeing", withModel(sizes + `,"rope_scaling":{"type":"linear","rope_type":"linear","factor":4.5}`),
			func(c *Config) { c.RopeScaling = &RopeScaling{Type: "linear", Factor: 4.5} }},
		{"llama3", withModel(sizes + `,"rope_theta":500000.0,"rope_scaling":` + llama3JSON),
			func(c *Config) { c.RopeTheta, c.RopeScaling = 500000, llama3() }},
		{"newer layout", withModel(sizes + `,"rope_parameters":{"rope_theta":500000.0,` + llama3JSON[1:]),
			func(c *Config) { c.RopeTheta, c.RopeScaling = 500000, llama3() }},
		{"newer layout, plain", withModel(sizes + `,"rope_parameters":{"rope_theta":20000.0,"rope_type":"default",` +
			`"partial_rotary_factor":1.0}`), func(c *Config) { c.RopeTheta = 20000 }},
		{"both layouts, agreeing", withModel(sizes + `,"rope_theta":5.0,"rope_scaling":` + llama3JSON +
			`,"rope_parameters":{"rope_theta":5,` + llama3JSON[1:]), func(c *Config) {
			c.RopeTheta, c.RopeScaling = 5,
				llama3()
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			want := plain
			c.change(&want)
			if got, err := ParseConfig("config.json", []byte(c.text)); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, want)
			}
		})
	}
}

func TestParseConfigRefuses(t *testing.T) {
	with := func(members string) string { return withModel(sizes + "," + members) }
	cases := []struct{ name, text, want string }{
		{"not JSON", "{", "not JSON"},
		{"key twice", with(`"hidden_size":12`), `key "hidden_size" stands twice`},
		{"NaN", with(`"rms_norm_eps":NaN`), "not JSON"},
		{"another model", `{"model_type":"mistral",` + sizes + `}`, `model_type: "mistral"`},
		{"another class", `{"model_type":"llama","architectures":["LlamaForSequenceClassification"],` + sizes + `}`,
			`architectures: "LlamaForSequenceClassification"`},
		{"class of another model", `{"architectures":["Qwen2ForCausalLM"],"model_type":"llama",` + sizes + `}`,
			"Qwen2ForCausalLM"},
		{"another model beside the class", `{"architectures":["LlamaForCausalLM"],"model_type":"mistral",` + sizes + `}`, `model_type: "mistral"`},
		{"class is no list", `{"architectures":"LlamaForCausalLM","model_type":"llama",` + sizes + `}`, "architectures: want a list of strings"},
		{"no heads", strings.Replace(withModel(sizes), `heads":2`, `heads":0`, 1), "num_attention_heads: 0"},
		{"no model at all", `{` + sizes + `}`, `model_type: ""`},
		{"attention bias", with(`"attention_bias":true`), "attention_bias: true"},
		{"MLP bias", with(`"mlp_bias":true`), "mlp_bias: true"},
		{"activation", with(`"hidden_act":"gelu"`), `hidden_act: "gelu"`},
		{"quantised", with(`"quantization_config":{"bits":4}`), `quantization_config: {"bits":4}`},
		{"sliding window", with(`"sliding_window":4096`), "sliding_window: 4096"},
		{"layer types", with(`"layer_types":["full_attention","sliding_attention"]`), `layer_types: "sliding_attention"`},
		{"half rotary", with(`"partial_rotary_factor":0.5`), "partial_rotary_factor: 0.5"},
		{"soft cap", with(`"final_logit_softcapping":30.0`), "final_logit_softcapping: 30.0"},
		{"experts", with(`"num_local_experts":8`), "num_local_experts: 8"},
		{"size is a string", with(`"num_key_value_heads":"2"`), `num_key_value_heads: want a whole number, got "2"`},
		{"size is a fraction", with(`"num_key_value_heads":1.5`), "num_key_value_heads: want a whole number, got 1.5"},
		{"size negative", with(`"num_key_value_heads":-2`), "num_key_value_heads: -2"},
		{"key-value heads zero", with(`"num_key_value_heads":0`), "num_key_value_heads: 0"},
		{"number is a string", with(`"rope_theta":"x"`), `rope_theta: want a number, got "x"`},
		{"eps zero", with(`"rms_norm_eps":0`), "rms_norm_eps: 0"},
		{"number overflows", with(`"rope_theta":1e999`), "rope_theta: want a number, got 1e999"},
		{"flag is a number", with(`"tie_word_embeddings":1`), "tie_word_embeddings: want true or false, got 1"},
		{"text is a number", with(`"hidden_act":1`), "hidden_act: want a string, got 1"},
		{"two starts", with(`"bos_token_id":[1,2]`), "bos_token_id: want one token"},
		{"ends are strings", with(`"eos_token_id":["a"]`), "eos_token_id: want whole numbers"},
		{"yarn", with(`"rope_scaling":{"rope_type":"yarn","factor":4}`), `rope_scaling: rope_type: "yarn" is not supported`},
		{"dynamic", with(`"rope_scaling":{"type":"dynamic","factor":4}`), `"dynamic" is not supported`},
		{"longrope", with(`"rope_parameters":{"rope_type":"longrope"}`), `rope_parameters: rope_type: "longrope"`},
		{"scaling is a string", with(`"rope_scaling":"linear"`), "rope_scaling: want an object"},
		{"scaling types differ", with(`"rope_scaling":{"type":"linear","rope_type":"llama3","factor":2}`), "contradicts"},
		{"linear without factor", with(`"rope_scaling":{"type":"linear"}`), "factor: 0"},
		{"llama3 without context",
			with(`"rope_scaling":{"type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4}`),
			"original_max_position_embeddings: 0"},
		{"unknown part of a scaling", with(`"rope_scaling":{"type":"linear","factor":2,"attention_factor":2}`),
			"rope_scaling: attention_factor: is not supported"},
		{"unknown part that is 1", with(`"rope_scaling":{"type":"linear","factor":2,"attention_factor":1}`),
			"rope_scaling: attention_factor: is not supported"},
		{"half rotary in a scaling", with(`"rope_parameters":{"rope_type":"default","partial_rotary_factor":0.5}`),
			"rope_parameters: partial_rotary_factor: is not supported"},
		{"llama3 with a context too long", with(`"rope_scaling":{"type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,` +
			`"original_max_position_embeddings":2147483648}`), "original_max_position_embeddings: 2147483648 is not between 1 and 2147483647"},
		{"rotary by layer type", with(`"rope_parameters":{"full_attention":{"rope_type":"default"}}`),
			"rope_parameters: full_attention: is not supported"},
		{"thetas differ", with(`"rope_theta":10000,"rope_parameters":{"rope_theta":500000}`), "500000 contradicts 10000"},
		{"scalings differ", with(`"rope_scaling":{"type":"linear","factor":2},"rope_parameters":{"rope_type":"default"}`),
			"contradicts rope_scaling"},
		{"scaling only in the newer layout", with(`"rope_scaling":{"type":"default"},"rope_parameters":{"rope_type":"linear","factor":2}`),
			"contradicts rope_scaling"},
		{"factors differ", with(`"rope_scaling":{"type":"linear","factor":2},"rope_parameters":{"rope_type":"linear","factor":3}`),
			"contradicts rope_scaling"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseConfig("dir/config.json", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "dir/config.json") {
				t.Errorf("got %+v, %v\nwant an error with dir/config.json and %q", got, err, c.want)
			}
		})
	}
}

func TestParseConfigListsEverything(t *testing.T) {
	_, err := ParseConfig("config.json",
		[]byte(`{"model_type":"gpt2","mlp_bias":true,"head_dim":"x","num_attention_heads":5,`+
			`"hidden_size":12}`))
	for _, key := range []string{"model_type", "mlp_bias", "head_dim", "vocab_size", "intermediate_size",
		"num_hidden_layers"} {
		if err == nil || !strings.Contains(err.Error(), key+": ") {
			t.Errorf("got %v, want it to name %s", err, key)
		}
	}
	_, err = ParseConfig("config.json", []byte(withModel(strings.Replace(sizes, `heads":2`, `heads":5`, 1))))
	if err == nil || !strings.Contains(err.Error(), "head_dim: is missing, and 5 heads do not divide hidden_size 12") {
		t.Errorf("got %v, want it to say that 5 does not divide 12", err)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(withModel(sizes)))
	f.Add([]byte(withModel(sizes +
		`,"rope_parameters":{"rope_theta":1,"rope_type":"linear","factor":2},"eos_token_id":[1]`)))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseConfig("x", text)
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Errorf("accepted, and yet: %v", err)
		}
		if c.HeadDim < 1<<16 {
			for i, w := range c.InverseFrequencies() {
				if math.IsNaN(w) || w < 0 {
					t.Errorf("frequency %d is %v", i, w)
				}
			}
		}
	})
}
