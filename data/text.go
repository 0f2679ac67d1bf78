package data

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"gotransplant/internal/strictjson"
)

// Text is one text to be read by a model.
type Text struct {
	Line   int             // in its file
	ID     string          // the file's own, or the line's number
	Label  json.RawMessage // any JSON value, as the file has it; nil if it has none
	Prompt Prompt
}

// Text is what a prompt's segments say one after the other.
func (p Prompt) Text() string {
	var all strings.Builder
	for _, s := range p {
		all.WriteString(s.Text)
	}
	return all.String()
}

// ScanLines reads a file of texts, one a line, UTF-8; name is the file's, for errors. The id is the number of the line.
// A line that is empty or not UTF-8 is an error, after which the rest is read on.
func ScanLines(r io.Reader, name string) iter.Seq2[Text, error] {
	return scan(r, name, func(line int, text []byte) (Text, error) {
		return Text{ID: fmt.Sprint(line), Prompt: Prompt{{Text: string(text)}}}, nil
	})
}

// ScanJSONL reads a file with a JSON object a line: "text", or "segments", a list of {"text", "name"} whose named members
// are fences; and, if there are any, "id", a string or number, and "label". Every line that is not such an object is an
// error, after which the rest is read on.
func ScanJSONL(r io.Reader, name string) iter.Seq2[Text, error] { return scan(r, name, parseText) }

// scan reads lines and gives each, without its end, to parse.
func scan(r io.Reader, name string, parse func(line int, text []byte) (Text, error)) iter.Seq2[Text, error] {
	return func(yield func(Text, error) bool) {
		lines := bufio.NewReaderSize(r, 1<<16)
		skipMark(lines)
		for n := 1; ; n++ {
			raw, err := lines.ReadBytes('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				yield(Text{}, fmt.Errorf("%s: %w", name, err))
				return
			}
			if len(raw) == 0 {
				if n == 1 {
					yield(Text{}, fmt.Errorf("%s: empty; want a text a line", name))
				}
				return
			}
			line := bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte{'\n'}), []byte{'\r'})
			var text Text
			switch {
			case len(bytes.TrimSpace(line)) == 0:
				err = errors.New("the line is empty")
			case !utf8.Valid(line):
				err = errors.New("the line is not UTF-8")
			default:
				text, err = parse(n, line)
			}
			text.Line = n
			if err != nil {
				err = fmt.Errorf("%s:%d: %w", name, n, err)
			}
			if !yield(text, err) {
				return
			}
		}
	}
}

// parseText reads one line of a JSONL file.
func parseText(line int, text []byte) (t Text, err error) {
	members, err := members(text, "id", "label", "text", "segments")
	if err != nil {
		return t, err
	}
	t.ID, t.Label = fmt.Sprint(line), members["label"]
	if raw, ok := members["id"]; ok {
		if t.ID, err = parseID(raw); err != nil {
			return t, err
		}
	}
	plain, isText := members["text"]
	list, isList := members["segments"]
	switch {
	case isText == isList:
		return t, errors.New(`want either "text" or "segments"`)
	case isText:
		s, err := parseString("text", plain)
		if err == nil && s == "" {
			err = errors.New("text is empty")
		}
		t.Prompt = Prompt{{Text: s}}
		return t, err
	}
	t.Prompt, err = parseSegments(list)
	return t, err
}

func parseSegments(list json.RawMessage) (p Prompt, err error) {
	var items []json.RawMessage
	if err := json.Unmarshal(list, &items); err != nil || list[0] != '[' {
		return nil, errors.New("segments is not a list of objects")
	}
	var names []string
	for i, item := range items {
		members, err := members(item, "text", "name")
		if err != nil {
			return nil, fmt.Errorf("segment %d: %w", i+1, err)
		}
		s, err := parseString("text", members["text"])
		if err != nil {
			return nil, fmt.Errorf("segment %d: %w", i+1, err)
		}
		name := ""
		if raw, ok := members["name"]; ok {
			if name, err = parseString("name", raw); err != nil {
				return nil, fmt.Errorf("segment %d: %w", i+1, err)
			}
		}
		switch {
		case strings.Contains(name, ","):
			return nil, fmt.Errorf("segment %d: the name %q has a comma, which separates names", i+1, name)
		case name != "" && slices.Contains(names, name):
			return nil, fmt.Errorf("segment %d: a segment before it is named %q too", i+1, name)
		}
		names = append(names, name)
		p = append(p, Segment{Text: s, Fence: name})
	}
	if p.Text() == "" {
		return nil, errors.New("segments have no text")
	}
	return p, nil
}

// members reads a JSON object that may have these keys, each once.
func members(text []byte, keys ...string) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	all := make(map[string]json.RawMessage)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("not JSON: %w", err)
		}
		key := token.(string) // the decoder takes nothing else here
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("not JSON: %w", err)
		}
		if !slices.Contains(keys, key) {
			return nil, fmt.Errorf("the key %q is none of %s", key, strings.Join(keys, ", "))
		}
		if _, twice := all[key]; twice {
			return nil, fmt.Errorf("the key %q stands twice", key)
		}
		all[key] = value
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return all, nil
}

// parseString reads a JSON string, of whole characters.
func parseString(key string, raw json.RawMessage) (s string, err error) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", fmt.Errorf("%s is missing or no string", key)
	}
	if err := strictjson.Escapes(raw); err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	return s, json.Unmarshal(raw, &s)
}

// parseID reads a string that is not empty, or a number as it is written.
func parseID(raw json.RawMessage) (string, error) {
	if raw[0] == '"' {
		s, err := parseString("id", raw)
		if err == nil && s == "" {
			err = errors.New("id is empty")
		}
		return s, err
	}
	var n json.Number
	if err := json.Unmarshal(raw, &n); err != nil || n == "" {
		return "", fmt.Errorf("id is %s, want a string or a number", raw)
	}
	return n.String(), nil
}
