package tokenizer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
)

// Token is one token of a text: its id, and the bytes [Start, End) of the text that it stands for.
//
// Spans are in order and do not overlap; together they cover the text, except for spaces that a tokenizer.model with
// remove_extra_whitespaces drops. A word mark that the normalizer puts in front of the text has no bytes of its own: a
// token that is only that mark has the empty span where the piece begins (the Rust library gives it the span of the
// first character, which then belongs to two tokens). A character that falls back to bytes gives each of its tokens
// one byte.
type Token struct {
	ID         int32
	Start, End int
}

// Range is the bytes [Start, End) of a text.
type Range struct{ Start, End int }

var _ Codec = (*Tokenizer)(nil)

// Codec is what the tokenizers of this package have in common; each method is documented at [Tokenizer].
type Codec interface {
	Encode(text string, ordinary []Range) []Token
	EncodeNext(text string, ordinary []Range) []Token
	EncodeIDs(text string) []int32
	CountSpecials(text string) int
	BOS() (id int32, ok bool)
	Decode(ids []int32) string
	TokenID(s string) (int32, bool)
	TokenString(id int32) (string, bool)
	VocabSize() int
}

// Tokenizer turns text into token ids and back. It does not change once opened: all methods may be called from several
// goroutines at once.
type Tokenizer struct {
	ids     map[string]int32
	tokens  []string // by id; "" where no token has the id
	added   addedTokens
	bos     int32 // noToken if nothing is put in front
	decoder decoder

	prepend  bool // the normalizer puts a word mark in front of every piece
	collapse bool // runs of spaces become one and the outer ones go (SentencePiece's remove_extra_whitespaces)
	encode   func(out []Token, text string, p piece, j *job) []Token
	jobs     sync.Pool // of *job
}

// job is the working space of one call of Encode.
type job struct {
	word
	continued bool // the text continues a prompt
}

// Open reads the tokenizer of a Hugging Face model directory: tokenizer.json, or tokenizer.model if there is none.
// In tokenizer_config.json, add_bos_token wins over what those files say. An error names the file and what in it is
// not supported.
func Open(dir string) (*Tokenizer, error) { return open(os.DirFS(dir), ".", dir) }

// OpenFS is like [Open] for the directory name of a file system.
func OpenFS(fsys fs.FS, name string) (*Tokenizer, error) { return open(fsys, name, name) }

// OpenFile reads one file, of any name: a tokenizer.json if it ends in .json, else a SentencePiece model. A
// tokenizer_config.json beside it is read as by [Open].
func OpenFile(name string) (*Tokenizer, error) {
	dir, file := filepath.Split(name)
	if dir == "" {
		dir = "."
	}
	return load(source{os.DirFS(dir), ".", dir}, file)
}

func open(fsys fs.FS, name, shown string) (*Tokenizer, error) {
	if _, err := fs.Stat(fsys, name); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: there is no such directory", shown)
	} else if err != nil {
		return nil, fmt.Errorf("%s: want a directory: %w", shown, err)
	}
	src := source{fsys, name, shown}
	for _, file := range []string{"tokenizer.json", "tokenizer.model"} {
		if _, err := fs.Stat(fsys, path.Join(name, file)); err == nil {
			return load(src, file)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", src.path(file), err)
		}
	}
	return nil, fmt.Errorf("%s: no tokenizer.json and no tokenizer.model in this directory", shown)
}

// source is a directory of tokenizer files.
type source struct {
	fsys        fs.FS
	name, shown string // in fsys, and in errors
}

func (s source) path(file string) string { return filepath.Join(s.shown, file) }

func load(src source, file string) (*Tokenizer, error) {
	content, err := fs.ReadFile(src.fsys, path.Join(src.name, file))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src.path(file), err)
	}
	read := readModel
	if strings.HasSuffix(file, ".json") {
		read = readJSON
	}
	t, err := read(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src.path(file), err)
	}
	if err := t.configure(src); err != nil {
		return nil, err
	}
	t.jobs.New = func() any { return new(job) }
	return t, nil
}

// Encode gives the tokens of the first segment of a prompt, or of a whole prompt, without BOS: what the Rust library
// gives without special tokens put around. Added tokens are found in the text, except where a match would touch a byte
// of the ordinary ranges: there the text of a special token is ordinary text. An empty text has no tokens.
//
// Text is expected to be UTF-8; a byte that is not becomes the token of that byte where the vocabulary has one.
func (t *Tokenizer) Encode(text string, ordinary []Range) []Token {
	return t.segment(text, ordinary, false)
}

