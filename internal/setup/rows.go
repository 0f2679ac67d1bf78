package setup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"

	"gotransplant/data"
	"gotransplant/internal/tiny"
	"gotransplant/model/tokenizer"
	"gotransplant/transplant"
)

// Rows is a data set read for a model.
type Rows struct {
	Rows           []data.Row
	Cases          []transplant.Case // in file order, without the rows that were too long
	Counts         data.Counts       // over all rows
	Hash           string            // sha256 of the file
	Labels         [2]int32
	TooLong        []int // rows left out by --skip-long
	SpecialsInData int   // special tokens' texts in data fields, encoded as ordinary text
	limit, context int   // most tokens of a prompt, and of the model
	skipLong       bool
	reader         transplant.Reader
}

// encoder makes a tokenizer what package data asks for.
type encoder struct{ *tokenizer.Tokenizer }

func (e encoder) Encode(text string, ordinary []data.Span, first bool) []int32 {
	ids, _ := e.EncodeSpans(text, ordinary, first)
	return ids
}

// EncodeSpans makes encoder a data.SpanEncoder too.
func (e encoder) EncodeSpans(text string, ordinary []data.Span, first bool) ([]int32, []data.Span) {
	ranges := make([]tokenizer.Range, len(ordinary))
	for i, o := range ordinary {
		ranges[i] = tokenizer.Range(o)
	}
	encode := e.Tokenizer.EncodeNext
	if first {
		encode = e.Tokenizer.Encode
	}
	tokens := encode(text, ranges)
	ids, spans := make([]int32, len(tokens)), make([]data.Span, len(tokens))
	for i, t := range tokens {
		ids[i], spans[i] = t.ID, data.Span{Start: t.Start, End: t.End}
	}
	return ids, spans
}

// readRows reads the data set and encodes every row. context is the model's longest sequence.
func (s Settings) readRows(tok *tokenizer.Tokenizer, context int) (*Rows, error) {
	name, content, err := s.dataSet()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content)
	r := &Rows{Hash: hex.EncodeToString(sum[:]), limit: context, context: context, skipLong: s.SkipLong}
	if s.MaxTokens > 0 {
		r.limit = min(s.MaxTokens, context)
	}
	if r.Rows, err = data.ReadCSV(bytes.NewReader(content), name); err != nil {
		return nil, err
	}
	if len(r.Rows) == 0 {
		return nil, fmt.Errorf("%s: no rows after the header", name)
	}
	r.Counts = data.Count(r.Rows)
	if r.reader, err = s.reader(tok); err != nil {
		return nil, err
	}
	if r.Labels, err = r.reader.Labels(r.Rows[0]); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for i, row := range r.Rows {
		if err := r.add(i+1, row); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(r.TooLong) > 0 && !s.SkipLong {
		return nil, fmt.Errorf("%s: %d of %d rows need more than %d tokens (rows %s): %s", name, len(r.TooLong), len(r.Rows), r.limit,
			transplant.ListRows(r.TooLong), r.advice())
	}
	if len(r.Cases) == 0 {
		return nil, fmt.Errorf("%s: all %d rows need more than %d tokens: %s", name, len(r.Rows), r.limit, r.advice())
	}
	return r, nil
}

func (r *Rows) add(number int, row data.Row) error {
	c, specials, err := r.reader.Case(number, row, row)
	if err != nil {
		return err
	}
	labels, err := r.reader.Labels(row)
	if err != nil {
		return err
	}
	if labels != r.Labels {
		return fmt.Errorf("row at line %d: the answers 1 and 2 are the tokens %v here and %v in row 1", row.Line, labels, r.Labels)
	}
	r.SpecialsInData += specials
	if c.Longest() > r.limit {
		r.TooLong = append(r.TooLong, number)
		return nil
	}
	r.Cases = append(r.Cases, c)
	return nil
}

// Advice is what can be done about inputs of more than limit tokens, left being those that are not. Where the model's context
// is the limit --max-tokens changes nothing, and in transplant-generate that flag is for new tokens; --skip-long is of no use
// where it leaves nothing, and what can be shorter is then named.
func Advice(limit, context, left int, shorter string) string {
	advice := fmt.Sprintf("raise --max-tokens up to the model's context of %d", context)
	if limit == context {
		advice = "that is the model's context: take a model with a longer one"
	}
	if left == 0 {
		return advice + ", or shorter " + shorter
	}
	return advice + ", or leave them out with --skip-long"
}

func (r *Rows) advice() string { return Advice(r.limit, r.context, len(r.Cases), "rows or templates") }

