package wordproblem

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sort"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// blank is how a LLaMA-1 tokenizer writes a space.
const blank = "▁"

// The three special tokens, in the order of their ids.
var specials = []string{"<unk>", "<s>", "</s>"}

// LearnTokenizer returns the tokenizer.json of a LLaMA-1 style byte-pair encoding in which every word of texts, and
// every number from 0 to 99, is a single token when a space stands before it (or when it starts a text). Other letters,
// digits and signs stay single characters, so candidate_1 ends in the token 1, and what the texts do not hold falls
// back to bytes. Merges are learned in the usual way: the most frequent pair first, ties in byte order.
func LearnTokenizer(texts []string) ([]byte, error) {
	words := lexicon(texts)
	vocab := map[string]int{}
	add := func(s string) {
		if _, ok := vocab[s]; !ok {
			vocab[s] = len(vocab)
		}
	}
	for _, s := range specials {
		add(s)
	}
	for b := range 256 {
		add(fmt.Sprintf("<0x%02X>", b))
	}
	for _, s := range alphabet(words) {
		add(s)
	}
	merges := learnMerges(words)
	written := make([]string, len(merges))
	for i, m := range merges {
		add(m[0] + m[1])
		written[i] = m[0] + " " + m[1]
	}
	return json.MarshalIndent(tokenizerFile(vocab, written), "", " ")
}

// lexicon returns the different words of texts and the numbers 0 to 99, each with the blank before it, sorted.
func lexicon(texts []string) []string {
	set := map[string]bool{}
	for n := range 100 {
		set[blank+strconv.Itoa(n)] = true
	}
	for _, text := range texts {
		for _, w := range splitWords(text) {
			set[w] = true
		}
	}
	words := make([]string, 0, len(set))
	for w := range set {
		words = append(words, w)
	}
	sort.Strings(words)
	return words
}

// splitWords cuts a text into runs of letters, runs of digits of which a run without a blank before it is cut into
// single digits, and single signs; a space goes to the front of what follows it, and a line break stands alone.
func splitWords(text string) []string {
	var words []string
	for s := blank + strings.ReplaceAll(text, " ", blank); s != ""; {
		n := wordLength(s)
		words = append(words, s[:n])
		s = s[n:]
	}
	return words
}

// wordLength is the number of bytes of the word that s starts with.
func wordLength(s string) int {
	start := 0
	if strings.HasPrefix(s, blank) && len(s) > len(blank) {
		start = len(blank)
	}
	first, size := utf8.DecodeRuneInString(s[start:])
	run := func(in func(rune) bool) int {
		if i := strings.IndexFunc(s[start:], func(r rune) bool { return !in(r) }); i >= 0 {
			return start + i
		}
		return len(s)
	}
	switch {
	case first == '\n' && start > 0: // the blank before a line break is a word of its own
		return start
	case unicode.IsLetter(first):
		return run(unicode.IsLetter)
	case unicode.IsDigit(first) && start > 0:
		return run(unicode.IsDigit)
	}
	return start + size
}

// alphabet returns the characters of words, sorted, without the line break, which LLaMA writes as a byte.
func alphabet(words []string) []string {
	set := map[string]bool{}
	for _, w := range words {
		for _, r := range w {
			set[string(r)] = r != '\n'
		}
	}
	var list []string
	for s, keep := range set {
		if keep {
			list = append(list, s)
		}
	}
	sort.Strings(list)
	return list
}

// learnMerges joins the most frequent pair of neighbours in words, again and again, until every word is one piece.
func learnMerges(words []string) [][2]string {
	pieces := make([][]string, len(words))
	for i, w := range words {
		pieces[i] = strings.Split(w, "")
	}
	var merges [][2]string
	for {
		counts := map[[2]string]int{}
		for _, p := range pieces {
			for i := range len(p) - 1 {
				counts[[2]string{p[i], p[i+1]}]++
			}
		}
		if len(counts) == 0 {
			return merges
		}
		best := mostFrequent(counts)
		merges = append(merges, best)
		for i, p := range pieces {
			pieces[i] = join(p, best)
		}
	}
}

// mostFrequent returns the pair with the highest count, of equals the first in byte order.
func mostFrequent(counts map[[2]string]int) [2]string {
	var best [2]string
	for pair, n := range counts {
		less := pair[0] < best[0] || pair[0] == best[0] && pair[1] < best[1]
		if n > counts[best] || n == counts[best] && less {
			best = pair
		}
	}
	return best
}

// join merges every occurrence of pair in p, from the left.
func join(p []string, pair [2]string) []string {
	var out []string
	for i := 0; i < len(p); i++ {
		if i+1 < len(p) && p[i] == pair[0] && p[i+1] == pair[1] {
			out = append(out, p[i]+p[i+1])
			i++
			continue
		}
		out = append(out, p[i])
	}
	return out
}

// object is a JSON object; encoding/json writes its keys sorted, so the file is the same every time.
type object = map[string]any

// tokenizerFile is the content of tokenizer.json in the format of the Hugging Face tokenizers library, with the
// normalizer, the post-processor and the decoder of LLaMA-1.
func tokenizerFile(vocab map[string]int, merges []string) object {
	added := []object{}
	for id, s := range specials {
		added = append(added, object{
			"id": id, "content": s, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
			"special": true,
		})
	}
	bos := func(typeID int) object { return object{"SpecialToken": object{"id": "<s>", "type_id": typeID}} }
	sequence := func(id string, typeID int) object { return object{"Sequence": object{"id": id, "type_id": typeID}} }
	return object{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "pre_tokenizer": nil,
		"normalizer": object{"type": "Sequence", "normalizers": []object{
			{"type": "Prepend", "prepend": blank},
			{"type": "Replace", "pattern": object{"String": " "}, "content": blank},
		}},
		"post_processor": object{
			"type": "TemplateProcessing", "single": []object{bos(0), sequence("A", 0)},
			"pair":           []object{bos(0), sequence("A", 0), bos(1), sequence("B", 1)},
			"special_tokens": object{"<s>": object{"id": "<s>", "ids": []int{1}, "tokens": []string{"<s>"}}},
		},
		"decoder": object{"type": "Sequence", "decoders": []object{
			{"type": "Replace", "pattern": object{"String": blank}, "content": " "},
			{"type": "ByteFallback"}, {"type": "Fuse"},
			{"type": "Strip", "content": " ", "start": 1, "stop": 0},
		}},
		"model": object{
			"type": "BPE", "dropout": nil, "unk_token": "<unk>", "continuing_subword_prefix": nil,
			"end_of_word_suffix": nil, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
			"vocab": vocab, "merges": merges,
		},
	}
}

// SampleTexts are enough questions, arguments, documents and third writer's reasons to hold every word of the language.
func SampleTexts() []string {
	r := rand.New(rand.NewPCG(0, 0))
	var texts []string
	for _, row := range Rows(200, 0) {
		texts = append(texts, row.Question, row.Correct.Text, row.Incorrect.Text, row.ChoiceArgument)
	}
	for _, lesson := range Lessons() {
		for range 1000 {
			texts = append(texts, NewDocument(r, lesson.Mix).Text)
		}
	}
	return texts
}
