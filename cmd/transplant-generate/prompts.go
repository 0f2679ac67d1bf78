package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	"gotransplant/internal/chat"
	"gotransplant/internal/generate"
	"gotransplant/internal/setup"
	"gotransplant/internal/strictjson"
	"gotransplant/llama"
	"gotransplant/transplant"

	"github.com/gomlx/compute"
)

// work is what a run has: what was asked for, the model, the prompts.
type work struct {
	*options
	streams
	base     *setup.Base
	model    *chat.Model
	template *chat.Template // nil until a conversation asks for it
	refused  error          // why that has no template
	stop     []int32
	given    []prompt
	rows     *setup.Rows // of --transplant
	method   *transplant.Method
}

// prompt is what is continued, once or for several samples.
type prompt struct {
	id     string
	tokens []int32
}

// readPrompts reads whatever the prompts are, but those of a talk.
func (w *work) readPrompts() (err error) {
	switch {
	case w.chat:
		return w.chatTemplate()
	case w.transplant:
		err = w.readRows()
	case w.jsonl != "":
		err = w.readJSONL()
	case w.text != "":
		err = w.readText()
	default:
		for i, text := range w.prompts {
			if err := w.add(fmt.Sprint(i+1), w.plain(text)); err != nil {
				return fmt.Errorf("--prompt: %w", err)
			}
		}
	}
	if err == nil && len(w.given) == 0 {
		err = w.noPrompts()
	}
	return err
}

// noPrompts says what there is none in.
func (w *work) noPrompts() error {
	if file := w.text + w.jsonl; file != "" { // one of them is empty
		return fmt.Errorf("%s: there are no prompts: want one a line", file)
	}
	return errors.New("there are no prompts")
}

// plain are the ids of a text as it stands: what is spelled like a special token is one.
func (w *work) plain(text string) []int32 {
	return chat.Encode(w.base.Tokenizer, chat.Rendered{Text: text})
}

// full says that --limit wants no more prompts.
func (w *work) full() bool { return w.limit > 0 && len(w.given) >= w.limit }

// add takes a prompt that can be continued.
func (w *work) add(id string, tokens []int32) error {
	if w.full() {
		return nil
	}
	if n, most := len(tokens), w.base.Config.MaxPositionEmbeddings; n > most {
		return fmt.Errorf("row %s has %d tokens, the model's context is %d: shorten it, or leave it out", id, n, most)
	}
	if err := w.model.CheckIDs(tokens, w.base.Tokenizer); err != nil {
		return fmt.Errorf("row %s: %w", id, err)
	}
	w.given = append(w.given, prompt{id, tokens})
	return nil
}

// errNotUTF8 is said of a line as it stands: encoding/json would put U+FFFD in place of what is wrong, without a word.
var errNotUTF8 = errors.New("it is not UTF-8: convert it first")

// everyLine is an error that is the same for all lines of a file, and told at the first.
type everyLine struct{ error }

// manyErrors is how many bad lines are told; more are counted.
const manyErrors = 1000

// lines calls each for every line of a file that is not blank, and reports all that are bad at once.
func lines(path string, each func(number int, line []byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<28)
	number, bad, told := 0, 0, false
	var errs []error
	for s.Scan() {
		number++
		line := s.Bytes()
		if number == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff")) // a byte order mark is no text
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		err := errNotUTF8
		if utf8.Valid(line) {
			err = each(number, line)
		}
		if same := (everyLine{}); errors.As(err, &same) {
			if told {
				continue
			}
			told, err = true, same.error
		}
		if err == nil {
			continue
		}
		if bad++; bad <= manyErrors {
			errs = append(errs, fmt.Errorf("%s, line %d: %w", path, number, err))
		}
	}
	if err := s.Err(); err != nil {
		errs = append(errs, fmt.Errorf("%s, line %d: %w", path, number+1, err))
	}
	if bad > manyErrors {
		errs = append(errs, fmt.Errorf("%s: and %d more bad lines", path, bad-manyErrors))
	}
	return errors.Join(errs...)
}

