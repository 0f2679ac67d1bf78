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

// TestCeilingBesideWeights: a device without room for the largest product is measured in a smaller one, and says so.
func TestCeilingBesideWeights(t *testing.T) {
	plugin, err := interpreter.Build(t.Context(), t.TempDir(), "interpreter")
	if errors.Is(err, interpreter.ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("INTERPRETER_RUNS", "1") // products take room, and no time
	for _, c := range []struct {
		room int // bytes
		ok   bool
		told int // lines
	}{{48 << 20, true, 3}, {1024, false, 3}} {
		t.Setenv("INTERPRETER_MEMORY", fmt.Sprint(c.room))
		backend, err := interpreter.Open(plugin)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		speed, err := ceiling(backend, "float32", func(line string) { lines = append(lines, line) })
		backend.Finalize()
		if (err == nil) != c.ok || (speed > 0) != c.ok || len(lines) != c.told || !strings.Contains(lines[0], "8192 x 8192 x 8192") {
			t.Errorf("room for %d bytes: %g FLOP/s, error %v, told %q; want a speed: %t, and %d lines", c.room, speed, err, lines, c.ok, c.told)
		}
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
