// Transplant-generate continues prompts and conversations, and the chooser's prompts during a transplant.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/chat"
	"gotransplant/internal/setup"
	"gotransplant/internal/tiny"
	"gotransplant/llama"
	"gotransplant/transplant"
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
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%w; what was not printed is lost, and no file was written", transplant.ErrInterrupted)
	}
	return program.Status("transplant-generate", err, stderr)
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
	if o.transplant {
		for _, note := range base.Origins() {
			fmt.Fprintf(stderr, "note     %s\n", note)
		}
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
