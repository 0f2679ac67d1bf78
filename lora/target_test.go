package lora

import (
	"reflect"
	"strings"
	"testing"

	"gotransplant/model"
)

// selected writes targets as "layer:proj".
func selected(targets []target) string {
	var parts []string
	for _, t := range targets {
		parts = append(parts, string(rune('0'+t.layer))+":"+strings.TrimSuffix(t.proj, "_proj"))
	}
	return strings.Join(parts, " ")
}

func TestSelectTargets(t *testing.T) {
	names := func(n ...string) Targets { return Targets{Names: n} }
	for _, c := range []struct {
		name   string
		config Config
		want   string
	}{
		{"last part", Config{Targets: names("v_proj", "q_proj")}, "0:q 0:v 1:q 1:v"},
		{"two parts", Config{Targets: names("mlp.up_proj")}, "0:up 1:up"},
		{"a whole name", Config{Targets: names("model.layers.1.self_attn.o_proj")}, "1:o"},
		{"not a part of a word", Config{Targets: names("proj", "q_proj")}, "0:q 1:q"},
		{"a name that no LLaMA has", Config{Targets: names("c_attn", "down_proj")}, "0:down 1:down"},
		{"all-linear", Config{Targets: Targets{Regex: "all-linear"}},
			"0:q 0:k 0:v 0:o 0:gate 0:up 0:down 1:q 1:k 1:v 1:o 1:gate 1:up 1:down"},
		{"All-Linear", Config{Targets: Targets{Regex: "All-Linear"}, Exclude: names("mlp.gate_proj", "self_attn.k_proj",
			"up_proj", "v_proj", "o_proj")}, "0:q 0:down 1:q 1:down"},
		{"regex", Config{Targets: Targets{Regex: `.*\.(q|gate)_proj`}}, "0:q 0:gate 1:q 1:gate"},
		{"regex with alternatives outside a group", Config{
			Targets: Targets{Regex: `model.layers.0.self_attn.q_proj|model\.layers\.1\..*k_proj`}}, "0:q 1:k"},
		{"excluded by regex", Config{Targets: names("q_proj"), Exclude: Targets{Regex: `.*\.0\..*`}}, "1:q"},
		{"layers_to_transform", Config{Targets: names("q_proj"), LayersToTransform: []int{1}}, "1:q"},
		{"layers_pattern", Config{Targets: names("q_proj"), LayersToTransform: []int{0},
			LayersPattern: []string{"h", "layers"}}, "0:q"},
		{"a whole name ignores layers_to_transform", Config{Targets: names("model.layers.0.self_attn.q_proj", "k_proj"),
			LayersToTransform: []int{1}}, "0:q 1:k"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.config.selectTargets(2)
			if err != nil || selected(got) != c.want {
				t.Errorf("got %q, %v\nwant %q", selected(got), err, c.want)
			}
		})
	}
}

func TestSelectTargetsRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		parts  []string
	}{
		{"head", Config{Targets: Targets{Names: []string{"q_proj", "lm_head"}}}, []string{"target_modules", "lm_head"}},
		{"embedding", Config{Targets: Targets{Regex: ".*"}}, []string{"target_modules", "selects model"}},
		{"a block", Config{Targets: Targets{Names: []string{"self_attn"}}}, []string{"model.layers.0.self_attn"}},
		{"nothing", Config{Targets: Targets{Names: []string{"c_attn"}}}, []string{"target_modules", `["c_attn"]`, "none"}},
		{"a regex that is not whole", Config{Targets: Targets{Regex: "q_proj"}}, []string{"target_modules", "none"}},
		{"no such layer", Config{Targets: Targets{Names: []string{"q_proj"}}, LayersToTransform: []int{2}}, []string{"none"}},
		{"no such layers name", Config{Targets: Targets{Names: []string{"q_proj"}}, LayersToTransform: []int{0},
			LayersPattern: []string{"h"}}, []string{"none"}},
		{"a look-ahead", Config{Targets: Targets{Regex: "(?=q).*"}}, []string{"target_modules", "(?=q).*"}},
		{"a broken exclusion", Config{Targets: Targets{Names: []string{"q_proj"}}, Exclude: Targets{Regex: "("}},
			[]string{"exclude_modules"}},
		{"a broken layers pattern", Config{Targets: Targets{Names: []string{"q_proj"}}, LayersToTransform: []int{0},
			LayersPattern: []string{"("}}, []string{"layers_pattern"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.config.selectTargets(2)
			wantError(t, err, c.parts...)
		})
	}
}

// The cases follow PEFT's get_pattern_key: re.match(rf"(.*\.)?({key})$", module), first key first.
func TestPatterns(t *testing.T) {
	const q1 = "model.layers.1.self_attn.q_proj"
	for _, c := range []struct {
		name string
		p    Patterns
		want float64
	}{
		{"none", nil, 9},
		{"last part", Patterns{{"q_proj", 1}}, 1},
		{"not inside a part", Patterns{{"proj", 1}}, 9},
		{"end of a part by regex", Patterns{{".*proj", 1}}, 1},
		{"from the start", Patterns{{`^model.layers.1.self_attn.q_proj`, 1}}, 1},
		{"anchored too late", Patterns{{`^layers.1.self_attn.q_proj`, 1}}, 9},
		{"one layer", Patterns{{`layers\.0\..*`, 1}, {`layers\.[12]\..*`, 2}}, 2},
		{"the first wins", Patterns{{"q_proj", 1}, {".*", 2}}, 1},
		{"the first wins, other order", Patterns{{".*", 2}, {"q_proj", 1}}, 2},
		{"alternatives", Patterns{{"k_proj|q_proj", 1}}, 1},
		{"not a prefix", Patterns{{"self_attn", 1}}, 9},
	} {
		if got, err := c.p.find(q1, 9); err != nil || got != c.want {
			t.Errorf("%s: got %v, %v; want %v", c.name, got, err, c.want)
		}
	}
	_, err := newEmpty(Config{Rank: 1, Alpha: 1, Targets: Targets{Names: []string{"q_proj"}},
		RankPattern: Patterns{{"(", 1}}, AlphaPattern: Patterns{{"[", 1}}}, smallConfig())
	wantError(t, err, `rank_pattern: "("`, `alpha_pattern: "["`)
}

func TestParseTargets(t *testing.T) {
	for text, want := range map[string]Targets{
		"q_proj":              {Names: []string{"q_proj"}},
		"q_proj, mlp.up_proj": {Names: []string{"q_proj", "mlp.up_proj"}},
		"all-linear":          {Regex: "all-linear"},
		"ALL-linear":          {Regex: "all-linear"},
		`.*\.(q|v)_proj`:      {Regex: `.*\.(q|v)_proj`},
		`.*\.\d{1,2}\.mlp.*`:  {Regex: `.*\.\d{1,2}\.mlp.*`},
	} {
		if got, err := ParseTargets(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "q_proj,", "(q"} {
		got, err := ParseTargets(text)
		if err == nil {
			_, err = New(Options{Rank: 1, Alpha: 1, Targets: got}, model.Config{NumHiddenLayers: 1}, 0)
		}
		if err == nil {
			t.Errorf("%q: got %+v and no error, want one", text, got)
		}
	}
}
