// Package setup turns the settings of a command into a method and cases that are ready to run. It is what
// transplant-train and transplant-eval have in common below their flags.
package setup

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"gotransplant/internal/spelling"
	"gotransplant/llama"
	"gotransplant/lora"
	"gotransplant/transplant"

	"github.com/gomlx/compute/dtypes"
)

// Settings are all resolved options of a run, under the names of their flags. A run's config.json holds them.
type Settings struct {
	Model            string  `json:"model"` // "" is the embedded model
	Data             string  `json:"data"`  // "" is the embedded data set
	ArguerAdapter    string  `json:"arguer-adapter"`
	ChooserAdapter   string  `json:"chooser-adapter"`
	ArgueTemplate    string  `json:"argue-template"`
	ChooseTemplate   string  `json:"choose-template"`
	Backend          string  `json:"backend"`
	Attention        string  `json:"attention"`
	Kernels          string  `json:"kernels"`            // runs from before there were others have "", which is graphs
	Products         string  `json:"products,omitempty"` // what multiplied bfloat16 on panels, which no flag says
	DType            string  `json:"dtype"`
	Weights          string  `json:"weights"`
	Residual         string  `json:"residual"`
	Seed             uint64  `json:"seed"`
	TestFraction     float64 `json:"test-fraction"`
	NoTransplant     bool    `json:"no-transplant"`
	ShareAdapter     bool    `json:"share-adapter"`
	TransplantLayers string  `json:"transplant-layers"`
	MaskChoice       bool    `json:"mask-choice"`
	MaxTokens        int     `json:"max-tokens"` // 0: the model's context
	SkipLong         bool    `json:"skip-long"`
	MicroBatch       int     `json:"micro-batch"`  // 0: chosen for the backend
	Workers          int     `json:"workers"`      // 0: chosen by backend and memory
	Buckets          int     `json:"buckets"`      // 0: chosen for the backend
	SharePrefix      bool    `json:"share-prefix"` // runs from before there was a choice have false
	InstallPlugin    bool    `json:"install-plugin"`
	DeviceMemory     float64 `json:"device-memory"` // GB of 10^9 bytes; 0: asked of the system

	*Training `json:",omitempty"` // nil in an evaluation
}

// Training are the settings that only a training run has.
type Training struct {
	Steps        int     `json:"steps"`
	Epochs       int     `json:"epochs"`
	BatchSize    int     `json:"batch-size"`
	LR           float64 `json:"lr"`
	Beta1        float64 `json:"beta1"`
	Beta2        float64 `json:"beta2"`
	Eps          float64 `json:"eps"`
	WeightDecay  float64 `json:"weight-decay"`
	ClipNorm     float64 `json:"clip-norm"`
	Warmup       int     `json:"warmup"`
	Schedule     string  `json:"schedule"`
	LoraRank     int     `json:"lora-rank"`
	LoraAlpha    float64 `json:"lora-alpha"`
	LoraTargets  string  `json:"lora-targets"`
	DoRA         bool    `json:"dora"`
	Shuffle      bool    `json:"shuffle"`
	StopGradient bool    `json:"stop-gradient"`
	EvalEvery    int     `json:"eval-every"`
	SaveEvery    int     `json:"save-every"`
	Remat        string  `json:"remat"` // the one chosen, once the plan is made
}

// Defaults are those of the published run: 128 rows a step, AdamW at 3e-4, LoRA of rank 16 on the attention, a tenth of
// the rows held out and scored after every step.
func Defaults() Settings {
	return Settings{
		Backend: "go", Attention: llama.AutoAttention.String(), Kernels: "auto", DType: "float32", Weights: llama.AsStored.String(), Residual: "float64", Seed: 1,
		TestFraction: 0.1, TransplantLayers: "all", SharePrefix: true,
		Training: &Training{
			Epochs: 3, BatchSize: 128, LR: 3e-4, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Schedule: "constant",
			LoraRank: 16, LoraAlpha: 32, LoraTargets: "q_proj,k_proj,v_proj,o_proj", Shuffle: true,
			EvalEvery: 1, SaveEvery: 1, Remat: RematAuto,
		},
	}
}

