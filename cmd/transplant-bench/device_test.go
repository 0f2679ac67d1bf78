//go:build cgo

package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gotransplant/internal/interpreter"
	"gotransplant/internal/standin"
	"gotransplant/llama"
	"gotransplant/model/safetensors"
)

// TestWhatADeviceDecidesIsTold: on a device with fused attention a step chooses between it and plain attention as a run
// does, and both that and micro-batches that did not fit are told.
func TestWhatADeviceDecidesIsTold(t *testing.T) {
	t.Setenv("GOPJRT_CUDA_CHECKS", "0") // it looks for NVIDIA's libraries
	plugin, err := interpreter.Build(t.Context(), t.TempDir(), "cuda")
	if errors.Is(err, interpreter.ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	whole, _ := measuredOn(t, plugin)
	if !strings.Contains(whole, "fused in place") || strings.Contains(whole, "out of memory") {
		t.Errorf("told %q, want what attention was chosen and that alone", whole)
	}
	_, peak := measuredOn(t, plugin, "--attention", "plain")
	t.Setenv("INTERPRETER_MEMORY", fmt.Sprint(peak*7/8))
	if parts, _ := measuredOn(t, plugin, "--attention", "plain"); !strings.Contains(parts, "out of memory with 4 rows") {
		t.Errorf("told %q, want that 4 rows did not fit", parts)
	}
}

// measuredOn runs two steps of four rows and returns what was told of them, and the most bytes that they took.
func measuredOn(t *testing.T, plugin string, flags ...string) (told string, peak int64) {
	t.Helper()
	backend, err := interpreter.Open(plugin)
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Finalize()
	s, o, err := parse(slices.Concat(short, []string{"--rows", "4", "--micro-batch", "4", "--trials", "1", "--dtype", "bfloat16"}, flags), nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := o.config()
	if err != nil {
		t.Fatal(err)
	}
	weights, err := llama.DeferMade(backend, config, o.made(), llama.AsStored, func(i int, spec safetensors.Spec) ([]byte, error) {
		return standin.Fill(spec, uint64(i))
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := assemble(s, o, backend, weights)
	if err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	b.watch(&lines)
	if _, err := b.measure(t.Context(), train); err != nil {
		t.Fatal(err)
	}
	counts, err := interpreter.CountsOf(backend)
	if err != nil {
		t.Fatal(err)
	}
	return lines.String(), counts.TemporariesPeak
}
