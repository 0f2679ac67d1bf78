package spelling

import "testing"

func TestDistance(t *testing.T) {
	cases := []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"seed", "seed", 0},
		{"seed", "sead", 1}, {"panel", "panels", 1}, {"panels", "panel", 1},
		{"sede", "seed", 1}, {"eseed", "seed", 1}, // neighbours exchanged; one too many
		{"kitten", "sitting", 3}, {"ca", "abc", 3}, // 2 if a letter could be changed twice
		{"größe", "grosse", 3},
	}
	for _, c := range cases {
		if got := Distance(c.a, c.b); got != c.want {
			t.Errorf("Distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"auto", "panels", "graphs", "lora-rank", "lora-alpha", "lr"}
	for word, want := range map[string]string{
		"panel": "panels", "grpahs": "graphs", "lora-rnk": "lora-rank", "lora_rank": "lora-rank", "LORA_ALPHA": "lora-alpha",
		"lt": "lr", "abacus": "", "": "", "panels": "panels", "lora": "",
	} {
		if got := Nearest(word, words); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 rows", 1: "1 row", 2: "2 rows", -1: "-1 rows"} {
		if got := Count(n, "row"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestUnknown(t *testing.T) {
	cases := []struct {
		name, word string
		words      []string
		want       string
	}{
		{"a slip", "panel", []string{"auto", "panels", "graphs"}, "panel: did you mean panels? there are auto, panels and graphs"},
		{"nothing like it", "abacus", []string{"go", "xla"}, "abacus: there are go and xla"},
		{"nothing", "", []string{"go", "xla"}, `"": there are go and xla`},
		{"one word", "x9", []string{"only"}, "x9: there are only"},
		{"no words", "x", nil, "x: there are "},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := Unknown(c.word, c.words...); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
