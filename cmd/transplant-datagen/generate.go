package main

import (
	"bufio"
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
func generate(o options, stdout io.Writer) error {
	rows := wordproblem.Rows(o.rows, o.seed)
	summary := wordproblem.Summarize(rows)
	r := report{"summary", o.out, o.seed, summary.Rows, summary.ThirdWriterRight, summary.Swapped, map[string]int{}, nil}
	for e, n := range summary.Errors {
		r.Errors[e.String()] = n
	}
	write := atomicfile.Write
	if o.DryRun {
		r.Part = "plan"
		write = func(_ string, fill func(io.Writer) error) error { return fill(io.Discard) }
	} else if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	put := func(name string, fill func(w io.Writer) error) error {
		path := filepath.Join(o.out, name)
		var size counter
		err := write(path, func(w io.Writer) error { return fill(io.MultiWriter(&size, w)) })
		r.Files = append(r.Files, setup.WritePlan{Path: path, Bytes: int64(size)})
		return err
	}
	err := put("dataset.csv", func(w io.Writer) error { return wordproblem.WriteCSV(w, rows) })
	if err == nil {
		err = put("tokenizer.json", writeTokenizer)
	}
	if err == nil && o.documents {
		err = put("documents.jsonl", func(w io.Writer) error { return writeDocuments(w, o) })
	}
	if err != nil {
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

// counter counts the bytes written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
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
