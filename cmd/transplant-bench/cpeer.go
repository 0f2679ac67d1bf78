package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/standin"
	"gotransplant/llama"
	"gotransplant/model"
	"gotransplant/model/safetensors"
	"gotransplant/scripts/bench"
	"gotransplant/transplant"
)

// plainC is how figures of scripts/bench/peer.c name what computed them.
const plainC = "plain C"

// cFlags are those of the compiler. With them it may reorder sums, and so put them into vectors.
func cFlags() []string { return []string{"-O3", "-march=native", "-ffast-math"} }

// cPeer is scripts/bench/peer.c, built, with weights and prompts that are those of this program, all in one directory.
type cPeer struct {
	ctx             context.Context
	options         options
	dir             string
	compiler        string // what it says of itself
	weights, tokens string // files
	shape           []string
	stderr          io.Writer
}

// newCPeer builds the program and writes its weights. The directory must be removed.
func newCPeer(ctx context.Context, j job) (*cPeer, error) {
	compiler, err := exec.LookPath(j.options.compiler)
	if err != nil {
		return nil, fmt.Errorf("--peer-c %s: no such C compiler: %w", j.options.compiler, err)
	}
	dir, err := os.MkdirTemp("", "transplant-bench-")
	if err != nil {
		return nil, err
	}
	p := &cPeer{ctx: ctx, options: j.options, dir: dir, weights: filepath.Join(dir, "weights.f32"),
		tokens: filepath.Join(dir, "tokens.i32"), shape: cShape(j.config), stderr: j.stderr}
	if err = p.build(compiler); err == nil {
		err = writeFlat(p.weights, j.config, j.settings.Seed)
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("--peer-c %s: %w", j.options.compiler, err)
	}
	return p, nil
}

// cShape are the program's arguments for a shape. Rotary scaling is left out: it costs nothing.
func cShape(c model.Config) []string {
	tied := 0
	if c.TieWordEmbeddings {
		tied = 1
	}
	return []string{fmt.Sprintf("layers=%d", c.NumHiddenLayers), fmt.Sprintf("hidden=%d", c.HiddenSize),
		fmt.Sprintf("heads=%d", c.NumAttentionHeads), fmt.Sprintf("groups=%d", c.NumKeyValueHeads),
		fmt.Sprintf("dim=%d", c.HeadDim), fmt.Sprintf("inner=%d", c.IntermediateSize), fmt.Sprintf("vocab=%d", c.VocabSize),
		fmt.Sprintf("tied=%d", tied), "theta=" + strconv.FormatFloat(c.RopeTheta, 'g', -1, 64),
		"eps=" + strconv.FormatFloat(c.RMSNormEps, 'g', -1, 64)}
}

// build compiles the program.
func (p *cPeer) build(compiler string) error {
	source := filepath.Join(p.dir, "peer.c")
	if err := os.WriteFile(source, []byte(bench.PeerC), 0o644); err != nil {
		return err
	}
	args := append(cFlags(), "-o", p.program(), source, "-lm")
	if said, err := exec.CommandContext(p.ctx, compiler, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("building peer.c with %s: %w\n%s", strings.Join(cFlags(), " "), err, bytes.TrimSpace(said))
	}
	p.compiler = p.options.compiler
	if version, err := exec.CommandContext(p.ctx, compiler, "--version").Output(); err == nil {
		first, _, _ := strings.Cut(string(version), "\n")
		p.compiler = strings.TrimSpace(first)
	}
	return nil
}

func (p *cPeer) program() string { return filepath.Join(p.dir, "peer") }

// writeFlat writes the weights that this program makes as well, one tensor after the other, as float32.
func writeFlat(path string, c model.Config, seed uint64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if failed := f.Close(); err == nil {
			err = failed
		}
	}()
	for i, spec := range c.Specs(safetensors.F32) {
		content, err := standin.Fill(spec, seed+uint64(i))
		if err != nil {
			return err
		}
		if _, err := f.Write(content); err != nil {
			return fmt.Errorf("%s: %w", spec.Name, err)
		}
	}
	return nil
}

// cLine is a line that the program prints: of a trial, or of a comparison.
type cLine struct {
	Prompt       float64 `json:"prompt_seconds"`
	Decode       float64 `json:"decode_seconds"`
	Generated    int     `json:"generated"`
	Same         int     `json:"same"`
	WorstGap     float64 `json:"worst_gap"`
	LargestLogit float64 `json:"largest_logit"`
}