// Embedded are the defaults that differ when the embedded model is trained: it is small, and so are its steps. A fifth
// of its rows are held out, since 128 rows leave an interval of 0.08.
func Embedded() Settings {
	s := Defaults()
	s.TestFraction, s.MicroBatch = 0.2, 8
	t := s.Training
	t.Epochs, t.BatchSize, t.LR, t.Warmup, t.Schedule, t.ClipNorm = 4, 16, 3e-3, 10, "cosine", 1
	t.LoraRank, t.LoraAlpha = 8, 16
	t.EvalEvery, t.SaveEvery = 16, 16
	return s
}

// computeType and residualType translate the flags' words.
func (s Settings) computeType() (dtypes.DType, error) {
	switch s.DType {
	case "float32":
		return dtypes.Float32, nil
	case "bfloat16":
		return dtypes.BFloat16, nil
	}
	return 0, fmt.Errorf("--dtype %s", spelling.Unknown(s.DType, "float32", "bfloat16"))
}

// storage is how the weights are kept on the device.
func (s Settings) storage() (llama.Storage, error) {
	as, err := llama.ParseStorage(s.Weights)
	if err != nil {
		return 0, fmt.Errorf("--%w", err)
	}
	return as, nil
}

func (s Settings) residualType() (dtypes.DType, error) {
	switch s.Residual {
	case "float64":
		return dtypes.Float64, nil
	case "float32":
		return dtypes.Float32, nil
	}
	return 0, fmt.Errorf("--residual %s", spelling.Unknown(s.Residual, "float64", "float32"))
}

// layers reads --transplant-layers; nil stands for all.
func (s Settings) layers(n int) ([]bool, error) {
	chosen, err := ParseLayers(s.TransplantLayers, n)
	if err != nil {
		return nil, fmt.Errorf("--transplant-layers %s: %w", s.TransplantLayers, err)
	}
	if slices.Contains(chosen, false) {
		return chosen, nil
	}
	return nil, nil
}

// ParseLayers reads a choice among n layers: "all", or layers and ranges such as 0-3,8.
func ParseLayers(text string, n int) ([]bool, error) {
	chosen := make([]bool, n)
	if text == "all" {
		for i := range chosen {
			chosen[i] = true
		}
		return chosen, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		low, high, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			high = low
		}
		from, errFrom := strconv.Atoi(low)
		to, errTo := strconv.Atoi(high)
		if errFrom != nil || errTo != nil || from < 0 || to < from || to >= n {
			return nil, fmt.Errorf("%q is not a layer or range in 0-%d", part, n-1)
		}
		for layer := from; layer <= to; layer++ {
			chosen[layer] = true
		}
	}
	return chosen, nil
}

// Validate checks what can be checked without opening a file.
func (s Settings) Validate() error {
	if _, err := s.computeType(); err != nil {
		return err
	}
	if _, err := s.residualType(); err != nil {
		return err
	}
	if _, err := llama.ParseAttention(s.Attention); err != nil {
		return fmt.Errorf("--%w", err)
	}
	if kernels := []string{"auto", transplant.Panels, transplant.Graphs}; s.Kernels != "" && !slices.Contains(kernels, s.Kernels) {
		return fmt.Errorf("--kernels %s", spelling.Unknown(s.Kernels, kernels...))
	}
	if _, err := s.storage(); err != nil {
		return err
	}
	if !(s.TestFraction >= 0 && s.TestFraction < 1) {
		return fmt.Errorf("--test-fraction %v: it must be at least 0 and less than 1", s.TestFraction)
	}
	for _, n := range []struct {
		flag  string
		value int
	}{{"max-tokens", s.MaxTokens}, {"micro-batch", s.MicroBatch}, {"workers", s.Workers}, {"buckets", s.Buckets}} {
		if n.value < 0 {
			return fmt.Errorf("--%s %d: it must not be negative", n.flag, n.value)
		}
	}
	if !(s.DeviceMemory >= 0) || math.IsInf(s.DeviceMemory, 0) {
		return fmt.Errorf("--device-memory %v: it must be a finite number of GB, or 0 for what the system says", s.DeviceMemory)
	}
	if s.ShareAdapter && s.ArguerAdapter != "" && s.ChooserAdapter != "" && s.ArguerAdapter != s.ChooserAdapter {
		return fmt.Errorf("--share-adapter uses one adapter: --arguer-adapter %s and --chooser-adapter %s are two; name one of them",
			s.ArguerAdapter, s.ChooserAdapter)
	}
	if s.Training == nil {
		return nil
	}
	return s.Training.validate()
}