// EncodeNext is [Tokenizer.Encode] for a segment that continues a prompt: it is tokenized on its own, as if an added
// token stood on both sides. The two differ only where the pre-tokenizer is Metaspace with prepend_scheme "first".
func (t *Tokenizer) EncodeNext(text string, ordinary []Range) []Token {
	return t.segment(text, ordinary, true)
}

// EncodeIDs gives the ids of text, special tokens included and no BOS put in front.
func (t *Tokenizer) EncodeIDs(text string) []int32 { return idsOf(t.Encode(text, nil)) }

func idsOf(tokens []Token) []int32 {
	ids := make([]int32, len(tokens))
	for i, token := range tokens {
		ids[i] = token.ID
	}
	return ids
}

// segment encodes text in the order of the Rust library: added tokens that are matched as they stand, then the
// normalizer, then added tokens that are matched normalized, then the model on what is left.
func (t *Tokenizer) segment(text string, ordinary []Range, continued bool) []Token {
	ordinary = tidy(ordinary, len(text))
	if t.collapse {
		if short, at := collapseSpaces(text); len(short) < len(text) {
			return uncollapse(t.pieces(short, collapseRanges(ordinary, at), continued), at)
		}
	}
	return t.pieces(text, ordinary, continued)
}

func (t *Tokenizer) pieces(text string, ordinary []Range, continued bool) []Token {
	if text == "" {
		return nil
	}
	j := t.jobs.Get().(*job)
	defer t.jobs.Put(j)
	j.continued = continued
	out := make([]Token, 0, len(text)/3+8)
	token := func(token Token) { out = append(out, token) }
	model := func(p piece) { out = t.encode(out, text, p, j) }
	normalized := search{t.added.list, t.added.normalized, text, ordinary}
	raw := search{t.added.list, t.added.raw, text, ordinary}
	raw.split(piece{0, len(text), false}, token, func(p piece) {
		p.prefixed = t.prepend
		normalized.split(p, token, model)
	})
	return out
}

// CountSpecials gives how many added-token strings stand in text; each character belongs to at most one of them.
func (t *Tokenizer) CountSpecials(text string) int {
	return search{list: t.added.list, trie: t.added.contents, text: text}.count()
}

// BOS gives the token that the post-processor (for tokenizer.model: the control piece of the trainer's name) puts in
// front of a prompt; ok is false if there is none.
func (t *Tokenizer) BOS() (id int32, ok bool) { return t.bos, t.bos != noToken }

// TokenID gives the id of a token by its spelling in the vocabulary.
func (t *Tokenizer) TokenID(s string) (int32, bool) {
	id, ok := t.ids[s]
	return id, ok
}

// TokenString gives the spelling of a token in the vocabulary: with word marks, byte tokens as <0x0A>, and byte-level
// tokens in the alphabet of GPT-2.
func (t *Tokenizer) TokenString(id int32) (string, bool) {
	if id < 0 || int(id) >= len(t.tokens) {
		return "", false
	}
	got, ok := t.ids[t.tokens[id]]
	return t.tokens[id], ok && got == id
}

// VocabSize gives the highest id plus one, added tokens included.
func (t *Tokenizer) VocabSize() int { return len(t.tokens) }

// setVocabulary takes the tokens of the model and the added ones, and fills the lists by id.
func (t *Tokenizer) setVocabulary(vocab map[string]int32, added []addedToken) error {
	t.ids = make(map[string]int32, len(vocab)+len(added))
	for token, id := range vocab {
		if err := t.put(token, id); err != nil {
			return err
		}
	}
	for _, token := range added {
		if id, ok := t.ids[token.Content]; ok {
			if id != token.ID {
				return fmt.Errorf("added token %q has id %d here and %d in the vocabulary", token.Content, token.ID, id)
			}
			continue
		}
		if err := t.put(token.Content, token.ID); err != nil {
			return err
		}
	}
	return nil
}

// maxID bounds ids, so that a damaged file cannot ask for all memory.
const maxID = 1 << 22

func (t *Tokenizer) put(token string, id int32) error {
	if id < 0 || id >= maxID {
		return fmt.Errorf("token %q has id %d, outside 0..%d", token, id, maxID-1)
	}
	for int(id) >= len(t.tokens) {
		t.tokens = append(t.tokens, "")
	}
	if other := t.tokens[id]; other != "" {
		return fmt.Errorf("id %d belongs to two tokens, %q and %q", id, other, token)
	}
	t.tokens[id] = token
	t.ids[token] = id
	return nil
}
