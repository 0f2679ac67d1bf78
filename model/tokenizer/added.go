package tokenizer

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// addedToken is one entry of "added_tokens" in tokenizer.json; the fields are that file's.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`

	asPiece bool // a user-defined piece of SentencePiece: its content is spelled as normalized text already
}

// wordMark stands for a space in SentencePiece vocabularies (U+2581).
const wordMark = "▁"

// trie finds which of a set of strings stands at a position, the longest first. In a trie with spaces set, a space and
// a word mark are the same character, as they are after the normalizer has replaced the one by the other.
type trie struct {
	nodes  []trieNode
	first  [256]bool // bytes that a string may begin with
	spaces bool
}

type trieNode struct {
	edges []trieEdge
	token int // index of the token that ends here, -1 if none
}

type trieEdge struct {
	b  byte
	to int
}

func newTrie(spaces bool) *trie { return &trie{nodes: []trieNode{{token: -1}}, spaces: spaces} }

// add puts s in; of two equal strings the first stays.
func (t *trie) add(s string, token int) {
	if s == "" {
		return
	}
	if t.spaces {
		s = strings.ReplaceAll(s, wordMark, " ")
	}
	t.first[s[0]] = true
	if t.spaces && s[0] == ' ' {
		t.first[wordMark[0]] = true
	}
	at := 0
	for i := range len(s) {
		to := t.child(at, s[i])
		if to < 0 {
			to = len(t.nodes)
			t.nodes = append(t.nodes, trieNode{token: -1})
			t.nodes[at].edges = append(t.nodes[at].edges, trieEdge{s[i], to})
		}
		at = to
	}
	if t.nodes[at].token < 0 {
		t.nodes[at].token = token
	}
}

func (t *trie) child(at int, b byte) int {
	for _, e := range t.nodes[at].edges {
		if e.b == b {
			return e.to
		}
	}
	return -1
}

// longest gives the longest string of the trie that text[pos:end] begins with, and where it ends; -1 if there is none.
// With virtual set a space that is not in the text stands in front of pos.
func (t *trie) longest(text string, pos, end int, virtual bool) (token, stop int) {
	token, at := -1, 0
	if virtual {
		if at = t.child(0, ' '); at < 0 {
			return -1, 0
		}
		token, stop = t.nodes[at].token, pos
	}
	for pos < end {
		b, size := text[pos], 1
		if t.spaces && strings.HasPrefix(text[pos:end], wordMark) {
			b, size = ' ', len(wordMark)
		}
		if at = t.child(at, b); at < 0 {
			break
		}
		pos += size
		if t.nodes[at].token >= 0 {
			token, stop = t.nodes[at].token, pos
		}
	}
	return token, stop
}

// addedTokens holds the strings that are looked for before the model sees the text.
type addedTokens struct {
	list       []addedToken
	prefix     string // what the normalizer puts in front of a text, and so of a normalized token's content
	raw        *trie  // tokens matched in the text as given
	normalized *trie  // tokens matched after the normalizer, in what the first trie left over
	contents   *trie  // every token's content, for counting
}

// newAddedTokens sorts the tokens into tries. With marks set the normalizer replaces spaces by word marks.
func newAddedTokens(list []addedToken, marks bool, prefix string) addedTokens {
	a := addedTokens{list: list, prefix: prefix, raw: newTrie(false), normalized: newTrie(marks), contents: newTrie(false)}
	for i, token := range list {
		a.contents.add(token.Content, i)
		switch {
		case token.asPiece:
			a.normalized.add(token.Content, i)
		case token.Normalized:
			a.normalized.add(prefix+token.Content, i)
		default:
			a.raw.add(token.Content, i)
		}
	}
	return a
}

// piece is a stretch of text without added tokens. A prefixed piece has a word mark in front that is not in the text.
type piece struct {
	start, end int
	prefixed   bool
}

// search is one pass over a piece for the tokens of a trie. Positions are byte offsets in the text; the mark in front
// of a prefixed piece counts as one position before its start.
type search struct {
	list     []addedToken
	trie     *trie
	text     string
	ordinary []Range // sorted by start; matches must not touch them
}

