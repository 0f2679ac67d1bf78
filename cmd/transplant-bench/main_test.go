package main

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gotransplant/data"
	"gotransplant/internal/setup"
	"gotransplant/internal/standin"
	"gotransplant/transplant"
)

// do runs the command and returns what it printed.
func do(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), args, &out, &errs)
	return status, out.String(), errs.String()
}

// figures runs the command with --json and returns its lines by part.
func figures(t *testing.T, args ...string) map[string][]map[string]any {
	t.Helper()
	status, stdout, stderr := do(t, append(args, "--json")...)
	if status != 0 {
		t.Fatalf("%v: status %d, %s", args, status, stderr)
	}
	found := make(map[string][]map[string]any)
	for line := range strings.Lines(stdout) {
		var f map[string]any
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		part, _ := f["part"].(string)
		found[part] = append(found[part], f)
	}
	return found
}

// short are rows small enough for a test.
var short = []string{"--shape", "tiny", "--arguer", "24", "--chooser", "40", "--argument", "9"}

func TestRefusals(t *testing.T) {
	scaled := filepath.Join(t.TempDir(), "config.json")
	c, err := standin.Shape("tiny")
	if err != nil {
		t.Fatal(err)
	}
	text := `{"model_type":"llama","vocab_size":512,"hidden_size":64,"intermediate_size":172,"num_hidden_layers":2,` +
		`"num_attention_heads":4,"max_position_embeddings":512,"rms_norm_eps":1e-5,` +
		`"rope_scaling":{"rope_type":"linear","factor":2}}`
	if err := os.WriteFile(scaled, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		args []string
		want []string // in the message
	}{
		{"no such shape", []string{"--shape", "70b"}, []string{"--shape 70b", "8b-gqa"}},
		{"nothing to generate", []string{"--part", "generate", "--new-tokens", "1"}, []string{"--new-tokens 1", "at least 2"}},
		{"generation beyond the context", []string{"--shape", "tiny", "--part", "generate", "--new-tokens", "1652"},
			[]string{"397", "--new-tokens 1652", "2048", "tiny"}},
		{"no such part", []string{"--part", "train,rest"}, []string{"--part rest"}},
		{"no rows", []string{"--rows", "0"}, []string{"--rows 0", "at least 1"}},
		{"no trials", []string{"--trials", "0"}, []string{"--trials 0"}},
		{"no argument", []string{"--argument", "0"}, []string{"--argument 0"}},
		{"nothing before the argument", []string{"--arguer", "87"}, []string{"--arguer 87", "--argument 87"}},
		{"arguments do not fit", []string{"--chooser", "175"}, []string{"--chooser 175", "--argument 87"}},
		{"longer than the context", []string{"--shape", "tiny", "--chooser", "4000"}, []string{"4000", "2048", "tiny"}},
		{"compute type", []string{"--dtype", "int8"}, []string{"--dtype int8"}},
		{"stored type", []string{"--weights-dtype", "float16"}, []string{"--weights-dtype float16"}},
		{"storage", []string{"--weights", "int4"}, []string{"--weights", "int4"}},
		{"PyTorch's type", []string{"--peer-dtype", "int8"}, []string{"--peer-dtype int8"}},
		{"rank", []string{"--lora-rank", "0"}, []string{"--lora-rank 0"}},
		{"backend", []string{"--shape", "tiny", "--backend", "abacus"}, []string{"--backend abacus"}},
		{"no Python", append(slices.Clone(short), "--peer", "--peer-python", "no-such-python"), []string{"--peer-python no-such-python"}},
		{"no C compiler", append(slices.Clone(short), "--part", "generate", "--peer-c", "no-such-cc"),
			[]string{"--peer-c no-such-cc", "no such C compiler"}},
		{"C for what it does not do", []string{"--part", "train,eval", "--peer-c", "cc"},
			[]string{"--peer-c cc", "only generates", "--part generate", "--check"}},
		{"C beyond the context", []string{"--shape", "stories260k", "--check", "--new-tokens", "116", "--peer-c", "cc"},
			[]string{"397", "--new-tokens 116", "512", "stories260k"}},
		{"check in C with scaling", []string{"--check", "--peer-c", "cc", "--shape", scaled, "--arguer", "24", "--chooser", "40",
			"--argument", "9"}, []string{"--check", "rotary scaling", "C program"}},
		{"check with scaling", []string{"--check", "--shape", scaled, "--arguer", "24", "--chooser", "40", "--argument", "9"},
			[]string{"--check", "rotary scaling"}},
		{"not a config", []string{"--shape", os.DevNull}, []string{os.DevNull}},
		{"no flag", []string{"7b"}, []string{`"7b"`}},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			status, stdout, stderr := do(t, k.args...)
			if status == 0 || stdout != "" {
				t.Errorf("%v: status %d and output %q, want a failure and none", k.args, status, stdout)
			}
			for _, want := range k.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("%v: message %q, want %q in it", k.args, stderr, want)
				}
			}
		})
	}
	if got := labels(c); got != [2]int32{510, 511} {
		t.Errorf("labels %v, want the last two tokens, 510 and 511", got)
	}
}

