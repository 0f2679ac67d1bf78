package tokenizer

// byteModel is the encoder of the LLaMA-3 family: the text is cut by splitter, and each part is BPE over bytes.
type byteModel struct {
	merges  mergeTable
	split   *splitter
	bytes   [256]int32       // id of the token that is this one byte, noToken if there is none
	whole   map[string]int32 // with ignore_merges: tokens by their bytes, taken whole when a part is one; else nil
	longest int              // length of the longest of them in bytes
}

// encode appends the tokens of p to out.
func (m *byteModel) encode(out []Token, text string, p piece, job *job) []Token {
	for pos := p.start; pos < p.end; {
		end := pos + m.split.next(text[pos:p.end])
		if part := text[pos:end]; len(part) <= m.longest {
			if id, ok := m.whole[part]; ok {
				out = append(out, Token{id, pos, end})
				pos = end
				continue
			}
		}
		out = m.mergePart(out, text[pos:end], pos, &job.word)
		pos = end
	}
	return out
}

// mergePart appends the tokens of one part of the text, which begins at start.
func (m *byteModel) mergePart(out []Token, part string, start int, w *word) []Token {
	w.symbols = w.symbols[:0]
	for i := range len(part) {
		if id := m.bytes[part[i]]; id != noToken {
			w.symbols = append(w.symbols, symbol{id, start + i + 1})
		}
	}
	w.merge(&m.merges)
	for _, s := range w.symbols {
		out = append(out, Token{s.id, start, s.end})
		start = s.end
	}
	return out
}

// byteAlphabet gives the printable character that stands for each byte in byte-level vocabularies: printable Latin-1
// characters stand for themselves, the other bytes in order for U+0100 and on (GPT-2, encoder.py, bytes_to_unicode).
func byteAlphabet() [256]rune {
	var alphabet [256]rune
	next := rune(0x100)
	for b := range rune(256) {
		if b > ' ' && b < 0x7F || b > 0xA0 && b != 0xAD {
			alphabet[b] = b
			continue
		}
		alphabet[b] = next
		next++
	}
	return alphabet
}

// bytesOf reads a byte-level token; ok is false if it has a character that stands for no byte.
func bytesOf(token string, back map[rune]byte) (raw string, ok bool) {
	buf := make([]byte, 0, len(token))
	for _, r := range token {
		b, ok := back[r]
		if !ok {
			return "", false
		}
		buf = append(buf, b)
	}
	return string(buf), true
}
