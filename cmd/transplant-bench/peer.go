package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"gotransplant/internal/setup"
	"gotransplant/model"
	"gotransplant/scripts/bench"
)

// peerSpec is what scripts/bench/peer.py is told to time.
type peerSpec struct {
	Config        map[string]any `json:"config"`
	Rows          int            `json:"rows"`
	ArguerTokens  int            `json:"arguer_tokens"`
	ArguerSpan    [2]int         `json:"arguer_span"`
	ChooserTokens int            `json:"chooser_tokens"`
	ChooserSpans  [2][2]int      `json:"chooser_spans"`
	Rank          int            `json:"rank"`
	Alpha         float64        `json:"alpha"`
	LearningRate  float64        `json:"learning_rate"`
	DTypes        []string       `json:"dtypes"`
	Parts         []string       `json:"parts"`
	NewTokens     int            `json:"new_tokens"`
	Trials        int            `json:"trials"`
	Seed          uint64         `json:"seed"`
	Device        string         `json:"device"`
	Check         string         `json:"check"`
}

// spec is the same work for PyTorch. Rotary scaling is left out: it costs nothing.
func (o options) spec(s setup.Settings, c model.Config) peerSpec {
	spec := peerSpec{
		Config: map[string]any{
			"vocab_size": c.VocabSize, "hidden_size": c.HiddenSize, "intermediate_size": c.IntermediateSize,
			"num_hidden_layers": c.NumHiddenLayers, "num_attention_heads": c.NumAttentionHeads,
			"num_key_value_heads": c.NumKeyValueHeads, "head_dim": c.HeadDim, "rms_norm_eps": c.RMSNormEps,
			"rope_theta": c.RopeTheta, "max_position_embeddings": c.MaxPositionEmbeddings,
			"tie_word_embeddings": c.TieWordEmbeddings,
		},
		Rows: o.rows, ArguerTokens: o.lengths.arguer, ChooserTokens: o.lengths.chooser,
		Rank: s.LoraRank, Alpha: s.LoraAlpha, LearningRate: s.LR, DTypes: o.peerDTypes, Parts: o.parts, NewTokens: o.newTokens,
		Trials: o.trials,
		Seed:   s.Seed, Device: "auto",
	}
	if strings.HasPrefix(s.Backend, "go") {
		spec.Device = "cpu"
	}
	span := o.lengths.arguerSpan()
	spec.ArguerSpan = [2]int{span.Start, span.End}
	for i, span := range o.lengths.chooserSpans() {
		spec.ChooserSpans[i] = [2]int{span.Start, span.End}
	}
	return spec
}

// peerFigure is a line of the script, or what the trials of the C program came to. Line is all of it.
type peerFigure struct {
	Part           string    `json:"part"`
	Implementation string    `json:"implementation"`
	Torch          string    `json:"torch"`
	Compiler       string    `json:"compiler"` // of the C program
	CompilerFlags  string    `json:"compiler_flags"`
	Device         string    `json:"device"`
	DType          string    `json:"dtype"`
	SecondsPerStep float64   `json:"seconds_per_step"`
	RowsPerSecond  float64   `json:"rows_per_second"`
	Rows           int       `json:"rows"`
	MicroBatch     int       `json:"micro_batch"`
	Trials         []float64 `json:"trials"`

	// Of a CPU.
	Threads          int             `json:"threads"`           // the fastest number of them; a BLAS may have more of its own
	ThreadsTried     map[int]float64 `json:"threads_tried"`     // seconds, the best of a few steps
	InstalledThreads int             `json:"installed_threads"` // what PyTorch takes unless told otherwise
	CoresBusy        float64         `json:"cores_busy"`

	// Of generation.
	PromptTokens           int       `json:"prompt_tokens"`
	NewTokens              int       `json:"new_tokens"`
	PrefillTokensPerSecond float64   `json:"prefill_tokens_per_second"`
	DecodeTokensPerSecond  float64   `json:"decode_tokens_per_second"`
	SecondsPerToken        float64   `json:"seconds_per_token"`
	PrefillTrials          []float64 `json:"prefill_trials"`
	DecodeTrials           []float64 `json:"decode_trials"`

	// Of a check.
	Loss          float64 `json:"loss"`
	GradientNorm  float64 `json:"gradient_norm"`
	Matrices      int     `json:"matrices"`
	WorstMatrix   string  `json:"worst_matrix"`
	WorstDistance float64 `json:"worst_distance"`
	Generated     int     `json:"generated"` // tokens of this program's that were looked at
	WorstGap      float64 `json:"worst_gap"` // how far the logit of one of them is from the largest
	LargestLogit  float64 `json:"largest_logit"`

	Line map[string]any `json:"-"`
}

// name says for people what a figure is of.
func (p peerFigure) name() string {
	if p.Implementation == plainC {
		return plainC
	}
	return "PyTorch"
}

// runPeers measures what the flags ask for beside this program.
func (j job) runPeers(ctx context.Context) (all []peerFigure, err error) {
	if j.options.peer {
		if all, err = runPeer(ctx, j.options, j.options.spec(j.settings, j.config), j.stderr); err != nil {
			return nil, err
		}
	}
	if j.options.compiler != "" {
		p, err := j.runCPeer(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// withTorch is the first program of a name on the search path that has torch: the one in front may be another Python than the
// system's packages belong to. It is the name itself where there is none, and a path as it is.
func withTorch(ctx context.Context, name string) string {
	if filepath.Base(name) != name {
		return name
	}
	const look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path, err := exec.LookPath(filepath.Join(dir, name))
		if err == nil && exec.CommandContext(ctx, path, "-c", look).Run() == nil {
			return path
		}
	}
	return name
}

// runPeer runs the script, which is handed over on standard input, and reads its figures.
func runPeer(ctx context.Context, o options, spec peerSpec, stderr io.Writer) ([]peerFigure, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	python := withTorch(ctx, o.python)
	var out, complaints bytes.Buffer
	command := exec.CommandContext(ctx, python, "-", "--spec", string(text))
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(bench.Peer), &out, io.MultiWriter(stderr, &complaints)
	if err := command.Run(); err != nil {
		if strings.Contains(complaints.String(), "No module named 'torch'") {
			err = fmt.Errorf("%w: it has no torch; name one that has", err)
		}
		return nil, fmt.Errorf("--peer-python %s: %w", python, err)
	}
	var figures []peerFigure
	for line := range strings.Lines(out.String()) {
		var f peerFigure
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			return nil, fmt.Errorf("--peer-python %s printed %q, want a JSON object: %w", python, line, err)
		}
		if err := json.Unmarshal([]byte(line), &f.Line); err != nil {
			return nil, err
		}
		figures = append(figures, f)
	}
	return figures, nil
}
