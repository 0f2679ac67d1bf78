package tokenizer

// setByteModel builds the encoder and decoder of the LLaMA-3 family.
func (t *Tokenizer) setByteModel(f *jsonFile, model *bpeModel) error {
	if err := f.checkByteLevel(); err != nil {
		return err
	}
	table, err := model.table(func(string) {})
	if err != nil {
		return err
	}
	m := &byteModel{merges: table, split: newSplitter()}
	back := make(map[rune]byte, 256)
	for b, r := range byteAlphabet() {
		back[r] = byte(b)
		m.bytes[b] = noToken
		if id, ok := model.Vocab[string(r)]; ok {
			m.bytes[b] = id
		}
	}
	t.added = newAddedTokens(f.AddedTokens, false, "")
	t.decoder = t.newDecoder()
	t.decoder.byteLevel = true
	if model.IgnoreMerges {
		m.whole = make(map[string]int32, len(model.Vocab))
	}
	for token, id := range t.ids {
		raw, ok := bytesOf(token, back)
		if !ok {
			raw = token
		}
		t.decoder.text[id] = raw
		if _, own := model.Vocab[token]; ok && own && model.IgnoreMerges {
			m.whole[raw], m.longest = id, max(m.longest, len(raw))
		}
	}
	t.encode = m.encode
	return nil
}

// checkByteLevel refuses everything that is not the LLaMA-3 layout.
func (f *jsonFile) checkByteLevel() error {
	for _, c := range f.Normalizer.flat() {
		return unsupported("normalizer", c, "none with a ByteLevel pre-tokenizer")
	}
	const want = "Split by LLaMA-3's pattern, then ByteLevel without use_regex and add_prefix_space"
	parts := f.PreTokenizer.flat()
	for i, c := range parts {
		split := c.Type == "Split" && i == 0 && c.Pattern != nil && c.Pattern.Regex != nil &&
			*c.Pattern.Regex == llama3Pattern && c.Behavior == "Isolated" && !c.Invert
		level := c.Type == "ByteLevel" && i == 1 && is(c.UseRegex, false, true) && is(c.AddPrefixSpace, false, true)
		if !split && !level {
			return unsupported("pre_tokenizer", c, want)
		}
	}
	if len(parts) != 2 {
		return unsupported("pre_tokenizer", *f.PreTokenizer, want)
	}
	if f.Decoder == nil || f.Decoder.Type != "ByteLevel" {
		return refuseDecoder(f.Decoder, "ByteLevel with a ByteLevel pre-tokenizer")
	}
	return nil
}
