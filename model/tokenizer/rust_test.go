package tokenizer

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// rustVariant is one entry of testdata/rust.json, which testdata/rust.js writes.
type rustVariant struct {
	Name  string                     `json:"name"`
	Patch map[string]json.RawMessage `json:"patch"`
	Cases []struct {
		Text        string  `json:"text"`
		IDs         []int32 `json:"ids"`
		Decoded     string  `json:"decoded"`
		List        []int32 `json:"list"`
		ListDecoded string  `json:"listDecoded"`
	} `json:"cases"`
}

func rustVariants(t testing.TB) []rustVariant {
	t.Helper()
	content, err := os.ReadFile("testdata/rust.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []rustVariant
	if err := json.Unmarshal(content, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// patched gives testdata/tokenizer.json with some of its top-level keys replaced.
func patched(t testing.TB, patch map[string]json.RawMessage) []byte {
	t.Helper()
	content, err := os.ReadFile("testdata/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]json.RawMessage
	if err := json.Unmarshal(content, &file); err != nil {
		t.Fatal(err)
	}
	maps.Copy(file, patch)
	if content, err = json.Marshal(file); err != nil {
		t.Fatal(err)
	}
	return content
}

// variant opens a variant of testdata/rust.json by name.
func variant(t testing.TB, name string) *Tokenizer {
	t.Helper()
	for _, v := range rustVariants(t) {
		if v.Name == name {
			return fromJSON(t, patched(t, v.Patch))
		}
	}
	t.Fatalf("testdata/rust.json has no variant %q", name)
	return nil
}

// Ensure that every variant of the file formats is tokenized and decoded as by the Rust library.
func TestRustVariants(t *testing.T) {
	for _, v := range rustVariants(t) {
		t.Run(v.Name, func(t *testing.T) {
			tok := fromJSON(t, patched(t, v.Patch))
			for _, c := range v.Cases {
				if got := withBOS(tok, c.Text); !slices.Equal(got, c.IDs) {
					t.Errorf("%q: got %v, want %v", c.Text, got, c.IDs)
				}
				if got := tok.Decode(c.IDs); got != c.Decoded {
					t.Errorf("decode %v: got %q, want %q", c.IDs, got, c.Decoded)
				}
				if got := tok.Decode(c.List); got != c.ListDecoded {
					t.Errorf("decode %v: got %q, want %q", c.List, got, c.ListDecoded)
				}
				checkStream(t, tok, c.IDs)
				checkStream(t, tok, c.List)
				if v.Name != "no unknown token" {
					checkTiles(t, c.Text, tok.Encode(c.Text, nil))
				}
			}
		})
	}
}

// checkStream checks that a stream gives what Decode gives, in parts that are whole characters.
func checkStream(t testing.TB, tok *Tokenizer, ids []int32) {
	t.Helper()
	s := tok.NewStream()
	var parts []string
	for _, id := range ids {
		parts = append(parts, s.Push(id))
	}
	parts = append(parts, s.Flush())
	for _, part := range parts {
		if !utf8.ValidString(part) {
			t.Errorf("stream of %v gives %q, which is not UTF-8", ids, part)
		}
	}
	if got, want := strings.Join(parts, ""), tok.Decode(ids); got != want {
		t.Errorf("stream of %v: got %q, want %q", ids, got, want)
	}
}
