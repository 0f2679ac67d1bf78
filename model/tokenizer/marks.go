package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// prefixScheme says when a Metaspace pre-tokenizer puts a word mark in front of a piece that does not begin with one.
type prefixScheme int

const (
	prefixNever  prefixScheme = iota
	prefixFirst               // only in front of the piece that begins the prompt
	prefixAlways              // in front of every piece
)

// markModel is the encoder of the LLaMA-1/2 family: BPE over the characters of a whole piece, with byte fallback.
//
// There is no pre-tokenizer, but a piece is cut wherever no merge can cross: between two characters that stand side by
// side in no token that any merge makes. What merges on one side then never depends on the other.
type markModel struct {
	merges   mergeTable
	marks    bool // spaces become word marks
	prefix   prefixScheme
	cutMarks bool // Metaspace with split: a word mark begins a new word

	chars   map[rune]int32 // id of the token that is this one character
	ascii   [utf8.RuneSelf]int32
	joins   map[[2]rune]struct{} // neighbours inside a token
	asciis  [utf8.RuneSelf][utf8.RuneSelf]bool
	bytes   *[256]int32 // byte fallback tokens; nil if there are none
	unknown int32       // -1 if there is none
	fuse    bool        // neighbouring unknown characters are one unknown token
	size    int32       // ids from here on stand for characters that are in no token of their own
}

const noToken int32 = -1

// canonical makes a space and a word mark the same character where the one replaces the other.
func (m *markModel) canonical(r rune) rune {
	if m.marks && r == '▁' {
		return ' '
	}
	return r
}

// addChar records the token of one character.
func (m *markModel) addChar(r rune, id int32) {
	if r = m.canonical(r); r < utf8.RuneSelf {
		m.ascii[r] = id
	} else {
		m.chars[r] = id
	}
}

// addJoins records which characters stand side by side in a token.
func (m *markModel) addJoins(token string) {
	last := rune(-1)
	for _, r := range token {
		r = m.canonical(r)
		if last >= 0 {
			if last < utf8.RuneSelf && r < utf8.RuneSelf {
				m.asciis[last][r] = true
			} else {
				m.joins[[2]rune{last, r}] = struct{}{}
			}
		}
		last = r
	}
}

func (m *markModel) joined(left, right rune) bool {
	if left < 0 {
		return false
	}
	if left < utf8.RuneSelf && right < utf8.RuneSelf {
		return m.asciis[left][right]
	}
	_, ok := m.joins[[2]rune{left, right}]
	return ok
}

// char gives the id of r, noToken if it has none.
func (m *markModel) char(r rune) int32 {
	if r < utf8.RuneSelf {
		return m.ascii[r]
	}
	if id, ok := m.chars[r]; ok {
		return id
	}
	return noToken
}

// markRun is the encoding of one piece.
type markRun struct {
	*markModel
	*word
	text    string
	out     []Token
	start   int  // where the symbols of the word begin
	last    rune // last character of the word, -1 if it is empty
	unfused bool // the next unknown character does not join the one before it
}

// encode appends the tokens of p to out. With first set a piece at the start of the text begins the prompt.
func (m *markModel) encode(out []Token, text string, p piece, job *job) []Token {
	run := markRun{markModel: m, word: &job.word, text: text, out: out, start: p.start, last: -1, unfused: true}
	run.symbols = run.symbols[:0]
	if p.prefixed || m.wantsPrefix(text, p, job.continued) {
		run.add(' ', p.start)
	}
	for pos := p.start; pos < p.end; {
		r, size := rune(text[pos]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(text[pos:p.end])
			r = m.canonical(r)
		}
		if r == utf8.RuneError && size == 1 {
			run.flush()
			run.fallback(pos, pos+1, text[pos:pos+1])
		} else {
			run.add(r, pos+size)
		}
		pos += size
	}
	run.flush()
	return run.out
}

// wantsPrefix is the rule of the Metaspace pre-tokenizer. "First" means the start of the prompt's text, so neither a
// piece after an added token nor a segment that continues a prompt.
func (m *markModel) wantsPrefix(text string, p piece, continued bool) bool {
	if m.prefix == prefixNever || p.start == p.end {
		return false
	}
	if m.prefix == prefixFirst && (p.start > 0 || continued) {
		return false
	}
	rest := text[p.start:p.end]
	return !strings.HasPrefix(rest, " ") && !strings.HasPrefix(rest, wordMark)
}

// add takes one character that ends at end.
func (r *markRun) add(c rune, end int) {
	id := r.char(c)
	if id == noToken {
		if r.bytes == nil && r.unknown == noToken {
			return // without an unknown token the Rust library drops the character, and its neighbours meet
		}
		start := r.end()
		r.flush()
		r.fallback(start, end, r.spelling(c))
		return
	}
	if !r.joined(r.last, c) || r.cutMarks && c == ' ' {
		r.flush()
	}
	r.symbols = append(r.symbols, symbol{id, end})
	r.last = c
}

// end is where the next character begins.
func (r *markRun) end() int {
	if n := len(r.symbols); n > 0 {
		return r.symbols[n-1].end
	}
	return r.start
}

// spelling is the character after the normalizer.
func (r *markRun) spelling(c rune) string {
	if r.marks && c == ' ' {
		return wordMark
	}
	return string(c)
}

// flush merges the word and puts out its tokens.
func (r *markRun) flush() {
	r.word.merge(&r.merges)
	for _, s := range r.symbols {
		if s.id >= r.size {
			c := ' '
			if r.start < s.end {
				c, _ = utf8.DecodeRuneInString(r.text[r.start:s.end])
			}
			r.fallback(r.start, s.end, r.spelling(r.canonical(c)))
			continue
		}
		r.out = append(r.out, Token{s.id, r.start, s.end})
		r.start, r.unfused = s.end, true
	}
	r.symbols, r.last = r.symbols[:0], -1
}

// fallback puts out a character [start, end) that has no token: its bytes, or the unknown token. A word mark that
// stands for a space has more bytes than the text; the last of them have empty spans.
func (r *markRun) fallback(start, end int, spelling string) {
	r.start = end
	if r.bytes != nil {
		for i := range len(spelling) {
			r.out = append(r.out, Token{r.bytes[spelling[i]], min(start+i, end), min(start+i+1, end)})
		}
		return
	}
	if r.unknown == noToken {
		return
	}
	if r.fuse && !r.unfused {
		r.out[len(r.out)-1].End = end
		return
	}
	r.out = append(r.out, Token{r.unknown, start, end})
	r.unfused = false
}
