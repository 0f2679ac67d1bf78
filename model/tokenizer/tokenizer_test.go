package tokenizer

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

// fromJSON opens a tokenizer.json given as bytes.
func fromJSON(t testing.TB, content []byte) *Tokenizer {
	t.Helper()
	tok, err := OpenFS(fstest.MapFS{"m/tokenizer.json": {Data: content}}, "m")
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func ids(tokens []Token) []int32 { return idsOf(tokens) }

// Ensure that a file with something unsupported is refused by the name of the file and of that thing.
func TestOpenRefuses(t *testing.T) {
	template := func(single string) string {
		return `{"type":"TemplateProcessing","single":[` + single + `],"special_tokens":{"<s>":{"ids":[1]}}}`
	}
	const s, a = `{"SpecialToken":{"id":"<s>"}}`, `{"Sequence":{"id":"A"}}`
	for _, c := range []struct{ name, key, value, want string }{
		{"normalizer", "normalizer", `{"type":"Lowercase"}`, `normalizer "Lowercase"`},
		{"in a sequence", "normalizer", `{"type":"Sequence","normalizers":[{"type":"NFKC"}]}`, `normalizer "NFKC"`},
		{"prepend of x", "normalizer", `{"type":"Prepend","prepend":"x"}`, `normalizer "Prepend"`},
		{"prepend twice", "normalizer", `{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Prepend","prepend":"▁"},` +
			`{"type":"Replace","pattern":{"String":" "},"content":"▁"}]}`, `normalizer "Prepend"`},
		{"prepend alone", "normalizer", `{"type":"Prepend","prepend":"▁"}`, `only together with Replace`},
		{"other replace", "normalizer", `{"type":"Replace","pattern":{"Regex":" "},"content":"▁"}`,
			`normalizer "Replace"`},
		{"pre-tokenizer", "pre_tokenizer", `{"type":"Whitespace"}`, `pre_tokenizer "Whitespace"`},
		{"metaspace with _", "pre_tokenizer", `{"type":"Metaspace","replacement":"_"}`,
			`pre_tokenizer "Metaspace" is not supported as it stands ({"type":"Metaspace","replacement":"_"})`},
		{"metaspace that contradicts itself", "pre_tokenizer",
			`{"type":"Metaspace","replacement":"▁","add_prefix_space":false}`, `"Metaspace","add_prefix_space":false,"replacement":"▁"}`},
		{"byte level alone", "pre_tokenizer", `{"type":"ByteLevel"}`, `normalizer "Prepend"`},
		{"decoder", "decoder", `{"type":"WordPiece"}`, `decoder "WordPiece"`},
		{"no decoder", "decoder", `null`, `decoder: none`},
		{"post-processor", "post_processor", `{"type":"RobertaProcessing","sep":["</s>",2]}`,
			`post_processor "RobertaProcessing"`},
		{"token at the end", "post_processor", template(s + "," + a + "," + s), `post_processor "TemplateProcessing"`},
		{"two tokens in front", "post_processor", template(s + "," + s + "," + a), `post_processor "TemplateProcessing"`},
		{"two tokens of one name in front", "post_processor", strings.Replace(template(s+","+a), "[1]", "[1,2]", 1), `post_processor "TemplateProcessing"`},
		{"a token in front by two templates", "post_processor",
			`{"type":"Sequence","processors":[` + template(s+","+a) + "," + template(s+","+a) + `]}`, `post_processor "TemplateProcessing"`},
		{"the text twice", "post_processor", template(a + "," + a), `post_processor "TemplateProcessing"`},
		{"sequence B", "post_processor", template(`{"Sequence":{"id":"B"}}`), `"single":[{"Sequence":{"id":"B"}}],"special_tokens":{"<s>":{"ids":[1]}}})`},
		{"more than fits into a message", "normalizer", `{"type":"` + strings.Repeat("x", 300) + `"}`, ` as it stands (x`},
		{"unknown BOS", "post_processor", strings.Replace(template(s+","+a), "[1]", "[9000]", 1), "9000"},
		{"model", "model", `{"type":"Unigram","vocab":[["a",0.5]]}`, `model type "Unigram"`},
		{"dropout", "model", `{"type":"BPE","dropout":0.1,"vocab":{"a":0},"merges":[]}`, "dropout 0.1"},
		{"subword prefix", "model", `{"continuing_subword_prefix":"##","vocab":{"a":0},"merges":[]}`, `"##"`},
		{"word suffix", "model", `{"end_of_word_suffix":"</w>","vocab":{"a":0},"merges":[]}`, `"</w>"`},
		{"no merges", "model", `{"type":"BPE","vocab":{"a":0}}`, "missing"},
		{"empty vocabulary", "model", `{"type":"BPE","vocab":{},"merges":[]}`, "empty"},
		{"merge of strangers", "model", `{"vocab":{"<unk>":0,"<s>":1,"</s>":2,"a":3},"merges":["a b"]}`, `merge 1`},
		{"merge with a stranger in front", "model", `{"vocab":{"<unk>":0,"<s>":1,"</s>":2,"a":3,"ba":4},"merges":["b a"]}`, `merge 1 joins "b" and "a"`},
		{"merge with a stranger behind", "model", `{"vocab":{"<unk>":0,"<s>":1,"</s>":2,"a":3,"ab":4},"merges":["a b"]}`, `merge 1 joins "a" and "b"`},
		{"merge of one", "model", `{"vocab":{"<unk>":0,"<s>":1,"</s>":2,"a":3},"merges":["a"]}`, `merge 1 is "a"`},
		{"merge of three", "model", `{"vocab":{"<unk>":0,"<s>":1,"</s>":2,"a":3},"merges":[["a","b","c"]]}`, `merge 1`},
		{"two tokens with one id", "model", `{"vocab":{"<unk>":0,"<s>":1,"</s>":2,"b":2},"merges":[]}`, "id 2 belongs"},
		{"negative id", "model", `{"vocab":{"a":-1},"merges":[]}`, "id -1"},
		{"huge id", "model", `{"vocab":{"a":2000000000},"merges":[]}`, "id 2000000000"},
		{"unknown token", "model", `{"unk_token":"?","vocab":{"<unk>":0,"<s>":1,"</s>":2},"merges":[]}`, `"?"`},
		{"some byte tokens", "model",
			`{"byte_fallback":true,"vocab":{"<unk>":0,"<s>":1,"</s>":2,"<0x0A>":3},"merges":[]}`, "1 of the 256"},
		{"added token elsewhere", "added_tokens", `[{"id":600,"content":"<s>"}]`, `added token "<s>" has id 600`},
		{"added token on an id", "added_tokens", `[{"id":300,"content":"<x>"}]`, "id 300 belongs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			content := patched(t, map[string]json.RawMessage{c.key: json.RawMessage(c.value)})
			_, err := OpenFS(fstest.MapFS{"m/tokenizer.json": {Data: content}}, "m")
			if err == nil || !strings.Contains(err.Error(), c.want) ||
				!strings.HasPrefix(err.Error(), filepath.Join("m", "tokenizer.json")) {
				t.Errorf("got error %v, want one that names m/tokenizer.json and %s", err, c.want)
			}
		})
	}
}

