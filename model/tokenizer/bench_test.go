package tokenizer

import (
	"os"
	"strings"
	"testing"
)

// BenchmarkEncode reports tokens a second on one core, for prose (GSM8K) and for the texts that are worst for BPE.
func BenchmarkEncode(b *testing.B) {
	content, err := os.ReadFile(shared(b, "data/gsm8k/gsm8k_test.jsonl"))
	if err != nil {
		b.Fatal(err)
	}
	prose := strings.Repeat(string(content), 2)
	mixed := &strings.Builder{}
	for _, v := range vectors(b, "rust-2500.json", 2500) {
		mixed.WriteString(v.Text + "\n")
	}
	texts := []struct{ name, text string }{
		{"20KB", prose[:20_000]},
		{"1MB", prose[:1_000_000]},
		{"mixed scripts 200KB", mixed.String()[:200_000]},
		{"1MB of a", strings.Repeat("a", 1_000_000)},
		{"1MB of spaces", strings.Repeat(" ", 1_000_000)},
		{"1MB of newlines", strings.Repeat("\n", 1_000_000)},
		{"1MB of =-", strings.Repeat("=-", 500_000)},
	}
	for _, family := range []struct{ name, file string }{
		{"llama1", llama1JSON}, {"llama1.model", llama1Model}, {"llama3", llama3JSON},
	} {
		tok := openShared(b, family.file)
		for _, text := range texts {
			b.Run(family.name+"/"+text.name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(text.text)))
				tokens := 0
				for b.Loop() {
					tokens += len(tok.Encode(text.text, nil))
				}
				b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
			})
		}
	}
}

// BenchmarkOpen reports how long a tokenizer takes to load.
func BenchmarkOpen(b *testing.B) {
	for _, file := range []string{llama1JSON, llama1Model, llama3JSON} {
		name := shared(b, file)
		b.Run(file, func(b *testing.B) {
			for b.Loop() {
				if _, err := OpenFile(name); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
