package data

import (
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotransplant/model/tokenizer"
)

// collect gives the texts as "line id label prompt" and the errors.
func collect(texts iter.Seq2[Text, error]) (got, errs []string) {
	for t, err := range texts {
		if err != nil {
			errs = append(errs, err.Error())
			continue
		}
		got = append(got, fmt.Sprintf("%d %s %s %+v", t.Line, t.ID, t.Label, t.Prompt))
	}
	return got, errs
}

func TestScanLines(t *testing.T) {
	for _, c := range []struct {
		name, file string
		want, errs []string
	}{
		{"lines", "one\ntwo ", []string{"1 1  [{Text:one Fence: Ordinary:[]}]", "2 2  [{Text:two  Fence: Ordinary:[]}]"}, nil},
		{"mark and Windows' line ends", "\ufeffone\r\ntwo\r\n",
			[]string{"1 1  [{Text:one Fence: Ordinary:[]}]", "2 2  [{Text:two Fence: Ordinary:[]}]"}, nil},
		{"bad lines", "one\n\n\xff\n \t\nlast\n", []string{"1 1  [{Text:one Fence: Ordinary:[]}]", "5 5  [{Text:last Fence: Ordinary:[]}]"},
			[]string{"f:2: the line is empty", "f:3: the line is not UTF-8", "f:4: the line is empty"}},
		{"nothing", "", nil, []string{"f: empty; want a text a line"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, errs := collect(ScanLines(strings.NewReader(c.file), "f"))
			if !slices.Equal(got, c.want) || !slices.Equal(errs, c.errs) {
				t.Errorf("got  %q, errors %q\nwant %q, errors %q", got, errs, c.want, c.errs)
			}
		})
	}
}

func TestScanJSONL(t *testing.T) {
	for _, c := range []struct{ name, line, want, err string }{
		{"text", `{"text":"a"}`, "1 1  [{Text:a Fence: Ordinary:[]}]", ""},
		{"all", `{"id":"x", "label": {"a": [1, 2]}, "text":"a\n"}`, "1 x {\"a\": [1, 2]} [{Text:a\n Fence: Ordinary:[]}]", ""},
		{"number as id", `{"id":12,"text":"a"}`, "1 12  [{Text:a Fence: Ordinary:[]}]", ""},
		{"segments", `{"segments":[{"text":"a"},{"text":"b","name":"n"},{"text":"","name":"m"}]}`,
			"1 1  [{Text:a Fence: Ordinary:[]} {Text:b Fence:n Ordinary:[]} {Text: Fence:m Ordinary:[]}]", ""},
		{"segments without names", `{"segments":[{"text":"a"},{"text":"b"},{"text":"c","name":""}]}`,
			"1 1  [{Text:a Fence: Ordinary:[]} {Text:b Fence: Ordinary:[]} {Text:c Fence: Ordinary:[]}]", ""},
		{"a real replacement character", `{"text":"a\ufffd"}`, "1 1  [{Text:a\ufffd Fence: Ordinary:[]}]", ""},
		{"both", `{"text":"a","segments":[{"text":"a"}]}`, "", `either "text" or "segments"`},
		{"neither", `{"id":"a"}`, "", `either "text" or "segments"`},
		{"misspelt key", `{"text":"a","lable":1}`, "", `"lable" is none of id, label, text, segments`},
		{"key in capitals", `{"Text":"a"}`, "", `"Text" is none of`},
		{"key twice", `{"text":"a","text":"b"}`, "", `"text" stands twice`},
		{"no object", `["a"]`, "", "not a JSON object"},
		{"not closed", `{"text":"a"`, "", "not JSON"},
		{"key without quotes", `{text:"a"}`, "", "not JSON"},
		{"no value", `{"text":}`, "", "not JSON"},
		{"two objects", `{"text":"a"}{"text":"b"}`, "", "follows"},
		{"no string", `{"text":1}`, "", "text is missing or no string"},
		{"empty", `{"text":""}`, "", "text is empty"},
		{"half a pair", `{"text":"a\ud800"}`, "", "surrogate"},
		{"id of another kind", `{"id":true,"text":"a"}`, "", "id is true"},
		{"null as id", `{"id":null,"text":"a"}`, "", "id is null"},
		{"half a pair in an id", `{"id":"\ud800","text":"a"}`, "", "id: \\ud800 at byte"},
		{"empty id", `{"id":"","text":"a"}`, "", "id is empty"},
		{"name twice", `{"segments":[{"text":"a","name":"n"},{"text":"b","name":"n"}]}`, "", `segment 2: a segment before it is named "n"`},
		{"name with a comma", `{"segments":[{"text":"a","name":"n,m"}]}`, "", `segment 1: the name "n,m" has a comma`},
		{"name no string", `{"segments":[{"text":"a"},{"text":"b","name":1}]}`, "", "segment 2: name is missing or no string"},
		{"segment no object", `{"segments":[{"text":"a"},"b"]}`, "", "segment 2: not a JSON object"},
		{"misspelt key in a segment", `{"segments":[{"text":"a","nane":"n"}]}`, "", `segment 1: the key "nane" is none of text, name`},
		{"no list", `{"segments":{"text":"a"}}`, "", "not a list"},
		{"null as list", `{"segments":null}`, "", "not a list"},
		{"segments without text", `{"segments":[{"text":""}]}`, "", "no text"},
		{"segment without text", `{"segments":[{"text":"a"},{"name":"n"}]}`, "", "segment 2: text is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, errs := collect(ScanJSONL(strings.NewReader(c.line+"\n"), "f"))
			switch {
			case c.err == "" && (len(errs) > 0 || !slices.Equal(got, []string{c.want})):
				t.Errorf("got %q, errors %q; want %q", got, errs, c.want)
			case c.err != "" && (len(got) > 0 || len(errs) != 1 || !strings.Contains(errs[0], c.err) || !strings.HasPrefix(errs[0], "f:1: ")):
				t.Errorf("got %q, errors %q; want f:1: and %q", got, errs, c.err)
			}
		})
	}
}

