package program

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gotransplant/internal/spelling"

	"github.com/spf13/pflag"
)

// explain says of an error of parsing what was meant.
func explain(err error, flags *pflag.FlagSet) error {
	var unknown *pflag.NotExistError
	var bad *pflag.InvalidValueError
	var bare *pflag.ValueRequiredError
	switch {
	case errors.As(err, &bad):
		return fmt.Errorf("--%s %s: %w", bad.GetFlag().Name, bad.GetValue(), wanted(bad))
	case errors.As(err, &bare):
		return fmt.Errorf("--%s needs a value: see --help", bare.GetSpecifiedName())
	case !errors.As(err, &unknown):
		return err
	}
	if letters, _, _ := strings.Cut(unknown.GetSpecifiedShortnames(), "="); letters != "" {
		return fmt.Errorf("unknown flag -%s%s", letters, meant(letters, flags))
	}
	return fmt.Errorf("unknown flag --%s%s", unknown.GetSpecifiedName(), meant(unknown.GetSpecifiedName(), flags))
}

// wanted says what a flag takes, in place of the words of Go's library.
func wanted(bad *pflag.InvalidValueError) error {
	what := map[string]string{"int": "a whole number", "int64": "a whole number", "uint64": "a whole number of 0 or more",
		"float64": "a number", "bool": "true or false", "intSlice": "whole numbers, separated by commas",
		"int32Slice": "whole numbers, separated by commas"}[bad.GetFlag().Value.Type()]
	switch {
	case what == "":
		return bad.Unwrap()
	case errors.Is(bad, strconv.ErrRange):
		return errors.New("it is out of range")
	}
	return errors.New("it must be " + what)
}

// stray is the error of an argument that belongs to no flag.
func stray(flags *pflag.FlagSet, args []string) error {
	arg := flags.Arg(0)
	text := fmt.Sprintf("unexpected argument %q", arg)
	if before := slices.Index(args, arg) - 1; before >= 0 && (arg == "true" || arg == "false") {
		if f := flags.Lookup(strings.TrimPrefix(args[before], "--")); f != nil && f.Value.Type() == "bool" {
			return fmt.Errorf("%s: did you mean --%s=%s?", text, f.Name, arg)
		}
	}
	name, value, hasValue := strings.Cut(arg, "=")
	if f := flags.Lookup(name); f != nil {
		if hasValue {
			name += "=" + value
		}
		return fmt.Errorf("%s: did you mean --%s?", text, name)
	}
	return fmt.Errorf("%s: all options are flags, see --help", text)
}

// meant is ": did you mean --lora-rank?" for a mistyped name, or what else there is to say. A name may be one that other
// programs have, miss a letter, miss a word, or deny a flag that is true or false.
func meant(name string, flags *pflag.FlagSet) string {
	name = strings.TrimLeft(name, "-")
	var names []string
	flags.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	near := spelling.Nearest(name, names)
	if elsewhere := habit(name); near == "" && slices.Contains(names, elsewhere) {
		near = elsewhere
	}
	if denied, ok := strings.CutPrefix(name, "no-"); ok {
		if f := flags.Lookup(denied); f != nil && f.Value.Type() == "bool" {
			near = denied + "=false"
		}
	}
	if near != "" {
		return ": did you mean --" + near + "?"
	}
	const most = 3
	if part := parts(name, names); len(part) > 0 && len(part) <= most {
		return ": did you mean --" + spelling.List(part, "or") + "?"
	}
	return ": see --help"
}

// parts are the names of which the given one is the first or the last words, each but the first with its dashes.
func parts(name string, names []string) (found []string) {
	for _, n := range names {
		if strings.HasPrefix(n, name+"-") || strings.HasSuffix(n, "-"+name) {
			if len(found) > 0 {
				n = "--" + n
			}
			found = append(found, n)
		}
	}
	return found
}

// habit is our name of what a flag does in Transformers, PEFT and their like, or "".
func habit(name string) string {
	switch strings.ReplaceAll(strings.ToLower(name), "_", "-") {
	case "learning-rate":
		return "lr"
	case "model-name-or-path", "base-model", "checkpoint":
		return "model"
	case "dataset", "data-path", "train-file", "input":
		return "data"
	case "output-dir", "output", "save-dir":
		return "out"
	case "num-train-epochs", "num-epochs":
		return "epochs"
	case "max-steps", "iters":
		return "steps"
	case "per-device-train-batch-size", "batch", "train-batch-size":
		return "batch-size"
	case "warmup-steps":
		return "warmup"
	case "lr-scheduler-type", "lr-schedule":
		return "schedule"
	case "max-grad-norm":
		return "clip-norm"
	case "adam-beta1", "adam-beta2":
		return name[len("adam-"):]
	case "adam-epsilon", "epsilon":
		return "eps"
	case "lora-r", "r", "rank":
		return "lora-rank"
	case "target-modules":
		return "lora-targets"
	case "max-seq-length", "max-length", "cutoff-len":
		return "max-tokens"
	case "eval-steps":
		return "eval-every"
	case "save-steps":
		return "save-every"
	case "device":
		return "backend"
	case "precision", "bf16":
		return "dtype"
	case "resume-from-checkpoint":
		return "resume"
	}
	return ""
}
