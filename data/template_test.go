package data

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func mustParse(t *testing.T, parse func(name, text string) (*Template, error), text string) *Template {
	t.Helper()
	tmpl, err := parse("t.tmpl", text)
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

var aRow = Row{Line: 7, Question: "What <s>?", CorrectArgument: "right", IncorrectArgument: "wrong",
	Choice: "candidate_1", ChoiceArgument: "Candidate 1.", Swapped: true}

func TestRenderChoose(t *testing.T) {
	tmpl := mustParse(t, ParseChoose, `<s>{{.Question}}|{{span .Candidate1}}, {{span .Candidate2}}{{.ChoiceArgument}}!`)
	got, err := tmpl.Choose(aRow)
	want := Prompt{
		{Text: "<s>What <s>?|", Ordinary: []Span{{3, 12}}},
		{Text: "wrong", Fence: Candidate1, Ordinary: []Span{{0, 5}}},
		{Text: ", "},
		{Text: "right", Fence: Candidate2, Ordinary: []Span{{0, 5}}},
		{Text: "Candidate 1.!", Ordinary: []Span{{0, 12}}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
}

func TestRenderArgue(t *testing.T) {
	for _, c := range []struct {
		name, text, want string // segments as text, fenced ones in brackets, data underlined by {}
	}{
		{"plain", `Q {{.Question}} A {{span .Argument}}`, "Q {What <s>?} A |[{wrong}]"},
		{"candidate first", `{{span .Argument}} to {{.Question}}`, "[{wrong}]| to {What <s>?}"},
		{"comparison on the text itself", `{{if eq .Question "What <s>?"}}yes{{end}}{{span .Argument}}`, "yes|[{wrong}]"},
		{"length of the text itself", `{{len .Question}}{{span .Argument}}`, "9|[{wrong}]"},
		{"slice", `{{slice .Question 0 4}}{{span .Argument}}`, "{What}|[{wrong}]"},
		{"printf", `{{printf "<%s>" .Question}}{{span .Argument}}`, "<{What <s>?}>|[{wrong}]"},
		{"js", `{{js .Question}}{{span .Argument}}`, `{What \u003Cs\u003E?}|[{wrong}]`},
		{"html", `{{.Question | html}}{{span .Argument}}`, `{What &lt;s&gt;?}|[{wrong}]`},
		{"urlquery", `{{urlquery .Question}}{{span .Argument}}`, `{What+%3Cs%3E%3F}|[{wrong}]`},
		{"with", `{{with .Question}}{{.}}{{else}}none{{end}}{{span $.Argument}}`, "{What <s>?}|[{wrong}]"},
		{"a template within", `{{define "q"}}<{{.Question}}>{{end}}{{template "q" .}}{{span .Argument}}`,
			"<{What <s>?}>|[{wrong}]"},
		{"a template within, of nothing", `{{define "q"}}<>{{end}}{{template "q"}}{{span .Argument}}`, "<>|[{wrong}]"},
		{"variables", `{{$q := .Question}}{{$all := .}}{{$q}}{{$all.Question}}{{span .Argument}}`, "{What <s>?}{What <s>?}|[{wrong}]"},
		{"one span in each branch", `{{if .Question}}a{{span .Argument}}{{else}}b{{span .Argument}}{{end}}`, "a|[{wrong}]"},
		{"a field twice", `{{.Question}}{{.Question}}{{span .Argument}}`, "{What <s>?}{What <s>?}|[{wrong}]"},
		{"another span", `{{span .Question}}{{span .Argument}}`, "[{What <s>?}]|[{wrong}]"},
		{"trimmed", "a\n{{- /* nothing */ -}}\n {{span .Argument}}{{/* end */ -}}\n", "a|[{wrong}]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := mustParse(t, ParseArgue, c.text).Argue(aRow, 1)
			if drawn := draw(got); err != nil || drawn != c.want {
				t.Errorf("got %q, %v; want %q", drawn, err, c.want)
			}
		})
	}
}

// draw writes a prompt as text: segments between bars, fenced ones in brackets, data in braces.
func draw(p Prompt) string {
	var parts []string
	for _, s := range p {
		text, last := "", 0
		for _, o := range s.Ordinary {
			text += s.Text[last:o.Start] + "{" + s.Text[o.Start:o.End] + "}"
			last = o.End
		}
		text += s.Text[last:]
		if s.Fence != "" {
			text = "[" + text + "]"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "|")
}

func TestParseTemplateRefuses(t *testing.T) {
	for _, c := range []struct {
		name, text string
		parts      []string
	}{
		{"syntax", "a\n{{.Question", []string{"t.tmpl:2"}},
		{"unknown field", "a\nb {{.Answer}}{{span .Argument}}", []string{"t.tmpl:2", ".Answer", ".Question", ".Argument"}},
		{"unknown field in a branch not taken", "{{span .Argument}}\n{{if eq .Question \"z\"}}\n{{.Nope}}{{end}}",
			[]string{"t.tmpl:3", ".Nope"}},
		{"unknown field in an else branch", "{{span .Argument}}{{with .Question}}{{else}}\n{{.Nope}}{{end}}",
			[]string{"t.tmpl:2", ".Nope"}},
		{"unknown field in a condition", "{{span .Argument}}\n{{if .Nope}}{{end}}", []string{"t.tmpl:2", ".Nope"}},
		{"unknown field of a variable", "{{span .Argument}}{{$all := .}}\n{{$all.Nope}}", []string{"t.tmpl:2", "Nope"}},
		{"a field of nothing", "{{define \"q\"}}{{.Question}}{{end}}{{template \"q\"}}{{span .Argument}}", []string{"t.tmpl", "Question"}},
		{"unknown field by $", "{{span .Argument}}\n{{$.Nope}}", []string{"t.tmpl:2", ".Nope"}},
		{"unknown field in a definition", "{{span .Argument}}{{define \"x\"}}\n{{.Nope}}{{end}}", []string{":2", ".Nope"}},
		{"the chooser's field", "{{span .Argument}}{{.ChoiceArgument}}", []string{"t.tmpl:1", ".ChoiceArgument"}},
		{"a field of a field", "{{span .Argument}}{{.Question.Text}}", []string{"t.tmpl:1", ".Question.Text"}},
		{"no span", "{{.Question}}{{.Argument}}", []string{"t.tmpl", "nothing fences .Argument", "{{span .Argument}}"}},
		{"the wrong span", "{{span .Question}}", []string{"t.tmpl", "nothing fences .Argument"}},
		{"the same span twice", "{{span .Argument}}\n{{span .Argument}}", []string{"t.tmpl:2", ".Argument is fenced twice"}},
		{"span of a literal", "\n{{span \"x\"}}", []string{"t.tmpl:2", "span takes one field"}},
		{"span of nothing", "{{span}}", []string{"t.tmpl:1", "span takes one field"}},
		{"span of two", "{{span .Question .Argument}}", []string{"t.tmpl:1", "span takes one field"}},
		{"span at the end of a pipe", "{{.Argument | span}}", []string{"t.tmpl:1", "span takes one field"}},
		{"a field cut to pieces", `{{printf "%.3s" .Question}}{{span .Argument}}`, []string{"t.tmpl", "printf"}},
		{"a quoted field", `{{printf "%q" .Question}}{{span .Argument}}`, []string{"t.tmpl", "printf"}},
		{"a span without its end", `{{printf "%.12s" (span .Argument)}}`, []string{"t.tmpl", "printf"}},
		{"a span cut within its field", `{{printf "%.13s" (span .Argument)}}`, []string{"t.tmpl", "printf"}},
		{"a span without its beginning", `{{slice (span .Argument) 3}}`, []string{"t.tmpl", "printf"}},
		{"a reserved character", "\ufdd0{{span .Argument}}", []string{"t.tmpl", "U+FDD0"}},
		{"not UTF-8", "caf\xe9 {{span .Argument}}", []string{"t.tmpl: it is not UTF-8"}},
		{"empty", "", []string{"t.tmpl"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseArgue("t.tmpl", c.text)
			wantError(t, err, c.parts...)
		})
	}
	_, err := ParseChoose("c.tmpl", "{{span .Candidate1}}{{.Candidate2}}")
	wantError(t, err, "c.tmpl", "nothing fences .Candidate2")
}

func TestRenderRefuses(t *testing.T) {
	row := aRow
	row.Question = "a\ufdd1b"
	_, err := mustParse(t, ParseArgue, "{{.Question}}{{span .Argument}}").Argue(row, 1)
	wantError(t, err, "line 7", "Question", "U+FDD0")
	_, err = mustParse(t, ParseArgue, `{{if ne .Question "What <s>?"}}{{span .Argument}}{{end}}`).Argue(aRow, 1)
	wantError(t, err, "line 7", "t.tmpl", "nothing fences .Argument")
}

// words is an encoder for tests: an id per byte, "<s>" is one token where it is not ordinary, and BOS is its id.
type words struct {
	bos    bool
	firsts *[]bool // collects what Encode is told
}

const bosID = 1000

func (w words) Encode(text string, ordinary []Span, first bool) []int32 {
	var ids []int32
	if w.firsts != nil {
		*w.firsts = append(*w.firsts, first)
	}
	for i := 0; i < len(text); {
		special := strings.HasPrefix(text[i:], "<s>")
		for _, o := range ordinary {
			special = special && (i+3 <= o.Start || i >= o.End)
		}
		if special {
			ids, i = append(ids, bosID), i+3
			continue
		}
		ids, i = append(ids, int32(text[i])), i+1
	}
	return ids
}

func (words) CountSpecials(text string) int { return strings.Count(text, "<s>") }

func (w words) BOS() (int32, bool) { return bosID, w.bos }

func TestEncode(t *testing.T) {
	for _, c := range []struct {
		name     string
		prompt   Prompt
		bos      bool
		ids      string
		spans    map[string]Span
		specials int
	}{
		{"BOS in front", Prompt{{Text: "ab"}, {Text: "c", Fence: "X"}}, true, "[1000 97 98 99]",
			map[string]Span{"X": {3, 4}}, 0},
		{"no BOS", Prompt{{Text: "ab"}, {Text: "c", Fence: "X"}}, false, "[97 98 99]", map[string]Span{"X": {2, 3}}, 0},
		{"BOS in the template", Prompt{{Text: "<s>a"}, {Text: "c", Fence: "X"}}, true, "[1000 97 99]",
			map[string]Span{"X": {2, 3}}, 0},
		{"a second BOS in the template", Prompt{{Text: "a<s>"}, {Text: "<s>"}}, true, "[1000 97 1000 1000]",
			map[string]Span{}, 0},
		{"special in the template, no BOS", Prompt{{Text: "<s>a"}}, false, "[1000 97]", map[string]Span{}, 0},
		{"BOS in a fence", Prompt{{Text: "<s>a", Fence: "X"}}, true, "[1000 1000 97]", map[string]Span{"X": {1, 3}}, 0},
		{"empty at the front", Prompt{{Text: ""}, {Text: "<s>a"}}, true, "[1000 1000 97]", map[string]Span{}, 0},
		{"nothing", nil, true, "[1000]", map[string]Span{}, 0},
		{"BOS in data", Prompt{{Text: "<s>a", Ordinary: []Span{{0, 3}}}, {Text: "<s>", Fence: "X", Ordinary: []Span{{0, 3}}}},
			true, "[1000 60 115 62 97 60 115 62]", map[string]Span{"X": {5, 8}}, 2},
		{"two fences, one empty", Prompt{{Text: "a", Fence: "X"}, {Text: "", Fence: "Y"}}, true, "[1000 97]",
			map[string]Span{"X": {1, 2}, "Y": {2, 2}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Encode(c.prompt, words{bos: c.bos})
			if fmt.Sprint(got.IDs) != c.ids || !reflect.DeepEqual(got.Spans, c.spans) || got.SpecialsInData != c.specials {
				t.Errorf("got %+v\nwant %s %v %d", got, c.ids, c.spans, c.specials)
			}
		})
	}
}

// Only a segment that begins the prompt is first; a fence has a fence token before it, in principle.
func TestEncodeSaysWhichSegmentIsFirst(t *testing.T) {
	for _, c := range []struct {
		prompt Prompt
		want   []bool
	}{
		{Prompt{{Text: "a"}, {Text: "b", Fence: "X"}, {Text: "c"}}, []bool{true, false, false}},
		{Prompt{{Text: "b", Fence: "X"}, {Text: "c"}}, []bool{false, false}},
	} {
		var got []bool
		Encode(c.prompt, words{firsts: &got})
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: got %v, want %v", c.prompt, got, c.want)
		}
	}
}

// merging is an encoder in which an underscore and a following label are one token, or all labels are the same, or of two
// tokens.
type merging struct {
	words
	same, long bool
}

func (m merging) Encode(text string, ordinary []Span, first bool) []int32 {
	if m.same {
		text = strings.NewReplacer("1", "0", "2", "0").Replace(text)
	}
	if m.long {
		text = strings.NewReplacer("1", "1.", "2", "2.").Replace(text)
	}
	ids := m.words.Encode(text, ordinary, first)
	if n := len(ids); n > 1 && ids[n-2] == '_' {
		ids = append(ids[:n-2:n-2], 3000+ids[n-1])
	}
	return ids
}

func TestLabelIDs(t *testing.T) {
	end := Prompt{{Text: "x", Fence: "X"}, {Text: "candidate"}}
	if got, err := LabelIDs(end, merging{}); err != nil || got != [2]int32{'1', '2'} {
		t.Errorf("got %v, %v; want the ids of 1 and 2", got, err)
	}
	fenced := Prompt{{Text: "a_"}, {Text: "x_", Fence: "X"}}
	if got, err := LabelIDs(fenced, merging{}); err != nil || got != [2]int32{'1', '2'} {
		t.Errorf("after a fence: got %v, %v; want the ids of 1 and 2", got, err)
	}
	for _, c := range []struct {
		name   string
		prompt Prompt
		first  bool // whether the encoder is told that the text before the label begins the prompt
	}{
		{"nothing", nil, true}, {"one segment", end[1:], true}, {"one fence", end[:1], false}, {"two segments", end, false},
	} {
		var firsts []bool
		got, err := LabelIDs(c.prompt, words{firsts: &firsts})
		if want := []bool{c.first, c.first, c.first}; err != nil || got != [2]int32{'1', '2'} || !slices.Equal(firsts, want) {
			t.Errorf("%s: got %v, %v, first %v; want the ids of 1 and 2, first %v", c.name, got, err, firsts, want)
		}
	}
	_, err := LabelIDs(end, merging{long: true})
	wantError(t, err, `"1"`, "does not add one token")
	_, err = LabelIDs(Prompt{{Text: "a_"}}, merging{})
	wantError(t, err, `"1"`, "[97 95]", "[97 3049]", "(from token 0 on)")
	_, err = LabelIDs(Prompt{{Text: "a long text a_"}}, merging{}) // of which only the end is shown
	wantError(t, err, "without it [97 95], with it [97 3049] (from token 12 on)")
	_, err = LabelIDs(end, merging{same: true})
	wantError(t, err, "same token 48")
}
