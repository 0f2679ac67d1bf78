package data

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html"
	"maps"
	"slices"
	"strings"
	"text/template"
	"unicode/utf8"
)

//go:embed templates
var builtin embed.FS

// Span is a half-open range [Start, End): of bytes of a text, or of tokens.
type Span struct{ Start, End int }

// Segment is a part of a prompt that is tokenized on its own.
type Segment struct {
	Text     string
	Fence    string // the field whose span this is; "" between spans
	Ordinary []Span // byte ranges of Text that came from data fields, where no special token is looked for
}

// Prompt is a rendered template: its segments in order, none of them empty but fenced ones.
type Prompt []Segment

// Template is a prompt as a Go text/template in which {{span .Field}} fences a field's text as a segment of its own. It
// may be used by several goroutines.
type Template struct {
	tmpl   *template.Template
	fields []string // what the template may use
	fences []string // what it must fence, each once
}

// Field names of the two prompts.
const (
	Question       = "Question"
	Argument       = "Argument"
	Candidate1     = "Candidate1"
	Candidate2     = "Candidate2"
	ChoiceArgument = "ChoiceArgument"
)

// ParseArgue reads the arguer's template: fields .Question and .Argument, of which the second must be fenced. Errors
// give name and line.
func ParseArgue(name, text string) (*Template, error) {
	return parseTemplate(name, text, &Template{fields: []string{Question, Argument}, fences: []string{Argument}})
}

// ParseChoose reads the chooser's template: fields .Question, .Candidate1, .Candidate2 and .ChoiceArgument, of which
// the candidates must be fenced. The label is expected right after the prompt's end.
func ParseChoose(name, text string) (*Template, error) {
	return parseTemplate(name, text, &Template{fields: []string{Question, Candidate1, Candidate2, ChoiceArgument},
		fences: []string{Candidate1, Candidate2}})
}

// DefaultArgue is the text of the built-in arguer's template.
func DefaultArgue() (string, error) { return builtinText("argue.tmpl") }

// DefaultChoose is the text of the built-in chooser's template.
func DefaultChoose() (string, error) { return builtinText("choose.tmpl") }

func builtinText(name string) (string, error) {
	content, err := builtin.ReadFile("templates/" + name)
	return string(content), err
}

// The marks that a field and a fence leave in the template's output. They are Unicode noncharacters, which no text
// that is exchanged contains.
const (
	fieldStart = "\ufdd0"
	fieldEnd   = "\ufdd1"
	fenceStart = "\ufdd2"
	fenceName  = "\ufdd3"
	fenceEnd   = "\ufdd4"
	marks      = fieldStart + fieldEnd + fenceStart + fenceName + fenceEnd
)

// field is a data field inside a template. Comparisons see the plain string; printing it leaves marks around it.
type field string

// String is what the template prints.
func (f field) String() string { return fieldStart + string(f) + fieldEnd }

// escaped are text/template's escaping functions, made to keep the marks outside of what they escape.
func escaped() template.FuncMap {
	return template.FuncMap{
		"js":       func(f field) field { return field(template.JSEscapeString(string(f))) },
		"html":     func(f field) field { return field(html.EscapeString(string(f))) },
		"urlquery": func(f field) field { return field(template.URLQueryEscaper(string(f))) },
		"span":     func(string, field) (string, error) { return "", errors.New("span outside of rendering") },
	}
}

func parseTemplate(name, text string, t *Template) (*Template, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("template %s: it is not UTF-8: convert it first", name)
	}
	if strings.ContainsAny(text, marks) {
		return nil, fmt.Errorf("template %s: contains one of the noncharacters U+FDD0 to U+FDD4, which are reserved", name)
	}
	// walker sees no field of a variable; without the option such a one, misspelt, would read "<no value>".
	tmpl, err := template.New(name).Option("missingkey=error").Funcs(escaped()).Parse(text)
	if err != nil {
		return nil, err
	}
	for _, part := range tmpl.Templates() {
		w := walker{tree: part.Tree, fields: t.fields}
		if err := w.visit(part.Tree.Root); err != nil {
			return nil, err
		}
	}
	t.tmpl = tmpl
	trial := map[string]field{}
	for _, f := range t.fields {
		trial[f] = field(f)
	}
	_, err = t.render(trial)
	return t, err
}

