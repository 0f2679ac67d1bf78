package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotransplant/transplant"
)

// TestResumeWithOtherInputs: a run is not continued on another model, adapter or template, and the file is named; one from
// before they were recorded is.
func TestResumeWithOtherInputs(t *testing.T) {
	from := t.TempDir()
	for _, part := range []string{"model", "adapters", "templates"} {
		if err := os.CopyFS(filepath.Join(from, part), os.DirFS(golden(part))); err != nil {
			t.Fatal(err)
		}
	}
	in := func(path string) string { return filepath.Join(from, filepath.FromSlash(path)) }
	dir := filepath.Join(t.TempDir(), "run")
	succeed(t, goldenFlags("--model", in("model"), "--arguer-adapter", in("adapters/arguer"), "--chooser-adapter", in("adapters/chooser"),
		"--argue-template", in("templates/argue.tmpl"), "--choose-template", in("templates/choose.tmpl"), "--steps", "1", "--out", dir)...)
	for _, name := range []string{"model/config.json", "model/model.safetensors", "model/tokenizer.json", "adapters/arguer/adapter_model.safetensors",
		"adapters/chooser/adapter_config.json", "templates/argue.tmpl", "templates/choose.tmpl"} {
		old := readFile(t, in(name))
		changeLast(t, in(name), old)
		for _, flags := range [][]string{{"--resume", dir}, {"--resume", dir, "--dry-run"}} {
			if r := call(flags...); r.code != 1 || !strings.Contains(r.errors, in(name)+" has changed") {
				t.Errorf("%s: %q: exit status %d and message %q, want 1 and that it has changed", name, flags, r.code, r.errors)
			}
		}
		if err := os.WriteFile(in(name), old, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(in("model/extra.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := call("--resume", dir); r.code != 1 || !strings.Contains(r.errors, in("model/extra.json")+" was not there") {
		t.Errorf("a new file: exit status %d and message %q, want 1 and its name", r.code, r.errors)
	}
	forget(t, dir)
	succeed(t, "--resume", dir)
}

// changeLast changes the last byte that means something: a space for JSON and templates, a value's bits for tensors.
func changeLast(t *testing.T, path string, old []byte) {
	t.Helper()
	changed := append([]byte{}, old...)
	if filepath.Ext(path) == ".safetensors" {
		changed[len(changed)-1] ^= 1
	} else {
		changed = append(changed, ' ')
	}
	if err := os.WriteFile(path, changed, 0o644); err != nil {
		t.Fatal(err)
	}
}

// forget makes a run's config.json one from before its inputs were recorded.
func forget(t *testing.T, dir string) {
	t.Helper()
	var config map[string]any
	if err := json.Unmarshal(readFile(t, dir, transplant.ConfigFile), &config); err != nil {
		t.Fatal(err)
	}
	if inputs, ok := config["inputs_sha256"].(map[string]any); !ok || len(inputs) < 7 {
		t.Fatalf("%s records the inputs %v, want all files", transplant.ConfigFile, inputs)
	}
	delete(config, "inputs_sha256")
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	overwrite(transplant.ConfigFile, string(text))(t, dir)
}
