package main

import (
	"errors"
	"os"
	"path/filepath"

	"gotransplant/experiment/wordproblem"
	"gotransplant/internal/atomicfile"
	"gotransplant/model/safetensors"
)

// files are those of the checkpoint that must not be there before. A tokenizer stays where it is.
func (o options) files() []string {
	files := []string{"model.safetensors", "config.json"}
	if filepath.Clean(o.out) != filepath.Clean(o.tokenizer) {
		files = append(files, "tokenizer.json", "tokenizer_config.json")
	}
	return files
}

// save writes the checkpoint and copies the tokenizer's files.
func save(p *wordproblem.Pretrainer, o options) error {
	if err := p.Save(o.out, safetensors.DType(o.dtype)); err != nil {
		return err
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		content, err := os.ReadFile(filepath.Join(o.tokenizer, name))
		if name == "tokenizer_config.json" && errors.Is(err, os.ErrNotExist) {
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

// tokenizerConfig is what Hugging Face's AutoTokenizer needs beside a tokenizer.json of transplant-datagen.
const tokenizerConfig = `{
 "tokenizer_class": "LlamaTokenizer",
 "add_bos_token": true,
 "bos_token": "<s>",
 "eos_token": "</s>"
}
`
