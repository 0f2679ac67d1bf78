package tokenizer

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// number, text and block write one field of a protobuf message.
func number(field int, value uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, uint64(field)<<3), value)
}

func text(field int, content string) []byte {
	return append(binary.AppendUvarint(binary.AppendUvarint(nil, uint64(field)<<3|2), uint64(len(content))), content...)
}

func block(field int, parts ...[]byte) []byte { return text(field, string(slices.Concat(parts...))) }

func spPieceBytes(p spPiece) []byte {
	score := binary.LittleEndian.AppendUint32([]byte{2<<3 | 5}, math.Float32bits(p.score))
	return block(1, text(1, p.text), score, number(3, p.kind))
}

// spBytes writes a model: the pieces given after <unk>, <s> and </s>, and parts of trainer and normalizer.
func spBytes(pieces []spPiece, trainer, normalizer []byte) []byte {
	out := slices.Concat(spPieceBytes(spPiece{"<unk>", 0, pieceUnknown}),
		spPieceBytes(spPiece{"<s>", 0, pieceControl}), spPieceBytes(spPiece{"</s>", 0, pieceControl}))
	for _, p := range pieces {
		out = append(out, spPieceBytes(p)...)
	}
	return slices.Concat(out, block(2, number(3, 2), trainer), block(3, number(4, 0), normalizer))
}

func normal(score float32, text string) spPiece { return spPiece{text, score, pieceNormal} }

func letters(list string) (pieces []spPiece) {
	for i, r := range list {
		pieces = append(pieces, normal(float32(-100-i), string(r)))
	}
	return pieces
}

func openModel(content []byte) (*Tokenizer, error) {
	return OpenFS(fstest.MapFS{"m/tokenizer.model": {Data: content}}, "m")
}

