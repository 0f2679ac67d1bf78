package lora

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gotransplant/internal/atomicfile"
	"gotransplant/model"
	"gotransplant/model/safetensors"
	"gotransplant/model/torchbin"
)

// The files of a PEFT directory.
const (
	configFile  = "adapter_config.json"
	weightsFile = "adapter_model.safetensors"
	pickleFile  = "adapter_model.bin"
)

// Open reads a PEFT directory for a model of shape c: adapter_config.json, and adapter_model.safetensors or else
// adapter_model.bin, in F64, F32, F16 or BF16. The error lists every key that is not supported, or every tensor that is
// missing, extra, wrongly shaped or not finite.
func Open(dir string, c model.Config) (*Adapter, error) {
	d, err := openDirectory(dir)
	if err != nil {
		return nil, err
	}
	defer d.file.Close()
	a, err := newEmpty(d.config, c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.configPath, err)
	}
	if err := a.fill(d.weightsPath, d.tensors); err != nil {
		return nil, err
	}
	return a, nil
}

// directory is what a PEFT directory holds; tensors are good until file is closed.
type directory struct {
	configPath, weightsPath string
	config                  Config
	file                    tensorFile
	tensors                 []safetensors.Tensor
}

func openDirectory(dir string) (d directory, err error) {
	d.configPath = filepath.Join(dir, configFile)
	content, err := os.ReadFile(d.configPath)
	if err != nil {
		return d, fmt.Errorf("adapter: %w%s", err, below(dir))
	}
	if d.config, err = ParseConfig(d.configPath, content); err != nil {
		return d, err
	}
	if d.weightsPath, d.file, err = openWeights(dir); err != nil {
		return d, err
	}
	for _, name := range d.file.Names() {
		t, _ := d.file.Tensor(name)
		d.tensors = append(d.tensors, t)
	}
	return d, nil
}

// below names the adapters in a directory of them, such as a run's, which was named in place of one.
func below(dir string) string {
	found, _ := filepath.Glob(filepath.Join(dir, "*", configFile))
	if len(found) == 0 {
		return ""
	}
	for i := range found {
		found[i] = filepath.Dir(found[i])
	}
	return fmt.Sprintf(": name one of the adapters below it, %s", strings.Join(found, " or "))
}

// tensorFile is what the readers of both kinds of tensor file have in common.
type tensorFile interface {
	Names() []string
	Tensor(name string) (safetensors.Tensor, bool)
	Close() error
}

// openWeights opens the directory's tensor file; safetensors is preferred, as in PEFT.
func openWeights(dir string) (path string, f tensorFile, err error) {
	path = filepath.Join(dir, weightsFile)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		f, err := safetensors.Open(path)
		return path, f, err
	}
	path = filepath.Join(dir, pickleFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return path, nil, fmt.Errorf("adapter: %s has neither %s nor %s", dir, weightsFile, pickleFile)
	}
	f, err = torchbin.Open(path)
	return path, f, err
}

const noTensors = "there are no tensors at all: what was saved is an empty adapter"

// fill copies every tensor of a file into its place and checks that each place is filled once.
func (a *Adapter) fill(path string, tensors []safetensors.Tensor) error {
	places := make(map[string]*Param, len(a.params))
	for _, p := range a.params {
		places[p.Name()] = p
	}
	var problems []string
	if len(tensors) == 0 {
		problems = append(problems, noTensors)
	}
	filled := map[string]string{}
	for _, t := range tensors {
		name := withoutAdapterName(t.Name)
		p, wanted := places[name]
		switch first, twice := filled[name]; {
		case !wanted:
			problems = append(problems, fmt.Sprintf("extra %s %v", t.Name, t.Shape))
			continue
		case twice:
			problems = append(problems, fmt.Sprintf("extra %s: the same place as %s", t.Name, first))
			continue
		}
		filled[name] = t.Name
		if err := p.set(t); err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", t.Name, err))
		}
	}
	for _, p := range a.params {
		if _, ok := filled[p.Name()]; !ok {
			problems = append(problems, fmt.Sprintf("missing %s %v", p.Name(), p.Dims()))
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("%s: does not fit the model and %s:\n  %s", path, configFile, strings.Join(problems, "\n  "))
	}
	return nil
}

// magnitudeSuffix ends the name of a magnitude in PEFT's files.
const magnitudeSuffix = ".lora_magnitude_vector"

// withoutAdapterName drops the adapter's name, which PEFT keeps out of its files but full state dicts carry:
// "lora_A.default.weight" becomes "lora_A.weight". The magnitude is a module's weight in PEFT's models and goes by the
// module's name in its files.
func withoutAdapterName(name string) string {
	for _, ending := range []string{".default.weight", ".weight", ".default"} {
		if stem, ok := strings.CutSuffix(name, magnitudeSuffix+ending); ok {
			return stem + magnitudeSuffix
		}
	}
	for _, kind := range []string{"A", "B"} {
		if stem, ok := strings.CutSuffix(name, ".lora_"+kind+".default.weight"); ok {
			return stem + ".lora_" + kind + ".weight"
		}
	}
	return name
}

// set stores a tensor of p's shape as float32.
func (p *Param) set(t safetensors.Tensor) error {
	if !slices.Equal(t.Shape, p.Dims()) {
		return fmt.Errorf("shape %v, want %v", t.Shape, p.Dims())
	}
	if !slices.Contains([]safetensors.DType{"F64", "F32", "F16", "BF16"}, t.DType) {
		return fmt.Errorf("dtype %s, want F64, F32, F16 or BF16", t.DType)
	}
	values, err := t.Float32s()
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(values, func(v float32) bool { return v-v != 0 }); i >= 0 {
		return fmt.Errorf("value %d is %v, which is not a finite float32", i, values[i])
	}
	copy(p.Value, values)
	return nil
}

// Save writes a PEFT directory, making it if need be: float32 tensors and a config that PEFT reads back. The same
// adapter gives the same bytes, and each file is whole or not written; the config is written last.
func (a *Adapter) Save(dir string) error {
	if a.unset {
		return fmt.Errorf("save adapter to %s: it is a new DoRA adapter without magnitudes: give them with InitMagnitudes", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("save adapter: %w", err)
	}
	var tensors []safetensors.Tensor
	for _, p := range a.params {
		tensors = append(tensors, float32Tensor(p.Name(), p.Dims(), p.Value))
	}
	// PEFT, like Transformers, wants to be told that the tensors are PyTorch's.
	metadata := map[string]string{"format": "pt"}
	if err := safetensors.Write(filepath.Join(dir, weightsFile), tensors, metadata); err != nil {
		return err
	}
	content, err := json.Marshal(a.config)
	if err != nil {
		return fmt.Errorf("save adapter: %s: %w", configFile, err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, content, "", "  "); err != nil {
		return fmt.Errorf("save adapter: %s: %w", configFile, err)
	}
	return atomicfile.WriteBytes(filepath.Join(dir, configFile), append(indented.Bytes(), '\n'))
}
