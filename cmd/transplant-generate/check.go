package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/atomicfile"
)

// checkStops looks for stop ids that are no tokens: those of the model may be, for they stop nothing, but that is told.
func (w *work) checkStops() error {
	last := int32(w.base.Config.VocabSize - 1)
	for _, id := range w.options.stopIDs {
		if id < 0 || id > last {
			return fmt.Errorf("--stop-id %d: the model has the tokens 0 to %d", id, last)
		}
	}
	for _, id := range w.model.Stop {
		if id < 0 || id > last {
			fmt.Fprintf(w.progress, "note     %s: eos_token_id %d ends no row, the model has the tokens 0 to %d\n", w.model.StopFrom, id, last)
		}
	}
	if w.temperature == 0 && (w.topK > 0 || w.topP < 1) {
		fmt.Fprintln(w.progress, "note     --top-k and --top-p change nothing at --temperature 0")
	}
	return nil
}

// checkRest looks at what is needed behind the prompts, so that neither a run nor its plan finds out late.
func (w *work) checkRest() error {
	if _, err := program.Planned(w.base.Backend, io.Discard); err != nil {
		return err
	}
	if err := w.base.CheckAdapters(w.adapter, w.rows); err != nil {
		return err
	}
	if w.options.out == "" {
		return nil
	}
	if info, err := os.Stat(filepath.Dir(w.options.out)); err != nil {
		return fmt.Errorf("--out %s: %w", w.options.out, err)
	} else if !info.IsDir() {
		return fmt.Errorf("--out %s: %s is no directory", w.options.out, filepath.Dir(w.options.out))
	}
	if info, err := os.Stat(w.options.out); err == nil && info.IsDir() {
		return fmt.Errorf("--out %s is a directory: name a file", w.options.out)
	} else if err == nil { // hours of texts, or a device, whose place the new file would take
		return fmt.Errorf("--out %s is there already: name another file, or remove it", w.options.out)
	}
	if err := atomicfile.Makeable(filepath.Dir(w.options.out)); err != nil { // where the file is written before it gets its name
		return fmt.Errorf("--out %s: %w", w.options.out, err)
	}
	return nil
}