// spell joins the tokens of a text, as they stand in the vocabulary, with spaces.
func spell(t *testing.T, tok *Tokenizer, tokens []Token) string {
	t.Helper()
	var words []string
	for _, token := range tokens {
		word, ok := tok.TokenString(token.ID)
		if !ok {
			t.Fatalf("id %d is not in the vocabulary", token.ID)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// Ensure the rules of SentencePiece: scores, ties, dummy prefix, spaces, and the types of pieces.
func TestSentencePiece(t *testing.T) {
	abc := letters("▁abc")
	var bytes []spPiece
	for b := range 256 {
		bytes = append(bytes, spPiece{byteToken(b), 0, pieceByte})
	}
	noDummy, collapse := number(3, 0), number(4, 1)
	for _, c := range []struct {
		name       string
		pieces     []spPiece
		normalizer []byte
		text, want string
	}{
		{"characters", abc, nil, "abc", "▁ a b c"},
		{"best score first", append(letters("▁abc"), normal(-2, "ab"), normal(-1, "bc")), nil, "abc", "▁ a bc"},
		{"equal scores from the left", append(letters("▁abc"), normal(-1, "bc"), normal(-1, "ab")), nil, "abc", "▁ ab c"},
		{"merge of merges", append(letters("▁ab"), normal(-1, "ab"), normal(-2, "▁ab")), nil, "ab ab", "▁ab ▁ab"},
		{"no dummy prefix", abc, noDummy, "a b", "a ▁ b"},
		{"unknown characters join", abc, nil, "axyb", "▁ a <unk> b"},
		{"unknown apart", abc, nil, "xax", "▁ <unk> a <unk>"},
		{"bytes", append(letters("▁a"), bytes...), nil, "aé", "▁ a <0xC3> <0xA9>"},
		{"bytes never merge", append(append(letters("▁a"), bytes...), normal(-1, "<0x0A>x")), nil, "\na", "▁ <0x0A> a"},
		{"bytes of a mark", append(letters("ab"), bytes...), nil, "a b", "<0xE2> <0x96> <0x81> a <0xE2> <0x96> <0x81> b"},
		{"bytes of a character that is only in pieces", append(append(letters("▁a"), bytes...), normal(-1, "xé")), nil, "axaé",
			"▁ a <0x78> a <0xC3> <0xA9>"},
		{"bytes of a mark that is only in pieces", append(append(letters("ab"), bytes...), normal(-1, "▁a")), nil, "ba b",
			"<0xE2> <0x96> <0x81> b a <0xE2> <0x96> <0x81> b"},
		{"control piece of a character within a word", append(letters("▁ab"), spPiece{"x", 0, pieceControl}), nil, "axb", "▁ a <unk> b"},
		{"control piece after a space", abc, nil, "a </s>b", "▁ a </s> b"},
		{"control piece at the start", abc, nil, "<s>b", "<s> b"},
		{"control piece within a word", append(letters("▁ab</>s"), normal(-1, "</"), normal(-2, "s>"),
			normal(-3, "</s")), nil, "a</s>b", "▁ a </ s> b"},
		{"user-defined piece anywhere", append(letters("▁abc"), normal(-1, "ab"), spPiece{"bc", 0, pieceUserDefined}),
			nil, "abca", "▁ a bc a"},
		{"longest user-defined piece", append(letters("▁abc"), spPiece{"ab", 0, pieceUserDefined},
			spPiece{"abc", 0, pieceUserDefined}), nil, "ababc", "▁ ab abc"},
		{"user-defined piece after a space", append(letters("▁ab"), spPiece{"▁a", 0, pieceUserDefined}), nil, "b aa",
			"▁ b ▁a a"},
		{"user-defined piece after a mark", append(letters("▁ab"), spPiece{"▁a", 0, pieceUserDefined}), nil, "b▁aa", "▁ b ▁a a"},
		{"user-defined mark", append(letters("ab"), spPiece{"▁", 0, pieceUserDefined}), nil, "a b", "▁ a ▁ b"},
		{"user-defined piece at the start", []spPiece{{"a", 0, pieceUserDefined}}, nil, "a", "<unk> a"},
		{"characters only in pieces", append(letters("▁ab"), normal(-1, "xy")), nil, "axyb", "▁ a xy b"},
		{"characters of several pieces", append(letters("▁ab"), normal(-1, "xy"), normal(-2, "zw")), nil, "axybzwyx",
			"▁ a xy b zw <unk>"},
		{"character of a piece alone", append(letters("▁ab"), normal(-1, "xy")), nil, "axb", "▁ a <unk> b"},
		{"spaces kept", abc, nil, "  a  b ", "▁ ▁ ▁ a ▁ ▁ b ▁"},
		{"spaces collapsed", abc, collapse, "  a   b  ", "▁ a ▁ b"},
		{"only spaces collapsed", abc, collapse, "   ", ""},
		{"marks at the end collapsed", abc, collapse, "a ▁ ▁", "▁ a"},
		{"nothing to collapse", abc, collapse, "a b", "▁ a ▁ b"},
		{"flags that say the default", abc, slices.Concat(number(3, 1), number(4, 1), number(5, 1)), " a  b", "▁ a ▁ b"},
		{"empty", abc, nil, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			tok, err := openModel(spBytes(c.pieces, number(24, 0), c.normalizer)) // white space is no suffix, as by default
			if err != nil {
				t.Fatal(err)
			}
			if got := spell(t, tok, tok.Encode(c.text, nil)); got != c.want {
				t.Errorf("%q: got %q, want %q", c.text, got, c.want)
			}
		})
	}
}

// Ensure that the spans of collapsed text are those of the text, and that ordinary ranges move with it.
func TestCollapseSpans(t *testing.T) {
	tok, err := openModel(spBytes(letters("▁abc</>s"), nil, number(4, 1)))
	if err != nil {
		t.Fatal(err)
	}
	text := "  a   </s>  b </s> "
	want := []Token{{3, 2, 2}, {4, 2, 3}, {2, 3, 10}, {3, 10, 12}, {5, 12, 13}, {2, 13, 18}}
	if got := tok.Encode(text, nil); !slices.Equal(got, want) {
		t.Errorf("%q: got %v, want %v", text, got, want)
	}
	if got := tok.Encode(text, []Range{{4, 6}}); !slices.Equal(got, want) {
		t.Errorf("%q with spaces that go ordinary: got %v, want %v", text, got, want)
	}
	got := spell(t, tok, tok.Encode(text, []Range{{6, 10}}))
	if want := "▁ a ▁ < / s > ▁ b </s>"; got != want {
		t.Errorf("%q with the first </s> ordinary: got %q, want %q", text, got, want)
	}
}

// Ensure BOS and decoding of a model.
func TestModelDecode(t *testing.T) {
	for _, c := range []struct {
		name                string
		trainer, normalizer []byte
		wantBOS             int32
		want                string
	}{
		{"defaults", nil, nil, 1, "a b"},
		{"bos_piece", text(46, "</s>"), nil, 2, "a b"},
		{"bos_piece that is text", text(46, "a"), nil, noToken, "a b"},
		{"bos_piece that is none", text(46, "<x>"), nil, noToken, "a b"},
		{"no dummy prefix", nil, number(3, 0), 1, " a b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tok, err := openModel(spBytes(letters("▁ab"), c.trainer, c.normalizer))
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := tok.BOS(); got != c.wantBOS {
				t.Errorf("BOS: got %d, want %d", got, c.wantBOS)
			}
			if got := tok.Decode([]int32{3, 4, 3, 5}); got != c.want {
				t.Errorf("decode: got %q, want %q", got, c.want)
			}
		})
	}
}

// Ensure that what is not supported is refused by name, with the name of the file.
func TestModelRefuses(t *testing.T) {
	ab := letters("ab")
	for _, c := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"empty", nil, "no pieces"},
		{"text", []byte("version https://example"), "damaged"},
		{"unigram", slices.Concat(spBytes(ab, nil, nil), block(2, number(3, 1))), "model_type 1 (unigram)"},
		{"charsmap", spBytes(ab, nil, slices.Concat(text(1, "nmt_nfkc"), text(2, "xyz"))), `normalizer "nmt_nfkc"`},
		{"suffix", spBytes(ab, number(24, 1), nil), "treat_whitespace_as_suffix"},
		{"no escape", spBytes(ab, nil, number(5, 0)), "escape_whitespaces"},
		{"type 0", spBytes([]spPiece{{"a", 0, 0}}, nil, nil), `piece 3 "a" has type 0`},
		{"type 7", spBytes([]spPiece{{"a", 0, 7}}, nil, nil), `piece 3 "a" has type 7`},
		{"unused piece", spBytes([]spPiece{{"a", 0, pieceUnused}}, nil, nil), `piece 3 "a" has type 5`},
		{"empty piece", spBytes([]spPiece{{"", 0, pieceNormal}}, nil, nil), "piece 3"},
		{"piece not UTF-8", spBytes([]spPiece{{"\xff", 0, pieceNormal}}, nil, nil), "piece 3"},
		{"score not a number", spBytes([]spPiece{{"a", float32(math.NaN()), pieceNormal}}, nil, nil), "piece 3"},
		{"piece twice", spBytes([]spPiece{ab[0], ab[0]}, nil, nil), `pieces 3 and 4 are both "a"`},
		{"some bytes", spBytes([]spPiece{{"<0x0A>", 0, pieceByte}}, nil, nil), "1 byte pieces"},
		{"byte that is none", spBytes([]spPiece{{"x", 0, pieceByte}}, nil, nil), `piece 3 "x"`},
		{"no unknown", slices.Concat(spPieceBytes(ab[0]), block(2, number(3, 2))), "unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := openModel(c.content)
			if err == nil || !strings.Contains(err.Error(), c.want) ||
				!strings.Contains(err.Error(), "tokenizer.model") {
				t.Errorf("got error %v, want one that names tokenizer.model and %s", err, c.want)
			}
		})
	}
}