func (w *work) readText() error {
	return lines(w.text, func(number int, line []byte) error {
		return w.add(fmt.Sprint(number), w.plain(strings.TrimSuffix(string(line), "\r")))
	})
}

// input is a line of --jsonl.
type input struct {
	ID       json.RawMessage `json:"id"`
	Prompt   *string         `json:"prompt"`
	Messages []chat.Message  `json:"messages"`
}

func (w *work) readJSONL() error {
	seen := make(map[string]int)
	err := lines(w.jsonl, func(number int, line []byte) error {
		var in input
		if err := json.Unmarshal(line, &in); err != nil {
			return err
		}
		if err := strictjson.Escapes(line); err != nil {
			return err
		}
		id, err := in.name(number)
		if err != nil {
			return err
		}
		if other := seen[id]; other > 0 {
			return fmt.Errorf("the id %s is that of line %d: what is drawn for a row follows its id", id, other)
		}
		seen[id] = number
		tokens, err := w.tokens(in)
		if err != nil {
			return fmt.Errorf("row %s: %w", id, err)
		}
		return w.add(id, tokens)
	})
	if err == nil && w.template == nil && w.options.template != "" {
		err = fmt.Errorf("--chat-template %s: %s has no messages", w.options.template, w.jsonl)
	}
	return err
}

// name is the id: a text, a number as it is written, or the number of the line.
func (in input) name(number int) (string, error) {
	if len(in.ID) == 0 || string(in.ID) == "null" {
		return fmt.Sprint(number), nil
	}
	var text string
	if json.Unmarshal(in.ID, &text) == nil {
		return text, nil
	}
	var n json.Number
	if err := json.Unmarshal(in.ID, &n); err != nil {
		return "", fmt.Errorf("id %s is neither a text nor a number", in.ID)
	}
	return n.String(), nil
}

func (w *work) tokens(in input) ([]int32, error) {
	switch {
	case in.Prompt != nil && in.Messages != nil:
		return nil, errors.New("it has a prompt and messages: leave one out")
	case in.Prompt != nil:
		return w.plain(*in.Prompt), nil
	case len(in.Messages) == 0:
		return nil, errors.New("it has neither a prompt nor messages")
	}
	if err := w.chatTemplate(); err != nil {
		return nil, everyLine{err}
	}
	return w.converse(in.Messages)
}

// converse gives the ids of a conversation whose next turn is the assistant's.
func (w *work) converse(messages []chat.Message) ([]int32, error) {
	r, err := w.template.Converse(messages, true, w.base.Tokenizer)
	if err != nil {
		return nil, err
	}
	return chat.Encode(w.base.Tokenizer, r), nil
}

// readRows takes the chooser's prompts; what is to be moved is added by jobs.
func (w *work) readRows() (err error) {
	if w.rows, err = w.base.Rows(); err != nil {
		return err
	}
	for _, c := range w.rows.Cases {
		if err := w.add(fmt.Sprint(c.Row), c.Choose); err != nil {
			return err
		}
	}
	return nil
}

// load puts the model on the device.
func (w *work) load(backend compute.Backend) (err error) {
	if w.transplant {
		w.method, err = w.base.Transplanter(backend, w.rows)
	} else {
		w.method, err = w.base.Reader(backend, w.adapter)
	}
	return err
}

// jobs are all samples of the first prompt, then those of the next. With --transplant each is handed the arguer's states.
func (w *work) jobs() generate.Jobs {
	return generate.Jobs{Count: len(w.given) * w.samples, At: func(i int) (job generate.Job, err error) {
		at := i / w.samples
		job = generate.Job{ID: w.given[at].id, Sample: i % w.samples, Prompt: llama.Prompt{Tokens: w.given[at].tokens}}
		if w.transplant {
			job.Prompt, err = w.method.Prompt(w.rows.Cases[at])
		}
		return job, err
	}}
}
