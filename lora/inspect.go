package lora

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gotransplant/model"
	"gotransplant/model/safetensors"
)

// Inspect reads a PEFT directory without the model it is for, of which the tensors' names and shapes tell enough: how
// many layers it has at least, and the widths of its projections. Everything is checked as by [Open], against those.
func Inspect(dir string) (*Adapter, error) {
	d, err := openDirectory(dir)
	if err != nil {
		return nil, err
	}
	defer d.file.Close()
	c, err := widths(d.tensors, d.config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.weightsPath, err)
	}
	a, err := newEmpty(d.config, c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.configPath, err)
	}
	err = a.fill(d.weightsPath, d.tensors)
	if err == nil {
		return a, nil
	}
	if slices.ContainsFunc(a.Modules(), func(m Module) bool { return m.In == 1 || m.Out == 1 }) {
		err = fmt.Errorf("%w\n  (a width that no tensor tells stands as 1)", err)
	}
	return nil, err
}

// mostLayers is far above any model's, so that a damaged name cannot ask for all memory.
const mostLayers = 1 << 12

// widths gathers what a [model.Config] must say for tensors of these names and shapes; of two that disagree the first
// counts, and the second will be found not to fit; what none tells is 1. Heads are left out of it: they are one feature
// wide.
func widths(tensors []safetensors.Tensor, config Config) (c model.Config, err error) {
	c.HeadDim = 1
	name := regexp.MustCompile(`\.layers\.(\d+)\.(?:self_attn|mlp)\.([a-z]+_proj)\.lora_([AB])\.`)
	places := map[string][2]*int{ // of B's rows, and of A's columns
		"q_proj": {&c.NumAttentionHeads, &c.HiddenSize}, "k_proj": {&c.NumKeyValueHeads, &c.HiddenSize},
		"v_proj": {&c.NumKeyValueHeads, &c.HiddenSize}, "o_proj": {&c.HiddenSize, &c.NumAttentionHeads},
		"gate_proj": {&c.IntermediateSize, &c.HiddenSize}, "up_proj": {&c.IntermediateSize, &c.HiddenSize},
		"down_proj": {&c.HiddenSize, &c.IntermediateSize},
	}
	for _, t := range tensors {
		m := name.FindStringSubmatch(t.Name)
		if m == nil || len(t.Shape) != 2 {
			continue // to be found extra, or of no shape that fits
		}
		layer, err := strconv.Atoi(m[1])
		if err != nil || layer >= mostLayers {
			return c, fmt.Errorf("%s: no model has %d layers", t.Name, mostLayers)
		}
		c.NumHiddenLayers = max(c.NumHiddenLayers, layer+1)
		side := 0
		if m[3] == "A" {
			side = 1
		}
		if width := places[m[2]][side]; width != nil && *width == 0 {
			*width = t.Shape[side]
		}
	}
	if c.NumHiddenLayers == 0 {
		return c, noMatrices(tensors)
	}
	for _, layer := range config.LayersToTransform {
		c.NumHiddenLayers = max(c.NumHiddenLayers, min(layer+1, mostLayers))
	}
	for _, width := range []*int{&c.HiddenSize, &c.IntermediateSize, &c.NumAttentionHeads, &c.NumKeyValueHeads} {
		if *width < 1 {
			*width = 1
		}
	}
	return c, nil
}

// noMatrices is the error of a file that holds nothing of an adapter.
func noMatrices(tensors []safetensors.Tensor) error {
	if len(tensors) == 0 {
		return errors.New(noTensors)
	}
	var names []string
	for _, t := range tensors {
		names = append(names, t.Name)
	}
	return fmt.Errorf("none of its tensors is a LoRA matrix of a LLaMA projection:\n  %s", strings.Join(names, "\n  "))
}
