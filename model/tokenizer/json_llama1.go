package tokenizer

import (
	"fmt"
	"unicode/utf8"
)

// setMarkModel builds the encoder and decoder of the LLaMA-1/2 family.
func (t *Tokenizer) setMarkModel(f *jsonFile, model *bpeModel) error {
	m := newMarkModel(len(t.tokens))
	if err := t.setNormalizer(f.Normalizer, m); err != nil {
		return err
	}
	normalized := m.marks
	if err := m.setMetaspace(f.PreTokenizer); err != nil {
		return err
	}
	if err := m.setFallback(model); err != nil {
		return err
	}
	var err error
	if m.merges, err = model.table(m.addJoins); err != nil {
		return err
	}
	for token, id := range model.Vocab {
		if r, size := utf8.DecodeRuneInString(token); size == len(token) && size > 0 && !(m.marks && r == ' ') {
			m.addChar(r, id)
		}
	}
	prefix := ""
	if t.prepend {
		prefix = wordMark
	}
	t.added = newAddedTokens(f.AddedTokens, normalized, prefix)
	t.encode = m.encode
	return t.setMarkDecoder(f)
}

func newMarkModel(size int) *markModel {
	m := &markModel{chars: map[rune]int32{}, joins: map[[2]rune]struct{}{}, unknown: noToken, size: int32(size)}
	for i := range m.ascii {
		m.ascii[i] = noToken
	}
	return m
}

// setNormalizer understands Prepend of a word mark and Replace of spaces by word marks, each at most once.
func (t *Tokenizer) setNormalizer(c *component, m *markModel) error {
	for _, c := range c.flat() {
		switch {
		case c.Type == "Prepend" && c.Prepend == wordMark && !t.prepend:
			t.prepend = true
		case c.replaces(" ", wordMark):
			m.marks = true
		default:
			return unsupported("normalizer", c, `Prepend "▁" once and Replace " " by "▁", alone or in a Sequence`)
		}
	}
	if t.prepend && !m.marks {
		return fmt.Errorf(`normalizer "Prepend" is supported only together with Replace " " by "▁"`)
	}
	return nil
}

// setMetaspace understands no pre-tokenizer and Metaspace; without prepend_scheme that is "always".
func (m *markModel) setMetaspace(c *component) error {
	parts := c.flat()
	if len(parts) == 0 {
		return nil
	}
	c = &parts[0]
	schemes := map[string]prefixScheme{"always": prefixAlways, "first": prefixFirst, "never": prefixNever}
	scheme, ok := schemes[c.PrependScheme]
	if c.PrependScheme == "" {
		scheme, ok = prefixAlways, true
	}
	if is(c.AddPrefixSpace, false, true) && scheme != prefixNever {
		ok = false // the Rust library refuses it too
	}
	if len(parts) > 1 || c.Type != "Metaspace" || c.Replacement != wordMark || !ok {
		return unsupported("pre_tokenizer", parts[len(parts)-1],
			"none, one Metaspace with \"▁\", or LLaMA-3's Split and ByteLevel")
	}
	m.marks, m.prefix, m.cutMarks = true, scheme, is(c.Split, true, true)
	return nil
}

// setFallback finds the unknown token and the 256 byte tokens. Some of them but not all is refused: the Rust library
// then changes the order of the tokens.
func (m *markModel) setFallback(model *bpeModel) error {
	m.fuse = model.FuseUnk
	if model.UnkToken != nil {
		id, ok := model.Vocab[*model.UnkToken]
		if !ok {
			return fmt.Errorf("model: unk_token %q is not in the vocabulary", *model.UnkToken)
		}
		m.unknown = id
	}
	if !model.ByteFallback {
		return nil
	}
	var ids [256]int32
	found := 0
	for b := range ids {
		id, ok := model.Vocab[byteToken(b)]
		if ids[b] = id; ok {
			found++
		}
	}
	if found > 0 && found < len(ids) {
		return fmt.Errorf("model: byte_fallback with %d of the 256 tokens <0x00> to <0xFF> in the vocabulary", found)
	}
	if found > 0 {
		m.bytes = &ids
	}
	return nil
}

// byteToken spells the token that stands for a byte.
func byteToken(b int) string { return fmt.Sprintf("<0x%02X>", b) }

// setMarkDecoder understands the decoder of the LLaMA-1/2 family: marks become spaces, byte tokens bytes, everything is
// joined, and spaces are taken off the start.
func (t *Tokenizer) setMarkDecoder(f *jsonFile) error {
	const want = `Sequence of Replace "▁" by " ", ByteFallback, Fuse and perhaps Strip " " from the start`
	parts := f.Decoder.flat()
	ok := (len(parts) == 3 || len(parts) == 4) && parts[0].replaces(wordMark, " ") &&
		parts[1].Type == "ByteFallback" && parts[2].Type == "Fuse"
	strip := 0
	if ok && len(parts) == 4 {
		last := parts[3]
		ok = last.Type == "Strip" && last.Content == " " && last.Start >= 0 && last.Stop == 0
		strip = last.Start
	}
	if !ok {
		return refuseDecoder(f.Decoder, want)
	}
	t.decoder = t.newDecoder()
	t.decoder.finish(strip)
	return nil
}
