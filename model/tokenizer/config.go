package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
)

const configName = "tokenizer_config.json"

// configure reads tokenizer_config.json, if there is one: add_bos_token, when present, decides whether there is a BOS,
// and bos_token says which when the tokenizer file does not.
func (t *Tokenizer) configure(src source) error {
	content, err := fs.ReadFile(src.fsys, path.Join(src.name, configName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", src.path(configName), err)
	}
	var config struct {
		AddBOS *bool           `json:"add_bos_token"`
		BOS    json.RawMessage `json:"bos_token"`
	}
	if err := json.Unmarshal(content, &config); err != nil {
		return fmt.Errorf("%s: %w", src.path(configName), err)
	}
	switch {
	case config.AddBOS == nil:
	case !*config.AddBOS:
		t.bos = noToken
	case t.bos == noToken:
		id, ok := t.TokenID(tokenText(config.BOS))
		if !ok {
			return fmt.Errorf("%s: add_bos_token is true, but bos_token %s is not in the vocabulary",
				src.path(configName), config.BOS)
		}
		t.bos = id
	}
	return nil
}

// tokenText reads a token that is written as a string or as an object with its content.
func tokenText(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var object struct {
		Content string `json:"content"`
	}
	if json.Unmarshal(raw, &object) != nil {
		return ""
	}
	return object.Content
}
