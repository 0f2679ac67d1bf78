// Transplant-datagen writes what the built-in study is made of: the data set with its templates, the tokenizer of its language
// and the documents that the embedded model is pre-trained on. The same flags give the same bytes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"gotransplant/cmd/internal/program"
	"gotransplant/experiment/wordproblem"

	"github.com/spf13/pflag"
)

const head = `transplant-datagen draws the word problems of the built-in study and writes them as dataset.csv, the templates of
their prompts as argue.tmpl and choose.tmpl, the tokenizer of their language as tokenizer.json, and with --documents
what the embedded model is pre-trained on as documents.jsonl. The defaults give the embedded files, byte for byte.

  transplant-datagen --out made
  transplant-datagen --out more --rows 5000 --seed 2 --documents
`

func main() {
	os.Exit(run(program.Context(), os.Args[1:], os.Stdout, os.Stderr))
}

// options are the flags of the command.
type options struct {
	program.Reporting
	out       string
	rows      int
	documents bool
	batch     int
	seed      uint64
}

// groups binds the flags.
func (o *options) groups() []program.Group {
	what, output := program.NewGroup("What is drawn"), program.NewGroup("Output")
	f := what.Flags
	f.IntVar(&o.rows, "rows", 1280, "`rows` of dataset.csv")
	f.BoolVar(&o.documents, "documents", false, "also write the pre-training documents to documents.jsonl")
	f.IntVar(&o.batch, "batch-size", 64, "`documents` of one pre-training step")
	f.Uint64Var(&o.seed, "seed", 1, "seed of everything that is drawn, a whole `number`")
	output.Flags.StringVar(&o.out, "out", "", "`directory` to write dataset.csv and the other files into")
	o.Bind(output.Flags, "print the summary (or the plan) as a JSON object instead of text")
	return []program.Group{what, output}
}

func (o *options) validate() error {
	switch {
	case o.out == "":
		return errors.New("--out is missing: name the directory to write into")
	case o.rows < 1:
		return fmt.Errorf("--rows is %d; it must be at least 1", o.rows)
	case o.rows > wordproblem.MostRows:
		return fmt.Errorf("--rows is %d; there are at most %d different questions to be drawn", o.rows, wordproblem.MostRows)
	case o.batch < 1:
		return fmt.Errorf("--batch-size is %d; it must be at least 1", o.batch)
	}
	return nil
}

// run is main without the process: it returns the exit status, 1 for a refusal or failure, 130 for an interruption.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	groups := o.groups()
	_, err := program.Parse(args, groups...)
	if errors.Is(err, pflag.ErrHelp) {
		program.Help(stdout, head, groups)
		return 0
	}
	if err == nil {
		err = o.validate()
	}
	if err == nil {
		err = generate(ctx, o, stdout)
	}
	return program.Status("transplant-datagen", err, stderr)
}
