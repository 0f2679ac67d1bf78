// Package program holds what the commands share above the library: flags, backend, progress, build facts.
package program

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gotransplant/internal/setup"
	"gotransplant/transplant"

	"github.com/spf13/pflag"
)

// Group is a titled part of a command's help.
type Group struct {
	Title string
	Flags *pflag.FlagSet
}

// NewGroup is an empty group.
func NewGroup(title string) Group {
	f := pflag.NewFlagSet(title, pflag.ContinueOnError)
	f.SortFlags = false
	return Group{title, f}
}

// Common binds the flags that transplant-train and transplant-eval share.
func Common(s *setup.Settings) []Group {
	in, method := NewGroup("Input"), NewGroup("Method")
	f := in.Flags
	f.StringVar(&s.Model, "model", s.Model, "Hugging Face checkpoint `directory` (none: the embedded model)")
	f.StringVar(&s.Data, "data", s.Data, "CSV `file` of rows (none: the embedded data set)")
	f.StringVar(&s.ArguerAdapter, "arguer-adapter", s.ArguerAdapter, "PEFT `directory` of the arguer's LoRA adapter")
	f.StringVar(&s.ChooserAdapter, "chooser-adapter", s.ChooserAdapter, "PEFT `directory` of the chooser's LoRA adapter")
	f.StringVar(&s.ArgueTemplate, "argue-template", s.ArgueTemplate, "text/template `file` of the arguer's prompt (none: built in)")
	f.StringVar(&s.ChooseTemplate, "choose-template", s.ChooseTemplate, "text/template `file` of the chooser's prompt (none: built in)")
	f.BoolVar(&s.MaskChoice, "mask-choice", s.MaskChoice, "hide in the third writer's argument which candidate it is for")
	f.IntVar(&s.MaxTokens, "max-tokens", s.MaxTokens, "longest prompt allowed, in `tokens` (0: the model's context)")
	f.BoolVar(&s.SkipLong, "skip-long", s.SkipLong, "leave out, and count, rows that are longer, instead of refusing the file")
	f.Float64Var(&s.TestFraction, "test-fraction", s.TestFraction, "`share` of the rows held out, 0 to 1")
	f.Uint64Var(&s.Seed, "seed", s.Seed, "seed of split, order and new adapters, a whole `number`")
	f = method.Flags
	f.BoolVar(&s.NoTransplant, "no-transplant", s.NoTransplant, "control: the chooser reads the arguments itself")
	f.BoolVar(&s.ShareAdapter, "share-adapter", s.ShareAdapter, "one adapter for arguer and chooser")
	f.StringVar(&s.TransplantLayers, "transplant-layers", s.TransplantLayers, "`layers` in which states are moved: all, or a list such as 0-3,8")
	return []Group{in, method, Running(s)}
}

// Running binds the flags of how a method is computed.
func Running(s *setup.Settings) Group {
	run := NewGroup("Running")
	f := run.Flags
	f.StringVar(&s.Backend, "backend", s.Backend, "GoMLX `backend`: go, xla:cuda, xla:cpu, xla:/path/to/plugin.so; options of xla follow, "+
		"as in xla:cuda,tf32=true,preallocate=true,memory_fraction=0.9 (a share of the device's memory),visible_devices=0")
	f.BoolVar(&s.InstallPlugin, "install-plugin", s.InstallPlugin, "download the plugin that --backend names, if it is missing (JAX's newest from "+
		"pypi.org for xla:cuda, gigabytes with NVIDIA's libraries)")
	f.StringVar(&s.Attention, "attention", s.Attention, "how attention is computed, a `choice`: plain (all scores at once), blockwise (memory grows with the "+
		"length, not its square), fused (cuDNN, half precision), auto (by length; with cuDNN by measured cost)")
	f.StringVar(&s.Kernels, "kernels", s.Kernels, "what computes on backend go, a `choice`: panels (this program's kernels in AMX, AVX-512, AVX2 or NEON), graphs (GoMLX), "+
		"auto (panels where they can)")
	f.StringVar(&s.DType, "dtype", s.DType, "compute `type`: float32, bfloat16")
	f.StringVar(&s.Weights, "weights", s.Weights,
		"how matrices are kept on the device: `type` checkpoint (as stored), bfloat16, float32, or of the blocks int8, nf4")
	f.StringVar(&s.Residual, "residual", s.Residual, "`type` of the residual stream: float64, float32")
	f.IntVar(&s.MicroBatch, "micro-batch", s.MicroBatch, "`rows` that go through the layers together (0: chosen for the backend)")
	f.IntVar(&s.Workers, "workers", s.Workers, "`micro-batches` run at the same time, without effect on the result (0: by backend and memory)")
	f.Float64Var(&s.DeviceMemory, "device-memory", s.DeviceMemory, "what a run may take of the device's memory, in `GB` of 10^9 bytes (0: on go the "+
		"process's limit, on CUDA what nvidia-smi says)")
	f.BoolVar(&s.SharePrefix, "share-prefix", s.SharePrefix, "compute the tokens with which all prompts begin, the template's head, once an "+
		"update instead of in every row (other last digits)")
	f.IntVar(&s.Buckets, "buckets", s.Buckets, fmt.Sprintf("`number` of shapes that micro-batches are padded to, each of which is compiled; "+
		"rows of similar length go together (0: %d on xla; none on go, where lengths are rounded up a little)", setup.DeviceBuckets))
	return run
}

