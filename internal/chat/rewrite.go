package chat

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// rewrite puts a Jinja template into the part of the language that gonja (v2.9.1) reads as Jinja2 does; every line stays
// where it is. Inside tags
//   - a newline is followed by a space, since gonja joins it to what comes next,
//   - a conditional expression a if b else c, which gonja knows only as a whole {{ }}, becomes (b and [a] or [c])[0],
//   - neighbouring strings are joined, and strings are spelled so that gonja reads the same characters,
//   - behind for and macro stands a tag that counts,
//   - None is none, which is a value here and not the absence of one.
//
// White space before a tag is taken off here too, where only it stands before the tag on its line: gonja takes it off
// behind other tags of the line as well.
func rewrite(text string) (string, error) {
	var out strings.Builder
	for at := 0; at < len(text); {
		next := nextTag(text[at:])
		if next < 0 {
			out.WriteString(text[at:])
			break
		}
		out.WriteString(leftStripped(text[at:at+next], text[at+next:], at == 0))
		at += next
		end, changed, err := rewriteTag(text[at:])
		if err != nil {
			return "", &lineError{line: 1 + strings.Count(text[:at], "\n"), err: err}
		}
		out.WriteString(changed)
		at += end
	}
	return out.String(), nil
}

// lineError is an error at a line of a template.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }

// leftStripped is the text before a tag, with Jinja's lstrip_blocks.
func leftStripped(before, tag string, first bool) string {
	if tag[1] == '{' || len(tag) > 2 && tag[2] == '+' {
		return before
	}
	line := strings.LastIndexByte(before, '\n') + 1
	if (line > 0 || first) && strings.Trim(before[line:], " \t") == "" {
		return before[:line]
	}
	return before
}

func nextTag(text string) int {
	for at := 0; ; at++ {
		brace := strings.IndexByte(text[at:], '{')
		if brace < 0 || at+brace+1 >= len(text) {
			return -1
		}
		if at += brace; strings.IndexByte("{%#", text[at+1]) >= 0 {
			return at
		}
	}
}

// rewriteTag rewrites the tag that text begins with and returns how much of text that was.
func rewriteTag(text string) (end int, changed string, err error) {
	if text[1] == '#' {
		end = strings.Index(text, "#}")
		if end < 0 {
			return 0, "", errors.New("the comment is not closed")
		}
		return end + 2, text[:end+2], nil
	}
	s := &scanner{text: text, at: 2, end: map[byte]string{'{': "}}", '%': "%}"}[text[1]]}
	if s.at < len(text) && (text[s.at] == '-' || text[s.at] == '+') {
		s.at++
	}
	opening := text[:s.at]
	parts, err := s.group("")
	if err != nil {
		return 0, "", err
	}
	body := parts
	if text[1] == '%' {
		body = statement(parts)
	} else {
		body = slots(parts)
	}
	end = s.at
	changed = opening + spell(body) + s.closing
	if first := firstName(parts); text[1] == '%' && (first == "for" || first == "macro") {
		changed += "{% " + stepsTag + " " + s.closing
	}
	if text[1] == '%' && firstName(parts) == "raw" {
		raw := endRaw(text[end:])
		if raw < 0 {
			return 0, "", errors.New("raw is not closed by endraw")
		}
		changed += text[end : end+raw]
		end += raw
	}
	return end, changed, nil
}

// endRaw is where the tag endraw begins.
func endRaw(text string) int {
	for at := 0; ; at += 2 {
		i := strings.Index(text[at:], "{%")
		if i < 0 {
			return -1
		}
		at += i
		if strings.HasPrefix(strings.TrimLeft(text[at+2:], "-+ \t\n"), "endraw") {
			return at
		}
	}
}

// part is a token of a tag, or a group: what stands between brackets.
type part struct {
	kind  partKind
	text  string // as spelled; a string's characters
	inner []part
	close string
}

type partKind int

const (
	space partKind = iota
	name
	quoted
	sign // operators and numbers
	bracketed
)

func isSign(p part, text string) bool { return p.kind == sign && p.text == text }
func isName(p part, text string) bool { return p.kind == name && p.text == text }

// scanner reads a tag. When it is through, closing is the tag's end as spelled.
type scanner struct {
	text, end, closing string
	at, depth          int
}

