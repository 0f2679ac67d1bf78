package model

import (
	"math"
	"slices"
	"strings"
	"testing"

	"gotransplant/model/safetensors"
)

// tiny is a valid config whose sizes are all different.
func tiny() Config {
	return Config{
		VocabSize: 7, HiddenSize: 12, IntermediateSize: 10, NumHiddenLayers: 2, NumAttentionHeads: 4, NumKeyValueHeads: 2,
		HeadDim: 6, MaxPositionEmbeddings: 64, RMSNormEps: 1e-5, RopeTheta: 10000, BOSTokenID: 1, EOSTokenIDs: []int{2},
	}
}

func llama3() *RopeScaling {
	return &RopeScaling{Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4,
		OriginalMaxPositionEmbeddings: 8192}
}

func TestValidate(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	cases := []struct {
		name   string
		change func(c *Config)
		want   string // "" when the config stays valid
	}{
		{"unchanged", func(*Config) {}, ""},
		{"heads not hidden_size wide", func(c *Config) { c.HeadDim = 2 }, ""},
		{"linear", func(c *Config) { c.RopeScaling = &RopeScaling{Type: "linear", Factor: 2} }, ""},
		{"llama3", func(c *Config) { c.RopeScaling = llama3() }, ""},
		{"zero vocabulary", func(c *Config) { c.VocabSize = 0 }, "vocab_size: 0"},
		{"negative width", func(c *Config) { c.HiddenSize = -12 }, "hidden_size: -12"},
		{"zero inner width", func(c *Config) { c.IntermediateSize = 0 }, "intermediate_size: 0"},
		{"no layers", func(c *Config) { c.NumHiddenLayers = 0 }, "num_hidden_layers: 0"},
		{"a million layers", func(c *Config) { c.NumHiddenLayers = 1 << 20 }, "num_hidden_layers: 1048576"},
		{"no heads", func(c *Config) { c.NumAttentionHeads = 0 }, "num_attention_heads: 0"},
		{"no key-value heads", func(c *Config) { c.NumKeyValueHeads = 0 }, "num_key_value_heads: 0"},
		{"uneven sharing", func(c *Config) { c.NumKeyValueHeads = 3 }, "4 attention heads cannot share 3"},
		{"more key-value heads", func(c *Config) { c.NumKeyValueHeads = 8 }, "4 attention heads cannot share 8"},
		{"odd head", func(c *Config) { c.HeadDim = 5 }, "head_dim: 5 is odd"},
		{"product too large", func(c *Config) { c.NumAttentionHeads, c.HeadDim = 1<<20, 1<<20 }, "wider than"},
		{"no context", func(c *Config) { c.MaxPositionEmbeddings = 0 }, "max_position_embeddings: 0"},
		{"eps zero", func(c *Config) { c.RMSNormEps = 0 }, "rms_norm_eps: 0"},
		{"eps NaN", func(c *Config) { c.RMSNormEps = nan }, "rms_norm_eps: NaN"},
		{"theta infinite", func(c *Config) { c.RopeTheta = inf }, "rope_theta: +Inf"},
		{"theta negative", func(c *Config) { c.RopeTheta = -1 }, "rope_theta: -1"},
		{"unknown scaling", func(c *Config) { c.RopeScaling = &RopeScaling{Type: "yarn", Factor: 2} }, `type "yarn"`},
		{"factor zero", func(c *Config) { c.RopeScaling = &RopeScaling{Type: "linear"} }, "factor: 0"},
		{"factor NaN", func(c *Config) { c.RopeScaling = llama3(); c.RopeScaling.Factor = nan }, "factor: NaN"},
		{"equal frequency factors", func(c *Config) { c.RopeScaling = llama3(); c.RopeScaling.LowFreqFactor = 4 },
			"low_freq_factor < high_freq_factor, got 4 and 4"},
		{"low factor zero", func(c *Config) { c.RopeScaling = llama3(); c.RopeScaling.LowFreqFactor = 0 }, "got 0 and 4"},
		{"high factor negative", func(c *Config) { c.RopeScaling = llama3(); c.RopeScaling.HighFreqFactor = -4 }, "got 1 and -4"},
		{"high factor infinite", func(c *Config) { c.RopeScaling = llama3(); c.RopeScaling.HighFreqFactor = inf }, "got 1 and +Inf"},
		{"smallest original context", func(c *Config) { c.RopeScaling = llama3(); c.RopeScaling.OriginalMaxPositionEmbeddings = 1 }, ""},
		{"longest contexts", func(c *Config) {
			c.RopeScaling = llama3()
			c.MaxPositionEmbeddings, c.RopeScaling.OriginalMaxPositionEmbeddings = math.MaxInt32, math.MaxInt32
		}, ""},
		{"widest", func(c *Config) { c.HiddenSize, c.NumAttentionHeads, c.HeadDim = maxSize, 2, maxSize/2 }, ""},
		{"no original context", func(c *Config) { c.RopeScaling = llama3(); c.RopeScaling.OriginalMaxPositionEmbeddings = 0 },
			"original_max_position_embeddings: 0"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			config := tiny()
			c.change(&config)
			err := config.Validate()
			if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestValidateListsEverything(t *testing.T) {
	err := Config{}.Validate()
	for _, key := range []string{"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
		"num_attention_heads",
		"num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta"} {
		if err == nil || !strings.Contains(err.Error(), key+":") {
			t.Errorf("got %v, want it to name %s", err, key)
		}
	}
}

// The llama3 numbers were computed in Python from the three branches of Hugging Face's _compute_llama3_parameters, one
// frequency at a time, in double precision; indices 29 to 34 (128 wide) and 15, 16 (64 wide) lie between the branches.
func TestInverseFrequencies(t *testing.T) {
	wide := llama3()
	small := llama3() // as LLaMA 3.2 1B
	small.Factor = 32
	cases := []struct {
		name    string
		headDim int
		theta   float64
		scaling *RopeScaling
		want    map[int]float64
	}{
		{"plain", 8, 10000, nil, map[int]float64{0: 1, 1: 0.1, 2: 0.01, 3: 0.001}},
		{"linear", 8, 10000, &RopeScaling{Type: "linear", Factor: 4}, map[int]float64{0: 0.25, 1: 0.025, 3: 0.00025}},
		{"llama3 of 8", 128, 500000, wide, map[int]float64{
			0: 1, 1: 0.8146172338565447, 20: 0.016560440080994446, 28: 0.0032114459947525913, 29: 0.002166570763503359,
			30: 0.0013718935677611381, 31: 0.0008567514129196321, 32: 0.0005248461609929547, 33: 0.00031269375038406517,
			34: 0.00017850781276799638, 35: 9.556212353964683e-05, 36: 7.78465527393245e-05, 50: 4.411534674558404e-06,
			63: 3.068925988914511e-07}},
		{"llama3 of 32", 64, 500000, small, map[int]float64{
			0: 1, 12: 0.0072926647372171085, 14: 0.0032114459947525913, 15: 0.001290547928209264,
			16: 0.00042955679655936815, 17: 9.70828780262767e-05, 18: 1.9461638184831125e-05, 31: 9.418306725434909e-08}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := Config{HeadDim: c.headDim, RopeTheta: c.theta, RopeScaling: c.scaling}.InverseFrequencies()
			if len(got) != c.headDim/2 {
				t.Fatalf("got %d frequencies, want %d", len(got), c.headDim/2)
			}
			for i, want := range c.want {
				if math.Abs(got[i]-want) > 1e-13*want {
					t.Errorf("frequency %d: got %v, want %v", i, got[i], want)
				}
			}
		})
	}
}

func TestSpecs(t *testing.T) {
	want := map[string][]int{
		"model.embed_tokens.weight": {7, 12}, "model.norm.weight": {12}, "lm_head.weight": {7, 12},
	}
	for _, layer := range []string{"model.layers.0.", "model.layers.1."} {
		for name, shape := range map[string][]int{
			"input_layernorm.weight": {12}, "post_attention_layernorm.weight": {12},
			"self_attn.q_proj.weight": {24, 12}, "self_attn.k_proj.weight": {12, 12}, "self_attn.v_proj.weight": {12, 12},
			"self_attn.o_proj.weight": {12, 24}, "mlp.gate_proj.weight": {10, 12}, "mlp.up_proj.weight": {10, 12},
			"mlp.down_proj.weight": {12, 10},
		} {
			want[layer+name] = shape
		}
	}
	for _, tied := range []bool{false, true} {
		c := tiny()
		if c.TieWordEmbeddings = tied; tied {
			delete(want, "lm_head.weight")
		}
		specs := c.Specs(safetensors.BF16)
		if len(specs) != len(want) {
			t.Errorf("tied %t: got %d tensors, want %d", tied, len(specs), len(want))
		}
		for _, s := range specs {
			if !slices.Equal(s.Shape, want[s.Name]) || s.DType != safetensors.BF16 {
				t.Errorf("tied %t: %s: got %s %v, want BF16 %v", tied, s.Name, s.DType, s.Shape, want[s.Name])
			}
		}
	}
}

// TestCheckTokenizer: a tokenizer may have as many tokens as the model, or fewer.
func TestCheckTokenizer(t *testing.T) {
	c := Config{VocabSize: 512}
	for tokens, want := range map[int]string{511: "", 512: "", 513: "the tokenizer has 513 tokens, the model's vocab_size is 512"} {
		got := ""
		if err := c.CheckTokenizer(tokens); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%d tokens: got error %q, want %q", tokens, got, want)
		}
	}
}
