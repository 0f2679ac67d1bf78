package program

import (
	"errors"
	"testing"

	"gotransplant/internal/setup"
)

// TestSuggestions: a mistyped flag is refused with the one that was meant.
func TestSuggestions(t *testing.T) {
	cases := []struct {
		name string
		args []string
		want string
	}{
		{"a letter missing", []string{"--lora-rnk", "4"}, "unknown flag --lora-rnk: did you mean --lora-rank?"},
		{"with a value", []string{"--lora-rnk=4"}, "unknown flag --lora-rnk: did you mean --lora-rank?"},
		{"neighbours exchanged", []string{"--bacth-size", "4"}, "unknown flag --bacth-size: did you mean --batch-size?"},
		{"underscores", []string{"--batch_size", "4"}, "unknown flag --batch_size: did you mean --batch-size?"},
		{"capitals", []string{"--Model", "m"}, "unknown flag --Model: did you mean --model?"},
		{"name elsewhere", []string{"--learning_rate", "1"}, "unknown flag --learning_rate: did you mean --lr?"},
		{"its second part", []string{"--adam_beta2", "1"}, "unknown flag --adam_beta2: did you mean --beta2?"},
		{"first word", []string{"--arguer", "a"}, "unknown flag --arguer: did you mean --arguer-adapter?"},
		{"last word", []string{"--adapter", "a"},
			"unknown flag --adapter: did you mean --arguer-adapter, --chooser-adapter or --share-adapter?"},
		{"denied", []string{"--no-shuffle"}, "unknown flag --no-shuffle: did you mean --shuffle=false?"},
		{"denied, and no switch", []string{"--no-seed"}, "unknown flag --no-seed: see --help"},
		{"denied, and no flag", []string{"--no-quantum"}, "unknown flag --no-quantum: see --help"},
		{"nothing like it", []string{"--quantum", "9"}, "unknown flag --quantum: see --help"},
		{"one dash", []string{"-lora-rank", "4"}, "unknown flag -lora-rank: did you mean --lora-rank?"},
		{"one dash with a value", []string{"-lr=4"}, "unknown flag -lr: did you mean --lr?"},
		{"one letter", []string{"-q"}, "unknown flag -q: see --help"},
		{"value of a switch apart", []string{"--shuffle", "false"}, `unexpected argument "false": did you mean --shuffle=false?`},
		{"true of a switch apart", []string{"--no-transplant", "true"}, `unexpected argument "true": did you mean --no-transplant=true?`},
		{"true behind a value", []string{"--seed", "1", "true"}, `unexpected argument "true": all options are flags, see --help`},
		{"no dashes", []string{"--seed", "1", "lr=3"}, `unexpected argument "lr=3": did you mean --lr=3?`},
		{"no number", []string{"--steps", "1e3"}, "--steps 1e3: it must be a whole number"},
		{"a number below 0", []string{"--seed=-1"}, "--seed -1: it must be a whole number of 0 or more"},
		{"a large number", []string{"--steps", "99999999999999999999"}, "--steps 99999999999999999999: it is out of range"},
		{"no rate", []string{"--lr", "fast"}, "--lr fast: it must be a number"},
		{"neither true nor false", []string{"--shuffle=maybe"}, "--shuffle maybe: it must be true or false"},
		{"no value", []string{"--lr"}, "--lr needs a value: see --help"},
		{"a word", []string{"train"}, `unexpected argument "train": all options are flags, see --help`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := setup.Defaults()
			_, err := Parse(c.args, append(Common(&s), Training(s.Training))...)
			if err == nil || err.Error() != c.want {
				t.Errorf("%q: got error\n%v, want\n%s", c.args, err, c.want)
			}
		})
	}
}

// TestWanted: lists are asked for as lists, and a value of a program's own says itself what it wants.
func TestWanted(t *testing.T) {
	g := NewGroup("Lists")
	g.Flags.IntSlice("lesson-steps", nil, "")
	g.Flags.Int32Slice("stop-id", nil, "")
	g.Flags.Func("size", "", func(string) error { return errors.New("want a number of bytes") })
	for flag, want := range map[string]string{"lesson-steps": "it must be whole numbers, separated by commas",
		"stop-id": "it must be whole numbers, separated by commas", "size": "want a number of bytes"} {
		if _, err := Parse([]string{"--" + flag, "1,x"}, g); err == nil || err.Error() != "--"+flag+" 1,x: "+want {
			t.Errorf("got error %v, want --%s 1,x: %s", err, flag, want)
		}
	}
}

// TestHabitsAreFlags: what the names of other programs stand for is there.
func TestHabitsAreFlags(t *testing.T) {
	s := setup.Defaults()
	all, err := Parse(nil, append(Common(&s), Training(s.Training))...)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"learning-rate", "model_name_or_path", "dataset", "num_train_epochs", "max_steps",
		"per_device_train_batch_size", "warmup_steps", "lr_scheduler_type", "max_grad_norm", "adam_beta1", "adam_epsilon",
		"lora_r", "target_modules", "max_seq_length", "eval_steps", "save_steps", "device", "bf16"} {
		if all.Lookup(habit(name)) == nil {
			t.Errorf("%s stands for %q, which is no flag", name, habit(name))
		}
	}
}
