package extract

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"gotransplant/internal/atomicfile"
	"gotransplant/internal/setup"
	"gotransplant/internal/spelling"
	"gotransplant/internal/states"
	"gotransplant/llama"
	"gotransplant/transplant"
)

// Plan is what an extraction will do.
type Plan struct {
	Input    string        `json:"input"`
	Rows     int           `json:"rows"`
	Tokens   int64         `json:"tokens"`
	Longest  int           `json:"longest"`  // text, in tokens
	Specials int           `json:"specials"` // special tokens' texts in the texts
	TooLong  Skipped       `json:"skipped"`
	Bytes    int64         `json:"bytes"` // to be written, without headers
	Tensors  []TensorPlan  `json:"tensors"`
	Memory   *Memory       `json:"memory,omitempty"` // once the model is loaded
	Hash     string        `json:"input_sha256"`
	Layout   states.Layout `json:"-"`

	most    int // vectors of a row
	longest item
	lengths map[int]tally // by tokens of a text, where texts go through the layers together
	fewer   string        // why not as many texts at a time as there are cores, if so
}

// tally are texts that count as one.
type tally struct {
	texts, states int // states are the most that are read of one
}

func (t tally) plus(other tally) tally {
	return tally{t.texts + other.texts, max(t.states, other.states)}
}

// TensorPlan is what will be written of one tensor.
type TensorPlan struct {
	states.Tensor
	Vectors int64 `json:"vectors"`
	Bytes   int64 `json:"bytes"`
}

// Skipped are texts that are longer than the model reads.
type Skipped struct {
	Rows  int      `json:"rows"`
	Limit int      `json:"limit"` // tokens
	IDs   []string `json:"ids"`   // of the first few
}

// few is how many ids are named where there may be many.
const few = 10

// manyErrors is how many bad lines are shown; more are counted.
const manyErrors = 1000

