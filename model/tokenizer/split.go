package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// llama3Pattern is the one split pattern understood, as LLaMA-3's tokenizer.json writes it. Go's regexp has no
// look-ahead and the pattern is the hot loop, so splitter is the same rule written out.
const llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|` +
	`\s*[\r\n]+|\s+(?!\S)|\s+`

type class uint8

const (
	classOther   class = iota
	classLetter        // \p{L}
	classNumber        // \p{N}
	classNewline       // \r \n
	classSpace         // every other \s
)

// splitter cuts text into the matches of llama3Pattern.
type splitter struct {
	classes []class // by code point; beyond its end everything is classOther
}

func newSplitter() *splitter {
	s := &splitter{classes: make([]class, 0x33480)}
	s.fill(unicode.L, classLetter)
	s.fill(unicode.N, classNumber)
	s.fill(unicode.White_Space, classSpace)
	s.classes['\r'], s.classes['\n'] = classNewline, classNewline
	return s
}

func (s *splitter) fill(table *unicode.RangeTable, c class) {
	set := func(lo, hi, stride uint32) {
		for r := lo; r <= hi && r < uint32(len(s.classes)); r += stride {
			s.classes[r] = c
		}
	}
	for _, r := range table.R16 {
		set(uint32(r.Lo), uint32(r.Hi), uint32(r.Stride))
	}
	for _, r := range table.R32 {
		set(r.Lo, r.Hi, r.Stride)
	}
}

// at gives the class and length of the first character of text; at the end of text the length is 0. A byte that is not
// UTF-8 is a character of its own.
func (s *splitter) at(text string) (class, int) {
	if text == "" {
		return classOther, 0
	}
	if text[0] < utf8.RuneSelf {
		return s.classes[text[0]], 1
	}
	r, size := utf8.DecodeRuneInString(text)
	if int(r) >= len(s.classes) {
		return classOther, size
	}
	return s.classes[r], size
}

// next gives the length of the first match in text, which must not be empty. The alternatives are tried in the order
// of the pattern.
func (s *splitter) next(text string) int {
	if text[0] == '\'' {
		if n := contraction(text[1:]); n > 0 {
			return 1 + n
		}
	}
	first, size := s.at(text)
	second, _ := s.at(text[size:])
	switch {
	case first == classLetter:
		return size + s.run(text[size:], classLetter)
	case first == classNumber:
		return s.digits(text)
	case second == classLetter && len(text) > size && first != classNewline:
		return size + s.run(text[size:], classLetter)
	case first == classOther:
		return s.symbols(text, size)
	case text[0] == ' ' && len(text) > 1 && second == classOther:
		return s.symbols(text, 1)
	}
	return s.spaces(text)
}

// run gives the length of the characters of class c that text begins with.
func (s *splitter) run(text string, c class) int {
	n := 0
	for n < len(text) {
		got, size := s.at(text[n:])
		if got != c {
			break
		}
		n += size
	}
	return n
}

// digits matches \p{N}{1,3}.
func (s *splitter) digits(text string) int {
	n := 0
	for range 3 {
		c, size := s.at(text[n:])
		if c != classNumber {
			break
		}
		n += size
	}
	return n
}

// symbols matches [^\s\p{L}\p{N}]+[\r\n]* from byte n on.
func (s *splitter) symbols(text string, n int) int {
	n += s.run(text[n:], classOther)
	return n + s.run(text[n:], classNewline)
}

// spaces matches \s*[\r\n]+|\s+(?!\S)|\s+: white space up to its last newline; without a newline all of it but the
// character that goes with the next word; or that character alone.
func (s *splitter) spaces(text string) int {
	n, newline, last := 0, 0, 0
	for n < len(text) {
		c, size := s.at(text[n:])
		if c != classNewline && c != classSpace {
			break
		}
		n, last = n+size, size
		if c == classNewline {
			newline = n
		}
	}
	switch {
	case newline > 0:
		return newline
	case n == len(text) || n == last:
		return n
	}
	return n - last
}

// contraction gives the length of (?i:s|t|re|ve|m|ll|d) at the start of text, 0 if there is none. The long s (U+017F)
// folds to s.
func contraction(text string) int {
	if text == "" {
		return 0
	}
	switch text[0] | 0x20 {
	case 's', 't', 'm', 'd':
		return 1
	}
	if strings.HasPrefix(text, "\u017f") {
		return len("\u017f")
	}
	if len(text) < 2 {
		return 0
	}
	switch string([]byte{text[0] | 0x20, text[1] | 0x20}) {
	case "re", "ve", "ll":
		return 2
	}
	return 0
}
