package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"gotransplant/internal/spelling"
	"gotransplant/model"
)

// table prints rows of cells, the first of which is the heading, in columns.
func table(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	return t.Flush()
}

// printJSON prints v with its members on lines of their own.
func printJSON(w io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}

// number prints a figure to four digits.
func number(v float64) string { return fmt.Sprintf("%.4g", v) }

// share is part/whole, and nil where the whole is zero.
func share(part, whole float64) *float64 {
	if whole == 0 {
		return nil
	}
	s := part / whole
	return &s
}

// optional prints a figure that there may not be.
func optional(v *float64) string {
	if v == nil {
		return "-"
	}
	return number(*v)
}

// bytesText is a number of bytes in units of powers of ten.
func bytesText(n int64) string {
	for _, u := range units[:3] {
		if n >= u.bytes {
			return fmt.Sprintf("%.4g %s", float64(n)/float64(u.bytes), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// plan is what will be, or was, written.
type plan struct {
	Model   string   `json:"model"`
	Out     string   `json:"out"`
	DType   string   `json:"dtype"`
	Tensors int      `json:"tensors"`
	Bytes   int64    `json:"bytes"`
	Files   []file   `json:"files"`
	Copied  []string `json:"copied_files"` // beside config.json
	types   string
}

type file struct {
	Name    string `json:"name"`
	Tensors int    `json:"tensors"`
	Bytes   int64  `json:"bytes"`
}

// newPlan gathers it.
func newPlan(o output, c *model.Checkpoint, r model.Rewriting) (plan, error) {
	p := plan{Model: modelName(o.model), Out: o.out, DType: o.dtype, Files: []file{}, Copied: []string{}}
	shards, err := c.Shards(r)
	if err != nil {
		return p, err
	}
	for _, s := range shards {
		p.Files = append(p.Files, file{s.File, len(s.Tensors), s.Bytes})
		p.Tensors, p.Bytes = p.Tensors+len(s.Tensors), p.Bytes+s.Bytes
	}
	p.types = types(shards)
	there, err := c.Companions()
	p.Copied = append(p.Copied, there...)
	return p, err
}

// print tells it in lines; files are listed where there are several.
func (p plan) print(w io.Writer, c model.Config) {
	fmt.Fprintf(w, "model    %s: %s, hidden %d, %s\n", p.Model, spelling.Count(c.NumHiddenLayers, "layer"), c.HiddenSize,
		spelling.Count(p.Tensors, "tensor"))
	fmt.Fprintf(w, "write    %s: %s of tensors (%s) in %s", p.Out, bytesText(p.Bytes), p.types, spelling.Count(len(p.Files), "file"))
	if len(p.Copied) > 0 {
		fmt.Fprintf(w, "; copies %s", strings.Join(p.Copied, ", "))
	}
	fmt.Fprintln(w)
	if len(p.Files) < 2 {
		return
	}
	for _, f := range p.Files {
		fmt.Fprintf(w, "         %s: %s, %s\n", f.Name, spelling.Count(f.Tensors, "tensor"), bytesText(f.Bytes))
	}
}
