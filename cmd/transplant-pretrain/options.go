package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"

	"gotransplant/cmd/internal/program"
	"gotransplant/experiment/wordproblem"
	"gotransplant/internal/spelling"
	"gotransplant/model"

	"github.com/spf13/pflag"
)

// options are the flags beside the recipe.
type options struct {
	program.Reporting
	tokenizer, out, backend, dtype string
	evaluated, every, save         int
	workers                        int
	steps                          []int
	decides                        map[string]string // the result: flags of the model and the training
}

// bind gives every flag its place in o and r.
func bind(o *options, r *wordproblem.Recipe) []program.Group {
	files, shape := program.NewGroup("Input and output"), program.NewGroup("Model")
	training, running := program.NewGroup("Training"), program.NewGroup("Running")
	f := files.Flags
	f.StringVar(&o.tokenizer, "tokenizer", "", "`directory` of tokenizer.json")
	f.StringVar(&o.out, "out", "", "`directory` to write the checkpoint and its tokenizer into")
	f.StringVar(&o.dtype, "dtype", "BF16", "`type` of the stored weights: BF16, F32")
	f, m := shape.Flags, &r.Model
	f.IntVar(&m.HiddenSize, "hidden", m.HiddenSize, "`width` of the residual stream")
	f.IntVar(&m.IntermediateSize, "ffn", m.IntermediateSize, "`width` inside the feed-forward")
	f.IntVar(&m.NumHiddenLayers, "layers", m.NumHiddenLayers, "`number` of blocks")
	f.IntVar(&m.NumAttentionHeads, "heads", m.NumAttentionHeads, "`number` of attention heads; it divides the width")
	f.IntVar(&m.NumKeyValueHeads, "kv-heads", m.NumKeyValueHeads, "`number` of key-value heads; it divides --heads")
	f.IntVar(&m.MaxPositionEmbeddings, "context", m.MaxPositionEmbeddings, "context in `tokens`, for config.json")
	f.BoolVar(&m.TieWordEmbeddings, "tied", m.TieWordEmbeddings, "use the embedding as the head")
	bindTraining(training.Flags, o, r)
	f = running.Flags
	f.StringVar(&o.backend, "backend", "go", "GoMLX `backend`: go, xla:cuda, xla:/path/to/plugin.so")
	f.IntVar(&o.workers, "workers", runtime.GOMAXPROCS(0), "`micro-batches` run at the same time, without effect on the result")
	f.IntVar(&o.evaluated, "eval-documents", 500, "held-out `documents` to score")
	f.IntVar(&o.every, "eval-every", 200, "`updates` between scores (0: last only)")
	f.IntVar(&o.save, "save-every", 100, "`updates` between saves of the state that a killed run goes on from (0: when interrupted only)")
	o.Bind(f, "print plan, scores and summary as JSON, one object a line, to standard output; text goes to standard error")
	return []program.Group{files, shape, training, running}
}

// bindTraining binds the flags of the recipe.
func bindTraining(f *pflag.FlagSet, o *options, r *wordproblem.Recipe) {
	f.IntSliceVar(&o.steps, "lesson-steps", nil, "`updates` of each lesson, comma-separated (none: the recipe's)")
	f.IntVar(&r.Batch, "batch-size", r.Batch, "`documents` an update")
	f.IntVar(&r.MicroBatch, "micro-batch", r.MicroBatch, "`documents` that go through the layers together")
	f.IntVar(&r.Bucket, "bucket", r.Bucket, "lengths are rounded up to a multiple of this many `tokens`")
	f.IntVar(&r.Window, "window", r.Window, "`updates` whose documents are sorted by length together")
	f.Float64Var(&r.Rest, "rest-weight", r.Rest, "`weight` in the loss of a token that does not judge; one that judges has 1")
	f.Float64Var(&r.Schedule.Peak, "lr", r.Schedule.Peak, "peak learning `rate` of AdamW")
	f.StringVar(&r.Schedule.Kind, "schedule", r.Schedule.Kind, "rate after warm-up: `kind` constant, linear or cosine")
	f.IntVar(&r.Schedule.Warmup, "warmup", r.Schedule.Warmup, "`updates` of linear warm-up")
	f.Float64Var(&r.Adam.Beta1, "beta1", r.Adam.Beta1, "AdamW's decay `rate` of the mean")
	f.Float64Var(&r.Adam.Beta2, "beta2", r.Adam.Beta2, "AdamW's decay `rate` of the square")
	f.Float64Var(&r.Adam.Eps, "eps", r.Adam.Eps, "AdamW's epsilon, a `number` added outside the square root")
	f.Float64Var(&r.Adam.WeightDecay, "weight-decay", r.Adam.WeightDecay,
		"decoupled weight decay of all but norms, a `factor` of the learning rate")
	f.Float64Var(&r.ClipNorm, "clip-norm", r.ClipNorm, "largest global gradient `norm` (0: no clipping)")
	f.Uint64Var(&r.Seed, "seed", r.Seed, "seed of weights and documents, a whole `number`")
}

