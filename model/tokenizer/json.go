package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
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

	Normalizers   []component `json:"normalizers,omitempty"`
	PreTokenizers []component `json:"pretokenizers,omitempty"`
	Processors    []component `json:"processors,omitempty"`
	Decoders      []component `json:"decoders,omitempty"`

	Prepend        string                   `json:"prepend,omitempty"`
	Pattern        *pattern                 `json:"pattern,omitempty"`
	Content        string                   `json:"content,omitempty"`
	Start          int                      `json:"start,omitempty"`
	Stop           int                      `json:"stop,omitempty"`
	Behavior       string                   `json:"behavior,omitempty"`
	Invert         bool                     `json:"invert,omitempty"`
	AddPrefixSpace *bool                    `json:"add_prefix_space,omitempty"`
	UseRegex       *bool                    `json:"use_regex,omitempty"`
	Replacement    string                   `json:"replacement,omitempty"`
	PrependScheme  string                   `json:"prepend_scheme,omitempty"`
	Split          *bool                    `json:"split,omitempty"`
	Single         []templatePart           `json:"single,omitempty"`
	SpecialTokens  map[string]templateToken `json:"special_tokens,omitempty"`
}

type pattern struct {
	String *string `json:"String,omitempty"`
	Regex  *string `json:"Regex,omitempty"`
}

type templatePart struct {
	SpecialToken *struct {
		ID string `json:"id"`
	} `json:"SpecialToken,omitempty"`
	Sequence *struct {
		ID string `json:"id"`
	} `json:"Sequence,omitempty"`
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

// unsupported tells of a component what it is, and of a short one every field that it has.
func unsupported(kind string, c component, want string) error {
	const most = 300
	shown := c.Type
	var text strings.Builder
	fields := json.NewEncoder(&text)
	fields.SetEscapeHTML(false) // <s> is to be read as it stands
	if err := fields.Encode(c); err == nil && text.Len() <= most {
		shown = strings.TrimSpace(text.String())
	}
	return fmt.Errorf("%s %q is not supported as it stands (%s); supported: %s", kind, c.Type, shown, want)
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

func refuseDecoder(c *component, want string) error {
	if c == nil {
		return fmt.Errorf("decoder: none is not supported; supported: %s", want)
	}
	return unsupported("decoder", *c, want)
}
