package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// jsonFile is tokenizer.json. "truncation" and "padding" are not read: they are settings of one call, not of the
// tokenizer, and Hugging Face transformers overrides them too.
type jsonFile struct {
	AddedTokens   []addedToken    `json:"added_tokens"`
	Normalizer    *component      `json:"normalizer"`
	PreTokenizer  *component      `json:"pre_tokenizer"`
	PostProcessor *component      `json:"post_processor"`
	Decoder       *component      `json:"decoder"`
	Model         json.RawMessage `json:"model"`
}

// component is a normalizer, pre-tokenizer, post-processor or decoder: the fields of all those understood.
type component struct {
	Type string `json:"type"`

	Normalizers   []component `json:"normalizers"`
	PreTokenizers []component `json:"pretokenizers"`
	Processors    []component `json:"processors"`
	Decoders      []component `json:"decoders"`

	Prepend        string                   `json:"prepend"`
	Pattern        *pattern                 `json:"pattern"`
	Content        string                   `json:"content"`
	Start          int                      `json:"start"`
	Stop           int                      `json:"stop"`
	Behavior       string                   `json:"behavior"`
	Invert         bool                     `json:"invert"`
	AddPrefixSpace *bool                    `json:"add_prefix_space"`
	UseRegex       *bool                    `json:"use_regex"`
	Replacement    string                   `json:"replacement"`
	PrependScheme  string                   `json:"prepend_scheme"`
	Split          *bool                    `json:"split"`
	Single         []templatePart           `json:"single"`
	SpecialTokens  map[string]templateToken `json:"special_tokens"`
}

type pattern struct {
	String *string `json:"String"`
	Regex  *string `json:"Regex"`
}

type templatePart struct {
	SpecialToken *struct {
		ID string `json:"id"`
	} `json:"SpecialToken"`
	Sequence *struct {
		ID string `json:"id"`
	} `json:"Sequence"`
}

type templateToken struct {
	IDs []int32 `json:"ids"`
}

// bpeModel is the "model" of tokenizer.json.
type bpeModel struct {
	Type                    string           `json:"type"`
	Dropout                 *float64         `json:"dropout"`
	UnkToken                *string          `json:"unk_token"`
	ContinuingSubwordPrefix *string          `json:"continuing_subword_prefix"`
	EndOfWordSuffix         *string          `json:"end_of_word_suffix"`
	FuseUnk                 bool             `json:"fuse_unk"`
	ByteFallback            bool             `json:"byte_fallback"`
	IgnoreMerges            bool             `json:"ignore_merges"`
	RawVocab                json.RawMessage  `json:"vocab"` // other models have other shapes
	Merges                  json.RawMessage  `json:"merges"`
	Vocab                   map[string]int32 `json:"-"`
}

// flat gives the components of a sequence in order, or c itself.
func (c *component) flat() []component {
	if c == nil {
		return nil
	}
	if c.Type != "Sequence" {
		return []component{*c}
	}
	var list []component
	for _, parts := range [][]component{c.Normalizers, c.PreTokenizers, c.Processors, c.Decoders} {
		for _, part := range parts {
			list = append(list, part.flat()...)
		}
	}
	return list
}

// replaces tells whether c is a Replace of the string from by the string to.
func (c *component) replaces(from, to string) bool {
	return c.Type == "Replace" && c.Pattern != nil && c.Pattern.String != nil && *c.Pattern.String == from &&
		c.Content == to
}

// is tells whether an optional flag has the value want, which is also what it is when absent if missing is want.
func is(flag *bool, want, missing bool) bool {
	if flag == nil {
		return missing == want
	}
	return *flag == want
}

func unsupported(kind string, c component, want string) error {
	shown, err := json.Marshal(c)
	if err != nil || len(shown) > 300 {
		shown = []byte(c.Type)
	}
	shown = compact(shown)
	return fmt.Errorf("%s %q is not supported as it stands (%s); supported: %s", kind, c.Type, shown, want)
}

// compact leaves the null and empty fields out of a component's JSON.
func compact(shown []byte) []byte {
	var fields map[string]json.RawMessage
	if json.Unmarshal(shown, &fields) != nil {
		return shown
	}
	for key, value := range fields {
		if v := string(value); v == "null" || v == `""` || v == "0" || v == "false" {
			delete(fields, key)
		}
	}
	if short, err := json.Marshal(fields); err == nil {
		return short
	}
	return shown
}

// readJSON reads a tokenizer.json.
func readJSON(content []byte) (*Tokenizer, error) {
	var file jsonFile
	if err := json.Unmarshal(content, &file); err != nil {
		return nil, fmt.Errorf("not a tokenizer.json: %w", err)
	}
	model, err := file.model()
	if err != nil {
		return nil, err
	}
	t := &Tokenizer{bos: noToken}
	if err := t.setVocabulary(model.Vocab, file.AddedTokens); err != nil {
		return nil, err
	}
	if err := t.setPostProcessor(file.PostProcessor); err != nil {
		return nil, err
	}
	if file.byteLevel() {
		err = t.setByteModel(&file, model)
	} else {
		err = t.setMarkModel(&file, model)
	}
	return t, err
}