func TestHelp(t *testing.T) {
	status, stdout, _ := do(t, "--help")
	if status != 0 {
		t.Errorf("status %d, want 0", status)
	}
	for _, want := range append(standin.Names(), "--shape", "--part", "--rows", "--lora-rank", "--dtype", "--peer", "--json",
		"--peer-c", "Peers:", "Running:") {
		if !strings.Contains(stdout, want) {
			t.Errorf("help does not mention %s", want)
		}
	}
	s, o := setup.Defaults(), options{}
	for _, g := range bind(&s, &o) {
		for line := range strings.Lines(g.Flags.FlagUsagesWrapped(110)) {
			if len(line) > 120 {
				t.Errorf("line of %d characters: %q", len(line), line)
			}
		}
	}
}

// TestFigures: the lines of --json have what they promise, and what follows from other figures does.
func TestFigures(t *testing.T) {
	found := figures(t, append(slices.Clone(short), "--rows", "3", "--trials", "2")...)
	if len(found["setup"]) != 1 {
		t.Errorf("%d setup lines, want 1", len(found["setup"]))
	}
	for _, part := range []string{train, eval} {
		t.Run(part, func(t *testing.T) {
			if len(found[part]) != 1 {
				t.Fatalf("%d lines, want 1", len(found[part]))
			}
			f := found[part][0]
			number := func(name string) float64 {
				t.Helper()
				v, ok := f[name].(float64)
				if !ok || !(v > 0) {
					t.Errorf("%s is %v, want a positive number", name, f[name])
				}
				return v
			}
			for _, name := range []string{"shape", "dtype", "weights_dtype", "residual", "backend", "device", "go", "commit"} {
				if text, _ := f[name].(string); text == "" {
					t.Errorf("%s is %v, want a text", name, f[name])
				}
			}
			for _, name := range []string{"flop_per_step", "mfu", "matmul_ceiling_flop_per_second", "first_step_seconds",
				"peak_host_bytes", "cores", "lora_rank", "micro_batch", "workers"} {
				number(name)
			}
			seconds := number("seconds_per_step")
			near(t, "rows_per_second", number("rows_per_second"), 3/seconds)
			// 24 + 24 + 40 tokens; computed are a trunk of 15, twice 8 of the branches, and 40 - 18 of the chooser's.
			near(t, "plain_tokens_per_second", number("plain_tokens_per_second"), 3*88/seconds)
			near(t, "computed_tokens_per_second", number("computed_tokens_per_second"), 3*53/seconds)
			near(t, "mfu", number("mfu"), number("flop_per_step")/seconds/number("matmul_ceiling_flop_per_second"))
			if trials, _ := f["trials"].([]any); len(trials) != 2 {
				t.Errorf("trials %v, want 2", f["trials"])
			}
			checkShares(t, part, f["time_by_part"])
		})
	}
}

func near(t *testing.T, name string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-9*want) {
		t.Errorf("%s: got %v, want %v", name, got, want)
	}
}

