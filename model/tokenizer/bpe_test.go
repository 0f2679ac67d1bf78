package tokenizer

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// randomMerges makes merges over letters 0..n-1: each joins two tokens known so far. Ties gives many the same rank.
func randomMerges(r *rand.Rand, n int32, ties bool) mergeTable {
	const count = 60
	t := newMergeTable(count)
	for i := range int32(count) {
		rank := uint32(i)
		if ties {
			rank /= 8
		}
		t.set(r.Int32N(n+i), r.Int32N(n+i), rank, n+i)
	}
	return t
}

// naive merges as the definition says: again and again the lowest rank, of equals the leftmost.
func naive(t *mergeTable, symbols []symbol) []symbol {
	s := slices.Clone(symbols)
	for {
		best, at := uint32(noRank), 0
		for i := range len(s) - 1 {
			if rank, _ := t.find(s[i].id, s[i+1].id); rank < best {
				best, at = rank, i
			}
		}
		if best == noRank {
			return s
		}
		_, id := t.find(s[at].id, s[at+1].id)
		s = slices.Replace(s, at, at+2, symbol{id, s[at+1].end})
	}
}

// Ensure that both ways to merge do what the definition says.
func TestMerge(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for trial := range 2000 {
		table := randomMerges(r, 3, trial%2 == 0)
		var symbols []symbol
		for i := range 1 + r.IntN(70) {
			symbols = append(symbols, symbol{r.Int32N(3), i + 1})
		}
		want := naive(&table, symbols)
		for name, merge := range map[string]func(*word, *mergeTable){
			"short": (*word).mergeShort, "long": (*word).mergeLong, "either": (*word).merge,
		} {
			w := &word{symbols: slices.Clone(symbols)}
			if merge(w, &table); !slices.Equal(w.symbols, want) {
				t.Fatalf("%s: %v: got %v, want %v", name, symbols, w.symbols, want)
			}
		}
	}
}

// Ensure that a candidate that stands in the heap twice is merged once: a joins b and bc at the same rank.
func TestMergeTwice(t *testing.T) {
	const a, b, c, bc, ab, abc = 0, 1, 2, 3, 4, 5
	table := newMergeTable(3)
	table.set(b, c, 0, bc)
	table.set(a, b, 1, ab)
	table.set(a, bc, 1, abc)
	w := &word{symbols: []symbol{{a, 1}, {b, 2}, {c, 3}}}
	if w.mergeLong(&table); !slices.Equal(w.symbols, []symbol{{abc, 3}}) {
		t.Errorf("got %v, want one symbol %d", w.symbols, abc)
	}
}

// Ensure that the table finds what was set, the last of equal pairs, and nothing else.
func TestMergeTable(t *testing.T) {
	table := newMergeTable(100)
	for i := range int32(100) {
		table.set(i, -i, 7, 7)
		table.set(i, -i, uint32(i), 1000+i)
	}
	for i := range int32(100) {
		if rank, id := table.find(i, -i); rank != uint32(i) || id != 1000+i {
			t.Errorf("pair %d: got rank %d id %d, want %d and %d", i, rank, id, i, 1000+i)
		}
		if rank, _ := table.find(i, 1-i); rank != noRank {
			t.Errorf("pair %d, %d: got rank %d, want none", i, 1-i, rank)
		}
	}
}

// randomModel makes a vocabulary of a, b, c and the word mark, and random merges of them.
func randomModel(t *testing.T, r *rand.Rand) *bpeModel {
	t.Helper()
	m := &bpeModel{Vocab: map[string]int32{"<unk>": 0, "<s>": 1, "</s>": 2}}
	tokens := []string{"a", "b", "c", wordMark}
	for i, token := range tokens {
		m.Vocab[token] = int32(3 + i)
	}
	var merges [][]string
	for range 25 {
		left, right := tokens[r.IntN(len(tokens))], tokens[r.IntN(len(tokens))]
		if _, ok := m.Vocab[left+right]; !ok {
			m.Vocab[left+right] = int32(len(m.Vocab))
			tokens = append(tokens, left+right)
		}
		merges = append(merges, []string{left, right})
	}
	var err error
	if m.Merges, err = json.Marshal(merges); err != nil {
		t.Fatal(err)
	}
	return m
}

// Ensure that cutting a piece where no merge can cross changes nothing: merging the whole of it agrees.
func TestCuts(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		model := randomModel(t, r)
		section, err := json.Marshal(map[string]any{"vocab": model.Vocab, "merges": model.Merges})
		if err != nil {
			t.Fatal(err)
		}
		tok := fromJSON(t, patched(t, map[string]json.RawMessage{"model": section}))
		table, err := model.table(func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			text := "a"
			symbols := []symbol{{model.Vocab[wordMark], 0}, {model.Vocab["a"], 1}}
			for i := range r.IntN(60) {
				c := "abc "[r.IntN(4)]
				text += string(c)
				symbols = append(symbols, symbol{model.Vocab[strings.ReplaceAll(string(c), " ", wordMark)], i + 2})
			}
			var want []Token
			for _, s := range naive(&table, symbols) {
				start := 0
				if len(want) > 0 {
					start = want[len(want)-1].End
				}
				want = append(want, Token{s.id, start, s.end})
			}
			if got := tok.Encode(text, nil); !slices.Equal(got, want) {
				t.Fatalf("%q with merges %s: got %v, want %v", text, model.Merges, got, want)
			}
		}
	}
}
