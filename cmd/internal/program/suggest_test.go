package program

import (
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
		{"nothing like it", []string{"--quantum", "9"}, "unknown flag --quantum: see --help"},
		{"one dash", []string{"-lora-rank", "4"}, "unknown flag -lora-rank: did you mean --lora-rank?"},
		{"one dash with a value", []string{"-lr=4"}, "unknown flag -lr: did you mean --lr?"},
		{"one letter", []string{"-q"}, "unknown flag -q: see --help"},
		{"value of a switch apart", []string{"--shuffle", "false"}, `unexpected argument "false": did you mean --shuffle=false?`},
		{"no dashes", []string{"--seed", "1", "lr=3"}, `unexpected argument "lr=3": did you mean --lr=3?`},
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
