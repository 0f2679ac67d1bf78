package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/extract"
	"gotransplant/internal/states"
	"gotransplant/llama"

	"github.com/spf13/pflag"
)

// options are those of the extraction and of this command.
type options struct {
	extract.Options
	out, resume  string
	dryRun, json bool
	content      map[string]string // by flag, what the files depend on
	begun        extract.Config    // of the directory to resume
}

// dir is the directory written to.
func (o options) dir() string {
	if o.resume != "" {
		return o.resume
	}
	return o.out
}

// again says what a resumed run must be given besides its directory.
func (o options) again() string {
	if o.Text == extract.Stdin || o.JSONL == extract.Stdin {
		return ", with the same standard input"
	}
	return ""
}

// bind makes the flags.
func bind(o *options) []program.Group {
	common := program.Common(&o.Settings)
	in, what, out := program.NewGroup("Input"), program.NewGroup("States"), program.NewGroup("Output")
	f := in.Flags
	take(f, common, "model")
	f.StringVar(&o.Adapter, "adapter", o.Adapter, "PEFT `directory` of an adapter that the model reads with")
	f.StringVar(&o.Text, "text", o.Text, "`file` of texts, one a line (-: standard input)")
	f.StringVar(&o.JSONL, "jsonl", o.JSONL, `JSONL `+"`file`"+` of "text" or "segments" [{"text", "name"}], with "id" and "label" (-: standard input)`)
	take(f, common, "data")
	f.StringVar(&o.Prompt, "prompt", o.Prompt, "`prompt` made of a row of --data: arguer-correct, arguer-incorrect, chooser")
	take(f, common, "argue-template", "choose-template", "mask-choice")
	f.BoolVar(&o.Transplant, "transplant", o.Transplant, "move the arguer's keys and values into the chooser's prompt; --adapter is the chooser's")
	take(f, common, "arguer-adapter", "transplant-layers")
	f.StringVar(&o.Specials, "specials", o.Specials, "what special tokens' names in --text and --jsonl are, a `choice`: tokens, text")
	take(f, common, "max-tokens", "skip-long")
	f = what.Flags
	f.StringVar(&o.Sites, "sites", o.Sites, "`names`, separated by commas: "+siteNames())
	f.StringVar(&o.Layers, "layers", o.Layers, "`layers`: all, or a list such as 0-3,8")
	f.StringVar(&o.Positions, "positions", o.Positions, "`tokens` whose states are stored, separated by commas: all, last, span:NAME (a segment), moved:NAME (the "+
		"positions that produce it), mean:NAME (its mean), an index such as 0 or -2")
	f.StringVar(&o.Store, "store", o.Store, "`type` in the files: computed (the residual stream as --residual says, all else float32), float64, float32, "+
		"bfloat16, float16")
	run := program.NewGroup("Running")
	take(run.Flags, common, "backend", "install-plugin", "attention", "kernels", "dtype", "weights", "residual", "workers", "device-memory")
	run.Flags.IntVar(&o.BatchTokens, "batch-tokens", o.BatchTokens, "`tokens`, padding included, of texts that go through the layers together, "+
		"unless one has more (0: chosen for the backend)")
	run.Flags.Lookup("workers").Usage = "`batches` of texts computed at the same time (0: chosen for the backend and its memory)"
	f = out.Flags
	f.StringVar(&o.out, "out", "", "`directory` to make (none: states/ and the time)")
	f.StringVar(&o.resume, "resume", "", "`directory` to continue; its config.json gives all other flags, and those of files that "+
		"were moved say where they are now")
	f.StringVar(&o.Format, "format", o.Format, "`kind` of the files: safetensors, npy")
	f.IntVar(&o.ShardRows, "shard-rows", o.ShardRows, "most `rows` in a shard")
	f.Int64Var(&o.ShardBytes, "shard-bytes", o.ShardBytes, "most `bytes` of states in a shard, unless one row has more")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and stop")
	f.BoolVar(&o.json, "json", false, "print plan and summary as JSON")
	return []program.Group{in, what, out, run}
}

