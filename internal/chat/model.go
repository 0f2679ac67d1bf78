package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Model is what a model directory says about conversations, but for the tokenizer itself.
type Model struct {
	Templates map[string]string // chat templates by name: a single one is "default"
	From      string            // the file they come from
	BOS, EOS  string            // bos_token and eos_token; "" for none
	NoBOS     bool              // add_bos_token is false: prompts are not meant to begin with it
	Declared  []string          // every token that a tokenizer_config.json declares special
	Stop      []int32           // eos_token_id of generation_config.json or, where that says none, of config.json
	StopFrom  string            // the file
}

// Open reads a Hugging Face model directory.
func Open(dir string) (*Model, error) { return open(os.DirFS(dir), ".", dir) }

// OpenFS is Open for the directory name of a file system.
func OpenFS(fsys fs.FS, name string) (*Model, error) { return open(fsys, name, name) }

// The files that are read.
const (
	tokenizerConfig  = "tokenizer_config.json"
	templateFile     = "chat_template.jinja"
	generationConfig = "generation_config.json"
	modelConfig      = "config.json"
)

// DefaultName is the name of the template that is meant where none is named.
const DefaultName = "default"

func open(fsys fs.FS, name, shown string) (*Model, error) {
	m := &Model{Templates: make(map[string]string)}
	if err := readJSONFile(fsys, name, shown, tokenizerConfig, m.tokenizerConfig); err != nil {
		return nil, err
	}
	for _, file := range []string{generationConfig, modelConfig} {
		err := readJSONFile(fsys, name, shown, file, func(text []byte) error {
			stop, err := stopIDs(text)
			if m.Stop == nil && stop != nil {
				m.Stop, m.StopFrom = stop, filepath.Join(shown, file)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if len(m.Templates) > 0 {
		m.From = filepath.Join(shown, tokenizerConfig)
	}
	switch text, err := fs.ReadFile(fsys, path.Join(name, templateFile)); {
	case err == nil:
		m.Templates, m.From = map[string]string{DefaultName: string(text)}, filepath.Join(shown, templateFile)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", filepath.Join(shown, templateFile), err)
	}
	return m, nil
}

// readJSONFile hands a file to read, if there is one.
func readJSONFile(fsys fs.FS, name, shown, file string, read func(text []byte) error) error {
	text, err := fs.ReadFile(fsys, path.Join(name, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = read(text)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(shown, file), err)
	}
	return nil
}

func (m *Model) tokenizerConfig(text []byte) error {
	var c struct {
		BOS        token           `json:"bos_token"`
		EOS        token           `json:"eos_token"`
		AddBOS     *bool           `json:"add_bos_token"`
		Template   json.RawMessage `json:"chat_template"`
		Additional []token         `json:"additional_special_tokens"`
		Added      map[string]struct {
			Content string `json:"content"`
			Special bool   `json:"special"`
		} `json:"added_tokens_decoder"`
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return err
	}
	m.BOS, m.EOS, m.NoBOS = string(c.BOS), string(c.EOS), c.AddBOS != nil && !*c.AddBOS
	declare := func(s string) {
		if s != "" && !slices.Contains(m.Declared, s) {
			m.Declared = append(m.Declared, s)
		}
	}
	declare(m.BOS)
	declare(m.EOS)
	for _, t := range c.Additional {
		declare(string(t))
	}
	for _, id := range slices.Sorted(maps.Keys(c.Added)) {
		if c.Added[id].Special {
			declare(c.Added[id].Content)
		}
	}
	return m.readTemplates(c.Template)
}

// readTemplates reads chat_template: a text, or a list of texts with names.
func (m *Model) readTemplates(raw json.RawMessage) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		m.Templates[DefaultName] = text
		return nil
	}
	var named []struct{ Name, Template string }
	if err := json.Unmarshal(raw, &named); err != nil {
		return fmt.Errorf("chat_template is neither a text nor a list of name and template: %w", err)
	}
	for i, t := range named {
		if t.Name == "" || t.Template == "" {
			return fmt.Errorf("chat_template: item %d has no name or no template", i+1)
		}
		m.Templates[t.Name] = t.Template
	}
	return nil
}

// token is written as a text or as an object with its content.
type token string

func (t *token) UnmarshalJSON(text []byte) error {
	var s *string
	if json.Unmarshal(text, &s) == nil {
		if s != nil {
			*t = token(*s)
		}
		return nil
	}
	var object struct {
		Content string `json:"content"`
	}
	err := json.Unmarshal(text, &object)
	*t = token(object.Content)
	return err
}

// stopIDs reads eos_token_id: a number, a list of numbers, or nothing.
func stopIDs(text []byte) ([]int32, error) {
	var c struct {
		EOS json.RawMessage `json:"eos_token_id"`
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, err
	}
	switch {
	case len(c.EOS) == 0 || string(c.EOS) == "null":
		return nil, nil
	case c.EOS[0] != '[':
		c.EOS = fmt.Appendf(nil, "[%s]", c.EOS)
	}
	var several []int32
	if err := json.Unmarshal(c.EOS, &several); err != nil {
		return nil, fmt.Errorf("eos_token_id is neither a number nor a list of numbers: %w", err)
	}
	return several, nil
}

// Template is the one chosen: "" for the model's own, a name among several of the model's, one of Builtins, or a file.
func (m *Model) Template(choice string) (*Template, error) {
	t, err := m.choose(choice)
	if err == nil {
		t.BOS, t.EOS = m.BOS, m.EOS
	}
	return t, err
}

func (m *Model) choose(choice string) (*Template, error) {
	if choice == "" {
		choice = DefaultName
		if len(m.Templates) == 0 {
			return nil, fmt.Errorf("the model has no chat template: choose one of %s, or a file of your own", strings.Join(Builtins(), ", "))
		}
		if _, ok := m.Templates[choice]; !ok {
			return nil, fmt.Errorf("%s has no chat template of the name %s: choose one of %s", m.From, choice, m.names())
		}
	}
	if text, ok := m.Templates[choice]; ok {
		name := m.From
		if len(m.Templates) > 1 {
			name += " (" + choice + ")"
		}
		return NewTemplate(name, text)
	}
	if slices.Contains(Builtins(), choice) {
		return Builtin(choice)
	}
	text, err := os.ReadFile(choice)
	if err != nil {
		return nil, fmt.Errorf("chat template %s: there are %s, those of the model%s, and files: %w", choice,
			strings.Join(Builtins(), ", "), m.names(), err)
	}
	return NewTemplate(choice, string(text))
}

func (m *Model) names() string {
	if len(m.Templates) == 0 {
		return " (none)"
	}
	return " (" + strings.Join(slices.Sorted(maps.Keys(m.Templates)), ", ") + ")"
}