// checkShares: the parts are all there, make up the whole, and a part has time if and only if it was run.
func checkShares(t *testing.T, part string, shares any) {
	t.Helper()
	var sum float64
	var names []string
	for _, s := range shares.([]any) {
		s := s.(map[string]any)
		name, share := s["name"].(string), s["share"].(float64)
		names, sum = append(names, name), sum+share
		trained := strings.Contains(name, "backward") || name == "optimizer"
		if name != "host" && (share > 0) != (part == train || !trained) {
			t.Errorf("share of %s is %v", name, share)
		}
	}
	near(t, "sum of the shares", sum, 1)
	want := []string{"arguer forward", "chooser forward", "head", "chooser backward", "arguer backward", "optimizer", "host"}
	if !slices.Equal(names, want) {
		t.Errorf("parts %v, want %v", names, want)
	}
}

// TestInterrupted: Ctrl-C in training, which has an error of its own for it, has the status that it has everywhere.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	status := run(ctx, append(slices.Clone(short), "--rows", "3", "--part", train), &out, &errs)
	if status != 130 || !strings.Contains(errs.String(), "transplant-bench: --part train: interrupted\n") {
		t.Errorf("status %d, %q; want 130 and that it was interrupted", status, errs.String())
	}
}

// TestTable: without --json the same is told to people.
func TestTable(t *testing.T) {
	status, stdout, stderr := do(t, append(slices.Clone(short), "--trials", "1", "--part", "train", "--dtype", "bfloat16",
		"--weights", "int8")...)
	if status != 0 {
		t.Fatal(stderr)
	}
	for _, want := range []string{"shape    tiny", "weights int8", "compute bfloat16", "53 of 88 tokens a row are computed",
		"\ntrain ", "MFU", "compilations", "arguer backward", "ceiling"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("output lacks %q:\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "\neval") {
		t.Error("eval was measured as well")
	}
}

// TestGeneration: the figures of generation have what they promise, and follow from the trials.
func TestGeneration(t *testing.T) {
	args := append(slices.Clone(short), "--part", "generate", "--rows", "3", "--trials", "3", "--new-tokens", "5")
	found := figures(t, args...)
	if len(found[generate]) != 1 || len(found[train]) != 0 {
		t.Fatalf("%d lines of generation and %d of training, want 1 and none", len(found[generate]), len(found[train]))
	}
	f := found[generate][0]
	number := func(name string) float64 {
		t.Helper()
		v, ok := f[name].(float64)
		if !ok || !(v > 0) {
			t.Errorf("%s is %v, want a positive number", name, f[name])
		}
		return v
	}
	middle := func(name string) float64 {
		t.Helper()
		trials, _ := f[name].([]any)
		if len(trials) != 3 {
			t.Fatalf("%s is %v, want 3 trials", name, f[name])
		}
		return median([]float64{trials[0].(float64), trials[1].(float64), trials[2].(float64)})
	}
	near(t, "seconds_per_token", number("seconds_per_token"), middle("decode_trials")/4)
	near(t, "decode_tokens_per_second", number("decode_tokens_per_second"), 3*4/middle("decode_trials"))
	near(t, "prefill_tokens_per_second", number("prefill_tokens_per_second"), 3*40/middle("prefill_trials"))
	for name, want := range map[string]float64{"prompt_tokens": 40, "new_tokens": 5, "rows": 3} {
		near(t, name, number(name), want)
	}
	for _, name := range []string{"cache_bytes", "peak_host_bytes", "first_seconds"} {
		number(name)
	}
	status, stdout, stderr := do(t, args...)
	if status != 0 {
		t.Fatal(stderr)
	}
	for _, want := range []string{"generate 3 rows of 40 tokens, 5 new ones each", "for 4 steps", "prompts ", "keys and values"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("output lacks %q:\n%s", want, stdout)
		}
	}
}

