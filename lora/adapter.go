package lora

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"gotransplant/model"
)

// Param is one matrix of an adapter. For a projection with weight [out, in] and rank r, A is [r, in] and B is
// [out, r], row-major; with DoRA there is also the magnitude, [out, 1]. Value may be changed in place, as an optimizer
// does.
type Param struct {
	Layer int
	Proj  string // one of [Projections]
	Kind  string // "A", "B" or "magnitude"
	Shape [2]int
	Value []float32
}

// Name is the tensor's name in a PEFT file.
func (p *Param) Name() string {
	module := "base_model.model." + target{p.Layer, p.Proj}.module()
	if p.Kind == kindMagnitude {
		return module + magnitudeSuffix
	}
	return module + ".lora_" + p.Kind + ".weight"
}

// Dims are the tensor's dimensions in a PEFT file, where a magnitude is a vector.
func (p *Param) Dims() []int {
	if p.Kind == kindMagnitude {
		return p.Shape[:1]
	}
	return p.Shape[:]
}

// pair is what an adapter adds to one projection.
type pair struct {
	a, b  *Param
	m     *Param // nil without DoRA
	scale float64
}

// Adapter adds scale * B * A to chosen projections of a model. Its matrices may be read by many goroutines, as long as
// none changes them.
type Adapter struct {
	config Config
	params []*Param
	pairs  map[target]pair
	unset  bool // the magnitudes have no values yet
}

// Options describes a new adapter.
type Options struct {
	Rank    int     // at least 1
	Alpha   float64 // the scale is Alpha/Rank, or Alpha/sqrt(Rank) with RSLoRA
	RSLoRA  bool
	DoRA    bool // the magnitudes must then be given by [Adapter.InitMagnitudes]
	Targets Targets
	// BaseModel is written as base_model_name_or_path.
	BaseModel string
}

// New makes an adapter for a model of shape c that changes nothing yet: A is uniform in +-1/sqrt(in), which is PEFT's
// Kaiming initialisation with a = sqrt(5), and B is zero. Each matrix draws from a stream made of the seed and its own
// name, so its values do not depend on which other projections are targets.
func New(o Options, c model.Config, seed uint64) (*Adapter, error) {
	config := Config{TaskType: "CAUSAL_LM", BaseModel: o.BaseModel, Rank: o.Rank, Alpha: o.Alpha, RSLoRA: o.RSLoRA,
		DoRA: o.DoRA, Targets: o.Targets}
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("new adapter: %w", err)
	}
	for _, name := range o.Targets.Names { // PEFT files may name what a model has not; whoever asks for it mistypes
		one := Config{Targets: Targets{Names: []string{name}}}
		if _, err := one.selectTargets(c.NumHiddenLayers); err != nil {
			return nil, fmt.Errorf("new adapter: %w", err)
		}
	}
	a, err := newEmpty(config, c)
	if err != nil {
		return nil, fmt.Errorf("new adapter: %w", err)
	}
	a.unset = o.DoRA
	for _, p := range a.params {
		if p.Kind == "A" {
			fillUniform(p, seed)
		}
	}
	return a, nil
}

// fillUniform draws p's values from (-bound, bound) with bound = 1/sqrt(columns).
func fillUniform(p *Param, seed uint64) {
	key := sha256.Sum256(append(binary.LittleEndian.AppendUint64(nil, seed), p.Name()...))
	rng := rand.New(rand.NewChaCha8(key))
	bound := 1 / math.Sqrt(float64(p.Shape[1]))
	for i := range p.Value {
		p.Value[i] = float32((2*rng.Float64() - 1) * bound)
	}
}

// newEmpty lays out an adapter's matrices, all zero.
func newEmpty(config Config, c model.Config) (*Adapter, error) {
	targets, err := config.selectTargets(c.NumHiddenLayers)
	if err != nil {
		return nil, err
	}
	a := &Adapter{config: config, pairs: make(map[target]pair, len(targets))}
	for _, t := range targets {
		rank, scale, err := config.rankAndScale(t.module())
		if err != nil {
			return nil, err
		}
		out, in := dims(c, t.proj)
		if out < 1 || in < 1 {
			return nil, fmt.Errorf("%s: the model's config gives it the shape [%d, %d]", t.module(), out, in)
		}
		pa := &Param{t.layer, t.proj, "A", [2]int{rank, in}, make([]float32, rank*in)}
		pb := &Param{t.layer, t.proj, "B", [2]int{out, rank}, make([]float32, out*rank)}
		a.params = append(a.params, pa, pb)
		p := pair{a: pa, b: pb, scale: scale}
		if config.DoRA {
			p.m = &Param{t.layer, t.proj, kindMagnitude, [2]int{out, 1}, make([]float32, out)}
			a.params = append(a.params, p.m)
		}
		a.pairs[t] = p
	}
	return a, nil
}

// rankAndScale resolves the patterns for one module. The scale is lora_alpha/r, or lora_alpha/sqrt(r) for
// rank-stabilised LoRA (arXiv 2312.03732).
func (c Config) rankAndScale(module string) (rank int, scale float64, err error) {
	r, rankErr := c.RankPattern.find(module, float64(c.Rank))
	alpha, alphaErr := c.AlphaPattern.find(module, c.Alpha)
	if rankErr != nil {
		rankErr = fmt.Errorf("rank_pattern: %w", rankErr)
	}
	if alphaErr != nil {
		alphaErr = fmt.Errorf("alpha_pattern: %w", alphaErr)
	}
	if err := errors.Join(rankErr, alphaErr); err != nil {
		return 0, 0, err
	}
	if c.RSLoRA {
		return int(r), alpha / math.Sqrt(r), nil
	}
	return int(r), alpha / r, nil
}

// Config returns what adapter_config.json says of the adapter.
func (a *Adapter) Config() Config { return a.config }

// Params returns the matrices in a fixed order: by layer, then in the order of [Projections], A before B before the
// magnitude. The slice is the adapter's own.
func (a *Adapter) Params() []*Param { return a.params }

// Pair returns A [r, in] and B [out, r] of one projection; ok is false when the adapter does not touch it.
func (a *Adapter) Pair(layer int, proj string) (pa, pb *Param, ok bool) {
	p, ok := a.pairs[target{layer, proj}]
	return p.a, p.b, ok
}

// Scale is the factor of B * A at one projection, and 0 where the adapter does not stand.
func (a *Adapter) Scale(layer int, proj string) float64 { return a.pairs[target{layer, proj}].scale }

// CheckTrainable refuses what is harmless at inference only: lora_dropout, which training would have to apply.
func (a *Adapter) CheckTrainable() error {
	if a.config.Dropout != 0 {
		return fmt.Errorf("lora_dropout: %v; training supports only 0: set it to 0 in adapter_config.json",
			a.config.Dropout)
	}
	return nil
}
