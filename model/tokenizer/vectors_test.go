package tokenizer

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// shared gives the path of a file of the shared folder, and skips the test where there is none.
func shared(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("TRANSPLANT_SHARED")
	if dir == "" {
		root, err := filepath.Abs(".")
		if err != nil {
			t.Fatal(err)
		}
		for root != filepath.Dir(root) {
			if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
				break
			}
			root = filepath.Dir(root)
		}
		dir = filepath.Join(root, "..", "shared")
	}
	file := filepath.Join(dir, name)
	if _, err := os.Stat(file); err != nil {
		t.Skipf("%s: shared not found (set TRANSPLANT_SHARED)", file)
	}
	return file
}

func openShared(t testing.TB, name string) *Tokenizer {
	t.Helper()
	tok, err := OpenFile(shared(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// vector is one string with the ids that the reference tokenizers give it.
type vector struct {
	Cat  string   `json:"cat"`
	Text string   `json:"text"`
	IDs  []int32  `json:"ids"`
	L1   []int32  `json:"l1"`
	L3   []int32  `json:"l3"`
	Off3 [][2]int `json:"l3off"`
}

func vectors(t testing.TB, name string, want int) []vector {
	t.Helper()
	content, err := os.ReadFile(shared(t, "data/tokenizer-vectors/"+name))
	if err != nil {
		t.Fatal(err)
	}
	var list []vector
	if err := json.Unmarshal(content, &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != want {
		t.Fatalf("%s: got %d vectors, want %d", name, len(list), want)
	}
	return list
}

// withBOS is the whole encoding of a prompt of one segment.
func withBOS(tok *Tokenizer, text string) []int32 {
	ids := tok.EncodeIDs(text)
	if bos, ok := tok.BOS(); ok {
		ids = slices.Insert(ids, 0, bos)
	}
	return ids
}

const (
	llama1JSON  = "models/llama-tokenizer/tokenizer.json"
	llama1Model = "models/llama-tokenizer/tokenizer.model"
	llama3JSON  = "golden/gqa/model/tokenizer.json"
)

// Ensure that every reference vector is reproduced, ids and BOS.
func TestVectors(t *testing.T) {
	ids := func(v vector) []int32 { return v.IDs }
	l1 := func(v vector) []int32 { return v.L1 }
	l3 := func(v vector) []int32 { return v.L3 }
	for _, c := range []struct {
		name, tokenizer, vectors string
		count                    int
		want                     func(vector) []int32
	}{
		{"llama1 json", llama1JSON, "llama1-2_sentencepiece.json", 491, ids},
		{"llama1 model", llama1Model, "llama1-2_sentencepiece.json", 491, ids},
		{"llama1 json rust", llama1JSON, "rust-2500.json", 2500, l1},
		{"llama1 model rust", llama1Model, "rust-2500.json", 2500, l1},
		{"llama1 golden mha", "golden/mha/model/tokenizer.json", "rust-2500.json", 2500, l1},
		{"llama3 json", llama3JSON, "llama3_bpe.json", 491, ids},
		{"llama3 json rust", llama3JSON, "rust-2500.json", 2500, l3},
	} {
		t.Run(c.name, func(t *testing.T) {
			tok := openShared(t, c.tokenizer)
			wrong := 0
			for i, v := range vectors(t, c.vectors, c.count) {
				got, want := withBOS(tok, v.Text), c.want(v)
				if slices.Equal(got, want) {
					continue
				}
				if wrong++; wrong < 6 {
					t.Errorf("vector %d %s %q: got %v, want %v", i, v.Cat, v.Text, got, want)
				}
			}
			if wrong > 0 {
				t.Errorf("%d of %d vectors are wrong", wrong, c.count)
			}
		})
	}
}

// Ensure that byte spans agree with the character offsets of the Rust library. Where a token is a part of a
// character, Rust gives the offsets of the whole character.
func TestSpansLLaMA3(t *testing.T) {
	tok := openShared(t, llama3JSON)
	for i, v := range vectors(t, "rust-2500.json", 2500) {
		tokens := tok.Encode(v.Text, nil)
		checkTiles(t, v.Text, tokens)
		for k, token := range tokens {
			start := token.Start
			for !utf8.RuneStart(v.Text[start]) {
				start--
			}
			end := token.End
			for end < len(v.Text) && !utf8.RuneStart(v.Text[end]) {
				end++
			}
			got := [2]int{utf8.RuneCountInString(v.Text[:start]), utf8.RuneCountInString(v.Text[:end])}
			if want := v.Off3[k+1]; got != want {
				t.Fatalf("vector %d %q token %d: got %v, want %v", i, v.Text, k, got, want)
			}
		}
	}
}

// checkTiles checks that the spans follow each other without gaps from the start of text to its end.
func checkTiles(t testing.TB, text string, tokens []Token) {
	t.Helper()
	at := 0
	for i, token := range tokens {
		if token.Start != at || token.End < token.Start {
			t.Fatalf("%q: token %d has span [%d,%d), want it to begin at %d", text, i, token.Start, token.End, at)
		}
		at = token.End
	}
	if at != len(text) {
		t.Fatalf("%q: the tokens cover %d of %d bytes", text, at, len(text))
	}
}

// Ensure that the 260K model's own tokenizer gives the prompt of its reference run.
func TestStories260K(t *testing.T) {
	tok := openShared(t, "models/stories260K/tok512.model")
	file, err := os.Open(shared(t, "models/stories260K/golden_f32.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Scan()
	var want []int32
	for _, word := range strings.Fields(lines.Text())[3:] {
		id, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, int32(id))
	}
	text := tok.Decode(want[1:]) // without the token it begins with
	t.Logf("the prompt is %q", text)
	if got := withBOS(tok, text); !slices.Equal(got, want) {
		t.Errorf("%q: got %v, want %v", text, got, want)
	}
}
