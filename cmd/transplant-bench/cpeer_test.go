package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// cCompiler is a C compiler that takes the flags; without one the test is skipped.
func cCompiler(t *testing.T) string {
	t.Helper()
	for _, compiler := range []string{"cc", "gcc", "clang"} {
		c := exec.Command(compiler, append(cFlags(), "-x", "c", "-o", filepath.Join(t.TempDir(), "none"), "-", "-lm")...)
		c.Stdin = strings.NewReader("#include <math.h>\nint main(int n, char **a) { (void)a; return isnan(sqrt(n)); }\n")
		if c.Run() == nil {
			return compiler
		}
	}
	t.Skip("no C compiler that takes " + strings.Join(cFlags(), " "))
	return ""
}

// standInCompiler is a program that leaves a script in place of peer.c's program, and itself fails with a status.
func standInCompiler(t *testing.T, script string, status string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "compiler")
	text := `#!/bin/sh
[ "$1" = --version ] && echo "stand-in 1.0" && exit 0
while [ "$1" != -o ]; do shift; done
echo "looked into $3" >&2
cat > "$2" <<'END'
#!/bin/sh
` + script + "\nEND\nchmod +x \"$2\"\nexit " + status + "\n"
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCIsCompared: the program is told the shape and the work, and its figures follow from its trials and make the ratios.
func TestCIsCompared(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	compiler := standInCompiler(t, `echo "$@" >&2
echo '{"prompt_seconds":4,"decode_seconds":8}'
echo '{"prompt_seconds":2,"decode_seconds":16}'
echo '{"prompt_seconds":3,"decode_seconds":12}'`, "0")
	args := append(slices.Clone(short), "--part", "generate", "--rows", "3", "--trials", "3", "--new-tokens", "5", "--peer-c", compiler)
	found := figures(t, args...)
	if len(found["peer generate"]) != 1 || len(found["ratio"]) != 1 {
		t.Fatalf("%d figures of the peer and %d ratios, want one of each", len(found["peer generate"]), len(found["ratio"]))
	}
	p, ratio := found["peer generate"][0], found["ratio"][0]
	for name, want := range map[string]float64{"seconds_per_token": 3, "decode_tokens_per_second": 1,
		"prefill_tokens_per_second": 40, "rows": 3, "threads": 1, "prompt_tokens": 40, "new_tokens": 5} {
		near(t, name, p[name].(float64), want) // 12 s for 4 steps of 3 rows; 3 s for 3 prompts of 40
	}
	for name, want := range map[string]string{"implementation": "plain C", "compiler": "stand-in 1.0", "dtype": "float32",
		"compiler_flags": "-O3 -march=native -ffast-math"} {
		if p[name] != want {
			t.Errorf("%s is %v, want %s", name, p[name], want)
		}
	}
	near(t, "ratio", ratio["ratio"].(float64), found[generate][0]["decode_tokens_per_second"].(float64))
	near(t, "prefill_ratio", ratio["prefill_ratio"].(float64), found[generate][0]["prefill_tokens_per_second"].(float64)/40)
	if ratio["peer"] != "plain C" {
		t.Errorf("the ratio is to %v, want plain C", ratio["peer"])
	}
	status, stdout, stderr := do(t, args...)
	for _, want := range []string{"generate, plain C (stand-in 1.0, -O3 -march=native -ffast-math) in float32", "one core",
		"(8, 16, 12 s in all)", "times the tokens/s of plain C in float32"} {
		if status != 0 || !strings.Contains(stdout, want) {
			t.Errorf("status %d, output lacks %q:\n%s", status, want, stdout)
		}
	}
	for _, want := range []string{"layers=2 hidden=64 heads=4 groups=4 dim=16 inner=172 vocab=512 tied=0 theta=10000 eps=1e-05",
		"rows=3 prompt=40 new=5 trials=3"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("the program was not told %q but %s", want, stderr)
		}
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v (%v), want nothing", left, err)
	}
}

