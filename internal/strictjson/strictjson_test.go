package strictjson

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestObject(t *testing.T) {
	cases := []struct {
		name string
		text string
		keys []string
	}{
		{"empty", `{}`, nil},
		{"white space around", " \n{\"a\":1}\t", []string{"a"}},
		{"keys that differ in case", `{"a":1,"A":2}`, []string{"A", "a"}},
		{"the same key at different depths", `{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}`, []string{"a", "b"}},
		{"a value equal to a key", `{"a":"b","b":"a","c":["a","a"]}`, []string{"a", "b", "c"}},
		{"huge number", `{"a":1e999}`, []string{"a"}},
		{"escaped backslash before u", `{"\\ud800":1}`, []string{`\ud800`}},
		{"surrogate pair", `{"\uD83D\uDE00":1}`, []string{"\U0001F600"}},
		{"first and last pair", `{"\ud800\udc00":1,"\udbff\udfff":2}`, []string{"\U00010000", "\U0010FFFF"}},
		{"next to the halves", `{"\ud7ff\ue000":1}`, []string{"\ud7ff\ue000"}},
		{"escape of another letter", `{"\nd800":1}`, []string{"\nd800"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := Object([]byte(c.text))
			if keys := slices.Sorted(maps.Keys(got)); err != nil || !slices.Equal(keys, c.keys) {
				t.Errorf("got %q, %v, want %q", keys, err, c.keys)
			}
		})
	}
}

func TestObjectRefuses(t *testing.T) {
	cases := []struct{ name, text, want string }{
		{"empty", "", "not JSON"},
		{"array", "[]", "want an object"},
		{"null", "null", "want an object"},
		{"two values", "{} {}", "not JSON"},
		{"NaN", `{"a":NaN}`, "not JSON: invalid character 'N' looking for beginning of value at byte 6"},
		{"byte order mark", "\ufeff{}", "not JSON"},
		{"not UTF-8 at the start", "\xc3{}", "byte 0 is not UTF-8"},
		{"not UTF-8 behind U+FFFD", "{\"\ufffd\":\"\xc3\"}", "byte 8 is not UTF-8"},
		{"not UTF-8 in a value", "{\"a\":\"\xc3\"}", "byte 6 is not UTF-8"},
		{"key twice", `{"a":1,"b":2,"a":3}`, `key "a" stands twice`},
		{"key twice, nested", `{"a":[1,{"b":{"c":{},"c":1}}]}`, `key "a"."b"."c" stands twice`},
		{"key twice behind an object", `{"a":{"x":1},"a":2}`, `key "a" stands twice`},
		{"key twice behind an array", `{"a":[1],"b":2,"b":3}`, `key "b" stands twice`},
		{"key twice behind a huge number", `{"a":1e999,"a":2}`, `key "a" stands twice`},
		{"key twice by escape", `{"a":1,"\u0061":3}`, `key "a" stands twice`},
		{"first half alone", `{"a":"\ud83dx"}`, `\ud83d at byte 6`},
		{"first half twice", `{"a":"\ud83d\ud83d"}`, `\ud83d at byte 6`},
		{"first half before another character", `{"a":"\ud83d\u0041"}`, `\ud83d at byte 6`},
		{"first half before the character behind the halves", `{"a":"\ud83d\ue000"}`, `\ud83d at byte 6`},
		{"second half alone", `{"a":"\ude00"}`, `\ude00 at byte 6`},
		{"second half twice", `{"a":"\ude00\ude00"}`, `\ude00 at byte 6`},
		{"lowest first half", `{"a":"\ud800"}`, `\ud800 at byte 6`},
		{"highest second half", `{"a":"\udfff"}`, `\udfff at byte 6`},
		{"second half first", `{"a":"\udc00\udc00"}`, `\udc00 at byte 6`},
		{"half behind a character's escape", `{"a":"\u0041\ud83d"}`, `\ud83d at byte 12`},
		{"half behind a pair", `{"a":"\ud83d\ude00\ud83d"}`, `\ud83d at byte 18`},
		{"half behind another escape", `{"a":"\n\ud83d"}`, `\ud83d at byte 8`},
		{"half at the end", `{"a":"\ud83d"}`, `\ud83d at byte 6`},
		{"half at an odd place", `{"ab":"\ud83d"}`, `\ud83d at byte 7`},
		{"cut escape", `{"a":"\u12`, "not JSON"},
		{"cut behind a backslash", `{"a":"\`, "not JSON"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got, err := Object([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v, want an error with %q", got, err, c.want)
			}
		})
	}
}

func TestString(t *testing.T) {
	if s, err := String(json.RawMessage(`"a\n"`)); s != "a\n" || err != nil {
		t.Errorf("got %q, %v", s, err)
	}
	for _, raw := range []string{"", "null", "1", "{}"} {
		if s, err := String(json.RawMessage(raw)); err == nil {
			t.Errorf("%q: got %q, want an error", raw, s)
		}
	}
}

func TestExcerptIsShort(t *testing.T) {
	if got := Excerpt(json.RawMessage(strings.Repeat("\u00e9", 100))); len(got) > 70 || !strings.HasSuffix(got,
		"\u00e9...") {
		t.Errorf("got %q, want whole characters and three dots", got)
	}
	for _, whole := range []string{"short", strings.Repeat("a", 60)} {
		if got := Excerpt(json.RawMessage(whole)); got != whole {
			t.Errorf("got %q, want %q unchanged", got, whole)
		}
	}
}
