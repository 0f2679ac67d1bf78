package lora

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// member is one key of a JSON object, in file order.
type member struct {
	key   string
	value json.RawMessage
}

// orderedObject splits a JSON object without losing the order of its keys, which decides between patterns.
func orderedObject(content []byte) ([]member, error) {
	dec := json.NewDecoder(bytes.NewReader(content))
	first, err := dec.Token()
	if err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if first != json.Delim('{') {
		return nil, fmt.Errorf("got %v, want a JSON object", first)
	}
	var members []member
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("not JSON: %w", err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("%v: not JSON: %w", key, err)
		}
		members = append(members, member{key.(string), value})
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more text after the JSON object")
	}
	return members, nil
}

// optional decodes value into to, which keeps what it holds when value is null.
func optional[T any](value json.RawMessage, to *T) error {
	var v *T
	if err := json.Unmarshal(value, &v); err != nil {
		return err
	}
	if v != nil {
		*to = *v
	}
	return nil
}

// oneOrMany decodes a single value or a list; null and the empty list give nil.
func oneOrMany[T any](value json.RawMessage, to *[]T) error {
	if bytes.HasPrefix(bytes.TrimSpace(value), []byte("[")) {
		var list []T
		if err := json.Unmarshal(value, &list); err != nil {
			return err
		}
		if len(list) > 0 {
			*to = list
		}
		return nil
	}
	var one *T
	if err := json.Unmarshal(value, &one); err != nil {
		return err
	}
	if one != nil {
		*to = []T{*one}
	}
	return nil
}

// Pattern gives the modules its key matches a value of their own. The key is a regular expression that must match the
// end of a module's name, from the start of one of its dotted parts (PEFT's get_pattern_key).
type Pattern struct {
	Key   string
	Value float64
}

// Patterns is a rank_pattern or alpha_pattern: a JSON object in the file, where the first key that matches counts.
type Patterns []Pattern

// UnmarshalJSON keeps the order of the keys.
func (p *Patterns) UnmarshalJSON(content []byte) error {
	members, err := orderedObject(content)
	if err != nil {
		return err
	}
	*p = nil
	for _, m := range members {
		var v float64
		if err := json.Unmarshal(m.value, &v); err != nil {
			return fmt.Errorf("%q: %w", m.key, err)
		}
		*p = append(*p, Pattern{m.key, v})
	}
	return nil
}

// MarshalJSON writes an object with the keys in order.
func (p Patterns) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	for i, pattern := range p {
		key, err := json.Marshal(pattern.Key)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(pattern.Value)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", pattern.Key, err)
		}
		fmt.Fprintf(&b, "%s%s:%s", separator(i), key, value)
	}
	return []byte("{" + b.String() + "}"), nil
}

// separator stands before the i-th member of a JSON object.
func separator(i int) string {
	if i == 0 {
		return ""
	}
	return ","
}
