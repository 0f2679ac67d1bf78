package data

import (
	"regexp"
	"strings"
	"unicode"
)

// The ways in which a text says which candidate it means: the word and a number ("Candidate 1's", "candidate_2",
// "candidates 1 and 2"), or an ordinal before what the candidates wrote ("the second candidate").
var (
	numbered = regexp.MustCompile(`(?i)candidates?[\s_#:("'*-]*(?:(?:number|no\.?)[\s_#]*)?(?:\d+|(?:one|two)\b)` +
		`(?:\s*(?:,?\s*(?:and|or|nor|than|over|vs\.?|versus)\s+|[/&]\s*)#?(?:\d+|(?:one|two)\b))*`)
	ordinal = regexp.MustCompile(`(?i)\b(?:first|second|1st|2nd|former|latter)` +
		`(?:\s*(?:and|or|/)\s*(?:the\s+)?(?:first|second|1st|2nd|former|latter))?\s+(?:candidate|argument|answer)`)
	// which is the part of a mention that tells the candidates apart.
	which = regexp.MustCompile(`(?i)1st|2nd|\d+|one|two|first|second|former|latter`)
)

// MaskChoice hides which candidate a text speaks of: in every mention the number or ordinal becomes an underscore, so
// that "Candidate 1 is right, candidate_2 is not" reads "Candidate _ is right, candidate__ is not".
func MaskChoice(text string) string {
	return inMentions(text, func(string) string { return "_" })
}

// renumber exchanges the two candidates in every mention.
func renumber(text string) string {
	pairs := [][2]string{{"1", "2"}, {"one", "two"}, {"first", "second"}, {"1st", "2nd"}, {"former", "latter"}}
	return inMentions(text, func(word string) string {
		for _, p := range pairs {
			for i := range p {
				if strings.EqualFold(word, p[i]) {
					return likeCase(p[1-i], word)
				}
			}
		}
		return word
	})
}

// likeCase begins word with a capital if model does.
func likeCase(word, model string) string {
	if unicode.IsUpper(rune(model[0])) {
		return strings.ToUpper(word[:1]) + word[1:]
	}
	return word
}

func inMentions(text string, change func(string) string) string {
	for _, mention := range []*regexp.Regexp{numbered, ordinal} {
		text = mention.ReplaceAllStringFunc(text, func(m string) string { return which.ReplaceAllStringFunc(m, change) })
	}
	return text
}