// Training binds the flags that only transplant-train has.
func Training(t *setup.Training) Group {
	g := NewGroup("Training")
	f := g.Flags
	f.IntVar(&t.Steps, "steps", t.Steps, "`updates` to train for (0: --epochs counts)")
	f.IntVar(&t.Epochs, "epochs", t.Epochs, "`passes` over the training rows")
	f.IntVar(&t.BatchSize, "batch-size", t.BatchSize, "`rows` an update")
	f.Float64Var(&t.LR, "lr", t.LR, "peak learning `rate` of AdamW")
	f.Float64Var(&t.Beta1, "beta1", t.Beta1, "AdamW's decay `rate` of the mean")
	f.Float64Var(&t.Beta2, "beta2", t.Beta2, "AdamW's decay `rate` of the square")
	f.Float64Var(&t.Eps, "eps", t.Eps, "AdamW's epsilon, a `number` added outside the square root")
	f.Float64Var(&t.WeightDecay, "weight-decay", t.WeightDecay, "decoupled weight decay, a `factor` of the learning rate")
	f.Float64Var(&t.ClipNorm, "clip-norm", t.ClipNorm, "largest global gradient `norm` (0: no clipping)")
	f.IntVar(&t.Warmup, "warmup", t.Warmup, "`updates` of linear warm-up")
	f.StringVar(&t.Schedule, "schedule", t.Schedule, "learning rate after warm-up: `kind` constant, linear or cosine")
	f.IntVar(&t.LoraRank, "lora-rank", t.LoraRank, "`rank` of new adapters")
	f.Float64Var(&t.LoraAlpha, "lora-alpha", t.LoraAlpha, "alpha of new adapters: they are scaled by alpha/rank, a `number`")
	f.StringVar(&t.LoraTargets, "lora-targets", t.LoraTargets, "`projections` of new adapters: names, all-linear, or a regular expression")
	f.BoolVar(&t.DoRA, "dora", t.DoRA, "new adapters are DoRA's (weight-decomposed): the norm of every row is trained apart from its direction")
	f.BoolVar(&t.StopGradient, "stop-gradient", t.StopGradient, "keep the loss from reaching the arguer")
	f.BoolVar(&t.Shuffle, "shuffle", t.Shuffle, "new order in every epoch; false: file order")
	f.IntVar(&t.EvalEvery, "eval-every", t.EvalEvery, "`updates` between scores of the held-out rows (0: first and last only)")
	Remat(f, &t.Remat)
	f.IntVar(&t.SaveEvery, "save-every", t.SaveEvery, "`updates` between saves (0: last only)")
	return g
}

// Remat binds --remat to mode.
func Remat(f *pflag.FlagSet, mode *string) {
	f.StringVar(mode, "remat", *mode, "which blocks are computed again on the way back instead of being kept, a `choice`: none, full (all; "+
		"less memory, half as much time again), auto (full where none does not fit)")
}

// Parse parses args against all groups.
func Parse(args []string, groups ...Group) (*pflag.FlagSet, error) {
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	all.SortFlags = false
	all.Usage = func() {}
	for _, g := range groups {
		all.AddFlagSet(g.Flags)
	}
	if err := all.Parse(args); err != nil {
		return nil, explain(err, all)
	}
	if all.NArg() > 0 {
		return nil, stray(all, args)
	}
	return all, refuseEmpty(all, args)
}

