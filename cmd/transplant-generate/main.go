// Transplant-generate continues prompts and conversations, and the chooser's prompts during a transplant.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/atomicfile"
	"gotransplant/internal/chat"
	"gotransplant/internal/setup"
	"gotransplant/internal/tiny"
	"gotransplant/llama"

	"github.com/spf13/pflag"
)

const head = `transplant-generate continues prompts, conversations, or the chooser's prompts of a data set with the arguer's keys and
values moved in. What it writes for a prompt depends on the model, the prompt, its id and --seed, and on nothing else.

  transplant-generate --prompt "Kim has 19 nuts." --max-tokens 20
`

func main() {
	os.Exit(run(program.Context(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	err := execute(ctx, args, stdin, stdout, stderr)
	switch {
	case err == nil || errors.Is(err, pflag.ErrHelp):
		return 0
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "interrupted; what was not printed is lost, and no file was written")
		return 130
	}
	fmt.Fprintf(stderr, "transplant-generate: %v\n", err)
	return 1
}

// streams are where a run reads and writes.
type streams struct {
	in            io.Reader
	out, progress io.Writer
}

func execute(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	s, o, err := parse(args, stdout)
	if err != nil {
		return err
	}
	base, err := setup.OpenBase(s, o.tokenizer)
	if err != nil {
		return err
	}
	defer base.Close()
	w := &work{options: o, base: base, streams: streams{stdin, stdout, stderr}}
	if w.model, err = openChat(s.Model); err != nil {
		return err
	}
	if w.stop = append(w.model.Stop, o.stopIDs...); len(o.stopIDs) == 0 && len(w.stop) == 0 {
		fmt.Fprintln(stderr, "note     the model names no eos_token_id: rows end by --max-tokens, --stop or --stop-id")
	}
	if err := w.checkStops(); err != nil {
		return err
	}
	if err := w.readPrompts(); err != nil {
		return err
	}
	if err := w.checkRest(); err != nil {
		return err
	}
	if o.dryRun {
		return w.plan()
	}
	backend, err := program.Backend(s, stderr)
	if err != nil {
		return err
	}
	if err := w.load(backend); err != nil {
		return err
	}
	if o.chat {
		return w.talk(ctx)
	}
	return w.generate(ctx)
}

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
	}
	if err := atomicfile.Makeable(filepath.Dir(w.options.out)); err != nil { // where the file is written before it gets its name
		return fmt.Errorf("--out %s: %w", w.options.out, err)
	}
	return nil
}

// openChat reads what a model directory, or the embedded model, says about conversations.
func openChat(dir string) (*chat.Model, error) {
	if dir == "" {
		return chat.OpenFS(tiny.Files, tiny.Model)
	}
	return chat.Open(dir)
}

// sampling are the options as the library takes them.
func (o *options) sampling() llama.Sampling {
	return llama.Sampling{Temperature: o.temperature, TopK: o.topK, TopP: o.topP}
}
