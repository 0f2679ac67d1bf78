package tokenizer

import (
	"slices"
	"strings"
	"testing"
)

// Ensure that text is split as llama3Pattern splits it; the parts were got from the Rust library.
func TestSplit(t *testing.T) {
	s := newSplitter()
	for _, c := range []struct {
		name string
		want []string
	}{
		{"words take one character in front", []string{"Hello", " world", "!", "\tx", "(y", ")"}},
		{"newline is not taken", []string{"a", "\n", "b", "\r", "c"}},
		{"contractions", []string{"I", "'m", " he", "'LL", " we", "'Ve", " x", "'d"}},
		{"contraction cuts a word", []string{"'s", "am", "'re", "al"}},
		{"long s folds to s", []string{"x", "'ſ", "a"}},
		{"no contraction", []string{"'x", "'ß", "'K"}},
		{"apostrophe at the end", []string{"a", "'"}},
		{"digits by three", []string{"123", "456", "7", " ", "12", "x"}},
		{"digits of other scripts", []string{"٣٤٥", "½²Ⅷ"}},
		{"digit does not go with a word", []string{"1", "a", "2"}},
		{"symbols and newlines", []string{"!!\r\n\n", "y"}},
		{"space goes with symbols", []string{" +=", " -", "\t", "+"}},
		{"space goes with a word", []string{"a", "  ", " b"}},
		{"spaces at the end", []string{"a", "   "}},
		{"spaces up to the last newline", []string{"a", "  \n \n", " ", " b"}},
		{"spaces that are no newlines", []string{"a", "\u2028\u0085", "\u00a0b"}},
		{"one space before a digit", []string{"a", " ", "1"}},
		{"two spaces before a digit", []string{"a", " ", " ", "1"}},
		{"letters of Unicode 16", []string{"a\u1c89", " \U000105c0"}},
		{"digits of Unicode 16", []string{"1\U000116d0"}},
		{"marks are symbols", []string{"e", "\u0301\n", "\u0301x"}},
		{"emoji", []string{" 👩\u200d👩", "a"}},
		{"bytes that are not UTF-8 are symbols", []string{"a", "\xff\xfe", "1"}},
		{"beyond all letters", []string{"\U000f0000\U0010ffff"}},
		{"last letter and what follows", []string{"a\U000323AF", "\U000323B0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Join(c.want, "")
			var got []string
			for rest := text; rest != ""; {
				n := s.next(rest)
				got = append(got, rest[:n])
				rest = rest[n:]
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q: got %q, want %q", text, got, c.want)
			}
		})
	}
}

// Ensure that the characters of Unicode 15.1 and 16.0 are letters and numbers from the first to the last of each range.
func TestUnicode16(t *testing.T) {
	s := newSplitter()
	for _, r := range unicode16 {
		for _, c := range []rune{r.lo, (r.lo + r.hi) / 2, r.hi} {
			if got, size := s.at(string(c)); got != r.class || size != len(string(c)) || !isWord(c) {
				t.Errorf("%U: got class %d of %d bytes, a word character: %t; want class %d", c, got, size, isWord(c), r.class)
			}
		}
	}
}
