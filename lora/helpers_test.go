package lora

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotransplant/model"
)

// sharedDir finds ../shared beside the repository, or $TRANSPLANT_SHARED, and skips the test without it.
func sharedDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("TRANSPLANT_SHARED")
	for root := "."; dir == ""; root = filepath.Join(root, "..") {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			dir = filepath.Join(root, "..", "shared")
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "golden")); err != nil {
		t.Skipf("skipped: the shared reference files are not at %s", dir)
	}
	return dir
}

// goldenConfig reads what adapters need of a golden model's config.json.
func goldenConfig(t *testing.T, dir string) model.Config {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "model", "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Hidden  int `json:"hidden_size"`
		Inner   int `json:"intermediate_size"`
		Layers  int `json:"num_hidden_layers"`
		Heads   int `json:"num_attention_heads"`
		KVHeads int `json:"num_key_value_heads"`
		HeadDim int `json:"head_dim"`
	}
	if err := json.Unmarshal(content, &c); err != nil {
		t.Fatal(err)
	}
	if c.HeadDim == 0 {
		c.HeadDim = c.Hidden / c.Heads
	}
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	return model.Config{HiddenSize: c.Hidden, IntermediateSize: c.Inner, NumHiddenLayers: c.Layers,
		NumAttentionHeads: c.Heads, NumKeyValueHeads: c.KVHeads, HeadDim: c.HeadDim}
}

// smallConfig is a model of one layer whose widths are all different where LLaMA lets them be.
func smallConfig() model.Config {
	return model.Config{HiddenSize: 8, IntermediateSize: 12, NumHiddenLayers: 1,
		NumAttentionHeads: 3, NumKeyValueHeads: 1, HeadDim: 4}
}

// wantError fails unless err names every one of the parts.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("got error %q, want it to contain %q", err, p)
		}
	}
}
