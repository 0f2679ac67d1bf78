// Command transplant-datagen writes what the built-in study is made of: the data set, the tokenizer of its language
// and the documents that the embedded model is pre-trained on. The same flags give the same bytes.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"github.com/spf13/pflag"

	"gotransplant/experiment/wordproblem"
	"gotransplant/internal/atomicfile"
	"gotransplant/internal/tiny"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// options are the flags of the command.
type options struct {
	out       string
	rows      int
	documents bool
	batch     int
	seed      uint64
}

func (o *options) addFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.out, "out", "", "directory to write dataset.csv, tokenizer.json and documents.jsonl into")
	fs.IntVar(&o.rows, "rows", 1280, "rows of dataset.csv")
	fs.BoolVar(&o.documents, "documents", false, "also write the pre-training documents to documents.jsonl")
	fs.IntVar(&o.batch, "batch-size", 64, "documents of one pre-training step")
	fs.Uint64Var(&o.seed, "seed", 1, "seed of everything that is drawn")
}

func (o *options) validate() error {
	switch {
	case o.out == "":
		return errors.New("--out is missing: name the directory to write into")
	case o.rows < 1:
		return fmt.Errorf("--rows is %d; it must be at least 1", o.rows)
	case o.batch < 1:
		return fmt.Errorf("--batch-size is %d; it must be at least 1", o.batch)
	}
	return nil
}

// run is main without the process: it returns the exit status, 2 for wrong flags, 1 for a failure.
func run(args []string, stdout, stderr io.Writer) int {
	var o options
	fs := pflag.NewFlagSet("transplant-datagen", pflag.ContinueOnError)
	fs.SetOutput(stderr)
	o.addFlags(fs)
	err := fs.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	if err == nil && fs.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if err == nil {
		err = o.validate()
	}
	if err != nil {
		fmt.Fprintln(stderr, "transplant-datagen:", err)
		return 2
	}
	if err := generate(o, stdout); err != nil {
		fmt.Fprintln(stderr, "transplant-datagen:", err)
		return 1
	}
	return 0
}

// generate writes the files and says what is in them.
func generate(o options, stdout io.Writer) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	rows := wordproblem.Rows(o.rows, o.seed)
	err := atomicfile.Write(filepath.Join(o.out, "dataset.csv"), func(w io.Writer) error {
		return wordproblem.WriteCSV(w, rows)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "dataset.csv      %s\n", wordproblem.Summarize(rows))
	if err := writeTokenizer(filepath.Join(o.out, "tokenizer.json")); err != nil {
		return err
	}
	if !o.documents {
		return nil
	}
	return atomicfile.Write(filepath.Join(o.out, "documents.jsonl"), func(w io.Writer) error {
		return writeDocuments(w, o)
	})
}

// action matches what a template fills in; the rest is text that the tokenizer must know.
var action = regexp.MustCompile(`{{[^}]*}}`)

// writeTokenizer learns the tokenizer from the language and the embedded templates.
func writeTokenizer(path string) error {
	var templates []string
	for _, name := range []string{tiny.ArgueTemplate, tiny.ChooseTemplate} {
		text, err := tiny.Files.ReadFile(name)
		if err != nil {
			return err
		}
		templates = append(templates, action.ReplaceAllString(string(text), " "))
	}
	content, err := wordproblem.LearnTokenizer(append(wordproblem.SampleTexts(), templates...))
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(path, content)
}

// writeDocuments writes one JSON object a line.
func writeDocuments(w io.Writer, o options) error {
	b := bufio.NewWriter(w)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	for d := range wordproblem.Documents(wordproblem.Lessons(), o.batch, o.seed) {
		if err := e.Encode(d); err != nil {
			return err
		}
	}
	return b.Flush()
}
