package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/chat"
	"gotransplant/internal/setup"

	"github.com/spf13/pflag"
)

// options are the flags of this command beside the settings.
type options struct {
	adapter, tokenizer              string
	prompts                         []string
	text, jsonl, system, template   string
	chat, transplant, plainMarkers  bool
	limit                           int
	maxTokens, topK, samples, batch int
	temperature, topP               float64
	stops                           []string
	stopIDs                         []int32
	logProbs, jsonOutput, dryRun    bool
	out                             string
}

func groups(s *setup.Settings, o *options) []program.Group {
	all := []program.Group{inputFlags(s, o), samplingFlags(s, o), transplantFlags(s, o)}
	g := program.NewGroup("Running and output")
	f := g.Flags
	f.StringVar(&s.Backend, "backend", s.Backend, "GoMLX `backend`: go, xla:cuda, xla:cpu, xla:/path/to/plugin.so")
	f.BoolVar(&s.InstallPlugin, "install-plugin", s.InstallPlugin, "download the plugin that --backend names, if it is missing")
	f.StringVar(&s.Kernels, "kernels", s.Kernels, "what computes on backend go, a `choice`: panels, graphs, auto")
	f.StringVar(&s.DType, "dtype", s.DType, "compute `type`: float32, bfloat16")
	f.StringVar(&s.Weights, "weights", s.Weights, "how matrices are kept: `type` checkpoint (as stored), bfloat16, float32, int8, nf4")
	f.StringVar(&s.Residual, "residual", s.Residual, "`type` of the residual stream: float64, float32")
	f.IntVar(&o.batch, "batch", 8, "`rows` computed together; where one ends the next prompt begins")
	f.StringVar(&o.out, "out", "", "JSONL `file` for the results, whole or not at all (none: they are printed)")
	f.BoolVar(&o.jsonOutput, "json", false, "print results, or the plan of --dry-run, as JSON lines")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would be done, in rows, tokens, steps and memory, and stop")
	return append(all, g)
}

func inputFlags(s *setup.Settings, o *options) program.Group {
	g := program.NewGroup("Model and prompts")
	f := g.Flags
	f.StringVar(&s.Model, "model", s.Model, "Hugging Face checkpoint `directory` (none: the embedded model)")
	f.StringVar(&o.adapter, "adapter", "", "PEFT `directory` of a LoRA adapter")
	f.StringVar(&o.tokenizer, "tokenizer", "", "tokenizer.json or SentencePiece `file` in place of the model's")
	f.StringArrayVar(&o.prompts, "prompt", nil, "`text` to continue; may be repeated")
	f.StringVar(&o.text, "text", "", "`file` with a prompt a line")
	f.StringVar(&o.jsonl, "jsonl", "", "`file` of JSON objects, one a line, with prompt or messages and, if need be, an id")
	f.BoolVar(&o.chat, "chat", false, "talk: each line of the input is a message, answered at once")
	f.StringVar(&o.system, "system", "", "system message of --chat, a `text`")
	f.StringVar(&o.template, "chat-template", "", "for messages: `template` alpaca, chatml, llama2, llama3, a Jinja file, or one of several that "+
		"the model names (none: the model's)")
	f.BoolVar(&o.plainMarkers, "allow-plain-markers", false, "let markers of the chat template be ordinary text")
	f.IntVar(&o.limit, "limit", 0, "take the first `prompts` only (0: all)")
	return g
}

func samplingFlags(s *setup.Settings, o *options) program.Group {
	g := program.NewGroup("Sampling")
	f := g.Flags
	f.IntVar(&o.maxTokens, "max-tokens", 128, "new `tokens` a row, at most")
	f.Float64Var(&o.temperature, "temperature", 0, "`divisor` of the logits (0: always the most probable token)")
	f.IntVar(&o.topK, "top-k", 0, "draw among so many `tokens` (0: all)")
	f.Float64Var(&o.topP, "top-p", 1, "then among the fewest whose probabilities add up to this `share`")
	f.Uint64Var(&s.Seed, "seed", s.Seed, "seed of what is drawn, a whole `number`")
	f.IntVar(&o.samples, "samples", 1, "`texts` for each prompt")
	f.StringArrayVar(&o.stops, "stop", nil, "end before this `text`; may be repeated")
	f.Int32SliceVar(&o.stopIDs, "stop-id", nil, "end with this `token` as well as with the model's eos_token_id; may be repeated")
	f.BoolVar(&o.logProbs, "logprobs", false, "each token's log-probability with the results, natural logarithm, without temperature")
	return g
}

const transplantTitle = "Transplant"

func transplantFlags(s *setup.Settings, o *options) program.Group {
	g := program.NewGroup(transplantTitle)
	f := g.Flags
	f.BoolVar(&o.transplant, "transplant", false, "continue the chooser's prompts of a data set; the arguer's states stay in the cache")
	f.StringVar(&s.Data, "data", s.Data, "CSV `file` of rows (none: the embedded data set)")
	f.StringVar(&s.ArguerAdapter, "arguer-adapter", s.ArguerAdapter, "PEFT `directory` of the arguer's LoRA adapter")
	f.StringVar(&s.ChooserAdapter, "chooser-adapter", s.ChooserAdapter, "PEFT `directory` of the chooser's LoRA adapter")
	f.StringVar(&s.ArgueTemplate, "argue-template", s.ArgueTemplate, "text/template `file` of the arguer's prompt (none: built in)")
	f.StringVar(&s.ChooseTemplate, "choose-template", s.ChooseTemplate, "text/template `file` of the chooser's prompt (none: built in)")
	f.StringVar(&s.TransplantLayers, "transplant-layers", s.TransplantLayers, "`layers` in which states are moved: all, or a list such as 0-3,8")
	f.BoolVar(&s.NoTransplant, "no-transplant", s.NoTransplant, "control: the same prompts, read by the chooser itself")
	f.BoolVar(&s.MaskChoice, "mask-choice", s.MaskChoice, "hide in the third writer's argument which candidate it is for")
	f.BoolVar(&s.SkipLong, "skip-long", s.SkipLong, "leave out rows that are longer than the context")
	return g
}

