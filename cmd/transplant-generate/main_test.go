package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gotransplant/internal/generate"
)

// golden is the reference run in transplant/testdata, as a path inside it.
func golden(parts ...string) string {
	return filepath.Join(append([]string{"..", "..", "transplant", "testdata", "golden-small"}, parts...)...)
}

// call runs the program.
func call(args ...string) (code int, out, errors string) { return callWith("", args...) }

func callWith(input string, args ...string) (code int, out, errors string) {
	var stdout, stderr bytes.Buffer
	code = run(context.Background(), args, strings.NewReader(input), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// must runs the program, which has to work, and returns its output.
func must(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errors := call(args...)
	if code != 0 {
		t.Fatalf("%q: exit status %d: %s", args, code, errors)
	}
	return out
}

// results runs the program with --json and returns what it printed, by id.
func results(t *testing.T, args ...string) map[string]generate.Result {
	t.Helper()
	return byID(t, must(t, append(args, "--json")...))
}

func byID(t *testing.T, text string) map[string]generate.Result {
	t.Helper()
	all := make(map[string]generate.Result)
	for line := range strings.Lines(text) {
		var r generate.Result
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if r.Sample > 0 {
			r.ID += fmt.Sprint(" sample ", r.Sample)
		}
		all[r.ID] = r
	}
	return all
}

// file writes a file of these lines.
func file(t *testing.T, name string, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestStories: the greedy continuation of BOS is the C program's, 256 ids long.
func TestStories(t *testing.T) {
	shared := os.Getenv("TRANSPLANT_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "shared")
	}
	dir := filepath.Join(shared, "models", "stories260K")
	text, err := os.ReadFile(filepath.Join(dir, "golden_f32.txt"))
	if err != nil {
		t.Skipf("shared inputs not found at %s: set TRANSPLANT_SHARED", shared)
	}
	var want []int32
	for line := range strings.Lines(string(text)) {
		if ids, ok := strings.CutPrefix(line, "greedy -1 256 "); ok {
			for _, field := range strings.Fields(ids) {
				var id int32
				fmt.Sscan(field, &id)
				want = append(want, id)
			}
		}
	}
	for _, kernels := range []string{"graphs", "auto"} {
		r := results(t, "--model", dir, "--tokenizer", filepath.Join(dir, "tok512.model"), "--prompt", "", "--max-tokens", "255", "--kernels", kernels)["1"]
		if got := append(r.PromptTokens, r.Tokens...); len(want) != 256 || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", kernels, got, want)
		}
		if !strings.HasPrefix(r.Text, "Once upon a time, there was a little girl named Lily.") && !strings.HasPrefix(r.Text, " Once upon a time, there") {
			t.Errorf("%s: got text %q", kernels, r.Text)
		}
	}
}

// TestRowsAreTheirOwn: a prompt's line is the same to the byte alone, in a batch of 8, and in another order with other
// numbers of rows at a time, greedy and drawn.
func TestRowsAreTheirOwn(t *testing.T) {
	var lines []string
	for i, text := range []string{"Kim has 19 nuts.", "Ben", "How many", "Nils has 12 coins. Olga has", "Right.", "7 + 4 =", "Eva", "Wrong."} {
		lines = append(lines, fmt.Sprintf(`{"id": "row %c", "prompt": %q}`, 'a'+i, text))
	}
	for name, flags := range map[string][]string{
		"greedy":  {"--max-tokens", "12", "--logprobs", "--json"},
		"sampled": {"--max-tokens", "12", "--temperature", "0.9", "--top-k", "40", "--top-p", "0.95", "--seed", "5", "--samples", "2", "--logprobs", "--json"},
	} {
		for _, kernels := range []string{"graphs", "auto"} {
			flags := append(slices.Clone(flags), "--kernels", kernels)
			together := must(t, append(flags, "--jsonl", file(t, "in.jsonl", lines...), "--batch", "8")...)
			shuffled := slices.Clone(lines)
			rand.New(rand.NewPCG(2, 3)).Shuffle(len(lines), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			other := must(t, append(flags, "--jsonl", file(t, "in.jsonl", shuffled...), "--batch", "3")...)
			if got, want := sorted(other), sorted(together); got != want {
				t.Errorf("%s, %s, shuffled: got\n%s\nwant\n%s", name, kernels, got, want)
			}
			alone := ""
			for _, line := range lines {
				alone += must(t, append(flags, "--jsonl", file(t, "in.jsonl", line))...)
			}
			if alone != together {
				t.Errorf("%s, %s, alone: got\n%s\nwant\n%s", name, kernels, alone, together)
			}
		}
	}
}

func sorted(text string) string {
	lines := slices.Sorted(strings.Lines(text))
	return strings.Join(lines, "")
}

// TestOutput: a file holds what is printed as JSON, in the order of the prompts; printed as text it is under its id; a
// single prompt's is streamed.
func TestOutput(t *testing.T) {
	prompts := []string{"--prompt", "Kim has 19 nuts.", "--prompt", "Ben", "--max-tokens", "9"}
	asJSON := must(t, append(prompts, "--json")...)
	path := filepath.Join(t.TempDir(), "out.jsonl")
	if out := must(t, append(prompts, "--out", path)...); out != "" {
		t.Errorf("with --out %q was printed as well", out)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != asJSON {
		t.Errorf("the file holds %q (%v), want %q", content, err, asJSON)
	}
	r := byID(t, asJSON)
	want := fmt.Sprintf("== 1 (9 tokens, length)\n%s\n== 2 (9 tokens, length)\n%s\n", r["1"].Text, r["2"].Text)
	if out := must(t, prompts...); out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
	if out := must(t, "--prompt", "Ben", "--max-tokens", "9"); out != r["2"].Text+"\n" {
		t.Errorf("streamed %q, want the second row's %q", out, r["2"].Text)
	}
	ends := []string{"--model", golden("model"), "--prompt", "a", "--temperature", "3", "--seed", "2", "--max-tokens"}
	free := results(t, append(ends, "300")...)["1"]
	line := slices.Index(free.Tokens, 13) // a line's end
	if line < 0 {
		t.Fatalf("no line ends in %q, want another seed", free.Text)
	}
	ended := results(t, append(ends, fmt.Sprint(line+1))...)["1"].Text
	if out := must(t, append(ends, fmt.Sprint(line+1))...); out != ended || !strings.HasSuffix(out, "\n") {
		t.Errorf("streamed %q, want %q and no second end of a line", out, ended)
	}
	code, _, errors := call(append(prompts, "--out", filepath.Join(t.TempDir(), "no", "dir"))...)
	if code == 0 || !strings.Contains(errors, "no") {
		t.Errorf("a file in no directory: exit status %d, %q", code, errors)
	}
}

// TestStop: stop strings are cut out of text and stream, stop ids end a row, both are told.
func TestStop(t *testing.T) {
	base := []string{"--prompt", "Kim has 19 nuts. Ben has 2 more than Kim.", "--max-tokens", "30"}
	free := results(t, base...)["1"]
	word := strings.Fields(free.Text)[3]
	cut := results(t, append(base, "--stop", "nothing", "--stop", word)...)["1"]
	if cut.Finish != "stop-string" || cut.StoppedBy != word || cut.Text != free.Text[:strings.Index(free.Text, word)] || len(cut.Tokens) >= len(free.Tokens) {
		t.Errorf("got %+v, want the text %q before %q", cut, free.Text, word)
	}
	if out := must(t, append(base, "--stop", word)...); out != cut.Text+"\n" {
		t.Errorf("streamed %q, want %q", out, cut.Text)
	}
	if out, want := must(t, append(base, "--stop", word, "--prompt", "Ben")...), fmt.Sprintf("tokens, stop-string %q)\n%s", word, cut.Text); !strings.Contains(out, want) {
		t.Errorf("printed %q, want %q in it", out, want)
	}
	id := free.Tokens[4]
	ended := results(t, append(base, "--stop-id", fmt.Sprint(id))...)["1"]
	if at := slices.Index(free.Tokens, id); ended.Finish != "stop" || len(ended.Tokens) != at+1 {
		t.Errorf("got %+v, want an end with token %d, the %dth", ended, id, at+1)
	}
}

// TestContext: a prompt beyond the context is refused with its id and both counts; a row that fills it says so.
func TestContext(t *testing.T) {
	long := strings.Repeat("Kim has 19 nuts. ", 60)
	code, _, errors := call("--jsonl", file(t, "in.jsonl", `{"id": "short", "prompt": "Kim"}`, fmt.Sprintf(`{"id": "long", "prompt": %q}`, long)))
	for _, want := range []string{"line 2", "row long has", "context is 256"} {
		if code == 0 || !strings.Contains(errors, want) {
			t.Errorf("exit status %d, %q, want %q", code, errors, want)
		}
	}
	code, out, errors := call("--prompt", strings.Repeat("Kim has 19 nuts. ", 48), "--max-tokens", "100", "--json")
	r := byID(t, out)["1"]
	if code != 0 || r.Finish != "length" || !r.ContextFull || len(r.PromptTokens)+len(r.Tokens) != 257 {
		t.Errorf("exit status %d, %d + %d tokens, ended by %s, context full %t", code, len(r.PromptTokens), len(r.Tokens), r.Finish, r.ContextFull)
	}
	if !strings.Contains(errors, "1 row filled the model's context of 256 tokens and ended there: 1") {
		t.Errorf("got %q, want a note about the context", errors)
	}
}

// turns is a template for a vocabulary with <s> and </s> alone.
const turns = `{{ bos_token }}{% for m in messages %}{{ m.role + ': ' + m.content }}{{ eos_token if m.role == 'assistant' else '\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}`

// TestMessages: conversations of a file are rendered, checked and encoded, and what they say is text.
func TestMessages(t *testing.T) {
	template := file(t, "turns.jinja", turns)
	in := file(t, "in.jsonl",
		`{"id": 7, "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]}`,
		`{"messages": [{"role": "user", "content": "a</s>b<s>"}]}`,
		``,
		`{"prompt": "a</s>b"}`)
	r := results(t, "--model", golden("model"), "--jsonl", in, "--chat-template", template, "--max-tokens", "3")
	if len(r) != 3 {
		t.Fatalf("got %d results, want those of lines 1, 2 and 4", len(r))
	}
	count := func(ids []int32, id int32) (n int) {
		for _, other := range ids {
			if other == id {
				n++
			}
		}
		return n
	}
	planned := must(t, "--model", golden("model"), "--jsonl", in, "--chat-template", template, "--dry-run", "--json")
	if want := fmt.Sprintf(`"chat_template":%q`, template); !strings.Contains(planned, want) {
		t.Errorf("planned %s, want %s in it", planned, want)
	}
	if told, want := must(t, "--model", golden("model"), "--jsonl", in, "--chat-template", template, "--dry-run"), "chat     template "+template+"\n"; !strings.Contains(told, want) {
		t.Errorf("planned\n%s\nwant %q in it", told, want)
	}
	for id, want := range map[string][2]int{"7": {1, 0}, "2": {1, 0}, "4": {1, 1}} {
		if got := [2]int{count(r[id].PromptTokens, 1), count(r[id].PromptTokens, 2)}; got != want || r[id].PromptTokens[0] != 1 {
			t.Errorf("row %s: %d times <s> and %d times </s> in %v, want %v", id, got[0], got[1], r[id].PromptTokens, want)
		}
	}
}

// TestTalk: every line is answered, and an answer stands in the conversation of the next.
func TestTalk(t *testing.T) {
	template := file(t, "turns.jinja", turns)
	flags := []string{"--model", golden("model"), "--chat-template", template, "--max-tokens", "6"}
	code, out, errors := callWith("Hello\n\nAnd then?\n", append(flags, "--chat", "--system", "Be brief.")...)
	if code != 0 {
		t.Fatalf("exit status %d: %s", code, errors)
	}
	first := results(t, append(flags, "--jsonl", file(t, "in.jsonl",
		`{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]}`))...)["1"].Text
	said, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	second := results(t, append(flags, "--jsonl", file(t, "in.jsonl", fmt.Sprintf(`{"messages": [{"role": "system", "content": "Be brief."}, `+
		`{"role": "user", "content": "Hello"}, {"role": "assistant", "content": %s}, {"role": "user", "content": "And then?"}]}`, said)))...)["1"].Text

	if want := first + "\n" + second + "\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

// TestMarkersAreChecked: before anything is computed, with ids; a flag lets them be text.
func TestMarkersAreChecked(t *testing.T) {
	in := file(t, "in.jsonl", `{"messages": [{"role": "user", "content": "Hello"}]}`)
	code, out, errors := call("--jsonl", in, "--chat-template", "chatml")
	for _, want := range []string{`the marker "<|im_start|>" is no token of the vocabulary but the text of`, "--allow-plain-markers", "line 1"} {
		if code != 1 || out != "" || !strings.Contains(errors, want) {
			t.Errorf("exit status %d, printed %q, %q; want %q", code, out, errors, want)
		}
	}
	must(t, "--jsonl", in, "--chat-template", "chatml", "--allow-plain-markers", "--max-tokens", "2")
	code, _, errors = call("--model", golden("model"), "--jsonl", in, "--chat-template", file(t, "t.jinja", "{{ bos_token }}"+turns))
	if code != 1 || !strings.Contains(errors, "BOS, 1, stands there twice") {
		t.Errorf("exit status %d, %q, want two BOS refused", code, errors)
	}
	if code, _, errors = call("--jsonl", in); code != 1 || !strings.Contains(errors, "no chat template: choose one of alpaca") {
		t.Errorf("exit status %d, %q, want a template asked for", code, errors)
	}
}

// transplantFlagsOf continue the reference run's rows with its adapters.
func transplantFlagsOf(more ...string) []string {
	return append([]string{
		"--model", golden("model"), "--data", golden("rows.csv"), "--transplant",
		"--arguer-adapter", golden("adapters", "arguer"), "--chooser-adapter", golden("adapters", "chooser"),
		"--argue-template", golden("templates", "argue.tmpl"), "--choose-template", golden("templates", "choose.tmpl"),
		"--max-tokens", "5", "--logprobs",
	}, more...)
}

// TestTransplant: the prompts are the reference's, and the first token's probability is not below that of either answer, by
// the reference's numbers; without transplant by those. A row is the same with others.
func TestTransplant(t *testing.T) {
	var expected struct {
		Rows []struct {
			ChooserIDs []int32 `json:"chooser_ids"`
			LogProb1   float64 `json:"logprob_1"`
			LogProb2   float64 `json:"logprob_2"`
			Plain1     float64 `json:"no_transplant_logprob_1"`
			Plain2     float64 `json:"no_transplant_logprob_2"`
		}
		Labels [2]int32 `json:"label_ids"`
	}
	content, err := os.ReadFile(golden("expected.json"))
	if err == nil {
		err = json.Unmarshal(content, &expected)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, kernels := range []string{"graphs", "auto"} {
		moved, plain := results(t, transplantFlagsOf("--kernels", kernels)...), results(t, transplantFlagsOf("--no-transplant", "--kernels", kernels)...)
		part := results(t, transplantFlagsOf("--limit", "2", "--kernels", kernels)...)
		if len(moved) != len(expected.Rows) || len(part) != 2 {
			t.Fatalf("%d and %d rows, want %d and 2", len(moved), len(part), len(expected.Rows))
		}
		for i, want := range expected.Rows {
			id := fmt.Sprint(i + 1)
			if got := moved[id]; !slices.Equal(got.PromptTokens, want.ChooserIDs) || len(got.Tokens) != 5 {
				t.Errorf("row %s: prompt %v, want %v", id, got.PromptTokens, want.ChooserIDs)
			}
			first := func(r generate.Result, one, two float64) {
				got, least := r.LogProbs[0], math.Max(one, two)
				for label, logProb := range []float64{one, two} {
					if r.Tokens[0] == expected.Labels[label] && math.Abs(got-logProb) > 1e-4*math.Abs(logProb) {
						t.Errorf("row %s: label %d has log-probability %v, want %v", id, label+1, got, logProb)
					}
				}
				if got < least-1e-4 {
					t.Errorf("row %s: the first token has %v, an answer has %v", id, got, least)
				}
			}
			first(moved[id], want.LogProb1, want.LogProb2)
			first(plain[id], want.Plain1, want.Plain2)
			if slices.Equal(moved[id].LogProbs, plain[id].LogProbs) {
				t.Errorf("row %s: transplant changed nothing", id)
			}
			if i < 2 && fmt.Sprint(part[id]) != fmt.Sprint(moved[id]) {
				t.Errorf("row %s: %v among two rows, %v among all", id, part[id], moved[id])
			}
		}
	}
}

// TestAdapter: an adapter changes what is said, and is the chooser's without transplant.
func TestAdapter(t *testing.T) {
	flags := []string{"--model", golden("model"), "--prompt", "Candidate 1", "--max-tokens", "6", "--logprobs"}
	base, with := results(t, flags...)["1"], results(t, append(flags, "--adapter", golden("adapters", "chooser"))...)["1"]
	if slices.Equal(base.LogProbs, with.LogProbs) {
		t.Error("the adapter changed nothing")
	}
}

// TestDryRun: the plan, in both forms, and nothing computed.
func TestDryRun(t *testing.T) {
	flags := []string{"--prompt", "Kim has 19 nuts.", "--prompt", "Ben", "--max-tokens", "10", "--temperature", "1", "--samples", "3", "--batch", "4", "--dry-run"}
	text := must(t, flags...)
	for _, want := range []string{"prompts  2 of 2 to 6 tokens, 3 texts each; context 256", "60 new ones in about 15 steps of 4 rows", "ids [2]", "Kim has 19 nuts."} {
		if !strings.Contains(text, want) {
			t.Errorf("got %q, want %q in it", text, want)
		}
	}
	var p plan
	if err := json.Unmarshal([]byte(must(t, append(flags, "--json")...)), &p); err != nil {
		t.Fatal(err)
	}
	// two numbers a place, 4 layers of 4 heads of 24, 4 bytes each; 3 rows of 16 tokens and one of 12
	if want := int64(2*4*4*24*4) * (3*16 + 12); p.CacheBytes != want || p.PromptTokens != 24 || p.Steps != 15 {
		t.Errorf("got %+v, want %d bytes, 24 prompt tokens and 15 steps", p, want)
	}
}

// TestCacheByType: graphs keep keys and values in the type they compute in, panels in float32, and where both may compute the
// larger is planned for.
func TestCacheByType(t *testing.T) {
	for _, c := range []struct {
		flags []string
		want  int64 // bytes a number
	}{
		{nil, 4},
		{[]string{"--kernels", "graphs"}, 4},
		{[]string{"--dtype", "bfloat16"}, 4},
		{[]string{"--dtype", "bfloat16", "--backend", "go:parallelism=-1"}, 4},
		{[]string{"--dtype", "bfloat16", "--kernels", "panels"}, 4},
		{[]string{"--dtype", "bfloat16", "--kernels", "graphs"}, 2},
		{[]string{"--dtype", "bfloat16", "--backend", "xla:cuda"}, 2},
	} {
		var p plan
		flags := append(c.flags, "--prompt", "Ben", "--max-tokens", "10", "--dry-run", "--json")
		if err := json.Unmarshal([]byte(must(t, flags...)), &p); err != nil {
			t.Fatal(err)
		}
		if got := p.CacheBytes / (2 * 4 * 4 * 24 * 12); got != c.want { // as in TestDryRun, 12 tokens
			t.Errorf("%q: got %d bytes a number, want %d", c.flags, got, c.want)
		}
	}
}

// counted cancels a run when it has printed so many lines.
type counted struct {
	lines  []string
	enough int
	cancel func()
}

func (c *counted) Write(p []byte) (int, error) {
	if c.lines = append(c.lines, string(p)); len(c.lines) == c.enough {
		c.cancel()
	}
	return len(p), nil
}

// TestManySamples: samples are made when their turn comes, so that their number costs no memory.
func TestManySamples(t *testing.T) {
	flags := []string{"--prompt", "Kim has 19 nuts.", "--prompt", "Ben", "--max-tokens", "10", "--temperature", "1"}
	var p plan
	planned := must(t, append(flags, "--samples", "1000000000", "--batch", "1500000000", "--dry-run", "--json")...)
	if err := json.Unmarshal([]byte(planned), &p); err != nil {
		t.Fatal(err)
	}
	// as in TestDryRun; of 2 G rows 1.5 G at a time, the longer ones first
	if want := int64(2*4*4*24*4) * (16e9 + 6e9); p.CacheBytes != want || p.PromptTokens != 8e9 || p.NewTokens != 20e9 || p.Batch != 15e8 {
		t.Errorf("got %+v, want %d bytes, 8 G tokens in prompts, 20 G new ones and 1.5 G rows", p, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out := &counted{enough: 3, cancel: cancel}
	if text := must(t, append(flags, "--samples", "2")...); strings.Count(text, "== 1, sample 1 (") != 1 || strings.Count(text, "== 2, sample 2 (") != 1 {
		t.Errorf("printed %q, want samples by number", text)
	}
	code := run(ctx, append(flags, "--samples", "1000000000", "--json"), strings.NewReader(""), out, io.Discard)
	want := slices.Collect(strings.Lines(must(t, append(flags, "--samples", "3", "--json")...)))[:3]
	if code != 130 || len(out.lines) < 3 || !slices.Equal(out.lines[:3], want) {
		t.Errorf("exit status %d, printed %q; want 130 and first those that there are of few, %q", code, out.lines, want)
	}
}

// TestRefusals: what cannot work is refused before the model is loaded.
func TestRefusals(t *testing.T) {
	bad := func(line string) []string { return []string{"--jsonl", file(t, "in.jsonl", line)} }
	cases := []struct {
		name  string
		flags []string
		want  string
	}{
		{"nothing", nil, "nothing to continue"},
		{"two sources", []string{"--prompt", "a", "--chat"}, "exclude each other"},
		{"unknown flag", []string{"--tokens", "3"}, "unknown flag --tokens"},
		{"temperature", []string{"--prompt", "a", "--temperature", "-1"}, "--temperature -1"},
		{"top-p", []string{"--prompt", "a", "--top-p", "0"}, "--top-p 0"},
		{"max-tokens", []string{"--prompt", "a", "--max-tokens", "0"}, "--max-tokens 0"},
		{"samples that are equal", []string{"--prompt", "a", "--samples", "2"}, "equal texts"},
		{"samples beyond count", []string{"--prompt", "a", "--temperature", "1", "--samples", "1000000001"}, "--samples 1000000001: it must be at most 1000000000"},
		{"empty stop", []string{"--prompt", "a", "--stop", ""}, "--stop"},
		{"stop id", []string{"--prompt", "a", "--stop-id", "9999"}, "--stop-id 9999"},
		{"data without transplant", []string{"--prompt", "a", "--data", "x.csv"}, "--transplant"},
		{"mask without transplant", []string{"--prompt", "a", "--mask-choice"}, "--mask-choice goes with --transplant"},
		{"template of plain prompts", []string{"--prompt", "a", "--chat-template", "llama2"}, "other prompts are no messages"},
		{"template without messages", append(bad(`{"prompt": "a"}`), "--chat-template", "llama2"), "has no messages"},
		{"log-probabilities of a talk", []string{"--chat", "--logprobs"}, "--logprobs"},
		{"empty model", []string{"--prompt", "a", "--model", ""}, "--model is empty"},
		{"plan with a missing adapter", []string{"--prompt", "a", "--dry-run", "--adapter", "no/such"}, "no/such"},
		{"plan with a missing arguer", []string{"--transplant", "--limit", "1", "--dry-run", "--arguer-adapter", "no/such"}, "no/such"},
		{"plan with other layers", []string{"--transplant", "--limit", "1", "--dry-run", "--transplant-layers", "0-99"}, "0-99"},
		{"plan for no backend", []string{"--prompt", "a", "--dry-run", "--backend", "xls"}, "--backend xls"},
		{"plan into no directory", []string{"--prompt", "a", "--dry-run", "--out", "no/such/file"}, "--out no/such/file"},
		{"into no directory", []string{"--prompt", "a", "--out", "no/such/file"}, "--out no/such/file"},
		{"where nothing can be written", []string{"--prompt", "a", "--out", "/proc/file"}, "--out /proc/file"},
		{"a plan where nothing can be written", []string{"--prompt", "a", "--dry-run", "--out", "/proc/file"}, "--out /proc/file"},
		{"into a file as a directory", []string{"--prompt", "a", "--out", filepath.Join(file(t, "in.txt"), "out")}, "in.txt is no directory"},
		{"over a file", []string{"--prompt", "a", "--out", file(t, "in.txt")}, "in.txt is there already"},
		{"a plan over a file", []string{"--prompt", "a", "--dry-run", "--out", file(t, "in.txt")}, "in.txt is there already"},
		{"over a device", []string{"--prompt", "a", "--out", os.DevNull}, "is there already"},
		{"into a directory", []string{"--prompt", "a", "--out", t.TempDir()}, "is a directory"},
		{"adapter with transplant", []string{"--transplant", "--adapter", "x"}, "--arguer-adapter"},
		{"out and json", []string{"--prompt", "a", "--out", "x", "--json"}, "give one of them"},
		{"system without chat", []string{"--prompt", "a", "--system", "x"}, "--chat"},
		{"chat into a file", []string{"--chat", "--out", "x"}, "--chat"},
		{"tokenizer of the embedded model", []string{"--prompt", "a", "--tokenizer", "x"}, "--model"},
		{"missing model", []string{"--prompt", "a", "--model", "no/such"}, "no/such"},
		{"missing file", []string{"--text", "no/such.txt"}, "no/such.txt"},
		{"prompts that cannot be read", []string{"--text", t.TempDir()}, ", line 1: "},
		{"missing adapter", []string{"--prompt", "a", "--adapter", "no/such"}, "no/such"},
		{"dtype", []string{"--prompt", "a", "--dtype", "int8"}, "--dtype int8"},
		{"not UTF-8", []string{"--text", file(t, "in.txt", "a", "Kim\xff")}, "in.txt, line 2: it is not UTF-8"},
		{"not UTF-8 in JSON", []string{"--jsonl", file(t, "in.jsonl", `{"prompt": "a"}`, "{\"prompt\": \"Kim\xff\"}")}, "in.jsonl, line 2: it is not UTF-8"},
		{"not UTF-8 on the command line", []string{"--prompt", "a", "--prompt", "Kim\xff"}, "--prompt 2: it is not UTF-8"},
		{"stop that is not UTF-8", []string{"--prompt", "a", "--stop", ".", "--stop", "\xff"}, "--stop 2: it is not UTF-8"},
		{"system message that is not UTF-8", []string{"--chat", "--chat-template", "llama2", "--system", "Be br\xeff."}, "--system: it is not UTF-8"},
		{"half a character", bad(`{"prompt": "a\ud83d"}`), `line 1: \ud83d at byte 13 is half of a surrogate pair`},
		{"half a character in a message", bad(`{"messages": [{"role": "user", "content": "\udc00b"}]}`), `line 1: \udc00 at byte 43 is half of a surrogate pair`},
		{"half a character beside U+FFFD", bad(`{"prompt": "\uFFFD\ud83d"}`), `line 1: \ud83d at byte 18 is half of a surrogate pair`},
		{"no prompts", []string{"--text", file(t, "in.txt", "", " ")}, "in.txt: there are no prompts: want one a line"},
		{"no prompts in JSON", []string{"--jsonl", file(t, "in.jsonl", "")}, "in.jsonl: there are no prompts"},
		{"two BOS", []string{"--prompt", "<s><s> a"}, "twice"},
		{"no JSON", bad("x"), "line 1"},
		{"neither", bad(`{"id": 1}`), "neither a prompt nor messages"},
		{"both", bad(`{"prompt": "a", "messages": [{"role": "user", "content": "b"}]}`), "leave one out"},
		{"no role", bad(`{"messages": [{"content": "b"}]}`), "no role"},
		{"id", bad(`{"id": [1], "prompt": "a"}`), "neither a text nor a number"},
		{"same id", []string{"--jsonl", file(t, "in.jsonl", `{"id": "a", "prompt": "b"}`, `{"id": "a", "prompt": "c"}`)}, "that of line 1"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			code, out, errors := call(c.flags...)
			if code != 1 || out != "" || !strings.Contains(errors, c.want) {
				t.Errorf("exit status %d, printed %q, %q; want 1 and %q", code, out, errors, c.want)
			}
		})
	}
}

// TestWholeCharacters: both halves of a pair are a character, and U+FFFD is text where the line has it, written either way.
func TestWholeCharacters(t *testing.T) {
	in := file(t, "in.jsonl", `{"prompt": "a\ud83d\ude00"}`, `{"prompt": "a\uFFFD"}`, "{\"prompt\": \"a\ufffd\"}")
	if got := len(results(t, "--jsonl", in, "--max-tokens", "1")); got != 3 {
		t.Errorf("%d results, want 3", got)
	}
}

// TestByteOrderMark: one in front of a file changes nothing.
func TestByteOrderMark(t *testing.T) {
	for flag, line := range map[string]string{"--text": "Kim has", "--jsonl": `{"prompt": "Kim has"}`} {
		flags := []string{"--max-tokens", "3", "--logprobs"}
		want := must(t, append(flags, flag, file(t, "in", line))...)
		if got := must(t, append(flags, flag, file(t, "in", "\ufeff"+line))...); got != want {
			t.Errorf("%s: got %q, want %q", flag, got, want)
		}
	}
}

// TestAllBadLines: every bad line is told, but the template's fault once.
func TestAllBadLines(t *testing.T) {
	path := file(t, "in.jsonl", `x`, `{"prompt": "a"}`, `{"id": 2}`, ``, `{"id": "2", "prompt": "b"}`, `{"messages": [{"content": "b"}]}`)
	code, out, errors := call("--jsonl", path)
	for _, want := range []string{"line 1: ", "line 3: ", "line 5: the id 2 is that of line ", "line 6: "} {
		if code != 1 || out != "" || strings.Count(errors, want) != 1 {
			t.Errorf("exit status %d, printed %q, %q; want 1 and once %q", code, out, errors, want)
		}
	}
	path = file(t, "in.jsonl", slices.Repeat([]string{"x"}, manyErrors+2)...)
	if _, _, errors := call("--jsonl", path); strings.Count(errors, "line ") != manyErrors || !strings.Contains(errors, path+": and 2 more bad lines") {
		t.Errorf("of %d bad lines %d are told, want %d and the number of the others", manyErrors+2, strings.Count(errors, "line "), manyErrors)
	}
	conversation := `{"messages": [{"role": "user", "content": "b"}]}`
	path = file(t, "in.jsonl", `{"prompt": 5}`, conversation, conversation, `{"promt": 5}`)
	for fault, flags := range map[string][]string{
		"no chat template":   nil,
		`"<|im_end|>"`:       {"--chat-template", "chatml"},
		"stands there twice": {"--model", golden("model"), "--chat-template", file(t, "t.jinja", "{{ bos_token }}"+turns)},
	} {
		code, _, errors := call(append(flags, "--jsonl", path)...)
		for _, want := range []string{fault, "line 1: ", "line 2: ", "line 4: "} {
			if code != 1 || strings.Count(errors, want) != 1 || strings.Contains(errors, "line 3") {
				t.Errorf("exit status %d, %q; want 1, once %q and nothing of line 3", code, errors, want)
			}
		}
	}
}

// TestTalkTellsFailure: an input that cannot be read is no end of a talk.
func TestTalkTellsFailure(t *testing.T) {
	code, _, errors := callWith(strings.Repeat("a", 1<<25), "--chat", "--chat-template", "llama2")
	if code != 1 || !strings.Contains(errors, "standard input: ") {
		t.Errorf("exit status %d, %.200q; want 1 and what was wrong with the input", code, errors)
	}
}

// TestTalkInUTF8: a line that is not is told by its number, and what came before it is answered.
func TestTalkInUTF8(t *testing.T) {
	code, out, errors := callWith("Hello\n\nKim\xff\n", "--chat", "--chat-template", "llama2", "--max-tokens", "2")
	if want := "standard input, line 3: it is not UTF-8"; code != 1 || strings.Count(out, "\n") != 1 || !strings.Contains(errors, want) {
		t.Errorf("exit status %d, printed %q, said %q; want 1, one answer and %q", code, out, errors, want)
	}
}

// TestStopBeyondTheVocabulary: an end that the model cannot write is told, and no reason not to run.
func TestStopBeyondTheVocabulary(t *testing.T) {
	dir := t.TempDir()
	for id, want := range map[string]bool{"511": false, "512": true, "-1": true} {
		if err := errors.Join(os.CopyFS(filepath.Join(dir, id), os.DirFS(golden("model"))),
			os.WriteFile(filepath.Join(dir, id, "generation_config.json"), []byte(`{"eos_token_id": `+id+`}`), 0o644)); err != nil {
			t.Fatal(err)
		}
		code, _, said := call("--model", filepath.Join(dir, id), "--prompt", "a", "--max-tokens", "1")
		note := "eos_token_id " + id + " ends no row, the model has the tokens 0 to 511"
		if code != 0 || strings.Contains(said, note) != want {
			t.Errorf("eos_token_id %s: exit status %d, said %q; want 0 and %q: %t", id, code, said, note, want)
		}
	}
}

// TestLongTalk: a conversation beyond the context ends with what to do, however long the line, and an answer that fills it says so.
func TestLongTalk(t *testing.T) {
	code, out, said := callWith(strings.Repeat("Kim has 19 nuts. ", 5000)+"\n", "--chat", "--chat-template", "llama2")
	if want := "tokens, the model's context is 256: begin anew"; code != 1 || out != "" || !strings.Contains(said, want) {
		t.Errorf("exit status %d, printed %q, said %q; want 1, nothing and %q", code, out, said, want)
	}
	code, _, said = callWith(strings.Repeat("Kim has 19 nuts. ", 44)+"\n", "--chat", "--chat-template", "llama2", "--max-tokens", "100")
	if want := "the model's context of 256 tokens is full"; code != 0 || !strings.Contains(said, want) {
		t.Errorf("exit status %d, said %q; want 0 and %q", code, said, want)
	}
}

// TestNotes: what has no effect is told, and what ends rows of a model that names no end.
func TestNotes(t *testing.T) {
	endless := filepath.Join(t.TempDir(), "model")
	config, err := os.ReadFile(golden("model", "config.json"))
	if err == nil {
		err = os.CopyFS(endless, os.DirFS(golden("model")))
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(endless, "config.json"), bytes.Replace(config, []byte(`"eos_token_id": 2,`), nil, 1), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	for model, want := range map[string]bool{endless: true, golden("model"): false} {
		_, _, errors := call("--model", model, "--prompt", "a", "--max-tokens", "1")
		if got := strings.Contains(errors, "the model names no eos_token_id"); got != want {
			t.Errorf("%s: said %q; that the model names no end: %t, want %t", model, errors, got, want)
		}
	}
	_, _, errors := call("--prompt", "a", "--max-tokens", "1", "--top-p", "0.5")
	if want := "change nothing at --temperature 0"; !strings.Contains(errors, want) {
		t.Errorf("got %q, want %q", errors, want)
	}
}

// TestSome: a long list ends before it fills the screen.
func TestSome(t *testing.T) {
	ids := strings.Fields("a b c d e f g h i j k")
	for n, want := range map[int]string{2: "a, b", 10: "a, b, c, d, e, f, g, h, i, j", 11: "a, b, c, d, e, f, g, h, i, j, ..."} {
		if got := some(ids[:n]); got != want {
			t.Errorf("of %d: got %q, want %q", n, got, want)
		}
	}
}

// TestHelp: two screens at most, with an example and every group.
func TestHelp(t *testing.T) {
	out := must(t, "--help")
	for _, want := range []string{"Sampling:", "Transplant:", "--prompt \"Kim", "--stop-id token"} {
		if !strings.Contains(out, want) {
			t.Errorf("help lacks %q", want)
		}
	}
	for flag := range strings.FieldsSeq("model adapter tokenizer prompt text jsonl chat system chat-template allow-plain-markers limit max-tokens temperature " +
		"top-k top-p seed samples stop stop-id logprobs transplant data arguer-adapter chooser-adapter argue-template choose-template " +
		"transplant-layers no-transplant mask-choice skip-long backend install-plugin kernels dtype weights residual batch out json dry-run") {
		if !strings.Contains(out, "  --"+flag+" ") {
			t.Errorf("help lacks --%s", flag)
		}
	}
	if n := strings.Count(out, "\n"); n > 80 {
		t.Errorf("help has %d lines, want at most 80", n)
	}
}

// TestCancelled: Ctrl-C leaves no file.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	path := filepath.Join(t.TempDir(), "out.jsonl")
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"--prompt", "a", "--prompt", "b", "--out", path}, strings.NewReader(""), &stdout, &stderr)
	if _, err := os.Stat(path); code != 130 || !os.IsNotExist(err) {
		t.Errorf("exit status %d, file %v; want 130 and none", code, err)
	}
}

// cancelling cancels with the first text that is written.
type cancelling struct {
	text   strings.Builder
	cancel context.CancelFunc
}

func (c *cancelling) Write(p []byte) (int, error) {
	c.cancel()
	return c.text.Write(p)
}

// TestBrokenOff: a text that Ctrl-C breaks off ends its line, of a prompt as in a talk.
func TestBrokenOff(t *testing.T) {
	for name, c := range map[string]struct {
		args  []string
		input string
	}{
		"a prompt": {[]string{"--prompt", "Kim has 19 nuts."}, ""},
		"a talk":   {[]string{"--chat", "--chat-template", "llama2"}, "Kim has 19 nuts.\n"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		out, said := &cancelling{cancel: cancel}, &bytes.Buffer{}
		code := run(ctx, append(c.args, "--max-tokens", "100"), strings.NewReader(c.input), out, said)
		if text := out.text.String(); code != 130 || strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") || text == "\n" {
			t.Errorf("%s: status %d, %q; want 130 and the beginning of one line with its end (%s)", name, code, text, said)
		}
	}
}

// TestTalkCancelled: Ctrl-C ends a talk that waits for its next message, with the status that it has everywhere.
func TestTalkCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	waiting, typing := io.Pipe()
	defer typing.Close()
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"--chat", "--chat-template", "llama2"}, waiting, &stdout, &stderr)
	if code != 130 || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("exit status %d, %q; want 130 and that it was interrupted", code, stderr.String())
	}
}

// full is an output with no room for what begins like this.
type full string

func (f full) Write(p []byte) (int, error) {
	if strings.HasPrefix(string(p), string(f)) {
		return 0, syscall.ENOSPC
	}
	return len(p), nil
}

// TestOutputFails: what cannot be printed is a failure.
func TestOutputFails(t *testing.T) {
	flags := []string{"--prompt", "Ben", "--max-tokens", "2", "--logprobs"}
	for _, c := range []struct {
		name string
		out  full
		more []string
	}{
		{"plan", "", []string{"--dry-run"}},
		{"plan as JSON", "", []string{"--dry-run", "--json"}},
		{"text", " ", nil},
		{"end of the text", "\n", nil},
		{"log-probabilities", "logprobs", nil},
		{"second text", "== 2", []string{"--prompt", "Kim"}},
	} {
		var stderr bytes.Buffer
		code := run(t.Context(), append(flags, c.more...), strings.NewReader(""), c.out, &stderr)
		if want := syscall.ENOSPC.Error(); code != 1 || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit status %d, %q; want 1 and %q", c.name, code, stderr.String(), want)
		}
	}
}