// group reads parts up to the closing bracket, or, for "", up to the end of the tag.
func (s *scanner) group(close string) ([]part, error) {
	var parts []part
	for s.at < len(s.text) {
		rest := s.text[s.at:]
		if close == "" {
			for _, control := range []string{"", "-", "+"} {
				if strings.HasPrefix(rest, control+s.end) {
					s.closing = control + s.end
					s.at += len(s.closing)
					return parts, nil
				}
			}
		} else if strings.HasPrefix(rest, close) {
			s.at++
			return parts, nil
		}
		p, err := s.part(rest)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	if close != "" {
		return nil, fmt.Errorf("%q is missing", close)
	}
	return nil, fmt.Errorf("%q is missing", s.end)
}

func (s *scanner) part(rest string) (part, error) {
	take := func(kind partKind, in func(r rune) bool) (part, error) {
		n := strings.IndexFunc(rest, func(r rune) bool { return !in(r) })
		if n < 0 {
			n = len(rest)
		}
		s.at += n
		return part{kind: kind, text: rest[:n]}, nil
	}
	r, size := utf8.DecodeRuneInString(rest)
	switch {
	case unicode.IsSpace(r):
		return take(space, unicode.IsSpace)
	case r == '_' || unicode.IsLetter(r):
		return take(name, isWord)
	case unicode.IsDigit(r):
		return take(sign, func(r rune) bool { return isWord(r) })
	case r == '\'' || r == '"':
		return s.quoted(rest, r)
	}
	s.at += size
	if i := strings.IndexRune("([{", r); i >= 0 {
		close := ")]}"[i : i+1]
		if s.depth++; s.depth > mostNested {
			return part{}, fmt.Errorf("more than %d brackets within each other", mostNested)
		}
		inner, err := s.group(close)
		s.depth--
		return part{kind: bracketed, text: rest[:1], inner: inner, close: close}, err
	}
	if strings.ContainsRune(")]}", r) {
		return part{}, fmt.Errorf("%q closes nothing", r)
	}
	if len(rest) > 1 && strings.Contains("== != <= >= ** //", rest[:2]) && rest[1] != ' ' {
		s.at++
		size = 2
	}
	return part{kind: sign, text: rest[:size]}, nil
}

func isWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// quoted reads a string with Python's escapes; one that Python does not know stands for itself.
func (s *scanner) quoted(rest string, quote rune) (part, error) {
	var value strings.Builder
	for at := 1; at < len(rest); {
		switch c := rest[at]; {
		case c == byte(quote):
			s.at += at + 1
			return part{kind: quoted, text: value.String()}, nil
		case c != '\\' || at+1 == len(rest):
			value.WriteByte(c)
			at++
		default:
			text, n := escape(rest[at:])
			value.WriteString(text)
			at += n
		}
	}
	return part{}, fmt.Errorf("the string %.20q is not closed", rest)
}

// escape is what the escape at the beginning of text stands for, and its length.
func escape(text string) (string, int) {
	if i := strings.IndexByte(`abfnrtv\'"`, text[1]); i >= 0 {
		return "\a\b\f\n\r\t\v\\'\""[i : i+1], 2
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[text[1]]
	if digits > 0 && len(text) >= 2+digits {
		if code, err := strconv.ParseUint(text[2:2+digits], 16, 32); err == nil && utf8.ValidRune(rune(code)) {
			return string(rune(code)), 2 + digits
		}
	}
	n := 1
	for n < len(text) && n < 4 && text[n] >= '0' && text[n] <= '7' {
		n++
	}
	if code, err := strconv.ParseUint(text[1:n], 8, 32); err == nil {
		return string(rune(code)), n
	}
	if text[1] == '\n' {
		return "", 2
	}
	return text[:1], 1
}

func firstName(parts []part) string {
	for _, p := range parts {
		if p.kind != space {
			return p.text
		}
	}
	return ""
}

// statement rewrites the expressions of a {% %}. The if of a loop is no conditional expression.
func statement(parts []part) []part {
	first := 0
	for first < len(parts) && parts[first].kind == space {
		first++
	}
	switch firstName(parts) {
	case "if", "elif", "set":
		return append(parts[:first+1:first+1], slots(parts[first+1:])...)
	}
	return inside(parts)
}

// inside rewrites what stands between brackets only.
func inside(parts []part) []part {
	out := make([]part, len(parts))
	for i, p := range parts {
		if p.kind == bracketed {
			p.inner = slots(p.inner)
		}
		out[i] = p
	}
	return out
}

// slots rewrites a list of expressions.
func slots(parts []part) []part {
	var out []part
	from := 0
	for i, p := range parts {
		if isSign(p, ",") || isSign(p, ":") || isSign(p, "=") {
			out = append(append(out, conditional(inside(parts[from:i]))...), p)
			from = i + 1
		}
	}
	return append(out, conditional(inside(parts[from:]))...)
}

// conditional rewrites an expression with an if at its top.
func conditional(parts []part) []part {
	at := func(word string) int {
		for i, p := range parts {
			if isName(p, word) {
				return i
			}
		}
		return -1
	}
	if at("if") < 0 {
		return parts
	}
	then, condition := parts[:at("if")], parts[at("if")+1:]
	otherwise := []part{{kind: name, text: "_undefined"}}
	if i := at("else"); i > at("if") {
		condition, otherwise = parts[at("if")+1:i], conditional(parts[i+1:])
	}
	blank := part{kind: space, text: " "}
	wrap := func(open string, inner []part, close string) part {
		return part{kind: bracketed, text: open, inner: inner, close: close}
	}
	choice := []part{wrap("(", condition, ")"), blank, {kind: name, text: "and"}, blank, wrap("[", then, "]"), blank,
		{kind: name, text: "or"}, blank, wrap("[", otherwise, "]")}
	return []part{blank, wrap("(", choice, ")"), wrap("[", []part{{kind: sign, text: "0"}}, "]"), blank}
}

// spell writes parts as gonja reads them.
func spell(parts []part) string {
	var out strings.Builder
	var before partKind
	for _, p := range parts {
		switch p.kind {
		case space:
			out.WriteString(strings.ReplaceAll(p.text, "\n", "\n "))
			continue
		case name:
			if p.text == "None" {
				p.text = "none"
			}
			out.WriteString(p.text)
		case quoted:
			if before == quoted {
				out.WriteString("~ ")
			}
			out.WriteString(spellString(p.text))
		case bracketed:
			out.WriteString(p.text + spell(p.inner) + p.close)
		default:
			out.WriteString(p.text)
		}
		before = p.kind
	}
	return out.String()
}

// spellString writes a string in the escapes that gonja takes back to the same characters.
func spellString(text string) string {
	return "'" + strings.NewReplacer(`\`, `\x5c`, `'`, `\x27`).Replace(text) + "'"
}