// Ensure that damaged messages are refused, and that fields of every kind are passed over.
func TestFields(t *testing.T) {
	for _, c := range []struct {
		name, message string
		want          int // fields; -1 if the message is damaged
	}{
		{"none", "", 0}, {"number", "\x08\x96\x01", 1}, {"eight bytes", "\x0912345678", 1}, {"four bytes", "\x0d1234", 1},
		{"bytes", "\x0a\x02ab", 1}, {"several", "\x08\x01\x0a\x00\x10\x02", 3}, {"field 2^29-1", "\xf8\xff\xff\xff\x0f\x01", 1},
		{"cut key", "\x88", -1}, {"field 0", "\x00\x01", -1}, {"field too large", "\x88\x80\x80\x80\x80\x01\x01", -1}, {"no number", "\x08", -1},
		{"cut number", "\x08\x96", -1}, {"number too long", "\x08" + strings.Repeat("\xff", 10) + "\x01", -1}, {"cut eight bytes", "\x091234567", -1},
		{"cut four bytes", "\x0d123", -1}, {"no length", "\x0a", -1}, {"cut bytes", "\x0a\x03ab", -1}, {"group", "\x0b\x0c", -1},
		{"length of all ones", "\x0a" + strings.Repeat("\xff", 9) + "\x01ab", -1},
	} {
		got := 0
		err := fields(slices.Clip([]byte(c.message)), func(field) error { got++; return nil })
		if (err != nil) != (c.want < 0) || err == nil && got != c.want {
			t.Errorf("%s: got %d fields, %v; want %d", c.name, got, err, c.want)
		}
	}
}

// FuzzModel ensures that no bytes make readModel panic, and that what it reads can encode.
func FuzzModel(f *testing.F) {
	good := spBytes(letters("▁abc"), number(35, 1), nil)
	for n := range good {
		f.Add(good[:n])
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		if tok, err := openModel(content); err == nil {
			checkTiles(t, "a<s>b", tok.Encode("a<s>b", nil))
		}
	})
}