// TestPeerIsCompared: a stand-in for Python is handed the script and the same work, and its figures make the ratios.
func TestPeerIsCompared(t *testing.T) {
	python := filepath.Join(t.TempDir(), "python")
	script := "#!/bin/sh\nread -r first\necho \"$first\" >&2\necho \"$3\" >&2\n" +
		`echo '{"part":"train","implementation":"none","dtype":"float32","rows":4,"seconds_per_step":2,"rows_per_second":2,"trials":[2],"threads":1,"cores_busy":1.75,"installed_threads":2,"threads_tried":{"1":2.5,"2":6,"4":7}}'` + "\n"
	if err := os.WriteFile(python, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	args := append(slices.Clone(short), "--part", "train", "--trials", "1", "--rows", "4", "--peer", "--peer-python", python)
	found := figures(t, args...)
	if len(found["peer train"]) != 1 || found["peer train"][0]["implementation"] != "none" {
		t.Errorf("figures of the peer: %v, want its line", found["peer train"])
	}
	if len(found["ratio"]) != 1 {
		t.Fatalf("ratios %v, want one", found["ratio"])
	}
	near(t, "ratio", found["ratio"][0]["ratio"].(float64), found[train][0]["rows_per_second"].(float64)/2)
	near(t, "ratio with 2 threads", found["ratio"][0]["ratio_by_threads"].(map[string]any)["2"].(float64),
		6/found[train][0]["seconds_per_step"].(float64))
	if got := found["ratio"][0]["peer"]; got != "PyTorch" {
		t.Errorf("the ratio is to %v, want PyTorch", got)
	}
	status, stdout, stderr := do(t, args...)
	if status != 0 {
		t.Errorf("status %d, stderr %q, want 0", status, stderr)
	}
	for _, want := range []string{", 1 thread on 1.8 cores: 2 s a step",
		`times the rows/s of PyTorch in float32; \S+ times with 2 threads, as PyTorch is installed; \S+ times with 4 threads\n`} {
		if !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("output lacks %q:\n%s", want, stdout)
		}
	}
	for _, want := range []string{`"""The transplant's training step`, `"arguer_span":[15,24]`, `"chooser_spans":[[11,20],[22,31]]`,
		`"rows":4`, `"device":"cpu"`, `"dtypes":["float32","bfloat16"]`} {
		if !strings.Contains(stderr, want) {
			t.Errorf("the peer was not handed %s but %.900s", want, stderr)
		}
	}
}

// TestWithTorch: of the programs of a name on the search path the first that has torch is taken; what has a path, or no torch
// anywhere, stays as it is.
func TestWithTorch(t *testing.T) {
	place := func(status string) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "python3"), []byte("#!/bin/sh\nexit "+status+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	empty, without, with, another := t.TempDir(), place("1"), place("0"), place("0")
	bare := filepath.Join(without, "python3")
	cases := []struct {
		name, python string
		path         []string
		want         string
	}{
		{"the second has it", "python3", []string{empty, without, with, another}, filepath.Join(with, "python3")},
		{"none has it", "python3", []string{empty, without}, "python3"},
		{"a path", bare, []string{with}, bare},
		{"another name", "python4", []string{with}, "python4"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("PATH", strings.Join(c.path, string(filepath.ListSeparator)))
			if got := withTorch(t.Context(), c.python); got != c.want {
				t.Errorf("%s with PATH %v: got %s, want %s", c.python, c.path, got, c.want)
			}
		})
	}
}

// torch is a Python that has torch; without one the test is skipped.
func torch(t *testing.T) string {
	t.Helper()
	for _, python := range []string{withTorch(t.Context(), "python3"), "/usr/bin/python3"} {
		if exec.Command(python, "-c", "import torch").Run() == nil {
			return python
		}
	}
	t.Skip("no Python with torch")
	return ""
}