// Ensure that the LLaMA-3 layout is refused when any part of it differs.
func TestOpenRefusesByteLevel(t *testing.T) {
	var patch map[string]json.RawMessage
	for _, v := range rustVariants(t) {
		if v.Name == "llama3" {
			patch = v.Patch
		}
	}
	pattern, err := json.Marshal(llama3Pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, key, old, new, want string }{
		{"no bytes", "pre_tokenizer", string(patch["pre_tokenizer"]),
			`{"type":"Split","pattern":{"Regex":` + string(pattern) + `},"behavior":"Isolated","invert":false}`, `pre_tokenizer "Split"`},
		{"other pattern", "pre_tokenizer", `{1,3}`, `{1,2}`, `pre_tokenizer "Split"`},
		{"behavior", "pre_tokenizer", `Isolated`, `Removed`, `pre_tokenizer "Split"`},
		{"prefix space", "pre_tokenizer", `"add_prefix_space":false`, `"add_prefix_space":true`,
			`pre_tokenizer "ByteLevel"`},
		{"byte level by regex", "pre_tokenizer", `"use_regex":false`, `"use_regex":true`, `pre_tokenizer "ByteLevel"`},
		{"decoder", "decoder", `ByteLevel`, `Fuse`, `decoder "Fuse"`},
		{"normalizer", "normalizer", `null`, `{"type":"NFC"}`, `normalizer "NFC"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := map[string]json.RawMessage{}
			for key, value := range patch {
				changed[key] = value
			}
			changed[c.key] = json.RawMessage(strings.ReplaceAll(string(patch[c.key]), c.old, c.new))
			_, err := OpenFS(fstest.MapFS{"tokenizer.json": {Data: patched(t, changed)}}, ".")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one that names %s", err, c.want)
			}
		})
	}
}

// Ensure that a sequence of one component is that component, and that a file is found in the current directory.
func TestOpenFile(t *testing.T) {
	const metaspace = `{"type":"Metaspace","replacement":"▁","prepend_scheme":"never","split":false}`
	content := patched(t, map[string]json.RawMessage{
		"normalizer":    json.RawMessage("null"),
		"pre_tokenizer": json.RawMessage(`{"type":"Sequence","pretokenizers":[` + metaspace + `]}`),
	})
	want := variant(t, "metaspace never").EncodeIDs("a b")
	t.Chdir(t.TempDir())
	if err := os.WriteFile("any.json", content, 0o644); err != nil {
		t.Fatal(err)
	}
	tok, err := OpenFile("any.json")
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.EncodeIDs("a b"); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Ensure that a directory without a tokenizer, and a file that is none, are errors with their names.
func TestOpenMissing(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("empty directory: got error %v, want one that names %s", err, dir)
	}
	none := filepath.Join(dir, "none")
	if _, err := Open(none); err == nil || err.Error() != none+": there is no such directory" {
		t.Errorf("no directory: got error %v, want that %s is not there", err, none)
	}
	if _, err := OpenFile(filepath.Join(dir, "x.model")); err == nil || !strings.Contains(err.Error(), "x.model") {
		t.Errorf("missing file: got error %v, want one that names x.model", err)
	}
	name := filepath.Join(dir, "tokenizer.json")
	if err := os.WriteFile(name, []byte("[1]"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("damaged file: got error %v, want one that names %s", err, name)
	}
	for _, odd := range []string{"tokenizer.json", "tokenizer_config.json"} { // a directory of that name
		fsys := fstest.MapFS{odd + "/x": {}}
		if odd != "tokenizer.json" {
			fsys["tokenizer.json"] = &fstest.MapFile{Data: patched(t, nil)}
		}
		if _, err := OpenFS(fsys, "."); err == nil || !strings.Contains(err.Error(), odd) {
			t.Errorf("%s is a directory: got error %v, want one that names it", odd, err)
		}
	}
	if _, err := Open(name); err == nil || !strings.HasPrefix(err.Error(), name+": want a directory: ") {
		t.Errorf("a file: got error %v, want that %s is no directory", err, name)
	}
}

// Ensure that BOS comes from the post-processor unless tokenizer_config.json says otherwise.
func TestBOS(t *testing.T) {
	const none = `{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A"}}]}`
	for _, c := range []struct {
		name, post, config string
		want               int32
		wantErr            string
	}{
		{"template", "", "", 1, ""},
		{"template and config without a word", "", `{"bos_token":"</s>"}`, 1, ""},
		{"add_bos_token false", "", `{"add_bos_token":false}`, noToken, ""},
		{"add_bos_token true beside a template", "", `{"add_bos_token":true,"bos_token":"</s>"}`, 1, ""},
		{"no template", none, "", noToken, ""},
		{"no post-processor", "null", "", noToken, ""},
		{"no template, add_bos_token", none, `{"add_bos_token":true,"bos_token":"</s>"}`, 2, ""},
		{"token as an object", none, `{"add_bos_token":true,"bos_token":{"content":"<s>"}}`, 1, ""},
		{"token missing", none, `{"add_bos_token":true,"bos_token":null}`, 0, "bos_token"},
		{"token unknown", none, `{"add_bos_token":true,"bos_token":"<x>"}`, 0, `"<x>"`},
		{"damaged config", "", `{`, 0, "tokenizer_config.json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			patch := map[string]json.RawMessage{}
			if c.post != "" {
				patch["post_processor"] = json.RawMessage(c.post)
			}
			fsys := fstest.MapFS{"tokenizer.json": {Data: patched(t, patch)}}
			if c.config != "" {
				fsys["tokenizer_config.json"] = &fstest.MapFile{Data: []byte(c.config)}
			}
			tok, err := OpenFS(fsys, ".")
			if c.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), c.wantErr) {
					t.Errorf("got error %v, want one with %s", err, c.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := tok.BOS(); got != c.want || ok != (c.want != noToken) {
				t.Errorf("got %d %v, want %d", got, ok, c.want)
			}
		})
	}
}

// Ensure that added tokens are special only where no ordinary byte is touched.
func TestOrdinary(t *testing.T) {
	tok := variant(t, "as it is")
	text := "a</s>b</s>c"
	special := func(tokens []Token) (at []int) {
		for _, token := range tokens {
			if token.ID == 2 {
				at = append(at, token.Start)
			}
		}
		return at
	}
	for _, c := range []struct {
		name     string
		ordinary []Range
		want     []int
	}{
		{"none", nil, []int{1, 6}},
		{"first", []Range{{0, 5}}, []int{6}},
		{"second", []Range{{6, 10}}, []int{1}},
		{"all", []Range{{0, 11}}, nil},
		{"first byte of the first", []Range{{1, 2}}, []int{6}},
		{"last byte of the first", []Range{{4, 5}}, []int{6}},
		{"between", []Range{{5, 6}}, []int{1, 6}},
		{"before and after", []Range{{0, 1}, {10, 11}}, []int{1, 6}},
		{"empty inside", []Range{{3, 3}}, []int{1, 6}},
		{"unsorted, overlapping, outside", []Range{{8, 99}, {-5, 2}, {0, 3}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			tokens := tok.Encode(text, c.ordinary)
			checkTiles(t, text, tokens)
			if got := special(tokens); !slices.Equal(got, c.want) {
				t.Errorf("got </s> at %v, want %v", got, c.want)
			}
		})
	}
}

// Ensure that a special token inside ordinary text is what it is to a tokenizer that does not know it as one, and that
// ordinary text in front does not hide a special token behind it.
func TestOrdinaryText(t *testing.T) {
	known := variant(t, "token flags")
	unknown := fromJSON(t, patched(t, map[string]json.RawMessage{"added_tokens": json.RawMessage(`[]`)}))
	for _, text := range []string{"<s>", "a </s> b", "[PAD] dog [L]", "x<unk>"} {
		got, want := ids(known.Encode(text, []Range{{0, len(text)}})), unknown.EncodeIDs(text)
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
	text := "[PA[PAD]"
	tokens := known.Encode(text, []Range{{0, 3}})
	if last := tokens[len(tokens)-1]; last != (Token{518, 3, 8}) {
		t.Errorf("%q: got last token %v, want [PAD] at 3", text, last)
	}
}

// Ensure that strings of added tokens are counted, each character once.
func TestCountSpecials(t *testing.T) {
	tok := variant(t, "token flags")
	for _, c := range []struct {
		text string
		want int
	}{
		{"", 0}, {"none", 0}, {"<s>", 1}, {"<s></s><unk>", 3}, {"x<s>y", 1}, {"<s", 0}, {"<<s>>", 1},
		{"[PAD]", 1}, {"[PA", 1}, {"[PA[PAD]", 2}, {"dog dogs", 2},
	} {
		if got := tok.CountSpecials(c.text); got != c.want {
			t.Errorf("%q: got %d, want %d", c.text, got, c.want)
		}
	}
}

// Ensure the spans of marks that are not in the text and of bytes of one character.
func TestSpans(t *testing.T) {
	marks, bytes := variant(t, "as it is"), variant(t, "llama3")
	for _, c := range []struct {
		name string
		tok  *Tokenizer
		text string
		want []Range
	}{
		{"mark alone", marks, "1", []Range{{0, 0}, {0, 1}}},
		{"mark and space", marks, " 1", []Range{{0, 0}, {0, 1}, {1, 2}}},
		{"mark after a special token", marks, "</s>1", []Range{{0, 4}, {4, 4}, {4, 5}}},
		{"byte fallback", marks, "日1", []Range{{0, 0}, {0, 1}, {1, 2}, {2, 3}, {3, 4}}},
		{"not UTF-8", marks, "\xff1", []Range{{0, 0}, {0, 1}, {1, 2}}},
		{"not UTF-8 after a word", marks, " ha\xff", []Range{{0, 0}, {0, 3}, {3, 4}}},
		{"parts of a character", bytes, "語", []Range{{0, 1}, {1, 2}, {2, 3}}},
		{"merged character", bytes, "x日本", []Range{{0, 1}, {1, 7}}},
		{"not UTF-8 in bytes", bytes, "a\xff\xc3", []Range{{0, 1}, {1, 2}, {2, 3}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []Range
			for _, token := range c.tok.Encode(c.text, nil) {
				got = append(got, Range{token.Start, token.End})
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q: got %v, want %v", c.text, got, c.want)
			}
		})
	}
}

// Ensure that a character without a token becomes its bytes where there is no unknown token, too.
func TestBytesWithoutUnknownToken(t *testing.T) {
	var file struct {
		Model map[string]json.RawMessage `json:"model"`
	}
	if err := json.Unmarshal(patched(t, nil), &file); err != nil {
		t.Fatal(err)
	}
	want := fromJSON(t, patched(t, nil)).EncodeIDs("a日b")
	file.Model["unk_token"] = json.RawMessage("null")
	model, err := json.Marshal(file.Model)
	if err != nil {
		t.Fatal(err)
	}
	tok := fromJSON(t, patched(t, map[string]json.RawMessage{"model": model}))
	if got := tok.EncodeIDs("a日b"); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Ensure that a token that is matched normalized takes no spaces with it, which are marks by then, but other white space.
func TestStripsNoMarks(t *testing.T) {
	tok := fromJSON(t, patched(t, map[string]json.RawMessage{
		"added_tokens": json.RawMessage(`[{"id":600,"content":"<x>","lstrip":true,"rstrip":true,"normalized":true}]`),
	}))
	for _, c := range []struct {
		text string
		want Range // of the token
	}{{"a <x> b", Range{1, 5}}, {"a  <x>  b", Range{2, 6}}, {"a\n <x>\n\tb", Range{1, 8}}} {
		tokens := tok.Encode(c.text, nil)
		i := slices.IndexFunc(tokens, func(token Token) bool { return token.ID == 600 })
		if i < 0 || (Range{tokens[i].Start, tokens[i].End}) != c.want {
			t.Errorf("%q: got %v, want token 600 at %v", c.text, tokens, c.want)
		}
	}
}

// Ensure that an added token with characters outside of the alphabet of byte-level tokens is spelled as it is.
func TestAddedTokenBesideBytes(t *testing.T) {
	for _, v := range rustVariants(t) {
		if v.Name != "llama3" {
			continue
		}
		v.Patch["added_tokens"] = json.RawMessage(`[{"id":700,"content":"<|日 |>","special":true}]`)
		v.Patch["post_processor"] = json.RawMessage("null")
		tok := fromJSON(t, patched(t, v.Patch))
		text := "a<|日 |>b"
		got := tok.EncodeIDs(text)
		if back := tok.Decode(got); !slices.Contains(got, 700) || back != text {
			t.Errorf("%q: got %v, which is %q, want 700 among them and the text", text, got, back)
		}
	}
}

// Ensure that Metaspace with split lets no merge cross the beginning of a word.
func TestMetaspaceSplit(t *testing.T) {
	const model = `{"vocab":{"<unk>":0,"<s>":1,"</s>":2,"a":3,"▁":4,"a▁":5},"merges":[["a","▁"]]}`
	for split, want := range map[string][]int32{"true": {4, 3, 4, 3}, "false": {4, 5, 3}} {
		tok := fromJSON(t, patched(t, map[string]json.RawMessage{
			"normalizer":    json.RawMessage("null"),
			"model":         json.RawMessage(model),
			"pre_tokenizer": json.RawMessage(`{"type":"Metaspace","replacement":"▁","split":` + split + `}`),
		}))
		if got := tok.EncodeIDs("a a"); !slices.Equal(got, want) {
			t.Errorf("split %s: got %v, want %v", split, got, want)
		}
	}
}

// Ensure that only the first segment of a prompt gets the mark of prepend_scheme "first".
func TestEncodeNext(t *testing.T) {
	for _, c := range []struct {
		variant string
		differs bool
	}{{"metaspace first", true}, {"metaspace always", false}, {"as it is", false}, {"llama3", false}} {
		tok := variant(t, c.variant)
		first, next := tok.Encode("dog", nil), tok.EncodeNext("dog", nil)
		if differs := !slices.Equal(first, next); differs != c.differs {
			t.Errorf("%s: first %v, next %v: they differ is %v, want %v", c.variant, first, next, differs, c.differs)
		}
	}
}

// Ensure that tokens are found by id and by string.
func TestVocabulary(t *testing.T) {
	tok := fromJSON(t, patched(t, map[string]json.RawMessage{
		"added_tokens": json.RawMessage(`[{"id":600,"content":"<x>","special":true}]`),
	}))
	if got := tok.VocabSize(); got != 601 {
		t.Errorf("size: got %d, want 601", got)
	}
	for _, c := range []struct {
		id   int32
		want string
		ok   bool
	}{{1, "<s>", true}, {3, "<0x00>", true}, {600, "<x>", true}, {599, "", false}, {601, "", false}, {-1, "", false}} {
		if got, ok := tok.TokenString(c.id); got != c.want || ok != c.ok {
			t.Errorf("id %d: got %q %v, want %q %v", c.id, got, ok, c.want, c.ok)
		}
		if id, ok := tok.TokenID(c.want); c.ok && (!ok || id != c.id) {
			t.Errorf("token %q: got %d %v, want %d", c.want, id, ok, c.id)
		}
	}
	if id, ok := tok.TokenID("no such token"); ok {
		t.Errorf("unknown token: got %d", id)
	}
}

// Ensure that special tokens are part of decoded text.
func TestDecodeSpecials(t *testing.T) {
	tok := variant(t, "normalized specials")
	list := withBOS(tok, "a </s>")
	if got, want := tok.Decode(list), "<s> a </s>"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Ensure that goroutines may share a tokenizer (run with -race).
func TestConcurrent(t *testing.T) {
	for _, name := range []string{"as it is", "llama3"} {
		tok := variant(t, name)
		var texts []string
		for i := range 50 {
			texts = append(texts, strings.Repeat(fmt.Sprintf("the dog %d</s> ", i), 1+i%7))
		}
		var wanted [][]Token
		for _, text := range texts {
			wanted = append(wanted, tok.Encode(text, nil))
		}
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for i, text := range texts {
					if got := tok.Encode(text, nil); !slices.Equal(got, wanted[i]) {
						t.Errorf("%s %q: got %v, want %v", name, text, got, wanted[i])
					}
				}
			})
		}
		group.Wait()
	}
}

// Ensure that the worst texts are done, and done right.
func TestLongRuns(t *testing.T) {
	const n = 300_000
	for _, name := range []string{"as it is", "llama3", "fused unknown tokens"} {
		tok := variant(t, name)
		for _, unit := range []string{"a", " ", "\n", "an", "日", "</s>", "'", "1"} {
			text := strings.Repeat(unit, n/len(unit))
			tokens := tok.Encode(text, []Range{{0, len(text)}})
			checkTiles(t, text, tokens)
			if name != "fused unknown tokens" {
				if got := tok.Decode(ids(tokens)); got != text {
					t.Errorf("%s: a run of %q is not what it was: got %.40q of %d bytes", name, unit, got, len(got))
				}
			}
		}
	}
}

// FuzzEncode ensures that no text makes Encode panic, that spans are in order and cover the text, that a stream agrees
// with Decode, and that ordinary UTF-8 text comes back from its ids (but for word marks, which come back as spaces).
func FuzzEncode(f *testing.F) {
	for _, v := range rustVariants(f)[:1] {
		for i, c := range v.Cases {
			f.Add(c.Text, i%7, 3+i%11)
		}
	}
	f.Add("\xff\xe2\x96 \xe2\x96\x81</s>", 2, 5)
	var toks []*Tokenizer
	for _, name := range []string{"as it is", "llama3", "token flags", "token flags, metaspace first",
		"metaspace always split", "normalized specials"} {
		toks = append(toks, variant(f, name))
	}
	f.Fuzz(func(t *testing.T, text string, start, end int) {
		for _, tok := range toks {
			tokens := tok.Encode(text, []Range{{start, end}})
			checkTiles(t, text, tokens)
			checkStream(t, tok, ids(tokens))
			checkTiles(t, text, tok.EncodeNext(text, nil))
		}
		valid := strings.ToValidUTF8(text, "?")
		for _, tok := range toks[:2] {
			want := valid
			if !tok.decoder.byteLevel {
				want = strings.ReplaceAll(valid, wordMark, " ")
			}
			if got := tok.Decode(ids(tok.Encode(valid, []Range{{0, len(valid)}}))); got != want {
				t.Errorf("%q comes back as %q", want, got)
			}
		}
	})
}