// Plan goes through the input, checks every line and counts. It reports all bad lines at once.
func (x *Extraction) Plan(ctx context.Context) (*Plan, error) {
	p := &Plan{TooLong: Skipped{Limit: x.input.limit, IDs: []string{}}, Layout: x.layout, lengths: make(map[int]tally)}
	hash := sha256.New()
	var errs []error
	more := 0
	for it, err := range x.input.items(hash) {
		switch {
		case ctx.Err() != nil:
			return nil, transplant.ErrInterrupted
		case err != nil && len(errs) < manyErrors:
			errs = append(errs, err)
		case err != nil:
			more++
		default:
			p.count(it)
		}
	}
	p.Input = x.input.name
	if more > 0 {
		errs = append(errs, fmt.Errorf("and %d more bad lines", more))
	}
	if p.TooLong.Rows > 0 && !x.options.SkipLong {
		errs = append(errs, fmt.Errorf("%s: %d of %d texts have more than %d tokens (%s): %s", p.Input, p.TooLong.Rows,
			p.TooLong.Rows+p.Rows, p.TooLong.Limit, p.TooLong, p.advice(x.reading.Config.MaxPositionEmbeddings)))
	}
	if len(errs) == 0 && p.Rows == 0 {
		errs = append(errs, fmt.Errorf("%s: all %d texts have more than %d tokens: %s", p.Input, p.TooLong.Rows, p.TooLong.Limit,
			p.advice(x.reading.Config.MaxPositionEmbeddings)))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	p.Hash = hex.EncodeToString(hash.Sum(nil))
	p.Bytes = p.Layout.RowBytes(1) * p.Layout.Vectors
	for _, t := range p.Layout.Tensors {
		one := states.Layout{Tensors: []states.Tensor{t}}
		p.Tensors = append(p.Tensors, TensorPlan{t, p.Layout.Vectors, one.RowBytes(1) * p.Layout.Vectors})
	}
	return p, nil
}

func (p *Plan) advice(context int) string {
	return setup.Advice(p.TooLong.Limit, context, p.Rows, "texts")
}

func (p *Plan) count(it item) {
	p.Specials += it.specials
	if it.vectors == nil {
		p.TooLong.Rows++
		if len(p.TooLong.IDs) < few {
			p.TooLong.IDs = append(p.TooLong.IDs, it.ID)
		}
		return
	}
	p.Rows++
	p.Layout.Rows++
	p.Layout.Vectors += int64(len(it.vectors))
	n := it.length()
	p.Tokens += int64(len(it.tokens.IDs))
	p.most = max(p.most, len(it.vectors))
	if it.moving == nil {
		own, _ := sources(it.vectors)
		p.lengths[n] = p.lengths[n].plus(tally{1, len(own)})
	}
	if n > p.Longest || n == p.Longest && len(it.vectors) > len(p.longest.vectors) {
		p.Longest, p.longest = n, it
	}
}

// String names the first few.
func (s Skipped) String() string {
	text := "ids " + strings.Join(s.IDs, ", ")
	if s.Rows > len(s.IDs) {
		text += ", ..."
	}
	return text
}

// layOut finds the layout of the directory to write, but for the counts, and where in it each tensor is.
func (x *Extraction) layOut() {
	l := states.Layout{Format: x.options.Format, ShardRows: x.options.ShardRows, ShardBytes: x.options.ShardBytes}
	for _, info := range x.sites {
		kind, _ := x.options.dtype(info.Residual) // Validate has checked it
		add := func(layer int) {
			x.tensor[key{info.Site, layer}] = len(l.Tensors)
			l.Tensors = append(l.Tensors, states.Tensor{Name: TensorName(info.Site, layer), DType: kind, Shape: info.Shape(x.reading.Config)})
		}
		if !info.PerLayer {
			add(llama.NoLayer)
			continue
		}
		for layer, chosen := range x.layers {
			if chosen {
				add(layer)
			}
		}
	}
	x.layout = l
}

// SkippedFile lists the texts left out by --skip-long.
const SkippedFile = "skipped.jsonl"

// writeSkipped lists them, reading the input once more: there may be too many to remember.
func (x *Extraction) writeSkipped(dir string) error {
	return atomicfile.Write(filepath.Join(dir, SkippedFile), func(w io.Writer) error {
		for it, err := range x.input.items(io.Discard) {
			if err != nil {
				return err
			}
			if it.vectors != nil {
				continue
			}
			line := struct {
				ID     string `json:"id"`
				Line   int    `json:"line"`
				Tokens int    `json:"tokens"`
			}{it.ID, it.Line, it.length()}
			var text bytes.Buffer
			e := json.NewEncoder(&text)
			e.SetEscapeHTML(false)
			if err := e.Encode(line); err != nil {
				return err
			}
			if _, err := w.Write(text.Bytes()); err != nil {
				return err
			}
		}
		return nil
	})
}

// String is the plan as lines of text.
func (p *Plan) String() string {
	text := fmt.Sprintf("input    %s: %s, %d tokens, the longest %d\n", p.Input, spelling.Count(p.Rows, "row"), p.Tokens, p.Longest)
	if p.TooLong.Rows > 0 {
		text += fmt.Sprintf("skipped  %s of more than %d tokens: %s\n", spelling.Count(p.TooLong.Rows, "row"), p.TooLong.Limit, p.TooLong)
	}
	if p.Specials > 0 {
		text += fmt.Sprintf("note     %d names of special tokens stand in the texts; see --specials\n", p.Specials)
	}
	text += p.sites()
	text += fmt.Sprintf("files    %d bytes of states, in shards of at most %d rows and %d bytes\n", p.Bytes, p.Layout.ShardRows, p.Layout.ShardBytes)
	if p.Memory != nil {
		text += fmt.Sprintf("memory   %s%s\n", p.Memory, p.fewer)
	}
	return text
}

// sites are lines with the tensors of a site, which differ in the layer alone.
func (p *Plan) sites() (text string) {
	for i := 0; i < len(p.Tensors); {
		t, n := p.Tensors[i], 0
		site, _, layered := strings.Cut(t.Name, ".")
		for i < len(p.Tensors) && strings.HasPrefix(p.Tensors[i].Name+".", site+".") {
			i, n = i+1, n+1
		}
		shape := strings.Trim(fmt.Sprint(append([]int{int(t.Vectors)}, t.Shape...)), "[]")
		text += fmt.Sprintf("site     %s %s [%s]", site, t.DType, strings.ReplaceAll(shape, " ", ", "))
		if layered {
			text += fmt.Sprintf(" in %s", spelling.Count(n, "layer"))
		}
		text += fmt.Sprintf(": %d bytes\n", int64(n)*t.Bytes)
	}
	return text
}
