package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/nikolalohinski/gonja/v2/exec"
)

// noText marks in a rendered text what Python would have written of a value that is no text: None, or a list. No prompt is
// meant to have that in it. It is a noncharacter of Unicode, which no text has.
const noText = "\ufdd0"

// none is Python's None. In gonja nil is what Jinja calls undefined, so that None needs a value of its own, which is
// false and defined.
type none []struct{}

func (none) String() string { return noText }

func isNone(v *exec.Value) bool {
	_, ok := v.Interface().(none)
	return ok
}

// list is a list whose last item has the index -1 however many items there are (gonja does not find it in a list of one).
type list []any

func (list) String() string { return noText }

// GetItem gives an item by its index, from the end if that is negative.
func (l list) GetItem(key any) (*exec.Value, bool) {
	i, ok := key.(int)
	if ok && i < 0 {
		i += len(l)
	}
	if !ok || i < 0 || i >= len(l) {
		return exec.AsValue(nil), false
	}
	return exec.ToValue(l[i]), true
}

// listed is v with lists that are list.
func listed(v *exec.Value) *exec.Value {
	switch items := v.Interface().(type) {
	case []any:
		return exec.AsValue(list(items))
	case []string:
		return exec.AsValue(stringList(items))
	case exec.ValuesList:
		var l list
		for _, item := range items {
			l = append(l, item.Interface())
		}
		return exec.AsValue(l)
	}
	return v
}

func stringList(items []string) list {
	l := make(list, len(items))
	for i, s := range items {
		l[i] = s
	}
	return l
}

// decodeJSON reads one JSON value as a template sees it; the keys of objects keep their order.
func decodeJSON(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := decodeValue(d)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more behind the JSON value")
	}
	return v, nil
}

func decodeValue(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case nil:
		return none{}, nil
	case json.Number:
		if i, err := t.Int64(); err == nil && !strings.ContainsAny(t.String(), ".eE") {
			return int(i), nil
		}
		return t.Float64()
	case json.Delim:
		if t == '[' {
			return decodeList(d)
		}
		return decodeObject(d)
	}
	return token, nil // string or bool
}

func decodeList(d *json.Decoder) (any, error) {
	items := list{}
	for d.More() {
		item, err := decodeValue(d)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	_, err := d.Token()
	return items, err
}

func decodeObject(d *json.Decoder) (any, error) {
	object, at := exec.NewDict(), make(map[json.Token]int)
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		value, err := decodeValue(d)
		if err != nil {
			return nil, err
		}
		pair := &exec.Pair{Key: exec.AsValue(key), Value: exec.ToValue(value)}
		if i, again := at[key]; again { // of equal keys the last holds, as for Python
			object.Pairs[i] = pair
			continue
		}
		at[key] = len(object.Pairs)
		object.Pairs = append(object.Pairs, pair)
	}
	_, err := d.Token()
	return object, err
}

// appendJSON writes a value as Python's json.dumps does with ensure_ascii=False: with spaces behind commas and colons,
// or, where indent is not negative, over several lines.
func appendJSON(out []byte, v *exec.Value, indent, depth int) ([]byte, error) {
	var err error
	switch {
	case v.IsNil():
		return nil, errors.New("tojson: the value is undefined")
	case isNone(v):
		return append(out, "null"...), nil
	case v.IsBool():
		return fmt.Appendf(out, "%t", v.Bool()), nil
	case v.IsString():
		return appendQuoted(out, v.String()), nil
	case v.IsNumber():
		return append(out, v.String()...), nil
	case v.IsList():
		out = append(out, '[')
		for i := range v.Len() {
			out = separate(out, i, indent, depth+1)
			if out, err = appendJSON(out, exec.ToValue(v.Index(i)), indent, depth+1); err != nil {
				return nil, err
			}
		}
		return finish(out, v.Len(), indent, depth, ']'), nil
	case v.IsDict():
		pairs := pairsOf(v)
		out = append(out, '{')
		for i, p := range pairs {
			out = append(appendQuoted(separate(out, i, indent, depth+1), p.Key.String()), ": "...)
			if out, err = appendJSON(out, p.Value, indent, depth+1); err != nil {
				return nil, err
			}
		}
		return finish(out, len(pairs), indent, depth, '}'), nil
	}
	return nil, fmt.Errorf("tojson: %T is no JSON value", v.Interface())
}

func separate(out []byte, i, indent, depth int) []byte {
	switch {
	case indent >= 0 && i > 0:
		out = append(out, ',')
	case i > 0:
		return append(out, ", "...)
	}
	return line(out, indent, depth)
}

func finish(out []byte, n, indent, depth int, close byte) []byte {
	if n > 0 {
		out = line(out, indent, depth)
	}
	return append(out, close)
}

func line(out []byte, indent, depth int) []byte {
	if indent < 0 {
		return out
	}
	return append(append(out, '\n'), strings.Repeat(" ", indent*depth)...)
}

// appendQuoted writes a string as json.dumps does: of what JSON may escape, only what it must.
func appendQuoted(out []byte, s string) []byte {
	short := map[rune]string{'"': `\"`, '\\': `\\`, '\n': `\n`, '\r': `\r`, '\t': `\t`, '\b': `\b`, '\f': `\f`}
	out = append(out, '"')
	for _, r := range s {
		switch text, ok := short[r]; {
		case ok:
			out = append(out, text...)
		case r < ' ':
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = append(out, string(r)...)
		}
	}
	return append(out, '"')
}

// pairsOf are the keys and values of a dict, in order.
func pairsOf(v *exec.Value) []*exec.Pair {
	switch d := v.Interface().(type) {
	case *exec.Dict:
		return d.Pairs
	case exec.Dict:
		return d.Pairs
	}
	var pairs []*exec.Pair
	for _, key := range v.Keys() {
		value, _ := v.GetItem(key.Interface())
		pairs = append(pairs, &exec.Pair{Key: key, Value: value})
	}
	return pairs
}