// TestAdaptersOfARun: what a run was trained with and is left out here is said, during a transplant.
func TestAdaptersOfARun(t *testing.T) {
	dir := t.TempDir()
	for _, role := range []string{"arguer", "chooser"} {
		if err := os.CopyFS(filepath.Join(dir, role), os.DirFS(golden("adapters", role))); err != nil {
			t.Fatal(err)
		}
	}
	config := `{"settings": {"steps": 1, "argue-template": "a.tmpl", "choose-template": "c.tmpl", "mask-choice": true, "transplant-layers": "0"}}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	arguer, chooser := filepath.Join(dir, "arguer"), filepath.Join(dir, "chooser")
	code, _, errors := call("--model", golden("model"), "--data", golden("rows.csv"), "--transplant", "--dry-run",
		"--choose-template", golden("templates", "choose.tmpl"), "--arguer-adapter", arguer, "--chooser-adapter", chooser)
	want := "note     " + dir + " was trained with --transplant-layers 0 --argue-template a.tmpl --mask-choice, and this is without\n"
	if code != 0 || strings.Count(errors, want) != 1 {
		t.Errorf("exit status %d and %q, want 0 and once %q", code, errors, want)
	}
	if _, _, errors := call("--model", golden("model"), "--prompt", "Kim", "--adapter", chooser, "--dry-run"); strings.Contains(errors, "trained with") {
		t.Errorf("a plain prompt: got %q, want no note", errors)
	}
}
