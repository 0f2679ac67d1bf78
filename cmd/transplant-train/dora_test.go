package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotransplant/transplant"
)

// TestDoRARun: --dora makes adapters with magnitudes, config.json has it, and a run that was killed and resumed leaves
// what an uninterrupted one does.
func TestDoRARun(t *testing.T) {
	whole, parts := filepath.Join(t.TempDir(), "run"), filepath.Join(t.TempDir(), "run")
	flags := func(dir string) []string {
		return goldenFlags("--arguer-adapter", "", "--chooser-adapter", "", "--dora", "--lora-rank", "4", "--weight-decay", "0.1",
			"--steps", "6", "--batch-size", "2", "--eval-every", "2", "--save-every", "3", "--out", dir)
	}
	r := succeed(t, flags(whole)...)
	config := readFile(t, whole, transplant.ConfigFile)
	if want := []byte(`"dora": true`); !bytes.Contains(config, want) {
		t.Errorf("config.json has no %s", want)
	}
	// q, k, v and o of 3 layers, two adapters: A and B of rank 4, and a magnitude a row
	if want := "8448 adapter parameters"; !strings.Contains(r.out, want) {
		t.Errorf("output does not tell of %s:\n%s", want, r.out)
	}
	for _, role := range []string{transplant.ArguerDir, transplant.ChooserDir} {
		if content := readFile(t, whole, role, "adapter_config.json"); !bytes.Contains(content, []byte(`"use_dora": true`)) {
			t.Errorf("%s: use_dora is not in\n%s", role, content)
		}
		if content := readFile(t, whole, role, "adapter_model.safetensors"); bytes.Count(content, []byte(".lora_magnitude_vector")) != 12 {
			t.Errorf("%s: not 12 magnitudes", role)
		}
	}
	program := build(t)
	p := start(t, program, flags(parts)...)
	p.when(t, os.Kill, func() bool { return lines(filepath.Join(parts, transplant.MetricsFile)) >= 4 })
	p.Wait()
	succeed(t, "--resume", parts)
	checkSame(t, contents(t, parts), contents(t, whole))
}
