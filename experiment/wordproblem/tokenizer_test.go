package wordproblem

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/fstest"

	"gotransplant/model/tokenizer"
)

// learned is the tokenizer of the language, read by the package that the model uses.
func learned(t *testing.T) *tokenizer.Tokenizer {
	t.Helper()
	content, err := LearnTokenizer(append(SampleTexts(), "candidate_1"))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.OpenFS(fstest.MapFS{"m/tokenizer.json": {Data: content}}, "m")
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// Ensure that each word is one token wherever a blank is before it.
func TestWordsAreSingleTokens(t *testing.T) {
	tok := learned(t)
	words := slices.Concat(names, objects, []string{"has", "gives", "because", "Right", "Wrong", "ok", "no", "+", "="})
	for n := range 100 {
		words = append(words, strconv.Itoa(n))
	}
	for _, w := range words {
		if ids := tok.EncodeIDs("has " + w); len(ids) != 2 {
			t.Errorf("%q is %d tokens, want 1", w, len(ids)-1)
		}
	}
}

// Ensure that the label stands alone after candidate_, which is what the chooser must predict.
func TestLabelsAreSingleTokens(t *testing.T) {
	tok := learned(t)
	before := tok.EncodeIDs("candidate_")
	for _, label := range []string{"1", "2"} {
		want, ok := tok.TokenID(label)
		if !ok {
			t.Fatalf("no token %q", label)
		}
		got := tok.EncodeIDs("candidate_" + label)
		if !slices.Equal(got, append(slices.Clone(before), want)) {
			t.Errorf("candidate_%s is %v, want %v and then %d", label, got, before, want)
		}
	}
}

func TestTokenizerRoundTrip(t *testing.T) {
	tok := learned(t)
	r := newRand(10)
	for range 200 {
		text := NewDocument(r, everything()).Text
		if got := tok.Decode(tok.EncodeIDs(text)); got != text {
			t.Fatalf("decoded %q, want %q", got, text)
		}
	}
	for _, text := range []string{"line\nbreak", "Zoë ☃", "candidate_12"} {
		if got := tok.Decode(tok.EncodeIDs(text)); got != text {
			t.Errorf("decoded %q, want %q", got, text)
		}
	}
	if id, ok := tok.BOS(); !ok || id != 1 {
		t.Errorf("BOS is %d (%t), want 1", id, ok)
	}
}

func TestLearnTokenizerIsDeterministic(t *testing.T) {
	var files [][]byte
	for range 2 {
		content, err := LearnTokenizer([]string{"a few words, and a few more"})
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, content)
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("the same texts gave two tokenizers")
	}
	if !json.Valid(files[0]) {
		t.Error("tokenizer.json is not JSON")
	}
}

func TestSplitWords(t *testing.T) {
	cases := []struct {
		text string
		want []string
	}{
		{"Mia has 12 apples.", []string{"▁Mia", "▁has", "▁12", "▁apples", "."}},
		{"1 + 2", []string{"▁1", "▁+", "▁2"}},
		{"a_12", []string{"▁a", "_", "1", "2"}},
		{"a\nb", []string{"▁a", "\n", "b"}},
		{"a \nb", []string{"▁a", "▁", "\n", "b"}},
		{`: "`, []string{"▁:", `▁"`}},
		{"", []string{"▁"}},
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%q", c.text), func(t *testing.T) {
			if got := splitWords(c.text); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
