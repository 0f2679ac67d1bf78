package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"gotransplant/cmd/internal/program"
	"gotransplant/experiment/wordproblem"
	"gotransplant/internal/atomicfile"
	"gotransplant/model/safetensors"
)

// prepare refuses an --out in which files would be replaced, unless they are those of this run, interrupted: then it tells
// after which step that goes on. It looks for the tokenizer's file, which save copies, and counts it among what decides.
func (o options) prepare() (step int, err error) {
	content, err := os.ReadFile(filepath.Join(o.tokenizer, tokenizerFile))
	if err != nil {
		return 0, fmt.Errorf("--tokenizer: %w: name the directory that transplant-datagen wrote", err)
	}
	o.decides["tokenizer"] = fmt.Sprintf("%x", sha256.Sum256(content))
	if _, err := os.Stat(filepath.Join(o.out, wordproblem.StateFile)); err != nil {
		return 0, program.CheckOut(o.out, o.files()...)
	}
	if step, err = wordproblem.SavedStep(o.out, o.decides); err != nil {
		return 0, fmt.Errorf("--out: %w", err)
	}
	return step, program.CheckOut(o.out)
}

// checkpointFiles are what save writes.
func checkpointFiles() []string {
	return []string{"model.safetensors", "config.json", tokenizerFile, tokenizerConfigFile}
}

// files are those of the checkpoint that must not be there before. A tokenizer stays where it is.
func (o options) files() []string {
	if filepath.Clean(o.out) == filepath.Clean(o.tokenizer) {
		return checkpointFiles()[:2]
	}
	return checkpointFiles()
}

// saveAll is save, and keeps what a stopped run goes on from until all else is done.
func saveAll(p *wordproblem.Pretrainer, o options, interrupted bool) error {
	if interrupted { // first: where the rest cannot be written, the run still goes on
		if err := p.SaveState(o.out, o.decides); err != nil {
			return err
		}
		return save(p, o)
	}
	if err := save(p, o); err != nil {
		return err
	}
	for _, name := range append(checkpointFiles(), wordproblem.StateFile) {
		if err := atomicfile.RemoveLeftovers(filepath.Join(o.out, name)); err != nil {
			return err
		}
	}
	state := filepath.Join(o.out, wordproblem.StateFile)
	if err := os.Remove(state); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// save writes the checkpoint and copies the tokenizer's files.
func save(p *wordproblem.Pretrainer, o options) error {
	if err := p.Save(o.out, safetensors.DType(o.dtype)); err != nil {
		return err
	}
	for _, name := range []string{tokenizerFile, tokenizerConfigFile} {
		content, err := os.ReadFile(filepath.Join(o.tokenizer, name))
		if name == tokenizerConfigFile && errors.Is(err, os.ErrNotExist) {
			content, err = []byte(tokenizerConfig), nil
		}
		if err != nil {
			return err
		}
		if err := atomicfile.WriteBytes(filepath.Join(o.out, name), content); err != nil {
			return err
		}
	}
	return nil
}

const (
	tokenizerFile       = "tokenizer.json" // what transplant-datagen writes
	tokenizerConfigFile = "tokenizer_config.json"
)

// tokenizerConfig is what Hugging Face's AutoTokenizer needs beside a tokenizer.json of transplant-datagen.
const tokenizerConfig = `{
 "tokenizer_class": "LlamaTokenizer",
 "add_bos_token": true,
 "bos_token": "<s>",
 "eos_token": "</s>"
}
`
