// Package strictjson reads JSON objects the way file headers need them: UTF-8 only, no key twice at any depth, keys
// matched exactly. encoding/json keeps the last of two equal keys, ignores case and replaces bad UTF-8, so two readers
// could see two different files.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Object checks text and returns the members of the object it holds, undecoded. Every nested value is checked too, so
// Members may be used on it.
func Object(text []byte) (map[string]json.RawMessage, error) {
	if at := invalidUTF8(text); at >= 0 {
		return nil, fmt.Errorf("byte %d is not UTF-8", at)
	}
	if err := Escapes(text); err != nil {
		return nil, err
	}
	var whole json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("not JSON: %w at byte %d", err, syntax.Offset)
		}
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if err := checkDuplicates(text); err != nil {
		return nil, err
	}
	return Members(bytes.TrimSpace(whole))
}

// Members returns the members of one object inside a text that Object has checked.
func Members(raw json.RawMessage) (map[string]json.RawMessage, error) {
	if len(raw) == 0 || raw[0] != '{' {
		return nil, fmt.Errorf("want an object, got %s", Excerpt(raw))
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, err
	}
	return members, nil
}

// String returns the string that raw holds.
func String(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", fmt.Errorf("want a string, got %s", Excerpt(raw))
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

// Excerpt is raw short enough for an error message.
func Excerpt(raw json.RawMessage) string {
	const most = 60
	if len(raw) <= most {
		return string(raw)
	}
	return strings.ToValidUTF8(string(raw[:most]), "") + "..."
}

// invalidUTF8 is the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(text []byte) int {
	if utf8.Valid(text) {
		return -1
	}
	for at := 0; ; {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size <= 1 {
			return at
		}
		at += size
	}
}

// Escapes refuses a \u escape that is half of a surrogate pair: it stands for no character, and encoding/json would
// silently make it U+FFFD.
func Escapes(text []byte) error {
	for at := 0; at < len(text); at++ {
		if text[at] != '\\' {
			continue
		}
		unit, ok := escapedUnit(text[at:])
		switch {
		case !ok:
			at++ // a two-byte escape; its second byte may be a backslash
		case unit < 0xD800 || unit > 0xDFFF:
			at += 5
		default:
			low, ok := escapedUnit(text[at+6:])
			if unit > 0xDBFF || !ok || low < 0xDC00 || low > 0xDFFF {
				return fmt.Errorf(`\u%04x at byte %d is half of a surrogate pair`, unit, at)
			}
			at += 11
		}
	}
	return nil
}

// escapedUnit reads the UTF-16 unit of an escape, \u and four digits, at the start of text.
func escapedUnit(text []byte) (unit uint64, ok bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(text[2:6]), 16, 32)
	return unit, err == nil
}

// scope is one object or array that is still open.
type scope struct {
	key  string          // the last key read, or "" in an array
	seen map[string]bool // nil in an array
	key0 bool            // whether a key comes next
}

// checkDuplicates walks valid JSON and refuses a key that stands twice in one object.
func checkDuplicates(text []byte) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var open []scope
	for {
		token, err := dec.Token()
		if err != nil {
			return nil // the end: the text is known to be valid
		}
		if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
			open = open[:len(open)-1]
			continue
		}
		if len(open) > 0 && open[len(open)-1].seen != nil {
			top := &open[len(open)-1]
			if top.key0 {
				top.key, top.key0 = token.(string), false
				if top.seen[top.key] {
					return fmt.Errorf("key %s stands twice", path(open))
				}
				top.seen[top.key] = true
				continue
			}
			top.key0 = true
		}
		switch token {
		case json.Delim('{'):
			open = append(open, scope{seen: map[string]bool{}, key0: true})
		case json.Delim('['):
			open = append(open, scope{})
		}
	}
}

// path names the key just read: "outer"."inner".
func path(open []scope) string {
	var keys []string
	for _, s := range open {
		if s.seen != nil {
			keys = append(keys, strconv.Quote(s.key))
		}
	}
	return strings.Join(keys, ".")
}
