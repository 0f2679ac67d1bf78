// Random-checkpoint writes a LLaMA checkpoint of a named shape with random bfloat16 weights, for measuring memory and
// time where real weights are not to be had:
//
//	go run ./scripts/random-checkpoint --shape 7b --tokenizer llama-tokenizer --out /tmp/random-7b
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"gotransplant/internal/atomicfile"
	"gotransplant/internal/standin"
	"gotransplant/model"
	"gotransplant/model/safetensors"

	"github.com/spf13/pflag"
)

func main() {
	shape := pflag.String("shape", "tiny", "`name` of the shape: "+strings.Join(standin.Names(), ", "))
	out := pflag.String("out", "", "`directory` to write")
	tokenizer := pflag.String("tokenizer", "", "`directory` whose tokenizer.json or tokenizer.model is copied")
	seed := pflag.Uint64("seed", 1, "seed, a whole `number`")
	pflag.Parse()
	if err := write(*shape, *out, *tokenizer, *seed); err != nil {
		fmt.Fprintf(os.Stderr, "random-checkpoint: %v\n", err)
		os.Exit(1)
	}
}

func write(shape, out, tokenizer string, seed uint64) error {
	c, err := standin.Shape(shape)
	if err != nil {
		return fmt.Errorf("--shape: %w", err)
	}
	if out == "" {
		return fmt.Errorf("--out: name a directory")
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	if err := model.WriteConfig(out, c, safetensors.BF16); err != nil {
		return err
	}
	if tokenizer != "" {
		if err := copyTokenizer(tokenizer, out); err != nil {
			return err
		}
	}
	specs := c.Specs(safetensors.BF16)
	return safetensors.WriteFrom(filepath.Join(out, "model.safetensors"), specs, nil, func(i int, w io.Writer) error {
		content, err := standin.Fill(specs[i], seed+uint64(i))
		if err == nil {
			_, err = w.Write(content)
		}
		return err
	})
}

func copyTokenizer(from, to string) error {
	for _, name := range []string{"tokenizer.json", "tokenizer.model", "tokenizer_config.json"} {
		content, err := os.ReadFile(filepath.Join(from, name))
		if os.IsNotExist(err) {
			continue
		}
		if err == nil {
			err = atomicfile.WriteBytes(filepath.Join(to, name), content)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