// idle are the flags that were given and change nothing, since no arguer runs. A shared adapter is the chooser's as well.
func (s Settings) idle() (flags []string) {
	if !s.NoTransplant {
		return nil
	}
	for _, f := range []struct {
		flag  string
		given bool
	}{
		{"arguer-adapter", s.ArguerAdapter != "" && !s.ShareAdapter},
		{"transplant-layers", s.TransplantLayers != Defaults().TransplantLayers},
		{"stop-gradient", s.Training != nil && s.StopGradient},
	} {
		if f.given {
			flags = append(flags, "--"+f.flag)
		}
	}
	return flags
}

// unmade are the flags that were given of new adapters where none is made, since all begin with those of files.
func (s Settings) unmade() (flags []string) {
	if s.Training == nil || s.makesAdapter() {
		return nil
	}
	defaults := Defaults()
	if s.Model == "" {
		defaults = Embedded()
	}
	for _, f := range []struct {
		flag  string
		given bool
	}{
		{"lora-rank", s.LoraRank != defaults.LoraRank},
		{"lora-alpha", s.LoraAlpha != defaults.LoraAlpha},
		{"lora-targets", s.LoraTargets != defaults.LoraTargets},
		{"dora", s.DoRA},
	} {
		if f.given {
			flags = append(flags, "--"+f.flag)
		}
	}
	return flags
}

// makesAdapter says whether a role that is trained begins with a new adapter.
func (s Settings) makesAdapter() bool {
	switch {
	case s.ShareAdapter:
		return s.ArguerAdapter == "" && s.ChooserAdapter == ""
	case s.NoTransplant:
		return s.ChooserAdapter == ""
	}
	return s.ArguerAdapter == "" || s.ChooserAdapter == ""
}

func (t *Training) validate() error {
	for _, n := range []struct {
		flag       string
		value, low int
	}{{"steps", t.Steps, 0}, {"epochs", t.Epochs, 0}, {"batch-size", t.BatchSize, 1}, {"warmup", t.Warmup, 0},
		{"lora-rank", t.LoraRank, 1}, {"eval-every", t.EvalEvery, 0}, {"save-every", t.SaveEvery, 0}} {
		if n.value < n.low {
			return fmt.Errorf("--%s %d: it must be at least %d", n.flag, n.value, n.low)
		}
	}
	remats := []string{RematAuto, RematNone, RematFull}
	if t.Remat != "" && !slices.Contains(remats, t.Remat) { // runs from before there was one have ""
		return fmt.Errorf("--remat %s", spelling.Unknown(t.Remat, remats...))
	}
	if t.Steps == 0 && t.Epochs == 0 {
		return fmt.Errorf("--steps 0 and --epochs 0: there is nothing to train")
	}
	if !(t.ClipNorm >= 0) || math.IsInf(t.ClipNorm, 0) {
		return fmt.Errorf("--clip-norm %v: it must be a finite number of 0 (no clipping) or more", t.ClipNorm)
	}
	if !(t.LoraAlpha > 0) || math.IsInf(t.LoraAlpha, 0) {
		return fmt.Errorf("--lora-alpha %v: it must be a positive finite number", t.LoraAlpha)
	}
	schedule := lora.Schedule{Kind: t.Schedule, Warmup: t.Warmup, Total: t.Warmup + 1, Peak: t.LR} // how long it is comes later
	return errors.Join(schedule.Validate(), t.adam().Validate())
}

func (t *Training) adam() lora.AdamWOptions {
	return lora.AdamWOptions{Beta1: t.Beta1, Beta2: t.Beta2, Eps: t.Eps, WeightDecay: t.WeightDecay}
}

// TrainOptions are the settings as package transplant takes them.
func (s Settings) TrainOptions(pace transplant.Pace) transplant.TrainOptions {
	t := s.Training
	return transplant.TrainOptions{
		Steps: t.Steps, Epochs: t.Epochs, BatchSize: t.BatchSize, Pace: pace, Adam: t.adam(),
		Schedule: lora.Schedule{Kind: t.Schedule, Warmup: t.Warmup, Peak: t.LR},
		ClipNorm: t.ClipNorm, EvalEvery: t.EvalEvery, SaveEvery: t.SaveEvery,
	}
}
