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

// lastClassified is the last code point of CJK Extension H; no letter, number or space lies beyond it.
const lastClassified = 0x323AF

func newSplitter() *splitter {
	s := &splitter{classes: make([]class, lastClassified+1)}
	s.fill(unicode.L, classLetter)
	s.fill(unicode.N, classNumber)
	s.fill(unicode.White_Space, classSpace)
	s.classes['\r'], s.classes['\n'] = classNewline, classNewline
	for _, r := range unicode16 {
		for c := r.lo; c <= r.hi; c++ {
			s.classes[c] = r.class
		}
	}
	return s
}

// unicode16 holds the letters and numbers that Unicode 15.1 and 16.0 added to the tables of Go 1.26 (Unicode 15.0). The
// regular expressions of the Rust library know them.
var unicode16 = [...]struct {
	lo, hi rune
	class  class
}{
	{0x1C89, 0x1C8A, classLetter}, {0xA7CB, 0xA7CD, classLetter}, {0xA7DA, 0xA7DC, classLetter},
	{0x105C0, 0x105F3, classLetter}, {0x10D40, 0x10D49, classNumber}, {0x10D4A, 0x10D65, classLetter},
	{0x10D6F, 0x10D85, classLetter}, {0x10EC2, 0x10EC4, classLetter}, {0x11380, 0x11389, classLetter},
	{0x1138B, 0x1138B, classLetter}, {0x1138E, 0x1138E, classLetter}, {0x11390, 0x113B5, classLetter},
	{0x113B7, 0x113B7, classLetter}, {0x113D1, 0x113D1, classLetter}, {0x113D3, 0x113D3, classLetter},
	{0x116D0, 0x116E3, classNumber}, {0x11BC0, 0x11BE0, classLetter}, {0x11BF0, 0x11BF9, classNumber},
	{0x13460, 0x143FA, classLetter}, {0x16100, 0x1611D, classLetter}, {0x16130, 0x16139, classNumber},
	{0x16D40, 0x16D6C, classLetter}, {0x16D70, 0x16D79, classNumber}, {0x18CFF, 0x18CFF, classLetter},
	{0x1CCF0, 0x1CCF9, classNumber}, {0x1E5D0, 0x1E5ED, classLetter}, {0x1E5F0, 0x1E5F0, classLetter},
	{0x1E5F1, 0x1E5FA, classNumber}, {0x2EBF0, 0x2EE5D, classLetter},
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
	case second == classLetter && first != classNewline:
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