func parse(args []string, stdout io.Writer) (s setup.Settings, o *options, err error) {
	s, o = setup.Defaults(), &options{}
	s.Training, s.TestFraction = nil, 0
	all := groups(&s, o)
	_, err = program.Parse(args, all...)
	if err == nil && !o.transplant {
		err = needsTransplant(all)
	}
	if errors.Is(err, pflag.ErrHelp) {
		program.Help(stdout, head, all)
	}
	if err == nil {
		err = o.validate(s)
	}
	if err != nil {
		return s, o, err
	}
	return s, o, program.Absolute(&s)
}

// needsTransplant refuses flags that would change nothing.
func needsTransplant(groups []program.Group) (err error) {
	for _, g := range groups {
		if g.Title != transplantTitle {
			continue
		}
		g.Flags.VisitAll(func(f *pflag.Flag) {
			if f.Changed && f.Name != "transplant" && err == nil {
				err = fmt.Errorf("--%s goes with --transplant", f.Name)
			}
		})
	}
	return err
}

// mostSamples keeps the totals of a plan, of all prompts, within 64 bits.
const mostSamples = 1_000_000_000

// validate checks what can be checked without opening a file.
func (o *options) validate(s setup.Settings) error {
	given := 0
	for _, is := range []bool{len(o.prompts) > 0, o.text != "", o.jsonl != "", o.chat, o.transplant} {
		if is {
			given++
		}
	}
	switch {
	case given == 0:
		return errors.New("nothing to continue: give --prompt, --text, --jsonl, --chat or --transplant; see --help")
	case given > 1:
		return errors.New("--prompt, --text, --jsonl, --chat and --transplant exclude each other: give one of them")
	case o.tokenizer != "" && s.Model == "":
		return errors.New("--tokenizer goes with --model: the embedded model has its own")
	case o.transplant && o.adapter != "":
		return errors.New("--transplant has two roles: give --arguer-adapter and --chooser-adapter in place of --adapter")
	case o.chat && (o.out != "" || o.samples > 1 || o.dryRun || o.jsonOutput || o.logProbs || o.limit > 0):
		return errors.New("--chat answers on the output, once: --out, --samples, --dry-run, --json, --logprobs and --limit do not go with it")
	case (o.template != "" || o.plainMarkers) && !o.chat && o.jsonl == "":
		return errors.New("--chat-template and --allow-plain-markers go with --chat and --jsonl: other prompts are no messages")
	case o.system != "" && !o.chat:
		return errors.New("--system goes with --chat: in --jsonl a system message is one of the messages")
	case o.samples > 1 && o.temperature == 0:
		return fmt.Errorf("--samples %d with --temperature 0 would give equal texts: raise the temperature", o.samples)
	case o.samples > mostSamples:
		return fmt.Errorf("--samples %d: it must be at most %d", o.samples, mostSamples)
	case o.out != "" && o.jsonOutput && !o.dryRun:
		return errors.New("--out and --json both write the results as JSON: give one of them")
	case slices.Contains(o.stops, ""):
		return errors.New("--stop: an empty text would end every row at once")
	}
	if err := o.sampling().Validate(); err != nil {
		return fmt.Errorf("--%w", err)
	}
	if err := o.checkTexts(); err != nil {
		return err
	}
	for _, n := range []struct {
		flag       string
		value, low int
	}{{"max-tokens", o.maxTokens, 1}, {"samples", o.samples, 1}, {"batch", o.batch, 1}, {"limit", o.limit, 0}} {
		if n.value < n.low {
			return fmt.Errorf("--%s %d: it must be at least %d", n.flag, n.value, n.low)
		}
	}
	return nil
}

// checkTexts refuses texts of the command line that are not UTF-8: their bytes would become tokens of their own, or a stop
// that no text ends with.
func (o *options) checkTexts() error {
	if !utf8.ValidString(o.system) {
		return fmt.Errorf("--system: %w", errNotUTF8)
	}
	for _, given := range []struct {
		flag  string
		texts []string
	}{{"prompt", o.prompts}, {"stop", o.stops}} {
		for i, text := range given.texts {
			if !utf8.ValidString(text) {
				return fmt.Errorf("--%s %d: %w", given.flag, i+1, errNotUTF8)
			}
		}
	}
	return nil
}

// chatTemplate opens the template for messages and checks that it goes with the model, once for all conversations.
func (w *work) chatTemplate() error {
	if w.template != nil || w.refused != nil {
		return w.refused
	}
	if w.template, w.refused = w.model.Template(w.options.template); w.refused != nil {
		w.refused = fmt.Errorf("--chat-template: %w", w.refused)
		return w.refused
	}
	w.refused = w.model.Check(w.template, w.base.Tokenizer, chat.Options{Stop: w.stop, AllowPlain: w.options.plainMarkers})
	return w.refused
}
