//go:build daulet

package tokenizer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/daulet/tokenizers"
)

var _ Codec = (*Rust)(nil)

// Rust is the Hugging Face library itself, through github.com/daulet/tokenizers, with the methods of [Tokenizer]. It is
// there to compare with; building it needs cgo and libtokenizers.a of that module's release, and the tag daulet.
//
// What the library cannot do by itself comes from the embedded Tokenizer: the vocabulary, BOS, and where added tokens
// may be matched. Spans are the library's, so a token of a part of a character has the span of the whole character, and
// a word mark that is not in the text that of the first one. A text ends at its first zero byte.
type Rust struct {
	*Tokenizer
	matching *tokenizers.Tokenizer // finds special tokens in the text
	plain    *tokenizers.Tokenizer // takes them for ordinary text
}

// OpenRust reads the tokenizer.json of a model directory. The caller closes the result.
func OpenRust(dir string) (*Rust, error) {
	own, err := Open(dir)
	if err != nil {
		return nil, err
	}
	name := filepath.Join(dir, "tokenizer.json")
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	matching, err := tokenizers.FromBytes(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	plain, err := tokenizers.FromBytes(content, tokenizers.WithEncodeSpecialTokens())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, errors.Join(err, matching.Close()))
	}
	return &Rust{own, matching, plain}, nil
}

// Close frees the memory of the library.
func (r *Rust) Close() error { return errors.Join(r.matching.Close(), r.plain.Close()) }

// Encode is [Tokenizer.Encode]. Where an ordinary range holds the text of an added token, the text is cut at the added
// tokens that remain and the library sees the rest without them; it then finds no token that is matched normalized, and
// still finds those that are not special.
func (r *Rust) Encode(text string, ordinary []Range) []Token {
	ordinary = tidy(ordinary, len(text))
	if r.allowed(text, ordinary) == r.allowed(text, nil) {
		return r.encode(nil, r.matching, text, piece{0, len(text), false})
	}
	var out []Token
	raw := search{r.added.list, r.added.raw, text, ordinary}
	raw.split(piece{0, len(text), false}, func(t Token) { out = append(out, t) }, func(p piece) {
		out = r.encode(out, r.plain, text, p)
	})
	return out
}

// EncodeNext is Encode: the library does not know of segments.
func (r *Rust) EncodeNext(text string, ordinary []Range) []Token { return r.Encode(text, ordinary) }

// EncodeIDs is [Tokenizer.EncodeIDs].
func (r *Rust) EncodeIDs(text string) []int32 { return idsOf(r.Encode(text, nil)) }

// Decode is [Tokenizer.Decode].
func (r *Rust) Decode(ids []int32) string {
	unsigned := make([]uint32, len(ids))
	for i, id := range ids {
		unsigned[i] = uint32(id)
	}
	return r.matching.Decode(unsigned, false)
}

// allowed counts the added-token strings in text that touch no ordinary range.
func (r *Rust) allowed(text string, ordinary []Range) int {
	return search{r.added.list, r.added.contents, text, ordinary}.count()
}

// encode appends the tokens that rust gives for p.
func (r *Rust) encode(out []Token, rust *tokenizers.Tokenizer, text string, p piece) []Token {
	e := rust.EncodeWithOptions(text[p.start:p.end], false, tokenizers.WithReturnOffsets())
	for i, id := range e.IDs {
		out = append(out, Token{int32(id), p.start + int(e.Offsets[i][0]), p.start + int(e.Offsets[i][1])})
	}
	return out
}
