// Interpreter builds the PJRT plugin of internal/interpreter, on which the programs run what a GPU would be given:
//
//	go run ./scripts/interpreter --out /tmp/plugin
//	go run ./cmd/transplant-train --backend xla:/tmp/plugin/pjrt_c_api_interpreter_plugin.so --steps 12
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"gotransplant/internal/atomicfile"
	"gotransplant/internal/interpreter"

	"github.com/spf13/pflag"
)

func main() {
	out := pflag.String("out", "", "`directory` to write the plugin to")
	name := pflag.String("name", "interpreter", "`word` in the file's name; with cuda in it go-xla takes the plugin for NVIDIA's")
	pflag.Parse()
	if err := build(*out, *name); err != nil {
		fmt.Fprintf(os.Stderr, "interpreter: %v\n", err)
		os.Exit(1)
	}
}

func build(out, name string) error {
	if out == "" {
		return fmt.Errorf("--out: name a directory")
	}
	work, err := os.MkdirTemp("", "interpreter")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	library, err := interpreter.Build(context.Background(), work, name)
	if err != nil {
		return err
	}
	code, err := os.ReadFile(library)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	path := filepath.Join(out, filepath.Base(library))
	if err := atomicfile.WriteBytes(path, code); err != nil {
		return err
	}
	fmt.Println(path)
	return nil
}
