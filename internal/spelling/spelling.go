// Package spelling guesses which of a few known words a mistyped one was meant to be, and writes numbers of things.
package spelling

import (
	"slices"
	"strconv"
	"strings"
)

// Distance is the number of insertions, deletions, replacements and exchanges of neighbours that make b of a, no letter
// being changed twice: the restricted form of Damerau 1964.
func Distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	var before, last []int // rows of the table of distances between beginnings of x and of y
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(x); i++ {
		before, last, row = last, row, make([]int, len(y)+1)
		row[0] = i
		for j := 1; j <= len(y); j++ {
			row[j] = min(last[j], row[j-1]) + 1
			replaced := last[j-1]
			if x[i-1] != y[j-1] {
				replaced++
			}
			row[j] = min(row[j], replaced)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(y)]
}

// Nearest is the first of the words that are nearest to word, and "" where all are too far for a slip: more than a third
// of the letters. Case and the kind of dash do not count.
func Nearest(word string, words []string) string {
	best, least := "", max(1, len([]rune(word))/3)+1
	for _, w := range words {
		if d := Distance(plain(word), plain(w)); d < least {
			best, least = w, d
		}
	}
	return best
}

// plain is a word in small letters with dashes for underscores.
func plain(word string) string { return strings.ReplaceAll(strings.ToLower(word), "_", "-") }

// Count is so many of something whose plural ends in s: "1 row", "2 rows".
func Count(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}

// Unknown is the text of an error about a word that is none of words: "panel: did you mean panels? there are auto, panels
// and graphs".
func Unknown(word string, words ...string) string {
	text := word + ": "
	if word == "" || strings.Contains(word, " ") {
		text = strconv.Quote(word) + ": "
	}
	if near := Nearest(word, words); near != "" {
		text += "did you mean " + near + "? "
	}
	return text + "there are " + List(words, "and")
}

// List joins words for a sentence: "a, b and c".
func List(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	words = slices.Clone(words)
	n := len(words) - 1
	return strings.Join(words[:n], ", ") + " " + last + " " + words[n]
}
