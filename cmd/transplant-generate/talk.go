package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"gotransplant/internal/chat"
	"gotransplant/internal/generate"
	"gotransplant/llama"
)

// talk reads messages line by line and streams an answer to each. The whole conversation is read anew for every answer.
func (w *work) talk(ctx context.Context) error {
	var messages []chat.Message
	if w.system != "" {
		messages = append(messages, chat.Message{Role: "system", Content: w.system})
	}
	lines, failed := readLines(w.streams.in)
	for turn := 1; ; turn++ { // a line each, be it blank
		if isTerminal(w.streams.in) {
			fmt.Fprint(w.progress, "> ")
		}
		select {
		case <-ctx.Done(): // the end of the input is the way to end a talk; Ctrl-C is 130 as everywhere
			return ctx.Err()
		case line, ok := <-lines:
			if !ok {
				if isTerminal(w.streams.in) { // Ctrl-D ends no line
					fmt.Fprintln(w.progress)
				}
				return <-failed
			}
			if !utf8.ValidString(line) {
				return fmt.Errorf("standard input, line %d: %w", turn, errNotUTF8)
			}
			if strings.TrimSpace(line) == "" {
				continue
			}
			messages = append(messages, chat.Message{Role: "user", Content: line})
		}
		answer, err := w.answer(ctx, turn, messages)
		if err != nil {
			return err
		}
		messages = append(messages, chat.Message{Role: "assistant", Content: answer})
	}
}

func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// readLines hands lines over, so that waiting for one can be given up, and at the end what went wrong.
func readLines(r io.Reader) (<-chan string, <-chan error) {
	lines, failed := make(chan string), make(chan error, 1)
	go func() {
		defer close(lines)
		s := bufio.NewScanner(r)
		s.Buffer(nil, 1<<24)
		for s.Scan() {
			lines <- s.Text()
		}
		err := s.Err()
		if err != nil {
			err = fmt.Errorf("standard input: %w", err)
		}
		failed <- err
	}()
	return lines, failed
}

// answer streams the assistant's next turn.
func (w *work) answer(ctx context.Context, turn int, messages []chat.Message) (answer string, err error) {
	ids, err := w.converse(messages)
	if err != nil {
		return "", err
	}
	if most := w.base.Config.MaxPositionEmbeddings; len(ids) > most {
		return "", fmt.Errorf("the conversation has %d tokens, the model's context is %d: begin anew", len(ids), most)
	}
	r, err := w.runner()
	if err != nil {
		return "", err
	}
	defer r.Decoder.Close()
	said := ""
	r.Said = func(_ int, more string) error {
		said += more
		_, err := io.WriteString(w.streams.out, more)
		return err
	}
	r.Done = func(_ int, result generate.Result) error {
		answer = result.Text
		_, err := fmt.Fprintln(w.streams.out)
		if result.ContextFull {
			fmt.Fprintf(w.progress, "note     the model's context of %d tokens is full\n", r.Context)
		}
		return err
	}
	_, err = r.Run(ctx, generate.List(generate.Job{ID: fmt.Sprint("turn ", turn), Prompt: llama.Prompt{Tokens: ids}}))
	w.endLine(err, said)
	return answer, err
}

// endLine ends the line of a text that was broken off, so that the reason begins its own.
func (w *work) endLine(err error, text string) {
	if err != nil && text != "" && !strings.HasSuffix(text, "\n") {
		fmt.Fprintln(w.streams.out)
	}
}
