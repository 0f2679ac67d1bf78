package tokenizer

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// decoder is the "decoder" of tokenizer.json with the vocabulary applied.
type decoder struct {
	text      []string // by id: what the token adds to the text; "" for a byte of a fallback
	bytes     []int16  // by id: the byte of a fallback token, -1 for others; nil if byteLevel
	byteLevel bool
	strip     int // up to this many spaces are taken from the start
}

// newDecoder gives a decoder with the texts of tokens as they are spelled: an added token that is matched normalized is
// spelled normalized, so LLaMA-1's <s> gives a space and <s> within a text.
func (t *Tokenizer) newDecoder() decoder {
	d := decoder{text: slices.Clone(t.tokens)}
	for _, token := range t.added.list {
		if token.Normalized && !token.asPiece {
			d.text[token.ID] = t.added.prefix + token.Content
		}
	}
	return d
}

// finish turns the spellings of a vocabulary with word marks into what the tokens add to a text.
func (d *decoder) finish(strip int) {
	d.strip = strip
	d.bytes = make([]int16, len(d.text))
	back := make(map[string]int16, 256)
	for b := range 256 {
		back[byteToken(b)] = int16(b)
		back[strings.ToLower(byteToken(b))] = int16(b)
	}
	for id, text := range d.text {
		d.text[id] = strings.ReplaceAll(text, wordMark, " ")
		d.bytes[id] = -1
		if b, ok := back[text]; ok {
			d.bytes[id], d.text[id] = b, ""
		}
	}
}

// Decode gives the text of ids, special tokens included. It agrees with the Rust library's decode with
// skip_special_tokens false: ids outside the vocabulary are passed over, and bytes that are not UTF-8 become U+FFFD.
func (t *Tokenizer) Decode(ids []int32) string {
	var out strings.Builder
	s := t.NewStream()
	for _, id := range ids {
		out.WriteString(s.Push(id))
	}
	out.WriteString(s.Flush())
	return out.String()
}

// Stream decodes one token at a time. What Push and Flush give, one after the other, is what [Tokenizer.Decode] gives
// for the whole list, and no part ends within a character. Bytes are held back until it is certain what they become:
// with byte fallback, until the next token that is not a byte, because one bad byte spoils its whole run.
type Stream struct {
	decoder *decoder
	held    []byte
	strip   int
}

// NewStream begins to decode a text.
func (t *Tokenizer) NewStream() *Stream { return &Stream{decoder: &t.decoder, strip: t.decoder.strip} }

// Push takes the next token and gives the text that is now certain, often none.
func (s *Stream) Push(id int32) string {
	d := s.decoder
	if id < 0 || int(id) >= len(d.text) {
		return ""
	}
	if d.byteLevel {
		s.held = append(s.held, d.text[id]...)
		text, used := lossy(s.held, false)
		s.held = append(s.held[:0], s.held[used:]...)
		return text
	}
	if b := d.bytes[id]; b >= 0 {
		s.held = append(s.held, byte(b))
		return ""
	}
	if d.text[id] == "" {
		return ""
	}
	return s.stripped(s.run() + d.text[id])
}

// Flush gives the text still held back, at the end of the tokens.
func (s *Stream) Flush() string {
	if s.decoder.byteLevel {
		text, _ := lossy(s.held, true)
		s.held = s.held[:0]
		return text
	}
	return s.stripped(s.run())
}

// run ends a run of fallback bytes. If it is not UTF-8, every byte becomes U+FFFD (byte_fallback.rs).
func (s *Stream) run() string {
	text := string(s.held)
	if !utf8.ValidString(text) {
		text = strings.Repeat("\uFFFD", len(s.held))
	}
	s.held = s.held[:0]
	return text
}

// stripped takes the spaces off that the decoder strips from the start of the whole text.
func (s *Stream) stripped(text string) string {
	for ; s.strip > 0 && text != ""; s.strip-- {
		if text[0] != ' ' {
			s.strip = 0
			break
		}
		text = text[1:]
	}
	return text
}

// lossy reads bytes as UTF-8. Each longest run that begins a character and cannot go on becomes one U+FFFD, as in
// Rust's String::from_utf8_lossy (Unicode standard, 3.9, U+FFFD substitution of maximal subparts). Unless final is set,
// a character that may still be completed is left, and used tells how far it read.
func lossy(b []byte, final bool) (text string, used int) {
	if utf8.Valid(b) {
		return string(b), len(b)
	}
	var out strings.Builder
	for used < len(b) {
		if r, size := utf8.DecodeRune(b[used:]); r != utf8.RuneError || size > 1 {
			out.Write(b[used : used+size])
			used += size
			continue
		}
		if !final && !utf8.FullRune(b[used:]) {
			break
		}
		out.WriteString("\uFFFD")
		used += subpart(b[used:])
	}
	return out.String(), used
}

// subpart gives the length of the longest prefix of b that begins a character; 1 if none does. utf8.FullRune is false
// exactly for what more bytes could complete.
func subpart(b []byte) int {
	n := 1
	for n < len(b) && n < utf8.UTFMax && !utf8.FullRune(b[:n]) && !utf8.FullRune(b[:n+1]) {
		n++
	}
	return n
}