// take adds flags of other groups by name.
func take(to *pflag.FlagSet, groups []program.Group, names ...string) {
	for _, name := range names {
		for _, g := range groups {
			if flag := g.Flags.Lookup(name); flag != nil {
				to.AddFlag(flag)
			}
		}
	}
}

func siteNames() string {
	var names []string
	for _, info := range llama.Sites() {
		names = append(names, string(info.Site))
	}
	return strings.Join(names, ", ")
}

// anyway are the flags that change no byte of the files.
func anyway() []string {
	return []string{"out", "resume", "dry-run", "json", "workers", "device-memory", "install-plugin"}
}

func parse(args []string, stdout io.Writer) (o options, err error) {
	o.Options = extract.Defaults()
	groups := bind(&o)
	flags, err := program.Parse(args, groups...)
	if errors.Is(err, pflag.ErrHelp) {
		program.Help(stdout, head, groups)
	}
	if err != nil {
		return o, err
	}
	if err := misplaced(o, flags); err != nil {
		return o, err
	}
	if err := absolute(&o); err != nil {
		return o, err
	}
	if o.resume != "" {
		if err := o.continued(flags); err != nil {
			return o, err
		}
	}
	o.content = make(map[string]string)
	flags.VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(anyway(), f.Name) {
			o.content[f.Name] = f.Value.String()
		}
	})
	if o.out == "" && o.resume == "" {
		o.out = "states/" + time.Now().Format("20060102-150405")
	}
	if o.resume != "" {
		return o, nil
	}
	if err := program.CheckOut(o.out); err != nil {
		return o, err
	}
	return o, states.CheckUnused(o.out)
}

// misplaced refuses flags that another kind of input than the one given needs.
func misplaced(o options, flags *pflag.FlagSet) error {
	ofRows, ofTexts := []string{"prompt", "argue-template", "choose-template", "mask-choice", "transplant"}, []string{"specials"}
	wrong, right := ofTexts, "--text and --jsonl"
	if o.Text != "" || o.JSONL != "" {
		wrong, right = ofRows, "--data"
	}
	for _, name := range wrong {
		if flags.Changed(name) && o.resume == "" {
			return fmt.Errorf("--%s says how %s is read, which is not the input: leave it out", name, right)
		}
	}
	return nil
}

// absolute makes the paths such that they can be resumed from anywhere.
func absolute(o *options) error {
	for _, path := range []*string{&o.Adapter, &o.Text, &o.JSONL} {
		if *path == "" || *path == extract.Stdin {
			continue
		}
		full, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = full
	}
	return program.Absolute(&o.Settings)
}

// places are the flags that say where something is read. Another place is no other content.
func places() []string {
	return []string{"model", "adapter", "text", "jsonl", "data", "argue-template", "choose-template", "arguer-adapter"}
}

// continued takes the options from the directory to resume and refuses flags that say something else.
func (o *options) continued(flags *pflag.FlagSet) (err error) {
	if o.out != "" {
		return errors.New("--resume and --out: give one of them")
	}
	if o.begun, err = extract.ReadConfig(o.resume); err != nil {
		return fmt.Errorf("--resume: %w", err)
	}
	flags.VisitAll(func(f *pflag.Flag) {
		old, ok := o.begun.Options[f.Name]
		switch {
		case !ok || err != nil:
		case f.Changed && old != "" && slices.Contains(places(), f.Name): // Resume compares what is in it
		case f.Changed && f.Value.String() != old:
			err = fmt.Errorf("--resume %s: it was begun with --%s %s, not %s: leave the flag out, or extract to another directory",
				o.resume, f.Name, old, f.Value)
		case !f.Changed:
			err = f.Value.Set(old)
		}
	})
	if err != nil {
		return err
	}
	return o.missing(flags)
}

// missing names all that a directory to resume was begun with and is not there.
func (o *options) missing(flags *pflag.FlagSet) error {
	var all []program.Place
	for _, flag := range places() {
		if path := flags.Lookup(flag).Value.String(); path != extract.Stdin {
			all = append(all, program.Place{Flag: flag, Path: path})
		}
	}
	return program.Missing(o.resume, all)
}
