package data

import (
	"fmt"
	"slices"
)

// Encoder is what a tokenizer must do for a prompt.
type Encoder interface {
	// Encode gives the ids of one segment without BOS. In the ordinary byte ranges the text of a special token is text
	// like any other. first says that no segment stands before it in its prompt.
	Encode(text string, ordinary []Span, first bool) []int32
	// CountSpecials gives how many special tokens' texts stand in text.
	CountSpecials(text string) int
	// BOS is the token that begins a prompt; ok is false if there is none.
	BOS() (id int32, ok bool)
}

// Tokens is an encoded prompt.
type Tokens struct {
	IDs            []int32         // BOS once at the front, if the encoder has one
	Spans          map[string]Span // the tokens of each fence
	SpecialsInData int             // special tokens' texts in data fields, which were encoded as ordinary text
}

// SpanEncoder is an Encoder that also says which bytes of its text each token stands for.
type SpanEncoder interface {
	Encoder
	// EncodeSpans is Encode with the bytes [Start, End) of text for every id.
	EncodeSpans(text string, ordinary []Span, first bool) ([]int32, []Span)
}

// Encode encodes a prompt segment by segment, each as if an added token stood on both sides, so that a fenced text has
// the same ids in every prompt.
func Encode(p Prompt, e Encoder) Tokens {
	t, _ := encode(p, e, func(text string, ordinary []Span, first bool) ([]int32, []Span) {
		return e.Encode(text, ordinary, first), nil
	})
	return t
}

// EncodeSpans is Encode with the bytes of the prompt's Text for every token. A BOS that the text does not say itself has
// the empty span at its beginning.
func EncodeSpans(p Prompt, e SpanEncoder) (Tokens, []Span) { return encode(p, e, e.EncodeSpans) }

func encode(p Prompt, e Encoder, segment func(string, []Span, bool) ([]int32, []Span)) (Tokens, []Span) {
	t := Tokens{Spans: map[string]Span{}}
	var bytes []Span
	bos, hasBOS := e.BOS()
	if hasBOS {
		t.IDs, bytes = append(t.IDs, bos), append(bytes, Span{})
	}
	at := 0 // where the segment begins in the text
	for i, s := range p {
		ids, spans := segment(s.Text, s.Ordinary, i == 0 && s.Fence == "")
		if hasBOS && i == 0 && s.Fence == "" && len(ids) > 0 && ids[0] == bos {
			ids = ids[1:] // the template says it itself
			if spans != nil {
				bytes[0], spans = spans[0], spans[1:]
			}
		}
		if s.Fence != "" {
			t.Spans[s.Fence] = Span{len(t.IDs), len(t.IDs) + len(ids)}
		}
		t.IDs = append(t.IDs, ids...)
		for _, b := range spans {
			bytes = append(bytes, Span{at + b.Start, at + b.End})
		}
		at += len(s.Text)
		for _, o := range s.Ordinary {
			t.SpecialsInData += e.CountSpecials(s.Text[o.Start:o.End])
		}
	}
	return t, bytes
}

// lastCommon is the place of the last id, of those with which both begin, or 0: from there on they are short enough to be shown.
func lastCommon(a, b []int32) int {
	same := 0
	for same < min(len(a), len(b)) && a[same] == b[same] {
		same++
	}
	return max(0, same-1)
}

// LabelIDs returns the ids of the labels 1 and 2 as the token that follows the chooser's prompt. It is an error,
// showing the ids, if a label does not add exactly one token and leave the others alone, or if both add the same.
func LabelIDs(p Prompt, e Encoder) ([2]int32, error) {
	var last Segment
	if len(p) > 0 && p[len(p)-1].Fence == "" {
		last = p[len(p)-1]
	}
	first := len(p) == 0 || len(p) == 1 && p[0].Fence == ""
	alone := e.Encode(last.Text, last.Ordinary, first)
	var labels [2]int32
	for i, label := range []string{"1", "2"} {
		with := e.Encode(last.Text+label, last.Ordinary, first)
		if len(with) != len(alone)+1 || !slices.Equal(with[:len(alone)], alone) {
			from := lastCommon(alone, with)
			return labels, fmt.Errorf("the label %q does not add one token to the prompt's end: without it %v, with it "+
				"%v (from token %d on); let the template end so that the label is a token of its own, as behind \"candidate_\"",
				label, alone[from:], with[from:], from)
		}
		labels[i] = with[len(alone)]
	}
	if labels[0] == labels[1] {
		return labels, fmt.Errorf("the labels 1 and 2 are the same token %d; the vocabulary cannot tell them apart",
			labels[0])
	}
	return labels, nil
}