// parse reads the flags over the default recipe.
func parse(args []string, stdout io.Writer) (o options, r wordproblem.Recipe, err error) {
	r = wordproblem.DefaultRecipe()
	groups := bind(&o, &r)
	if _, err = program.Parse(args, groups...); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			program.Help(stdout, head, groups)
		}
		return o, r, err
	}
	switch {
	case o.tokenizer == "":
		err = errors.New("--tokenizer is missing: name the directory that transplant-datagen wrote")
	case o.out == "":
		err = errors.New("--out is missing: name the directory to write into")
	case o.dtype != "BF16" && o.dtype != "F32":
		err = fmt.Errorf("--dtype %s", spelling.Unknown(o.dtype, "BF16", "F32"))
	case o.evaluated < 1:
		err = fmt.Errorf("--eval-documents %d: it must be at least 1", o.evaluated)
	case o.every < 0:
		err = fmt.Errorf("--eval-every %d: it must be at least 0", o.every)
	case o.save < 0:
		err = fmt.Errorf("--save-every %d: it must be at least 0", o.save)
	case o.workers < 1:
		err = fmt.Errorf("--workers %d: it must be at least 1", o.workers)
	case o.steps != nil && len(o.steps) != len(r.Lessons):
		err = fmt.Errorf("--lesson-steps %s: there are %d lessons, give a number for each", numbers(o.steps), len(r.Lessons))
	}
	if err == nil {
		err = errors.Join(checkShape(r.Model), checkTraining(o, r))
	}
	for i := range o.steps {
		if err == nil {
			r.Lessons[i].Steps = o.steps[i]
		}
	}
	if err == nil {
		o.decides = map[string]string{}
		for _, g := range groups[1:3] {
			g.Flags.VisitAll(func(f *pflag.Flag) { o.decides[f.Name] = f.Value.String() })
		}
		var steps []int // those of the recipe too
		for _, l := range r.Lessons {
			steps = append(steps, l.Steps)
		}
		o.decides["lesson-steps"] = numbers(steps)
	}
	return o, r, err
}

// numbers are as they are given on the command line.
func numbers(list []int) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(list), "[]"), " ", ",")
}

// checkShape refuses sizes that are no LLaMA's, of which a run would find out when it is over.
func checkShape(m model.Config) error {
	for _, n := range []struct {
		flag  string
		value int
	}{{"hidden", m.HiddenSize}, {"ffn", m.IntermediateSize}, {"layers", m.NumHiddenLayers}, {"heads", m.NumAttentionHeads},
		{"kv-heads", m.NumKeyValueHeads}, {"context", m.MaxPositionEmbeddings}} {
		if n.value < 1 {
			return fmt.Errorf("--%s %d: it must be at least 1", n.flag, n.value)
		}
	}
	switch {
	case m.HiddenSize%m.NumAttentionHeads != 0:
		return fmt.Errorf("--hidden %d is no multiple of --heads %d", m.HiddenSize, m.NumAttentionHeads)
	case m.HiddenSize/m.NumAttentionHeads%2 != 0:
		return fmt.Errorf("--hidden %d over --heads %d is odd, and rotary embeddings turn pairs", m.HiddenSize, m.NumAttentionHeads)
	case m.NumAttentionHeads%m.NumKeyValueHeads != 0:
		return fmt.Errorf("--heads %d is no multiple of --kv-heads %d", m.NumAttentionHeads, m.NumKeyValueHeads)
	}
	return nil
}

// checkTraining refuses numbers that no update can use.
func checkTraining(o options, r wordproblem.Recipe) error {
	for _, n := range []struct {
		flag         string
		value, below float64
	}{{"beta1", r.Adam.Beta1, 1}, {"beta2", r.Adam.Beta2, 1}, {"eps", r.Adam.Eps, math.Inf(1)}, {"weight-decay", r.Adam.WeightDecay, math.Inf(1)},
		{"clip-norm", r.ClipNorm, math.Inf(1)}, {"lr", r.Schedule.Peak, math.Inf(1)}, {"rest-weight", r.Rest, math.Inf(1)}} {
		if !(n.value >= 0 && n.value < n.below) {
			return fmt.Errorf("--%s %v: it must be at least 0 and below %v", n.flag, n.value, n.below)
		}
	}
	for _, steps := range o.steps {
		if steps < 0 {
			return fmt.Errorf("--lesson-steps %s: no lesson can have %d, give 0 or more", numbers(o.steps), steps)
		}
	}
	return nil
}
