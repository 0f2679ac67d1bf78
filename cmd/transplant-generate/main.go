// Transplant-generate continues prompts and conversations, and the chooser's prompts during a transplant.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"gotransplant/cmd/internal/program"
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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	go func() { // a second Ctrl-C ends the program at once
		<-ctx.Done()
		stop()
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	err := execute(ctx, args, stdin, stdout, stderr)
	if err == nil || errors.Is(err, pflag.ErrHelp) {
		return 0
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
	for _, id := range o.stopIDs {
		if id < 0 || int(id) >= base.Config.VocabSize {
			return fmt.Errorf("--stop-id %d: the model has the tokens 0 to %d", id, base.Config.VocabSize-1)
		}
	}
	if err := w.readPrompts(); err != nil {
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
