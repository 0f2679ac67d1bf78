package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/setup"
	"gotransplant/internal/spelling"
	"gotransplant/internal/standin"
	"gotransplant/model"

	"github.com/spf13/pflag"
)

// The parts that can be measured.
const (
	train    = "train"
	eval     = "eval"
	generate = "generate"
)

// options are the flags beside the settings.
type options struct {
	program.Reporting
	shape        string
	parts        []string
	rows, trials int
	newTokens    int // of each row, in generation
	lengths      lengths
	weights      string // float32 or bfloat16, in which weights are made; "": the compute dtype
	peer, check  bool
	python       string
	compiler     string   // of the C program; "": it is not measured
	peerDTypes   []string // empty: chosen for the backend
}

// parse reads the flags over the defaults.
func parse(args []string, stdout io.Writer) (s setup.Settings, o options, err error) {
	s = setup.Defaults()
	o = options{shape: "42m", parts: []string{train, eval}, rows: 2, trials: 5, newTokens: 64, lengths: published(), python: "python3"}
	groups := bind(&s, &o)
	if _, err = program.Parse(args, groups...); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			program.Help(stdout, head, groups)
		}
		return s, o, err
	}
	if err := s.Validate(); err != nil {
		return s, o, err
	}
	if o.weights == "" {
		o.weights = s.DType
	}
	if len(o.peerDTypes) == 0 {
		o.peerDTypes = []string{"bfloat16"}
		if strings.HasPrefix(s.Backend, "go") {
			o.peerDTypes = []string{"float32", "bfloat16"}
		}
	}
	s.BatchSize, s.EvalEvery, s.SaveEvery = o.rows, 0, 0
	return s, o, o.validate()
}

// bind gives every flag its place in s and o.
func bind(s *setup.Settings, o *options) []program.Group {
	what, peer, running := program.NewGroup("What to measure"), program.NewGroup("Peers"), program.Running(s)
	f := what.Flags
	f.StringVar(&o.shape, "shape", o.shape, "`name` of a shape ("+strings.Join(standin.Names(), ", ")+") or path of a config.json")
	f.StringSliceVar(&o.parts, "part", o.parts, "`parts` to measure: train, eval, generate; may be repeated")
	f.IntVar(&o.rows, "rows", o.rows, "`rows` in a training step or an evaluation, or continued at a time")
	f.IntVar(&o.lengths.arguer, "arguer", o.lengths.arguer, "length of each of a row's two arguer prompts, in `tokens`")
	f.IntVar(&o.lengths.chooser, "chooser", o.lengths.chooser, "length of the chooser's prompt with both arguments, in `tokens`")
	f.IntVar(&o.lengths.argument, "argument", o.lengths.argument, "length of an argument, with which the arguer's prompt ends, in `tokens`")
	f.IntVar(&o.lengths.prefix, "prefix", o.lengths.prefix, "`tokens` with which all prompts of a role begin alike, as a template's head does")
	f.IntVar(&o.newTokens, "new-tokens", o.newTokens, "`tokens` by which the base continues each chooser's prompt")
	f.IntVar(&s.LoraRank, "lora-rank", s.LoraRank, "`rank` of both adapters, on "+s.LoraTargets)
	f.StringVar(&o.weights, "weights-dtype", o.weights, "`type` in which the weights are made, as in a checkpoint: float32, bfloat16 (none: --dtype)")
	program.Remat(f, &s.Remat)
	f.Uint64Var(&s.Seed, "seed", s.Seed, "seed of weights, tokens and adapters, a whole `number`")
	f.IntVar(&o.trials, "trials", o.trials, "timed `runs` of each part, after the first and a second to warm up")
	o.Bind(f, "print one JSON object a line for each figure instead of a table")
	f = peer.Flags
	f.BoolVar(&o.peer, "peer", o.peer, "measure the same parts in PyTorch as well, before, and print the ratios")
	f.StringVar(&o.python, "peer-python", o.python, "Python `program` that has torch: a path, or a name, of which the first on the search path "+
		"that has it is taken")
	f.StringSliceVar(&o.peerDTypes, "peer-dtype", o.peerDTypes, "`types` for PyTorch: float32, bfloat16 (none: both on the go backend, else bfloat16)")
	f.StringVar(&o.compiler, "peer-c", o.compiler, "build a plain C program with this `compiler`, such as cc, and measure generation in it too (none: not)")
	f.BoolVar(&o.check, "check", o.check, "instead of measuring, compare loss, gradients and generation in float32 with PyTorch's; "+
		"with --peer-c generation with the C program's")
	return []program.Group{what, peer, running}
}

func (o options) validate() error {
	for _, n := range []struct {
		flag       string
		value, low int
	}{{"rows", o.rows, 1}, {"trials", o.trials, 1}, {"new-tokens", o.newTokens, 2}} {
		if n.value < n.low {
			return fmt.Errorf("--%s %d: it must be at least %d", n.flag, n.value, n.low)
		}
	}
	for _, p := range o.parts {
		switch p {
		case train, eval, generate:
		default:
			return fmt.Errorf("--part %s", spelling.Unknown(p, train, eval, generate))
		}
	}
	for flag, types := range map[string][]string{"weights-dtype": {o.weights}, "peer-dtype": o.peerDTypes} {
		for _, t := range types {
			if t != "float32" && t != "bfloat16" {
				return fmt.Errorf("--%s %s", flag, spelling.Unknown(t, "float32", "bfloat16"))
			}
		}
	}
	if o.compiler != "" && !o.generates() {
		return fmt.Errorf("--peer-c %s: the C program only generates: add --part generate, or --check", o.compiler)
	}
	return o.lengths.validate()
}

// generates says whether prompts are continued until the tokens asked for are there.
func (o options) generates() bool {
	return slices.Contains(o.parts, generate) || o.check && o.compiler != ""
}

// config is the shape asked for.
func (o options) config() (model.Config, error) {
	if slices.Contains(standin.Names(), o.shape) {
		return standin.Shape(o.shape)
	}
	text, err := os.ReadFile(o.shape)
	if err != nil {
		return model.Config{}, fmt.Errorf("--shape %s: it is no path that can be read (%w), and no shape: %s", o.shape, err,
			spelling.Unknown(o.shape, standin.Names()...))
	}
	return model.ParseConfig(o.shape, text)
}
