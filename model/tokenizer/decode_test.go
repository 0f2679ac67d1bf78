package tokenizer

import (
	"encoding/json"
	"testing"
)

// Ensure that bad bytes are replaced as in Rust's String::from_utf8_lossy; the first rows are the examples of its
// documentation and of the Unicode standard, table 3-8 to 3-11.
func TestLossy(t *testing.T) {
	for _, c := range []struct {
		name, bytes, open, final string
	}{
		{"fine", "aé日🇩", "aé日🇩", "aé日🇩"},
		{"Rust's example", "Hello \xF0\x90\x80World", "Hello \uFFFDWorld", "Hello \uFFFDWorld"},
		{"non-shortest forms", "\xC0\xAF\xE0\x80\xBF\xF0\x81\x82A", "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA",
			"\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA"},
		{"surrogates", "\xED\xA0\x80\xED\xBF\xBFA", "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA",
			"\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA"},
		{"beyond Unicode", "\xF4\x91\x92\x93\xFFA", "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA", "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA"},
		{"truncated", "\xE1\x80\xE2\xF0\x91\x92\xF1\xBFA", "\uFFFD\uFFFD\uFFFD\uFFFDA", "\uFFFD\uFFFD\uFFFD\uFFFDA"},
		{"replacement character itself", "\uFFFD", "\uFFFD", "\uFFFD"},
		{"incomplete at the end", "a\xE6\x97", "a", "a\uFFFD"},
		{"one byte at the end", "a\xF0", "a", "a\uFFFD"},
		{"bad at the end", "a\xFF", "a\uFFFD", "a\uFFFD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, _ := lossy([]byte(c.bytes), false); got != c.open {
				t.Errorf("open: got %q, want %q", got, c.open)
			}
			if got, used := lossy([]byte(c.bytes), true); got != c.final || used != len(c.bytes) {
				t.Errorf("final: got %q and %d bytes, want %q and %d", got, used, c.final, len(c.bytes))
			}
		})
	}
}

// Ensure that a stream gives text as soon as it is certain and holds back what is not.
func TestStream(t *testing.T) {
	marks, bytes := variant(t, "as it is"), variant(t, "llama3")
	id := func(tok *Tokenizer, s string) int32 {
		id, ok := tok.TokenID(s)
		if !ok {
			t.Fatalf("no token %q", s)
		}
		return id
	}
	type step struct{ token, want string }
	for _, c := range []struct {
		name  string
		tok   *Tokenizer
		steps []step
		flush string
	}{
		{"first space goes", marks, []step{{"▁", ""}, {"▁", " "}, {"s", "s"}}, ""},
		{"only the first", marks, []step{{"s", "s"}, {"▁", " "}}, ""},
		{"bytes wait for the run to end", marks, []step{{"<0xC3>", ""}, {"<0xA9>", ""}, {"s", "és"}}, ""},
		{"bytes at the end", marks, []step{{"<0xC3>", ""}, {"<0xA9>", ""}}, "é"},
		{"one bad byte spoils the run", marks, []step{{"<0xC3>", ""}, {"<0xA9>", ""}, {"<0xFF>", ""}},
			"\uFFFD\uFFFD\uFFFD"},
		{"a byte that is a space at the start", marks, []step{{"<0x20>", ""}, {"s", "s"}}, ""},
		{"byte level waits for the character", bytes, []step{{"Ã", ""}, {"©", "é"}}, ""},
		{"byte level broken character", bytes, []step{{"Ã", ""}, {"a", "\uFFFDa"}}, ""},
		{"byte level incomplete", bytes, []step{{"a", "a"}, {"Ã", ""}}, "\uFFFD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.tok.NewStream()
			for i, step := range c.steps {
				if got := s.Push(id(c.tok, step.token)); got != step.want {
					t.Errorf("step %d, %s: got %q, want %q", i+1, step.token, got, step.want)
				}
			}
			if got := s.Flush(); got != c.flush {
				t.Errorf("flush: got %q, want %q", got, c.flush)
			}
			if got := s.Flush(); got != "" {
				t.Errorf("second flush: got %q, want nothing", got)
			}
		})
	}
}

// Ensure that a decoder that takes no spaces off leaves the one that stands for the start of a text.
func TestDecoderWithoutStrip(t *testing.T) {
	tok := fromJSON(t, patched(t, map[string]json.RawMessage{"decoder": json.RawMessage(`{"type":"Sequence","decoders":[` +
		`{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"}]}`)}))
	if got, want := tok.Decode(tok.EncodeIDs("a b")), " a b"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