// split calls token and rest for the matches in p and for what lies between them, in order. The rules of single_word,
// lstrip and rstrip are those of the Rust library (added_vocabulary.rs, find_matches), which drops a match that is not
// a single word without looking for a shorter one. There is one difference: where rstrip takes spaces that are
// themselves an added token, Rust gives them to both, and here they belong to the first.
func (s *search) split(p piece, token func(Token), rest func(piece)) {
	first := p.start
	if p.prefixed {
		first--
	}
	done := first
	upTo := func(end int) {
		if done < end {
			rest(piece{max(done, p.start), max(end, p.start), done < p.start})
		}
	}
	for pos := first; pos < p.end; {
		found, start, stop := s.find(p, pos)
		if found < 0 {
			break
		}
		pos = stop
		added := &s.list[found]
		if added.SingleWord && !s.alone(p, start, stop) {
			continue
		}
		if added.LStrip {
			start = max(done, s.stripLeft(p, start))
		}
		if added.RStrip {
			stop = s.stripRight(p, stop)
		}
		upTo(start)
		token(Token{added.ID, max(start, p.start), stop})
		pos, done = stop, stop
	}
	upTo(p.end)
}

// find gives the first match in p at or after pos that touches no ordinary range: of those that begin at one place the
// longest. It gives -1 if there is none.
func (s *search) find(p piece, pos int) (token, start, stop int) {
	ranges := s.ordinary
	for ; pos < p.end; pos++ {
		if pos >= p.start && !s.trie.first[s.text[pos]] {
			continue
		}
		for len(ranges) > 0 && ranges[0].End <= pos {
			ranges = ranges[1:]
		}
		limit := p.end
		if len(ranges) > 0 {
			limit = min(limit, ranges[0].Start)
		}
		if token, stop = s.trie.longest(s.text, max(pos, p.start), limit, pos < p.start); token >= 0 {
			return token, pos, stop
		}
	}
	return -1, 0, 0
}

// alone tells whether no word character stands next to [start, stop).
func (s *search) alone(p piece, start, stop int) bool {
	if start > p.start {
		if r, _ := utf8.DecodeLastRuneInString(s.text[p.start:start]); isWord(r) {
			return false
		}
	}
	r, size := utf8.DecodeRuneInString(s.text[stop:p.end])
	return size == 0 || !isWord(r)
}

// isWord is \w of Rust's regex crate (Unicode TS 18, annex C).
func isWord(r rune) bool {
	for _, added := range unicode16 {
		if added.lo <= r && r <= added.hi {
			return true
		}
	}
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic,
		unicode.Join_Control)
}

// isSpace tells whether lstrip and rstrip take r; where spaces have become word marks, they do not.
func (s *search) isSpace(r rune) bool { return unicode.IsSpace(r) && !(s.trie.spaces && r == ' ') }

func (s *search) stripLeft(p piece, start int) int {
	if start <= p.start {
		return start
	}
	return p.start + len(strings.TrimRightFunc(s.text[p.start:start], s.isSpace))
}

func (s *search) stripRight(p piece, stop int) int {
	return p.end - len(strings.TrimLeftFunc(s.text[stop:p.end], s.isSpace))
}

// count gives the number of matches in the whole text, each character belonging to at most one.
func (s search) count() int {
	for n, pos := 0, 0; ; n++ {
		found, _, stop := s.find(piece{0, len(s.text), false}, pos)
		if found < 0 {
			return n
		}
		pos = stop
	}
}

// tidy sorts ranges, cuts them to [0, n) and drops empty ones.
func tidy(ranges []Range, n int) []Range {
	var kept []Range
	for _, r := range ranges {
		if r = (Range{max(r.Start, 0), min(r.End, n)}); r.Start < r.End {
			kept = append(kept, r)
		}
	}
	slices.SortFunc(kept, func(a, b Range) int { return a.Start - b.Start })
	return kept
}