// Split divides the cases into those to train on and those held out. It divides all rows of the file, and only then leaves
// out those that are too long: a row held out under one --max-tokens or template is trained on under no other.
func (r *Rows) Split(s Settings) (train, test []transplant.Case, err error) {
	_, heldOut, err := data.Split(len(r.Rows), s.TestFraction, s.Seed)
	if err != nil {
		return nil, nil, fmt.Errorf("--test-fraction: %w", err)
	}
	for _, c := range r.Cases {
		if _, out := slices.BinarySearch(heldOut, c.Row-1); out {
			test = append(test, c)
		} else {
			train = append(train, c)
		}
	}
	return train, test, nil
}

// alike is how many of the rows held out ask what a row trained on asks, as where a file has several arguments for a question.
func (r *Rows) alike(train, test []transplant.Case) (n int) {
	asked := map[string]bool{}
	for _, c := range train {
		asked[r.Rows[c.Row-1].Question] = true
	}
	for _, c := range test {
		if asked[r.Rows[c.Row-1].Question] {
			n++
		}
	}
	return n
}

// Arrangement is how rows are changed for a control.
type Arrangement struct {
	Flip     bool // the candidates stand in the other order
	OtherRow bool // the moved states come from another case's arguments
}

// Arranged are the given cases read anew in an arrangement. The donors of OtherRow are drawn by the seed: a random cycle
// through the cases, so that each is donor once and none its own.
func (r *Rows) Arranged(cases []transplant.Case, a Arrangement, seed uint64) (out []transplant.Case, tooLong []int, err error) {
	if a.OtherRow && len(cases) < 2 {
		return nil, nil, fmt.Errorf("--donor other-row needs at least two rows, there is %d", len(cases))
	}
	donor := make([]int, len(cases))
	order := rand.New(rand.NewPCG(seed, 0)).Perm(len(cases))
	for i, from := range order {
		donor[from] = from
		if a.OtherRow {
			donor[from] = order[(i+1)%len(order)]
		}
	}
	return r.again(cases, func(i int) (row, other data.Row) {
		row, other = r.Rows[cases[i].Row-1], r.Rows[cases[donor[i]].Row-1]
		if a.Flip {
			row, other = row.Flip(), other.Flip()
		}
		return row, other
	})
}

// again encodes cases anew from changed rows. One that has become too long is left out, and named, with --skip-long and
// refused without it.
func (r *Rows) again(cases []transplant.Case, change func(i int) (row, donor data.Row)) (out []transplant.Case, tooLong []int, err error) {
	for i, old := range cases {
		row, donor := change(i)
		c, _, err := r.reader.Case(old.Row, row, donor)
		if err != nil {
			return nil, nil, err
		}
		if c.Longest() > r.limit {
			tooLong = append(tooLong, c.Row)
			continue
		}
		out = append(out, c)
	}
	if len(tooLong) > 0 && !r.skipLong {
		return nil, nil, fmt.Errorf("%d rows have more than %d tokens under this control (rows %s): %s", len(tooLong), r.limit,
			transplant.ListRows(tooLong), r.advice())
	}
	return out, tooLong, nil
}

func (s Settings) dataSet() (name string, content []byte, err error) {
	if s.Data == "" {
		content, err = tiny.Files.ReadFile(tiny.DataSet)
		return "embedded data set", content, err
	}
	content, err = os.ReadFile(s.Data)
	return s.Data, content, err
}

// reader opens the templates: the files named, or the built-in pair that goes with the data set.
func (s Settings) reader(tok *tokenizer.Tokenizer) (transplant.Reader, error) {
	r := transplant.Reader{Encoder: encoder{tok}, MaskChoice: s.MaskChoice}
	argue, choose := data.DefaultArgue, data.DefaultChoose
	if s.Data == "" {
		argue, choose = embeddedText(tiny.ArgueTemplate), embeddedText(tiny.ChooseTemplate)
	}
	var err error
	if r.Argue, err = template(s.ArgueTemplate, argue, data.ParseArgue); err != nil {
		return r, err
	}
	r.Choose, err = template(s.ChooseTemplate, choose, data.ParseChoose)
	return r, err
}

func embeddedText(path string) func() (string, error) {
	return func() (string, error) {
		content, err := tiny.Files.ReadFile(path)
		return string(content), err
	}
}

func template(path string, builtin func() (string, error), parse func(name, text string) (*data.Template, error)) (*data.Template, error) {
	if path == "" {
		text, err := builtin()
		if err != nil {
			return nil, err
		}
		return parse("built-in", text)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parse(path, string(text))
}
