package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gotransplant/lora"
	"gotransplant/model"
	"gotransplant/model/safetensors"
)

// golden is the reference run in transplant/testdata, as a path inside it.
func golden(parts ...string) string {
	return filepath.Join(append([]string{"..", "..", "transplant", "testdata", "golden-small"}, parts...)...)
}

// call runs the program.
func call(args ...string) (code int, out, errors string) {
	var stdout, stderr bytes.Buffer
	code = run(context.Background(), args, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// must runs the program and returns its output.
func must(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errors := call(args...)
	if code != 0 {
		t.Fatalf("exit status %d for %q, want 0:\n%s", code, args, errors)
	}
	return out
}

// mustJSON is must with --json, decoded into v.
func mustJSON(t *testing.T, v any, args ...string) {
	t.Helper()
	out := must(t, append(args, "--json")...)
	d := json.NewDecoder(strings.NewReader(out))
	if err := d.Decode(v); err != nil || d.More() {
		t.Fatalf("%q: not one JSON object (%v):\n%s", args, err, out)
	}
}

// newAdapter writes an adapter for the embedded model whose matrices B are filled where change says so.
func newAdapter(t *testing.T, o lora.Options, change func(p *lora.Param) bool) string {
	t.Helper()
	c, err := openModel(embedded)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a, err := lora.New(o, c.Config, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range a.Params() {
		for i := range p.Value {
			if p.Kind == "B" && change(p) {
				p.Value[i] = float32(i%7-3) / 50
			}
		}
	}
	dir := filepath.Join(t.TempDir(), "adapter")
	if err := a.Save(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// some are options of a small adapter.
func some(names ...string) lora.Options {
	return lora.Options{Rank: 2, Alpha: 4, Targets: lora.Targets{Names: names}, BaseModel: "embedded"}
}

func always(*lora.Param) bool { return true }

// TestHelpFitsTwoScreens: of the program and of every command, each with an example.
func TestHelpFitsTwoScreens(t *testing.T) {
	all := [][]string{{"--help"}, {"-h"}, {"help"}}
	for _, c := range commands() {
		all = append(all, []string{c.name, "--help"})
	}
	for _, args := range all {
		out := must(t, args...)
		lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
		if len(lines) > 100 || !strings.Contains(out, "\n  transplant-adapter ") {
			t.Errorf("%q: %d lines, want at most 100 and an example:\n%s", args, len(lines), out)
		}
		if writes := args[0] == "merge" || args[0] == "convert"; writes && !strings.Contains(out, "(default 5GB)") {
			t.Errorf("%q: no default for the size of a file:\n%s", args, out)
		}
		for _, line := range lines {
			if len(line) > 120 {
				t.Errorf("%q: a line of %d characters: %q", args, len(line), line)
			}
		}
	}
}

// refusal is a command line that is refused, and parts of what is said.
type refusal struct {
	name string
	args []string
	want []string
}

// refusedLines are those that need no adapter, or a good one; out is where nothing must be written, nowhere where nothing can,
// long and latin are samples too long and not in UTF-8.
func refusedLines(good, out, nowhere, long, latin string) []refusal {
	return []refusal{
		{"no command", nil, []string{"merge, show, diff, convert"}},
		{"unknown command", []string{"mergr"}, []string{`"mergr"`, "merge, show, diff, convert"}},
		{"unknown flag", []string{"merge", "--adaptr", "x"}, []string{"merge: ", "--adaptr"}},
		{"no adapter", []string{"merge", "--out", out}, []string{"--adapter is missing"}},
		{"nowhere to write", []string{"merge", "--adapter", good}, []string{"--out is missing"}},
		{"nowhere to convert", []string{"convert"}, []string{"--out is missing"}},
		{"stray argument", []string{"convert", "--out", out, "model"}, []string{`"model"`}},
		{"no directory", []string{"show"}, []string{"the adapter's directory is missing"}},
		{"two directories", []string{"show", good, good}, []string{"unexpected argument"}},
		{"one directory", []string{"diff", good}, []string{"the second adapter's directory is missing"}},
		{"unknown type", []string{"merge", "--adapter", good, "--out", out, "--dtype", "int8"}, []string{"--dtype", "int8", "stored"}},
		{"bad size", []string{"convert", "--out", out, "--shard-size", "5XB"}, []string{"shard-size", "5XB"}},
		{"no size", []string{"convert", "--out", out, "--shard-size", "0"}, []string{"shard-size"}},
		{"occupied", []string{"merge", "--adapter", good, "--out", good}, []string{"--out", "not empty"}},
		{"occupied, to convert", []string{"convert", "--out", good}, []string{"--out", "not empty"}},
		{"occupied, a plan", []string{"merge", "--adapter", good, "--out", good, "--dry-run"}, []string{"--out", "not empty"}},
		{"nowhere, a plan", []string{"merge", "--adapter", good, "--out", nowhere, "--dry-run"}, []string{"--out", "symbolic link"}},
		{"nowhere to convert, a plan", []string{"convert", "--out", nowhere, "--dry-run"}, []string{"--out", "symbolic link"}},
		{"sample and no check", []string{"merge", "--adapter", good, "--out", out, "--no-check", "--sample", long}, []string{"--sample", "--no-check"}},
		{"sample too long", []string{"merge", "--adapter", good, "--out", out, "--sample", long}, []string{"--sample", "tokens, want 1 to 256"}},
		{"sample not in UTF-8", []string{"merge", "--adapter", good, "--out", out, "--sample", latin}, []string{"--sample", "latin: it is not UTF-8"}},
		{"no such sample", []string{"merge", "--adapter", good, "--out", out, "--sample", out}, []string{"--sample", "no such file"}},
		{"no model", []string{"convert", "--model", out, "--out", out}, []string{"not a checkpoint directory"}},
	}
}

// refusedTokenizer is a model beside the tokenizer of a larger one, whose ids the comparison cannot read.
func refusedTokenizer(t *testing.T, out string) refusal {
	dir := t.TempDir()
	larger, err := os.ReadFile(filepath.Join("..", "..", "internal", "tiny", "model", "tokenizer.json"))
	if err := errors.Join(err, os.CopyFS(dir, os.DirFS(golden("model"))), os.WriteFile(filepath.Join(dir, "tokenizer.json"), larger, 0o644)); err != nil {
		t.Fatal(err)
	}
	return refusal{"tokenizer of a larger model", []string{"merge", "--model", dir, "--adapter", golden("adapters", "chooser"), "--out", out},
		[]string{dir + ": the tokenizer has 711 tokens, the model's vocab_size is 512"}}
}

// refusedAdapters are those with something wrong in the adapter.
func refusedAdapters(t *testing.T, good, out string) []refusal {
	other := golden("adapters", "arguer")
	untrained := newAdapter(t, some("q_proj"), func(*lora.Param) bool { return false })
	empty := newAdapter(t, some("q_proj"), always)
	if err := safetensors.Write(filepath.Join(empty, "adapter_model.safetensors"), nil, nil); err != nil {
		t.Fatal(err)
	}
	return []refusal{
		{"never trained", []string{"merge", "--adapter", untrained, "--out", out}, []string{"changes nothing", "4 modules", "convert"}},
		{"empty", []string{"merge", "--adapter", empty, "--out", out}, []string{"no tensors at all", "missing ", "layers.3.self_attn.q_proj.lora_B"}},
		{"empty, to show", []string{"show", empty}, []string{"no tensors at all"}},
		{"empty, to compare", []string{"diff", good, empty}, []string{"no tensors at all"}},
		{"another base's", []string{"merge", "--adapter", other, "--out", out}, []string{
			"layers.0.self_attn.q_proj.lora_A.weight: shape [4 48], want [4 96]", "layers.2.self_attn.k_proj.lora_B.weight: shape [16 4], want [96 4]",
			"missing base_model.model.model.layers.3.self_attn.o_proj.lora_B.weight"}},
		{"another base's, to show", []string{"show", other, "--model", embedded}, []string{"shape [4 48], want [4 96]"}},
		{"another base's, to compare", []string{"diff", good, other}, []string{"different shapes", "layers.2.self_attn.q_proj: [96, 96] in the first, [48, 48]"}},
	}
}

// TestRefuses: what is wrong with the command line or the adapter is said before anything is written.
func TestRefuses(t *testing.T) {
	good := newAdapter(t, some("q_proj"), always)
	long := filepath.Join(t.TempDir(), "long")
	if err := os.WriteFile(long, []byte(strings.Repeat("Anna has 7 apples. ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, dangling := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(out, dangling); err != nil {
		t.Fatal(err)
	}
	nowhere := filepath.Join(dangling, "merged")
	latin := filepath.Join(t.TempDir(), "latin")
	if err := os.WriteFile(latin, []byte("caf\xe9"), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := append(refusedLines(good, out, nowhere, long, latin), refusedTokenizer(t, out))
	for _, c := range append(lines, refusedAdapters(t, good, out)...) {
		t.Run(c.name, func(t *testing.T) {
			code, _, errors := call(c.args...)
			if code != 1 {
				t.Errorf("exit status %d, want 1", code)
			}
			for _, want := range c.want {
				if !strings.Contains(errors, want) {
					t.Errorf("got %q, want it to contain %q", errors, want)
				}
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("something was written all the same")
			}
		})
	}
}

// full is an output with no room for a line that begins like this.
type full string

func (f full) Write(p []byte) (int, error) {
	if strings.HasPrefix(string(p), string(f)) {
		return 0, syscall.ENOSPC
	}
	return len(p), nil
}

// TestOutputFails: what cannot be printed is a failure, of every command and be it one line.
func TestOutputFails(t *testing.T) {
	adapter := newAdapter(t, some("q_proj"), always)
	for _, c := range []struct {
		out  full
		args []string
	}{
		{"", []string{"convert"}},
		{"model", []string{"convert", "--dry-run"}},
		{"copied", []string{"convert"}},
		{"adapter", []string{"merge", "--adapter", adapter, "--no-check"}},
		{"check", []string{"merge", "--adapter", adapter, "--dry-run"}},
		{"adapter", []string{"show", adapter}},
		{"config", []string{"diff", adapter, adapter}},
	} {
		if c.args[0] == "convert" || c.args[0] == "merge" {
			c.args = append(c.args, "--out", filepath.Join(t.TempDir(), "out"))
		}
		var stderr bytes.Buffer
		code := run(t.Context(), c.args, c.out, &stderr)
		if want := syscall.ENOSPC.Error(); code != 1 || !strings.Contains(stderr.String(), want) {
			t.Errorf("%q without room for %q: exit status %d, %q; want 1 and %q", c.args, c.out, code, stderr.String(), want)
		}
	}
}

// stoppedOnce is done as soon as a directory is there.
type stoppedOnce struct {
	context.Context
	there string
}

func (s stoppedOnce) Err() error {
	if _, err := os.Stat(s.there); err != nil {
		return nil
	}
	return context.Canceled
}

// TestInterruptedComparison: what is written before the comparison is stopped stays, whole, and that it does is told.
func TestInterruptedComparison(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	var stdout, stderr bytes.Buffer
	args := []string{"merge", "--adapter", golden("adapters", "arguer"), "--model", golden("model"), "--out", out}
	code := run(stoppedOnce{t.Context(), out}, args, &stdout, &stderr)
	want := "note     " + out + " is written and whole, but its logits were not compared\ntransplant-adapter: interrupted\n"
	if code != 130 || !strings.HasSuffix(stderr.String(), want) {
		t.Errorf("exit status %d, %q; want 130 and %q", code, stderr.String(), want)
	}
	if c, err := model.Open(out); err != nil {
		t.Errorf("what was written does not open: %v", err)
	} else {
		c.Close()
	}
}

// TestInterrupted: nothing is left of a merge that was stopped.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	parent := t.TempDir()
	for _, args := range [][]string{
		{"merge", "--adapter", golden("adapters", "arguer"), "--model", golden("model"), "--out", filepath.Join(parent, "out")},
		{"convert", "--out", filepath.Join(parent, "out")},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(ctx, args, &stdout, &stderr); code != 130 || !strings.Contains(stderr.String(), "interrupted") {
			t.Errorf("%q: exit status %d, %q; want 130", args, code, stderr.String())
		}
		if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
			t.Errorf("%q: left behind %v (%v)", args, left, err)
		}
	}
}

// TestDryRun: the plan is that of the run, and nothing is written.
func TestDryRun(t *testing.T) {
	parent := t.TempDir()
	out := filepath.Join(parent, "out")
	merge := []string{"merge", "--adapter", newAdapter(t, some("q_proj"), always), "--out", out, "--dtype", "float32", "--shard-size", "400kB"}
	var dry struct {
		plan
		Tokens int   `json:"comparison_tokens"`
		Memory int64 `json:"comparison_bytes"`
	}
	mustJSON(t, &dry, append(merge, "--dry-run")...)
	text := must(t, append(merge, "--dry-run")...)
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("a dry run left %v (%v)", left, err)
	}
	var done merging
	mustJSON(t, &done, merge...)
	if fmt.Sprint(dry.plan) != fmt.Sprint(done.plan) {
		t.Errorf("planned %+v, did %+v", dry.plan, done.plan)
	}
	if dry.Tokens != done.Drift.Tokens || dry.Memory < 2*dry.Bytes {
		t.Errorf("planned %d tokens in %d bytes, want %d and at least %d", dry.Tokens, dry.Memory, done.Drift.Tokens, 2*dry.Bytes)
	}
	for _, f := range done.Files {
		if !strings.Contains(text, f.Name) {
			t.Errorf("the plan does not name %s:\n%s", f.Name, text)
		}
		if file, err := safetensors.Open(filepath.Join(out, f.Name)); err != nil || len(file.Names()) != f.Tensors {
			t.Errorf("%s: got %v (%v), want %d tensors", f.Name, file, err, f.Tensors)
		}
	}
	var plain plan
	mustJSON(t, &plain, "convert", "--out", filepath.Join(parent, "c"), "--dry-run")
	if plain.Tensors != 39 || len(plain.Files) != 1 || !slices.Equal(plain.Copied, []string{"tokenizer.json", "tokenizer_config.json"}) {
		t.Errorf("convert: got %+v, want 39 tensors in one file and the tokenizer's two", plain)
	}
}

// TestConvert: PyTorch's files come out as safetensors with the same bytes; a type that holds less says what that costs.
func TestConvert(t *testing.T) {
	from := filepath.Join("..", "..", "model", "testdata", "bin")
	out := filepath.Join(t.TempDir(), "out")
	var c conversion
	mustJSON(t, &c, "convert", "--model", from, "--out", out)
	if c.Converted != 0 || len(c.Rounded) != 0 || len(c.Files) != 1 {
		t.Errorf("got %+v, want nothing converted, in one file", c)
	}
	want, err := model.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	got, err := model.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	for _, name := range want.Names() {
		if w, g := want.Tensor(name), got.Tensor(name); w.DType != g.DType || !bytes.Equal(w.Data, g.Data) {
			t.Errorf("%s: other bytes", name)
		}
	}
	mustJSON(t, &c, "convert", "--out", filepath.Join(t.TempDir(), "wide"), "--dtype", "float32")
	if c.Converted != 39 || len(c.Rounded) != 0 {
		t.Errorf("to float32: got %d converted, %d rounded, want 39 and 0", c.Converted, len(c.Rounded))
	}
	mustJSON(t, &c, "convert", "--out", filepath.Join(t.TempDir(), "half"), "--dtype", "float16")
	if len(c.Rounded) == 0 || c.Rounded[0].Largest <= 0 || *c.Rounded[0].Relative > 1e-6 {
		t.Errorf("bfloat16 to float16: got %+v, want a few very small losses", c.Rounded)
	}
	text := must(t, "convert", "--out", filepath.Join(t.TempDir(), "half"), "--dtype", "float16")
	for _, want := range []string{"39 float16", fmt.Sprintf("%d of them rounded", len(c.Rounded))} {
		if !strings.Contains(text, want) {
			t.Errorf("got %q, want it to contain %q", text, want)
		}
	}
}

func TestSize(t *testing.T) {
	cases := []struct {
		text  string
		want  size
		shown string
	}{
		{"5GB", 5e9, "5GB"}, {"500MB", 5e8, "500MB"}, {"1.5 GB", 1.5e9, "1500MB"}, {"2GiB", 2 << 30, "2147483648"},
		{"100", 100, "100"}, {"7kB", 7000, "7kB"}, {"12B", 12, "12"},
	}
	for _, c := range cases {
		var s size
		if err := s.Set(c.text); err != nil || s != c.want || s.String() != c.shown {
			t.Errorf("%q: got %d, shown as %s, %v; want %d, %s", c.text, s, s.String(), err, c.want, c.shown)
		}
	}
	for _, text := range []string{"", "GB", "-1GB", "0.1", "nan", "1e30", "5TB"} {
		var s size
		if err := s.Set(text); err == nil {
			t.Errorf("%q is accepted as %d", text, s)
		}
	}
}
