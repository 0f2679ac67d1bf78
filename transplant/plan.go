package transplant

import (
	"fmt"

	"gotransplant/data"
	"gotransplant/llama"
)

// Passage is one prompt of the arguer: its tokens and where in it the argument lies.
type Passage struct {
	IDs  []int32
	Span data.Span
}

// Case is one row made ready to run.
type Case struct {
	Row             int        // 1 is the first data row
	Label           int        // 1 or 2: the candidate that is right
	ArgumentCorrect bool       // the third writer chose it
	Argue           [2]Passage // the arguer's prompts for candidate 1 and candidate 2
	Choose          []int32    // the chooser's prompt, whose next token is the answer
	Spans           [2]data.Span
}

// moved is the range of positions whose keys and values are moved for a segment: one to the left of its tokens, the
// positions that produce them.
func moved(s data.Span) data.Span { return data.Span{Start: s.Start - 1, End: s.End - 1} }

// Check refuses a case whose states cannot be moved one to one.
func (c Case) Check() error {
	for i, p := range c.Argue {
		from, to := p.Span, c.Spans[i]
		switch {
		case from.Start < 1 || to.Start < 1:
			return fmt.Errorf("row %d: candidate %d begins the prompt, so no position produces its first token; "+
				"the template needs text, or the tokenizer a BOS token, before it", c.Row, i+1)
		case from.End <= from.Start:
			return fmt.Errorf("row %d: candidate %d has no tokens", c.Row, i+1)
		case from.End-from.Start != to.End-to.Start:
			return fmt.Errorf("row %d: candidate %d has %d tokens in the arguer's prompt and %d in the chooser's",
				c.Row, i+1, from.End-from.Start, to.End-to.Start)
		case from.End > len(p.IDs) || to.End > len(c.Choose):
			return fmt.Errorf("row %d: candidate %d ends at token %d of %d in the arguer's prompt and %d of %d in the "+
				"chooser's", c.Row, i+1, from.End, len(p.IDs), to.End, len(c.Choose))
		}
	}
	return nil
}

// Tokens is the number of tokens that the plain method computes for the case: both arguer prompts and the chooser's.
func (c Case) Tokens() int { return len(c.Argue[0].IDs) + len(c.Argue[1].IDs) + len(c.Choose) }

// row is one row of a packed sequence before padding.
type row struct {
	token, position, branch []int32
	source, target          []int32 // per moved state: index into the arguer's row, position in the chooser
	replaced                []bool  // chooser: own states that the moved ones stand for
}

func (r *row) add(token, position, branch int32) {
	r.token, r.position, r.branch = append(r.token, token), append(r.position, position), append(r.branch, branch)
}

// packArguer lays both arguments of a case out as one row: the trunk, which is what the two prompts share, then one
// branch each. A prompt ends where its argument's last moved position is: no one reads further.
func packArguer(c Case) row {
	var prompts [2][]int32
	for i, p := range c.Argue {
		prompts[i] = p.IDs[:moved(p.Span).End]
	}
	trunk := 0
	for trunk < min(len(prompts[0]), len(prompts[1])) && prompts[0][trunk] == prompts[1][trunk] {
		trunk++
	}
	var r row
	for p := range trunk {
		r.add(prompts[0][p], int32(p), 0)
	}
	for i, ids := range prompts {
		offset := len(r.token) - trunk
		for p := trunk; p < len(ids); p++ {
			r.add(ids[p], int32(p), int32(i+1))
		}
		from, to := moved(c.Argue[i].Span), moved(c.Spans[i])
		for p := from.Start; p < from.End; p++ {
			index := p
			if p >= trunk {
				index = p + offset
			}
			r.source = append(r.source, int32(index))
			r.target = append(r.target, int32(to.Start+p-from.Start))
		}
	}
	return r
}

// packChooser lays out the chooser's prompt. With dropMoved the tokens whose keys and values come from the arguer are
// left out: attention is the only exchange between positions, so in a model transplanted in every layer their own
// computation reaches nothing.
func packChooser(c Case, dropMoved bool) row {
	var r row
	for p, id := range c.Choose {
		replaced := false
		for _, span := range c.Spans {
			m := moved(span)
			replaced = replaced || m.Start <= p && p < m.End
		}
		if replaced && dropMoved {
			continue
		}
		r.add(id, int32(p), 0)
		r.replaced = append(r.replaced, replaced)
	}
	return r
}

// roundUp pads a length to a step of at most an eighth of it, so that lengths fall into few buckets: every shape is a
// graph to build.
func roundUp(n int) int {
	step := 8
	for step*16 <= n {
		step *= 2
	}
	return (n + step - 1) / step * step
}

// batch are rows padded on the right to a length that none exceeds.
type batch struct {
	llama.Sequences
	last []int32 // index of each row's final token
}

func pad(rows []row, length int) batch {
	b := batch{Sequences: llama.Sequences{Rows: len(rows), Length: length}}
	for i, r := range rows {
		fill := length - len(r.token)
		b.Token = append(append(b.Token, r.token...), make([]int32, fill)...)
		b.Position = append(append(b.Position, r.position...), make([]int32, fill)...)
		b.Branch = append(b.Branch, r.branch...)
		for range fill {
			b.Branch = append(b.Branch, -1)
		}
		b.last = append(b.last, int32(i*length+len(r.token)-1))
	}
	return b
}

// moves pads the lists of moved states of rows to count; length is that of the arguer's padded rows.
func moves(rows []row, length, count int) (llama.Export, llama.Insertion) {
	out, in := llama.Export{Count: count}, llama.Insertion{Count: count}
	for i, r := range rows {
		for j := range count {
			var source, target int32
			if j < len(r.source) {
				source, target = r.source[j], r.target[j]
			}
			out.Source = append(out.Source, int32(i*length)+source)
			in.Position = append(in.Position, target)
			in.Valid = append(in.Valid, j < len(r.source))
		}
	}
	return out, in
}