// TestCFailures: what goes wrong with the compiler or its program is said.
func TestCFailures(t *testing.T) {
	cases := []struct {
		name, script, status string
		more                 []string // arguments
		want                 []string // in the message
	}{
		{"it does not compile", "", "1", nil, []string{"building peer.c with -O3", "looked into", "peer.c"}},
		{"the program fails", "exit 3", "0", nil, []string{"exit status 3"}},
		{"no JSON", "echo 3", "0", nil, []string{`"3\n"`, "JSON object"}},
		{"a trial is missing", "echo '{}'", "0", []string{"--trials", "2"}, []string{"1 trials, want 2"}},
		{"a check of fewer tokens", `echo '{"generated":7}'`, "0", []string{"--check"}, []string{"128 tokens"}},
		{"a check that fails", `echo '{"generated":128,"worst_gap":0.1,"largest_logit":5}'`, "0", []string{"--check"},
			[]string{"something else"}},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			compiler := standInCompiler(t, k.script, k.status)
			status, _, stderr := do(t, append(append(slices.Clone(short), "--part", "generate", "--peer-c", compiler), k.more...)...)
			if status != 1 {
				t.Errorf("status %d, want 1", status)
			}
			for _, want := range k.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("message %q, want %q in it", stderr, want)
				}
			}
		})
	}
}

// shapesInC are those in which the C program is compared: an output head of its own, and grouped heads of an odd number of
// pairs with a tied head.
func shapesInC(t *testing.T) map[string]string {
	t.Helper()
	grouped := filepath.Join(t.TempDir(), "config.json")
	text := `{"model_type":"llama","vocab_size":97,"hidden_size":50,"intermediate_size":83,"num_hidden_layers":3,` +
		`"num_attention_heads":6,"num_key_value_heads":2,"head_dim":10,"max_position_embeddings":512,"rms_norm_eps":1e-3,` +
		`"rope_theta":500,"tie_word_embeddings":true}`
	if err := os.WriteFile(grouped, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return map[string]string{"output head of its own": "tiny", "grouped heads, tied": grouped, "stories260k": "stories260k"}
}

// TestCComputesTheSame: the C program, which shares no code with this one, chooses the same tokens.
func TestCComputesTheSame(t *testing.T) {
	compiler := cCompiler(t)
	for name, shape := range shapesInC(t) {
		t.Run(name, func(t *testing.T) {
			check := figures(t, append(slices.Clone(short), "--check", "--rows", "3", "--shape", shape, "--peer-c", compiler)...)["check"]
			if len(check) != 1 {
				t.Fatalf("%d lines, want one", len(check))
			}
			for name, want := range map[string]any{"implementation": "plain C", "agrees": true, "generated_tokens": 192.0} {
				if check[0][name] != want {
					t.Errorf("%s is %v, want %v: %v", name, check[0][name], want, check[0])
				}
			}
			if same, _ := check[0]["same_tokens"].(float64); same < 190 { // two logits may be all but equal
				t.Errorf("%v of 192 tokens are the same", same)
			}
		})
	}
}

// TestCRuns: the program itself, measured.
func TestCRuns(t *testing.T) {
	found := figures(t, append(slices.Clone(short), "--part", "generate", "--new-tokens", "4", "--trials", "2", "--peer-c", cCompiler(t))...)
	ours, theirs, ratios := found[generate], found["peer generate"], found["ratio"]
	if len(ours) != 1 || len(theirs) != 1 || len(ratios) != 1 {
		t.Fatalf("%d figures, %d of the peer, %d ratios, want 1 of each", len(ours), len(theirs), len(ratios))
	}
	for _, name := range []string{"prefill_trials", "decode_trials"} {
		trials, _ := theirs[0][name].([]any)
		if len(trials) != 2 || !(trials[0].(float64) > 0) {
			t.Errorf("%s is %v, want two times", name, theirs[0][name])
		}
	}
}