// model reads the model section and refuses what is not plain BPE.
func (f *jsonFile) model() (*bpeModel, error) {
	m := new(bpeModel)
	if err := json.Unmarshal(f.Model, m); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if m.Type != "BPE" && m.Type != "" {
		return nil, fmt.Errorf("model type %q is not supported; supported: BPE", m.Type)
	}
	if len(m.RawVocab) == 0 || len(m.Merges) == 0 {
		return nil, fmt.Errorf("model: vocab or merges are missing")
	}
	if err := json.Unmarshal(m.RawVocab, &m.Vocab); err != nil {
		return nil, fmt.Errorf("model: vocab: %w", err)
	}
	switch {
	case len(m.Vocab) == 0:
		return nil, fmt.Errorf("model: the vocabulary is empty")
	case m.Dropout != nil && *m.Dropout != 0:
		return nil, fmt.Errorf("model: dropout %v is not supported; supported: null", *m.Dropout)
	case m.ContinuingSubwordPrefix != nil && *m.ContinuingSubwordPrefix != "":
		return nil, fmt.Errorf("model: continuing_subword_prefix %q is not supported", *m.ContinuingSubwordPrefix)
	case m.EndOfWordSuffix != nil && *m.EndOfWordSuffix != "":
		return nil, fmt.Errorf("model: end_of_word_suffix %q is not supported", *m.EndOfWordSuffix)
	}
	return m, nil
}

// pairs reads the merges, which are all written "left right" or all ["left","right"].
func (m *bpeModel) pairs() ([][2]string, error) {
	const space = " \t\r\n"
	inner := bytes.TrimLeft(bytes.TrimPrefix(bytes.TrimLeft(m.Merges, space), []byte("[")), space)
	if bytes.HasPrefix(inner, []byte("[")) {
		return m.arrayPairs()
	}
	var lines []string
	if err := json.Unmarshal(m.Merges, &lines); err != nil {
		return nil, fmt.Errorf("model: merges: %w", err)
	}
	pairs := make([][2]string, len(lines))
	for i, line := range lines {
		left, right, ok := strings.Cut(line, " ")
		if !ok || strings.Contains(right, " ") {
			return nil, fmt.Errorf("model: merge %d is %q, not two tokens with a space between", i+1, line)
		}
		pairs[i] = [2]string{left, right}
	}
	return pairs, nil
}

func (m *bpeModel) arrayPairs() ([][2]string, error) {
	var lists [][]string
	if err := json.Unmarshal(m.Merges, &lists); err != nil {
		return nil, fmt.Errorf("model: merges: %w", err)
	}
	pairs := make([][2]string, len(lists))
	for i, list := range lists {
		if len(list) != 2 {
			return nil, fmt.Errorf("model: merge %d is %q, not two tokens", i+1, list)
		}
		pairs[i] = [2]string(list)
	}
	return pairs, nil
}

// table numbers the merges; each is a token of the vocabulary, and so are its parts. made is called with each result.
func (m *bpeModel) table(made func(token string)) (mergeTable, error) {
	pairs, err := m.pairs()
	if err != nil {
		return mergeTable{}, err
	}
	t := newMergeTable(len(pairs))
	for i, pair := range pairs {
		left, okLeft := m.Vocab[pair[0]]
		right, okRight := m.Vocab[pair[1]]
		id, ok := m.Vocab[pair[0]+pair[1]]
		if !okLeft || !okRight || !ok {
			return mergeTable{}, fmt.Errorf("model: merge %d joins %q and %q, but they or the result are not in the "+
				"vocabulary", i+1, pair[0], pair[1])
		}
		t.set(left, right, uint32(i), id)
		made(pair[0] + pair[1])
	}
	return t, nil
}

// byteLevel tells whether the file has a byte-level pre-tokenizer: the LLaMA-3 family.
func (f *jsonFile) byteLevel() bool {
	for _, c := range f.PreTokenizer.flat() {
		if c.Type == "ByteLevel" || c.Type == "Split" {
			return true
		}
	}
	return false
}

// setPostProcessor takes BOS from the post-processor. ByteLevel as a post-processor only trims offsets.
func (t *Tokenizer) setPostProcessor(c *component) error {
	const want = "TemplateProcessing that puts at most one token in front of $A, alone or after ByteLevel"
	for _, c := range c.flat() {
		switch c.Type {
		case "ByteLevel":
		case "TemplateProcessing":
			parts := c.Single
			if len(parts) == 2 && parts[0].SpecialToken != nil {
				ids := c.SpecialTokens[parts[0].SpecialToken.ID].IDs
				if len(ids) != 1 || t.bos != noToken {
					return unsupported("post_processor", c, want)
				}
				if _, ok := t.TokenString(ids[0]); !ok {
					return fmt.Errorf("post_processor: token %d is not in the vocabulary", ids[0])
				}
				t.bos, parts = ids[0], parts[1:]
			}
			if len(parts) != 1 || parts[0].Sequence == nil || parts[0].Sequence.ID != "A" {
				return unsupported("post_processor", c, want)
			}
		default:
			return unsupported("post_processor", c, want)
		}
	}
	return nil
}

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

func refuseDecoder(c *component, want string) error {
	if c == nil {
		return fmt.Errorf("decoder: none is not supported; supported: %s", want)
	}
	return unsupported("decoder", *c, want)
}

// newDecoder gives a decoder with the texts of tokens as they are spelled: an added token that is matched normalized is
// spelled normalized, so LLaMA-1's <s> gives a space and <s> within a text.
func (t *Tokenizer) newDecoder() decoder {
	d := decoder{text: slices.Clone(t.tokens), special: make([]bool, len(t.tokens))}
	for _, token := range t.added.list {
		d.special[token.ID] = token.Special
		if token.Normalized && !token.asPiece {
			d.text[token.ID] = t.added.prefix + token.Content
		}
	}
	return d
}

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
