package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"gotransplant/cmd/internal/program"
	"gotransplant/experiment/wordproblem"
	"gotransplant/internal/atomicfile"
	"gotransplant/internal/setup"
	"gotransplant/internal/tiny"
)

// report is what is told of the files: the JSON object of --json.
type report struct {
	Part             string            `json:"part"` // "summary", or "plan" of a dry run
	Out              string            `json:"out"`
	Seed             uint64            `json:"seed"`
	Rows             int               `json:"rows"`
	ThirdWriterRight int               `json:"third_writer_right"`
	Swapped          int               `json:"swapped"`
	Errors           map[string]int    `json:"errors"` // of the incorrect arguments
	Files            []setup.WritePlan `json:"files"`
}

// generate writes the files, or counts their bytes in a dry run, and says what is in them.
func generate(ctx context.Context, o options, stdout io.Writer) error {
	if err := program.CheckOut(o.out, o.files()...); err != nil {
		return err
	}
	rows, err := draw(ctx, o)
	if err != nil {
		return err
	}
	summary := wordproblem.Summarize(rows)
	r := report{"summary", o.out, o.seed, summary.Rows, summary.ThirdWriterRight, summary.Swapped, map[string]int{}, nil}
	for e, n := range summary.Errors {
		r.Errors[e.String()] = n
	}
	if o.DryRun {
		r.Part = "plan"
	}
	if r.Files, err = put(ctx, o, rows); err != nil {
		return err
	}
	if o.JSON {
		return program.JSONLine(stdout, r)
	}
	verb, last := "wrote", ""
	if o.DryRun {
		verb, last = "writes", setup.DryRun
	}
	_, err = fmt.Fprintf(stdout, "dataset.csv      %s\n%s%s", summary, setup.Writes(verb, r.Files), last)
	return err
}

// The templates with which the embedded model reads rows: those of the published study are longer than its context.
const (
	argueFile  = "argue.tmpl"
	chooseFile = "choose.tmpl"
)

// files are the names of what is written.
func (o options) files() []string {
	files := []string{"dataset.csv", "tokenizer.json", argueFile, chooseFile}
	if o.documents {
		files = append(files, "documents.jsonl")
	}
	return files
}

// draw draws the rows, a minute's work where they are many, and gives up waiting for them when ctx is done.
func draw(ctx context.Context, o options) ([]wordproblem.Row, error) {
	drawn := make(chan []wordproblem.Row, 1)
	go func() { drawn <- wordproblem.Rows(o.rows, o.seed) }()
	select {
	case rows := <-drawn:
		return rows, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// put writes the files and says how large each is. Where one fails, or ctx is done, none stays.
func put(ctx context.Context, o options, rows []wordproblem.Row) (files []setup.WritePlan, err error) {
	write := atomicfile.Write
	if o.DryRun {
		write = func(_ string, fill func(io.Writer) error) error { return fill(io.Discard) }
	} else if err := os.MkdirAll(o.out, 0o755); err != nil {
		return nil, err
	}
	fills := map[string]func(io.Writer) error{
		"dataset.csv":     func(w io.Writer) error { return wordproblem.WriteCSV(w, rows) },
		"tokenizer.json":  writeTokenizer,
		argueFile:         func(w io.Writer) error { return copyEmbedded(w, tiny.ArgueTemplate) },
		chooseFile:        func(w io.Writer) error { return copyEmbedded(w, tiny.ChooseTemplate) },
		"documents.jsonl": func(w io.Writer) error { return writeDocuments(w, o) },
	}
	for _, name := range o.files() {
		path, size := filepath.Join(o.out, name), counter{ctx: ctx}
		if err := write(path, func(w io.Writer) error { return fills[name](io.MultiWriter(&size, w)) }); err != nil {
			for _, f := range files {
				os.Remove(f.Path) // there is none in a dry run
			}
			return nil, err
		}
		files = append(files, setup.WritePlan{Path: path, Bytes: size.bytes})
	}
	return files, nil
}

// counter counts the bytes written to it, and takes none when ctx is done.
type counter struct {
	ctx   context.Context
	bytes int64
}

func (c *counter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	c.bytes += int64(len(p))
	return len(p), nil
}

// action matches what a template fills in; the rest is text that the tokenizer must know.
var action = regexp.MustCompile(`{{[^}]*}}`)

// writeTokenizer learns the tokenizer from the language and the embedded templates.
func writeTokenizer(w io.Writer) error {
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
	_, err = w.Write(content)
	return err
}

func copyEmbedded(w io.Writer, name string) error {
	content, err := tiny.Files.ReadFile(name)
	if err == nil {
		_, err = w.Write(content)
	}
	return err
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
