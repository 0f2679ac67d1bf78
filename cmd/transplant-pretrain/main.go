// Transplant-pretrain makes the embedded model: it trains a small LLaMA from scratch on generated documents and writes
// it as a Hugging Face checkpoint. The same flags give the same bytes on one kind of machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/pflag"

	"gotransplant/cmd/internal/program"
	"gotransplant/experiment/wordproblem"
	"gotransplant/internal/atomicfile"
	"gotransplant/internal/spelling"
	"gotransplant/model/safetensors"
	"gotransplant/model/tokenizer"
)

const head = `transplant-pretrain trains a small LLaMA from scratch on generated word problems and writes a checkpoint.
Ctrl-C stops after the step under way and writes what there is.

  transplant-datagen --out made
  transplant-pretrain --tokenizer made --out made/model
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	go func() { // a second Ctrl-C ends the program at once
		<-ctx.Done()
		stop()
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the flags beside the recipe.
type options struct {
	tokenizer, out, backend, dtype string
	evaluated, every, workers      int
	steps                          []int
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
	f.IntVar(&o.workers, "workers", runtime.GOMAXPROCS(0), "micro-batches run at the same `time`, without effect on the result")
	f.IntVar(&o.evaluated, "eval-documents", 500, "held-out `documents` to score")
	f.IntVar(&o.every, "eval-every", 200, "`updates` between scores (0: last only)")
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
	case o.evaluated < 1 || o.every < 0 || o.workers < 1:
		err = errors.New("--eval-documents and --workers must be at least 1, --eval-every at least 0")
	case o.steps != nil && len(o.steps) != len(r.Lessons):
		err = fmt.Errorf("--lesson-steps has %d numbers; there are %d lessons", len(o.steps), len(r.Lessons))
	}
	for i := range o.steps {
		if err == nil {
			r.Lessons[i].Steps = o.steps[i]
		}
	}
	return o, r, err
}

// run is main without the process: it returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, r, err := parse(args, stdout)
	if errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "transplant-pretrain:", err)
		return 2
	}
	err = pretrain(ctx, o, r, stderr)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled):
		fmt.Fprintf(stderr, "interrupted; the model as it is was written to %s\n", o.out)
		return 130
	}
	fmt.Fprintln(stderr, "transplant-pretrain:", err)
	return 1
}

// pretrain trains, and writes the model also when it is interrupted.
func pretrain(ctx context.Context, o options, r wordproblem.Recipe, stderr io.Writer) error {
	t, err := tokenizer.Open(o.tokenizer)
	if err != nil {
		return err
	}
	backend, err := program.OpenBackend(o.backend, stderr)
	if err != nil {
		return err
	}
	p, err := wordproblem.NewPretrainer(backend, t, r)
	if err != nil {
		return err
	}
	p.Workers = o.workers
	progress := program.NewProgress(stderr)
	progress.Line(fmt.Sprintf("%d parameters, vocabulary of %d, %d steps of %d documents",
		p.Parameters(), t.VocabSize(), r.Steps(), r.Batch))
	err = p.Run(ctx, follow(p, o, progress))
	progress.Finish()
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return errors.Join(err, save(p, o))
}

// follow prints the loss every ten seconds, and the score of held-out documents when it is due.
func follow(p *wordproblem.Pretrainer, o options, progress *program.Progress) func(wordproblem.PretrainMetrics) error {
	printed := time.Now()
	return func(m wordproblem.PretrainMetrics) error {
		total := p.Recipe.Steps()
		progress.Update("pre-training", m.Step*p.Recipe.Batch, total*p.Recipe.Batch)
		if time.Since(printed) >= 10*time.Second || m.Step == total {
			printed = time.Now()
			progress.Line(fmt.Sprintf("step %d of %d: loss %.4f, judged %.4f, gradient %.2f, lr %.2e, %.0f tokens/s, %.0f s",
				m.Step, total, m.Loss, m.Judged, m.GradientNorm, m.LearningRate, m.TokensPerSec, m.Seconds))
		}
		if m.Step != total && (o.every == 0 || m.Step%o.every != 0) {
			return nil
		}
		s, err := p.Evaluate(o.evaluated)
		if err == nil {
			progress.Line(fmt.Sprintf("after step %d: %s", m.Step, s))
		}
		return err
	}
}

// save writes the checkpoint and copies the tokenizer's files.
func save(p *wordproblem.Pretrainer, o options) error {
	if err := p.Save(o.out, safetensors.DType(o.dtype)); err != nil {
		return err
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		content, err := os.ReadFile(filepath.Join(o.tokenizer, name))
		if name == "tokenizer_config.json" && errors.Is(err, os.ErrNotExist) {
			content, err = []byte(tokenizerConfig), nil
		}
		if err != nil {
			return err
		}
		if err := atomicfile.WriteBytes(filepath.Join(o.out, name), content); err != nil {
			return err
		}
	}
	return nil
}

// tokenizerConfig is what Hugging Face's AutoTokenizer needs beside a tokenizer.json of transplant-datagen.
const tokenizerConfig = `{
 "tokenizer_class": "LlamaTokenizer",
 "add_bos_token": true,
 "bos_token": "<s>",
 "eos_token": "</s>"
}
`
