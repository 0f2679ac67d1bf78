package tokenizer

import (
	"bytes"
	"slices"
)

// collapseSpaces is SentencePiece's remove_extra_whitespaces (normalizer.cc): runs of spaces become one, those at both
// ends go, and so do word marks at the end. at gives for each byte of short, and for its end, the offset in text.
func collapseSpaces(text string) (short string, at []int) {
	var out []byte
	for i := range len(text) {
		if text[i] == ' ' && (len(out) == 0 || out[len(out)-1] == ' ') {
			continue
		}
		out, at = append(out, text[i]), append(at, i)
	}
	end := len(text)
	for {
		trimmed := bytes.TrimSuffix(bytes.TrimSuffix(out, []byte(" ")), []byte(wordMark))
		if len(trimmed) == len(out) {
			return string(out), append(at, end)
		}
		end = at[len(trimmed)]
		out, at = trimmed, at[:len(trimmed)]
	}
}

// uncollapse moves the spans of tokens of the short text back to the text it was made from. The span of a space takes
// in the spaces that went with it.
func uncollapse(tokens []Token, at []int) []Token {
	for i := range tokens {
		tokens[i].Start, tokens[i].End = at[tokens[i].Start], at[tokens[i].End]
	}
	return tokens
}

// collapseRanges moves ranges of the text to the short text.
func collapseRanges(ranges []Range, at []int) []Range {
	var moved []Range
	for _, r := range ranges {
		start, _ := slices.BinarySearch(at, r.Start)
		end, _ := slices.BinarySearch(at, r.End)
		if end = min(end, len(at)-1); start < end {
			moved = append(moved, Range{start, end})
		}
	}
	return moved
}