// refuseEmpty reports a flag whose text is empty, as in --model "$MODEL" where there is no such variable: what then was
// computed would not be what was asked for. Behind a value of the same flag an empty one takes it back.
func refuseEmpty(flags *pflag.FlagSet, args []string) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		times := 0
		for _, arg := range args {
			if name, _, _ := strings.Cut(arg, "="); name == "--"+f.Name {
				times++
			}
		}
		if err == nil && times == 1 && f.Value.Type() == "string" && f.Value.String() == "" {
			err = fmt.Errorf("--%s is empty: give it a value, or leave it out", f.Name)
		}
	})
	return err
}

// Help writes head and then the flags of each group.
func Help(w io.Writer, head string, groups []Group) {
	fmt.Fprint(w, head)
	for _, g := range groups {
		fmt.Fprintf(w, "\n%s:\n%s", g.Title, g.Flags.FlagUsagesWrapped(width))
	}
}

// width is the longest line of a help text that is wrapped here.
const width = 110

// Differences lists the flags whose default in others is not that in groups, with the former, in lines.
func Differences(groups, others []Group) string {
	list, length := "", 0
	for i, g := range groups {
		g.Flags.VisitAll(func(f *pflag.Flag) {
			if other := others[i].Flags.Lookup(f.Name); other.DefValue != f.DefValue {
				item := "  --" + f.Name + " " + other.DefValue
				if length += len(item); length > width {
					list, length = list+"\n", len(item)
				}
				list += item
			}
		})
	}
	return list
}

// Resume reads the settings of a run directory.
func Resume(dir string) (setup.Settings, error) {
	var config Config
	err := ReadConfig(dir, &config, &config)
	if err == nil && strings.HasPrefix(config.Settings.Backend, "go") {
		config.Settings.Remat = setup.RematAuto // changes no bit there, and this machine may have other memory
	}
	return config.Settings, err
}

// SameData refuses to resume a run on another data set than the one it was begun on.
func SameData(dir string, o *setup.Session) error {
	var config Config
	err := ReadConfig(dir, &config, &config)
	if err == nil && config.DataHash != o.Hash {
		err = fmt.Errorf("--resume %s: the data set has changed since the run began (sha256 %s, now %s): restore it, or start "+
			"a new run", dir, config.DataHash, o.Hash)
	}
	return err
}

// Place is a flag that says where a run reads something, and where it does; "" is nowhere.
type Place struct{ Flag, Path string }

// Missing names all that a run to resume in dir reads and is not there.
func Missing(dir string, places []Place) error {
	var errs []error
	for _, p := range places {
		if p.Path == "" {
			continue
		}
		if _, err := os.Stat(p.Path); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("--resume %s: there is no %s: say with --%s where it is now", dir, p.Path, p.Flag))
		}
	}
	return errors.Join(errs...)
}

// ReadConfig reads the config.json of a run directory to all, of which config is a part or the whole.
func ReadConfig(dir string, all any, config *Config) error {
	path := filepath.Join(dir, transplant.ConfigFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("--resume %s: %w: a run directory holds a %s; if the run died before writing it, start it again",
			dir, err, transplant.ConfigFile)
	}
	old := setup.Defaults() // runs from before there was a choice do not say
	config.Settings.Weights, config.Settings.Attention = old.Weights, old.Attention
	if err := json.Unmarshal(text, all); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if config.Settings.Training == nil {
		return fmt.Errorf("%s: not the config of a training run", path)
	}
	return nil
}

// Absolute replaces the paths in settings by absolute ones, so that a run can be resumed from anywhere.
func Absolute(s *setup.Settings) error {
	for _, path := range []*string{&s.Model, &s.Data, &s.ArguerAdapter, &s.ChooserAdapter, &s.ArgueTemplate, &s.ChooseTemplate} {
		if *path == "" {
			continue
		}
		full, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = full
	}
	if plugin, ok := strings.CutPrefix(s.Backend, "xla:"); ok && strings.Contains(plugin, string(filepath.Separator)) {
		full, err := filepath.Abs(plugin)
		s.Backend = "xla:" + full
		return err
	}
	return nil
}
