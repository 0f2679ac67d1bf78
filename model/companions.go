package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"

	"gotransplant/internal/atomicfile"
	"gotransplant/model/safetensors"
)

// companions are the files that go with a checkpoint's weights wherever these go, beside config.json: the tokenizer's,
// what generation and chat want to know, and the terms of use.
var companions = [...]string{
	"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
	"chat_template.jinja", "chat_template.json", "generation_config.json",
	"LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt", "USE_POLICY.md",
}

// Companions lists the files beside config.json that Rewrite copies.
func (c *Checkpoint) Companions() ([]string, error) {
	var there []string
	for _, name := range companions {
		m, err := c.source.content(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		there = append(there, name)
		if err := m.Close(); err != nil {
			return nil, err
		}
	}
	return there, nil
}

// copyCompanions copies them to dir.
func (c *Checkpoint) copyCompanions(dir string) error {
	there, err := c.Companions()
	if err != nil {
		return err
	}
	for _, name := range there {
		text, err := c.source.text(name)
		if err != nil {
			return err
		}
		if err := atomicfile.WriteBytes(filepath.Join(dir, name), text); err != nil {
			return err
		}
	}
	return nil
}

// copyConfig copies config.json to dir, but for the type of the weights.
func (c *Checkpoint) copyConfig(dir string, d safetensors.DType) error {
	text, err := c.source.text(configFile)
	if err != nil {
		return err
	}
	if text, err = withDType(text, d); err != nil {
		return fmt.Errorf("%s: %w", c.source.path(configFile), err)
	}
	name := filepath.Join(dir, configFile)
	if back, err := ParseConfig(name, text); err != nil || !back.equal(c.Config) {
		return fmt.Errorf("%s: with another torch_dtype it says %+v (%v), and %+v without: write it by hand",
			c.source.path(configFile), back, err, c.Config)
	}
	return atomicfile.WriteBytes(name, text)
}

// withDType is the text of a config.json with torch_dtype, or dtype as newer releases of Transformers have it, set to d
// and all other bytes as they were.
func withDType(text []byte, d safetensors.DType) ([]byte, error) {
	value := strconv.Quote(DTypeName(d))
	dec := json.NewDecoder(bytes.NewReader(text))
	if _, err := dec.Token(); err != nil { // the brace
		return nil, err
	}
	begin, found := int(dec.InputOffset()), false
	var out []byte
	copied := 0
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var old json.RawMessage
		if err := dec.Decode(&old); err != nil {
			return nil, err
		}
		if key == "torch_dtype" || key == "dtype" {
			end := int(dec.InputOffset())
			out = append(append(out, text[copied:end-len(old)]...), value...)
			copied, found = end, true
		}
	}
	if !found {
		out = append(fmt.Appendf(out, "%s\n  \"torch_dtype\": %s,", text[:begin], value), text[begin:]...)
		return out, nil
	}
	return append(out, text[copied:]...), nil
}

// DTypeName is what config.json calls a type of weights, such as bfloat16; "" for any other.
func DTypeName(d safetensors.DType) string {
	switch d {
	case safetensors.F64:
		return "float64"
	case safetensors.F32:
		return "float32"
	case safetensors.F16:
		return "float16"
	case safetensors.BF16:
		return "bfloat16"
	}
	return ""
}

// ParseDType reads the name that config.json has for a type of weights.
func ParseDType(name string) (safetensors.DType, error) {
	for _, d := range []safetensors.DType{safetensors.F64, safetensors.F32, safetensors.F16, safetensors.BF16} {
		if DTypeName(d) == name {
			return d, nil
		}
	}
	return "", fmt.Errorf("%q: there are float32, bfloat16, float16 and float64", name)
}