func TestScanReadError(t *testing.T) {
	broken := errors.New("disk on fire")
	for _, text := range []string{"", "a", "a\n"} {
		var last error
		for _, err := range ScanLines(&failing{strings.NewReader(text), broken}, "f") {
			last = err
		}
		if !errors.Is(last, broken) || !strings.HasPrefix(last.Error(), "f: ") {
			t.Errorf("%q: got %v, want %v with the file's name", text, last, broken)
		}
	}
}

// spanned adds spans to the encoder of the other tests.
type spanned struct{ realEncoder }

func (e spanned) EncodeSpans(text string, ordinary []Span, first bool) (ids []int32, spans []Span) {
	encode := e.Tokenizer.EncodeNext
	if first {
		encode = e.Tokenizer.Encode
	}
	ranges := make([]tokenizer.Range, len(ordinary))
	for i, s := range ordinary {
		ranges[i] = tokenizer.Range(s)
	}
	for _, t := range encode(text, ranges) {
		ids, spans = append(ids, t.ID), append(spans, Span{t.Start, t.End})
	}
	return ids, spans
}

// TestEncodeSpans: the ids are Encode's, and the spans, one for each, cover the text in order.
func TestEncodeSpans(t *testing.T) {
	for _, name := range []string{"small", "mha", "gqa"} {
		tok, err := tokenizer.Open(filepath.Join(sharedDir(t), "golden", name, "model"))
		if err != nil {
			t.Fatal(err)
		}
		e := spanned{realEncoder{tok}}
		bos, _ := tok.BOS()
		first, _ := tok.TokenString(bos)
		for _, p := range []Prompt{
			{{Text: "A héllo \n\n wörld, "}, {Text: "fenced ☃ text", Fence: "a"}, {Text: " behind"}},
			{{Text: "fence first", Fence: "a"}, {Text: "then text"}},
			{{Text: first + "says BOS itself"}},
		} {
			tokens, spans := EncodeSpans(p, e)
			if want := Encode(p, e); !slices.Equal(tokens.IDs, want.IDs) || tokens.Spans["a"] != want.Spans["a"] {
				t.Errorf("%s: got %v, want %v", name, tokens, want)
			}
			if len(spans) != len(tokens.IDs) {
				t.Fatalf("%s: %d spans for %d tokens", name, len(spans), len(tokens.IDs))
			}
			at := 0
			for i, s := range spans {
				if s.Start != at || s.End < s.Start {
					t.Errorf("%s: token %d of %q has the bytes %v, want them to begin at %d", name, i, p.Text(), s, at)
				}
				at = s.End
			}
			if at != len(p.Text()) {
				t.Errorf("%s: the spans of %q end at %d, want %d", name, p.Text(), at, len(p.Text()))
			}
		}
	}
}
