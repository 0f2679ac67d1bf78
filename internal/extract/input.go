package extract

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"

	"gotransplant/data"
	"gotransplant/internal/setup"
	"gotransplant/transplant"
)

// item is a text ready to be read by the model.
type item struct {
	data.Text
	tokens   data.Tokens
	bytes    []data.Span      // of each token in the whole text
	specials int              // special tokens' texts that stand in it
	vectors  []data.Span      // tokens of each vector to store; nil where the text is too long
	moving   *transplant.Case // what the chooser's prompt, which the text is, gets from the arguer; nil: nothing
}

// length is that of the longest prompt that is computed for the item, in tokens.
func (it item) length() int {
	if it.moving != nil {
		return it.moving.Longest()
	}
	return len(it.tokens.IDs)
}

// input is a file of texts that can be read more than once.
type input struct {
	options Options
	name    string // for errors
	open    func() (io.ReadCloser, error)
	close   func() error
	reader  transplant.Reader // of a data set's rows
	encoder data.SpanEncoder
	picks   []pick
	limit   int // longest text in tokens
}

// newInput opens what the options name. The standard input is copied to a temporary file, since it can be read only once.
func newInput(ctx context.Context, o Options, r *setup.Reading, stdin io.Reader) (in *input, err error) {
	in = &input{options: o, encoder: r.Encoder(), limit: r.Config.MaxPositionEmbeddings, close: func() error { return nil }}
	if o.MaxTokens > 0 {
		in.limit = min(in.limit, o.MaxTokens)
	}
	if in.picks, err = parsePositions(o.Positions); err != nil {
		return nil, err
	}
	if in.reader, err = r.Templates(); err != nil {
		return nil, err
	}
	path := o.Text + o.JSONL // one of them at most
	switch path {
	case "":
		in.name = o.Data
		in.open = func() (r io.ReadCloser, err error) {
			in.name, r, err = o.OpenData()
			return r, err
		}
	case Stdin:
		err = in.spool(ctx, stdin)
	default:
		in.name, in.open = path, func() (io.ReadCloser, error) { return os.Open(path) }
	}
	return in, err
}

// spool copies the standard input to a temporary file, which close removes. Waiting for it ends when ctx is done.
func (in *input) spool(ctx context.Context, stdin io.Reader) error {
	f, err := os.CreateTemp("", "transplant-extract-*")
	if err != nil {
		return err
	}
	in.name = "standard input"
	in.open = func() (io.ReadCloser, error) { return os.Open(f.Name()) }
	in.close = func() error { return os.Remove(f.Name()) }
	copied := make(chan error, 1)
	go func() { // which a read that never returns keeps to the end of the program
		_, err := io.Copy(f, stdin)
		copied <- err
	}()
	select {
	case err = <-copied:
	case <-ctx.Done():
		err = transplant.ErrInterrupted
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		f.Close()
		os.Remove(f.Name())
		return fmt.Errorf("copy the standard input to %s: %w", f.Name(), err)
	}
	return nil
}

// items reads and encodes all texts; what passes goes to copy too. An item that is bad is an error, after which the rest
// is read on.
func (in *input) items(copy io.Writer) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		f, err := in.open()
		if err != nil {
			yield(item{}, err)
			return
		}
		defer f.Close()
		for it, err := range in.texts(io.TeeReader(f, copy)) {
			if err == nil {
				err = in.encode(&it)
			}
			if !yield(it, err) {
				return
			}
		}
	}
}

// texts are those of the file, not encoded yet.
func (in *input) texts(r io.Reader) iter.Seq2[item, error] {
	texts := data.ScanJSONL(r, in.name)
	if in.options.Text != "" {
		texts = data.ScanLines(r, in.name)
	}
	return func(yield func(item, error) bool) {
		if in.rows() {
			in.scanRows(r, yield)
			return
		}
		for text, err := range texts {
			if !yield(item{Text: text}, err) {
				return
			}
		}
	}
}

// rows says whether the input is a data set.
func (in *input) rows() bool { return in.options.Text == "" && in.options.JSONL == "" }

func (in *input) scanRows(r io.Reader, yield func(item, error) bool) {
	n := 0
	for row, err := range data.ScanCSV(r, in.name) {
		n++
		var it item
		if err == nil {
			if it.Text, err = in.render(n, row); err == nil && in.options.Transplant {
				var c transplant.Case
				c, _, err = in.reader.Case(n, row, row)
				it.moving = &c
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", in.name, err)
			}
		}
		if !yield(it, err) {
			return
		}
	}
}

// render makes the prompt of the n-th row. Its label is the candidate that is right, 1 or 2, for the chooser, and for the
// arguer whether the argument is right.
func (in *input) render(n int, row data.Row) (t data.Text, err error) {
	t = data.Text{Line: row.Line, ID: fmt.Sprint(n)}
	switch in.options.Prompt {
	case ArguerCorrect:
		t.Label = []byte("true")
		t.Prompt, err = in.reader.Argue.Argue(row, row.Label())
	case ArguerIncorrect:
		t.Label = []byte("false")
		t.Prompt, err = in.reader.Argue.Argue(row, 3-row.Label())
	default:
		t.Label = fmt.Append(nil, row.Label())
		if in.options.MaskChoice {
			row = row.Mask()
		}
		t.Prompt, err = in.reader.Choose.Choose(row)
	}
	return t, err
}

// encode tokenizes an item's text and finds the positions in it.
func (in *input) encode(it *item) (err error) {
	t := it.Text
	for i := range t.Prompt {
		s := &t.Prompt[i]
		if !in.rows() && in.options.Specials == AsText {
			s.Ordinary = []data.Span{{End: len(s.Text)}}
		}
		if !in.rows() {
			it.specials += in.encoder.CountSpecials(s.Text)
		}
	}
	it.tokens, it.bytes = data.EncodeSpans(t.Prompt, in.encoder)
	if in.rows() {
		it.specials = it.tokens.SpecialsInData
	}
	switch {
	case !slices.ContainsFunc(it.bytes, func(b data.Span) bool { return b.End > b.Start }): // no more than a BOS
		return fmt.Errorf("%s:%d: the text has no tokens", in.name, t.Line)
	case it.length() > in.limit:
		return nil
	}
	if it.vectors, err = vectors(in.picks, len(it.tokens.IDs), it.tokens.Spans); err != nil {
		err = fmt.Errorf("%s:%d: --positions %s: %w", in.name, t.Line, in.options.Positions, err)
	}
	return err
}