// TestPyTorchComputesTheSame: loss and gradients of both adapters are those of the peer's step, which shares no code
// with this program and computes every position, in float64.
func TestPyTorchComputesTheSame(t *testing.T) {
	python := torch(t)
	grouped := filepath.Join(t.TempDir(), "config.json")
	text := `{"model_type":"llama","vocab_size":97,"hidden_size":48,"intermediate_size":80,"num_hidden_layers":3,` +
		`"num_attention_heads":6,"num_key_value_heads":2,"max_position_embeddings":512,"rms_norm_eps":1e-5,` +
		`"rope_theta":500000,"tie_word_embeddings":true}`
	if err := os.WriteFile(grouped, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, shape := range map[string]string{"output head of its own": "tiny", "grouped heads, tied": grouped} {
		t.Run(name, func(t *testing.T) {
			args := append(slices.Clone(short), "--check", "--rows", "3", "--shape", shape, "--peer-python", python)
			status, stdout, stderr := do(t, args...)
			if status != 0 || !strings.Contains(stdout, "gradients of") {
				t.Errorf("status %d\n%s%s", status, stdout, stderr)
			}
			if !strings.Contains(stdout, "192 generated tokens") {
				t.Errorf("%s: want 3 rows of 64 generated tokens to be compared", stdout)
			}
			t.Log(stdout)
		})
	}
}

// TestPeerRuns: the script itself, in both types.
func TestPeerRuns(t *testing.T) {
	found := figures(t, append(slices.Clone(short), "--trials", "1", "--peer", "--peer-python", torch(t))...)
	for _, part := range []string{train, eval} {
		if n := len(found["peer "+part]); n != 2 {
			t.Errorf("%d figures of the peer for %s, want one for each type", n, part)
		}
	}
	if len(found["ratio"]) != 4 {
		t.Errorf("%d ratios, want 4", len(found["ratio"]))
	}
}

// TestPeerGenerates: so does its generation, and the ratios are those of tokens a second.
func TestPeerGenerates(t *testing.T) {
	found := figures(t, append(slices.Clone(short), "--part", "generate", "--new-tokens", "4", "--trials", "1",
		"--peer-dtype", "float32", "--peer", "--peer-python", torch(t))...)
	ours, theirs, ratios := found[generate], found["peer "+generate], found["ratio"]
	if len(ours) != 1 || len(theirs) != 1 || len(ratios) != 1 {
		t.Fatalf("%d figures, %d of the peer, %d ratios, want 1 of each", len(ours), len(theirs), len(ratios))
	}
	for name, ratio := range map[string]string{"decode_tokens_per_second": "ratio", "prefill_tokens_per_second": "prefill_ratio"} {
		near(t, ratio, ratios[0][ratio].(float64), ours[0][name].(float64)/theirs[0][name].(float64))
	}
	if got := theirs[0]["new_tokens"]; got != 4.0 {
		t.Errorf("the peer added %v tokens, want 4", got)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		xs   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 9}, 3.5}} {
		if got := median(c.xs); got != c.want {
			t.Errorf("median of %v: got %v, want %v", c.xs, got, c.want)
		}
	}
}

// TestCases: rows of the published lengths compute 513 of 807 tokens, 120 of them once for all rows, and depend on the seed
// alone.
func TestCases(t *testing.T) {
	c, err := standin.Shape("tiny")
	if err != nil {
		t.Fatal(err)
	}
	draw := func(seed uint64) []int32 {
		cases, err := published().cases(2, c, seed)
		if err != nil {
			t.Fatal(err)
		}
		if p := transplant.SharedPrefix(cases); len(p.Arguer) != 60 || len(p.Chooser) != 60 {
			t.Errorf("the rows begin with %d and %d tokens alike, want 60 and 60", len(p.Arguer), len(p.Chooser))
		}
		for _, k := range cases {
			l := k.Lengths(transplant.Prefix{})
			if l.Arguer != 118+86+86 || l.Chooser != 397-2*87 || k.Tokens() != 807 {
				t.Errorf("%d and %d of %d tokens are computed, want 290 and 223 of 807", l.Arguer, l.Chooser, k.Tokens())
			}
			for i, span := range k.Spans {
				if argument := k.Choose[span.Start:span.End]; !slices.Equal(argument, k.Argue[i].IDs[118:]) {
					t.Errorf("argument %d differs in the chooser's prompt", i+1)
				}
				if got, want := k.Argue[i].Span, (data.Span{Start: 118, End: len(k.Argue[i].IDs)}); got != want {
					t.Errorf("argument %d is at %v of the arguer's prompt, want %v", i+1, got, want)
				}
			}
		}
		return cases[1].Choose
	}
	first := draw(1)
	if !slices.Equal(first, draw(1)) {
		t.Error("the same seed gave other tokens")
	}
	if slices.Equal(first, draw(2)) {
		t.Error("another seed gave the same tokens")
	}
}
