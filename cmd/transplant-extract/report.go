package main

import (
	"encoding/json"
	"fmt"
	"io"

	"gotransplant/internal/extract"
	"gotransplant/internal/spelling"
)

// done is what a run has done.
type done struct {
	Directory string  `json:"directory"`
	Rows      int     `json:"rows"` // computed by this run
	Bytes     int64   `json:"bytes"`
	Seconds   float64 `json:"seconds"`
}

// report is what --json prints. Done is nil with --dry-run.
type report struct {
	Plan *extract.Plan `json:"plan"`
	Done *done         `json:"done,omitempty"`
}

func (r report) print(o options, w io.Writer) error {
	if o.json {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", text)
		return err
	}
	if r.Done == nil {
		_, err := fmt.Fprintln(w, "dry run: nothing was written")
		return err
	}
	_, err := fmt.Fprintf(w, "done     %s, %d bytes of states in %.1f s (%.0f rows/s), in %s\n", spelling.Count(r.Done.Rows, "row"),
		r.Done.Bytes, r.Done.Seconds, float64(r.Done.Rows)/max(r.Done.Seconds, 1e-9), r.Done.Directory)
	return err
}