// Argue renders the arguer's prompt for candidate n, 1 or 2, of a row. Errors give the template's line or the row's.
func (t *Template) Argue(r Row, n int) (Prompt, error) {
	return t.renderRow(r, map[string]field{Question: field(r.Question), Argument: field(r.Candidate(n))})
}

// Choose renders the chooser's prompt for a row.
func (t *Template) Choose(r Row) (Prompt, error) {
	return t.renderRow(r, map[string]field{Question: field(r.Question), Candidate1: field(r.Candidate(1)),
		Candidate2: field(r.Candidate(2)), ChoiceArgument: field(r.ChoiceArgument)})
}

func (t *Template) renderRow(r Row, values map[string]field) (Prompt, error) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if strings.ContainsAny(string(values[name]), marks) {
			return nil, fmt.Errorf("row at line %d: %s contains one of the noncharacters U+FDD0 to U+FDD4, which mark "+
				"fields in templates; remove it", r.Line, name)
		}
	}
	p, err := t.render(values)
	if err != nil {
		return nil, fmt.Errorf("row at line %d: %w", r.Line, err)
	}
	return p, nil
}

// render executes the template and takes its output apart.
func (t *Template) render(values map[string]field) (Prompt, error) {
	tmpl, err := t.tmpl.Clone() // its own span, which counts for this rendering alone
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", t.tmpl.Name(), err)
	}
	fenced := map[string]bool{}
	tmpl.Funcs(template.FuncMap{"span": func(name string, f field) (string, error) {
		if fenced[name] {
			return "", fmt.Errorf(".%s is fenced twice", name)
		}
		fenced[name] = true
		return fenceStart + name + fenceName + f.String() + fenceEnd, nil
	}})
	var out bytes.Buffer
	if err := tmpl.Execute(&out, values); err != nil {
		return nil, err
	}
	for _, name := range t.fences {
		if !fenced[name] {
			return nil, fmt.Errorf("template %s: nothing fences .%s; write {{span .%s}} where it stands",
				t.tmpl.Name(), name, name)
		}
	}
	p, err := split(out.String())
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", t.tmpl.Name(), err)
	}
	return p, nil
}

// split takes a template's output apart at the marks.
func split(out string) (Prompt, error) {
	broken := errors.New(`a function such as printf "%q" changes a field's text where only js, html and urlquery may`)
	lower := strings.ToLower(out)
	if strings.Contains(lower, `\ufdd`) {
		return nil, broken
	}
	var p Prompt
	for out != "" {
		before, rest, fence := strings.Cut(out, fenceStart)
		if before != "" {
			s, err := segment(before, "")
			if err != nil {
				return nil, broken
			}
			p = append(p, s)
		}
		if !fence {
			return p, nil
		}
		name, rest, _ := strings.Cut(rest, fenceName)
		inside, rest, closed := strings.Cut(rest, fenceEnd)
		s, err := segment(inside, name)
		if err != nil || !closed {
			return nil, broken
		}
		p = append(p, s)
		out = rest
	}
	return p, nil
}

// segment removes the field marks of a text and keeps where they stood.
func segment(marked, fence string) (Segment, error) {
	s := Segment{Fence: fence}
	for {
		before, rest, found := strings.Cut(marked, fieldStart)
		s.Text += before
		if !found {
			break
		}
		inside, after, closed := strings.Cut(rest, fieldEnd)
		if !closed {
			return s, errors.New("a field without an end")
		}
		if inside != "" {
			s.Ordinary = append(s.Ordinary, Span{len(s.Text), len(s.Text) + len(inside)})
		}
		s.Text += inside
		marked = after
	}
	if strings.ContainsAny(s.Text, marks) {
		return s, errors.New("marks out of order")
	}
	return s, nil
}