// run has the program continue the rows' prompts, or follow what others chose behind them, and returns its lines.
func (p *cPeer) run(cases []transplant.Case, chosen []int32, more ...string) ([]cLine, error) {
	f, err := os.Create(p.tokens)
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriter(f)
	for _, c := range cases {
		binary.Write(w, binary.LittleEndian, c.Choose) // what fails is kept until Flush
	}
	binary.Write(w, binary.LittleEndian, chosen)
	if err := w.Flush(); err != nil {
		f.Close()
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	args := append(slices.Clone(p.shape), "weights="+p.weights, "tokens="+p.tokens, fmt.Sprintf("rows=%d", len(cases)),
		fmt.Sprintf("prompt=%d", p.options.lengths.chooser))
	var out bytes.Buffer
	command := exec.CommandContext(p.ctx, p.program(), append(args, more...)...)
	command.Stdout, command.Stderr = &out, p.stderr
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("--peer-c %s: %w", p.options.compiler, err)
	}
	var lines []cLine
	for text := range strings.Lines(out.String()) {
		var l cLine
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			return nil, fmt.Errorf("--peer-c %s: peer.c printed %q, want a JSON object: %w", p.options.compiler, text, err)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// runCPeer has the program continue the same prompts with the same weights, one row after the other, on one core.
func (j job) runCPeer(ctx context.Context) (peerFigure, error) {
	p, err := newCPeer(ctx, j)
	if err != nil {
		return peerFigure{}, err
	}
	defer os.RemoveAll(p.dir)
	cases, err := j.options.lengths.cases(j.options.rows, j.config, j.settings.Seed)
	if err != nil {
		return peerFigure{}, err
	}
	lines, err := p.run(cases, nil, fmt.Sprintf("new=%d", j.options.newTokens), fmt.Sprintf("trials=%d", j.options.trials))
	if err != nil {
		return peerFigure{}, err
	}
	if len(lines) != j.options.trials {
		return peerFigure{}, fmt.Errorf("--peer-c %s: peer.c told of %d trials, want %d", j.options.compiler, len(lines), j.options.trials)
	}
	return p.figure(lines), nil
}

// figure is what the trials come to.
func (p *cPeer) figure(lines []cLine) peerFigure {
	o := p.options
	f := peerFigure{Part: generate, Implementation: plainC, Compiler: p.compiler, CompilerFlags: strings.Join(cFlags(), " "),
		Device: processor(), DType: "float32", Rows: o.rows, Threads: 1, PromptTokens: o.lengths.chooser, NewTokens: o.newTokens}
	for _, l := range lines {
		f.PrefillTrials, f.DecodeTrials = append(f.PrefillTrials, l.Prompt), append(f.DecodeTrials, l.Decode)
	}
	f.SecondsPerToken = median(f.DecodeTrials) / float64(o.newTokens-1)
	f.DecodeTokensPerSecond = float64(o.rows) / f.SecondsPerToken
	f.PrefillTokensPerSecond = float64(o.rows*o.lengths.chooser) / median(f.PrefillTrials)
	f.Line = map[string]any{"part": f.Part, "implementation": f.Implementation, "compiler": f.Compiler,
		"compiler_flags": f.CompilerFlags, "device": f.Device, "dtype": f.DType, "threads": f.Threads, "rows": f.Rows,
		"prompt_tokens": f.PromptTokens, "new_tokens": f.NewTokens, "seconds_per_token": f.SecondsPerToken,
		"prefill_tokens_per_second": f.PrefillTokensPerSecond, "decode_tokens_per_second": f.DecodeTokensPerSecond,
		"prefill_trials": f.PrefillTrials, "decode_trials": f.DecodeTrials}
	return f
}

// checkC compares generation in float32: the C program goes along with this program's tokens and says how far the logits
// of these are below its largest.
func (j job) checkC(ctx context.Context, out *report) error {
	if j.config.RopeScaling != nil {
		return fmt.Errorf("--check: --shape %s has rotary scaling, which the C program leaves out", j.options.shape)
	}
	j.settings.DType, j.options.weights = "float32", "float32"
	p, err := newCPeer(ctx, j)
	if err != nil {
		return err
	}
	defer os.RemoveAll(p.dir)
	backend, err := program.Backend(j.settings, j.stderr)
	if err != nil {
		return err
	}
	weights, err := llama.DeferMade(backend, j.config, safetensors.F32, llama.AsStored, func(i int, spec safetensors.Spec) ([]byte, error) {
		return standin.Fill(spec, j.settings.Seed+uint64(i))
	})
	if err != nil {
		return err
	}
	b, err := assemble(j.settings, j.options, backend, weights)
	if err != nil {
		return err
	}
	ids, err := continuation(b.session, j.options.newTokens)
	if err != nil {
		return err
	}
	lines, err := p.run(b.session.Cases, ids, fmt.Sprintf("new=%d", j.options.newTokens), "follow=1")
	if err != nil {
		return err
	}
	if len(lines) != 1 || lines[0].Generated != len(ids) {
		return fmt.Errorf("--peer-c %s: peer.c looked at %+v, want %d tokens once", j.options.compiler, lines, len(ids))
	}
	return out.checkedC(lines[0], p.compiler)
}

// checkedC tells how a comparison with the C program ended, and is an error where they differ.
func (r *report) checkedC(l cLine, compiler string) error {
	agrees := l.WorstGap <= agreement*l.LargestLogit
	r.say(map[string]any{"part": "check", "implementation": plainC, "compiler": compiler, "generated_tokens": l.Generated,
		"same_tokens": l.Same, "worst_gap": l.WorstGap, "largest_logit": l.LargestLogit, "agrees": agrees},
		"%d generated tokens: %d are the C program's own; logits at most %.1e below its largest, of up to %.3g\n(%s, %s, %s, float32)\n",
		l.Generated, l.Same, l.WorstGap, l.LargestLogit, plainC, compiler, strings.Join(cFlags(), " "))
	if !agrees {
		return fmt.Errorf("the C program computes something else: more than %.0e apart", agreement)
	}
	return r.err
}
