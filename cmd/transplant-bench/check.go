package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/setup"
	"gotransplant/internal/standin"
	"gotransplant/llama"
	"gotransplant/model/safetensors"
	"gotransplant/transplant"
)

// agreement is how far loss, gradients and the logits of generated tokens may be from PyTorch's, which computes in float64:
// relative, by matrix.
const agreement = 1e-4

// check writes weights, adapters, tokens and this program's loss and gradients into a file, has PyTorch compute its own
// on them, and compares.
func (j job) check(ctx context.Context, out *report) error {
	if j.config.RopeScaling != nil {
		return fmt.Errorf("--check: --shape %s has rotary scaling, which PyTorch's side leaves out", j.options.shape)
	}
	j.settings.DType, j.settings.MicroBatch, j.settings.Workers = "float32", 0, 0
	tensors, loss, err := j.checkTensors()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "transplant-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	spec := j.options.spec(j.settings, j.config)
	spec.Check = filepath.Join(dir, "check.safetensors")
	if err := safetensors.Write(spec.Check, tensors, nil); err != nil {
		return err
	}
	figures, err := runPeer(ctx, j.options, spec, j.stderr)
	if err != nil {
		return err
	}
	if len(figures) != 1 {
		return fmt.Errorf("--peer-python %s printed %d figures, want 1", j.options.python, len(figures))
	}
	p := figures[0]
	off := math.Abs(loss-p.Loss) / math.Abs(p.Loss)
	agrees := off <= agreement && p.WorstDistance <= agreement && p.WorstGap <= agreement*p.LargestLogit
	out.say(checked{"check", loss, p.Loss, off, p.Matrices, p.GradientNorm, p.WorstDistance, p.WorstMatrix, p.Generated,
		p.WorstGap, p.LargestLogit, p.Implementation, p.Torch, agrees},
		"loss %.7f, PyTorch's %.7f: relative difference %.1e\n"+
			"gradients of %d matrices, norm %.4g: relative distance at most %.1e, at %s\n"+
			"%d generated tokens: logits at most %.1e below PyTorch's largest, of up to %.3g\n(%s, torch %s, float64)\n",
		loss, p.Loss, off, p.Matrices, p.GradientNorm, p.WorstDistance, p.WorstMatrix, p.Generated, p.WorstGap, p.LargestLogit,
		p.Implementation, p.Torch)
	if !agrees {
		return fmt.Errorf("PyTorch computes something else: more than %.0e apart", agreement)
	}
	return out.err
}

// checked is the JSON object of a comparison.
type checked struct {
	Part           string  `json:"part"` // "check"
	Loss           float64 `json:"loss"`
	PeerLoss       float64 `json:"peer_loss"`
	Difference     float64 `json:"relative_difference"`
	Matrices       int     `json:"matrices"` // whose gradients were compared
	GradientNorm   float64 `json:"gradient_norm"`
	WorstDistance  float64 `json:"worst_distance"` // relative, of a matrix
	WorstMatrix    string  `json:"worst_matrix"`
	Generated      int     `json:"generated_tokens"`
	WorstGap       float64 `json:"worst_gap"` // below PyTorch's largest logit
	LargestLogit   float64 `json:"largest_logit"`
	Implementation string  `json:"implementation"`
	Torch          string  `json:"torch"`
	Agrees         bool    `json:"agrees"`
}

// checkTensors computes a step of all rows and lists what it came of, and its gradients.
func (j job) checkTensors() (list []safetensors.Tensor, loss float64, err error) {
	backend, err := program.Backend(j.settings, j.stderr)
	if err != nil {
		return nil, 0, err
	}
	weights, err := llama.DeferMade(backend, j.config, safetensors.F32, llama.AsStored, func(i int, spec safetensors.Spec) ([]byte, error) {
		content, err := standin.Fill(spec, j.settings.Seed+uint64(i))
		list = append(list, safetensors.Tensor{Name: spec.Name, DType: spec.DType, Shape: spec.Shape, Data: content})
		return content, err
	})
	if err != nil {
		return nil, 0, err
	}
	cases, err := j.options.lengths.cases(j.options.rows, j.config, j.settings.Seed)
	if err != nil {
		return nil, 0, err
	}
	session, err := setup.New(j.settings, backend, weights, cases, labels(j.config))
	if err != nil {
		return nil, 0, err
	}
	roles := map[string]*transplant.Role{transplant.ArguerName: session.Method.Arguer, transplant.ChooserName: session.Method.Chooser}
	for i, name := range []string{transplant.ArguerName, transplant.ChooserName} {
		if err := disturb(roles[name], j.settings.Seed+uint64(i)); err != nil {
			return nil, 0, err
		}
	}
	sweep, err := session.Method.Train(cases, 1/float64(len(cases)))
	if err != nil {
		return nil, 0, err
	}
	for _, outcome := range sweep.Outcomes {
		loss += outcome.Loss / float64(len(cases))
	}
	grads := map[string]transplant.Grads{transplant.ArguerName: sweep.Arguer, transplant.ChooserName: sweep.Chooser}
	for name, role := range roles {
		adapter, err := adapterTensors(name, role, grads[name])
		if err != nil {
			return nil, 0, err
		}
		list = append(list, adapter...)
	}
	tokens, err := tokenTensors(cases, session.Method.Labels)
	if err != nil {
		return nil, 0, err
	}
	generated, err := j.options.generated(session)
	return append(append(list, tokens...), generated), loss, err
}

// disturb gives B, which begins at zero, values, so that A has a gradient.
func disturb(r *transplant.Role, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 3))
	for _, p := range r.Adapter.Params() {
		if p.Kind == "B" {
			for i := range p.Value {
				p.Value[i] = float32(rng.NormFloat64() * 0.02)
			}
		}
	}
	return r.Upload()
}

// adapterTensors are the matrices of a role and their gradients.
func adapterTensors(name string, r *transplant.Role, grads transplant.Grads) ([]safetensors.Tensor, error) {
	var list []safetensors.Tensor
	for i, p := range r.Adapter.Params() {
		if grads[i] == nil {
			grads[i] = make([]float32, len(p.Value))
		}
		full := name + "." + p.Name()
		value, err := safetensors.FromFloat32s(full, safetensors.F32, p.Shape[:], p.Value)
		gradient, err2 := safetensors.FromFloat32s("gradient."+full, safetensors.F32, p.Shape[:], grads[i])
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		list = append(list, value, gradient)
	}
	return list, nil
}

// tokenTensors are the prompts and the right answers of rows of equal lengths. Token ids are written as float32, which
// holds them exactly.
func tokenTensors(cases []transplant.Case, labels [2]int32) ([]safetensors.Tensor, error) {
	var list []safetensors.Tensor
	add := func(name string, of func(c transplant.Case) []int32) error {
		var values []float32
		for _, c := range cases {
			for _, id := range of(c) {
				values = append(values, float32(id))
			}
		}
		t, err := safetensors.FromFloat32s("tokens."+name, safetensors.F32, []int{len(cases), len(values) / len(cases)}, values)
		list = append(list, t)
		return err
	}
	err := errors.Join(
		add("arguer_1", func(c transplant.Case) []int32 { return c.Argue[0].IDs }),
		add("arguer_2", func(c transplant.Case) []int32 { return c.Argue[1].IDs }),
		add("chooser", func(c transplant.Case) []int32 { return c.Choose }),
		add("target", func(c transplant.Case) []int32 { return []int32{labels[c.Label-1]} }))
	return list, err
}

// generated are the tokens with which the base continues the chooser's prompts, as many as the context has room for.
func (o options) generated(session *setup.Session) (t safetensors.Tensor, err error) {
	n := min(o.newTokens, session.Config.MaxPositionEmbeddings-o.lengths.chooser)
	ids, err := continuation(session, n)
	if err != nil {
		return t, err
	}
	values := make([]float32, len(ids))
	for i, id := range ids {
		values[i] = float32(id)
	}
	return safetensors.FromFloat32s("tokens.generated", safetensors.F32, []int{len(session.Cases), n}, values)
}

// continuation are the n tokens with which the base continues each of the chooser's prompts, row after row.
func continuation(session *setup.Session, n int) ([]int32, error) {
	d, tokens, err := begin(session.Method.Engine, (&benchmark{session: session}).prompts())
	if err != nil {
		return nil, err
	}
	defer d.Close()
	ids := make([]int32, len(tokens)*n)
	for i := range n {
		if i > 0 {
			if err := next(d, tokens); err != nil {
				return nil, err
			}
		}
		for row, id := range tokens {
			ids[row*n+i] = id
		}
	}
	return ids, nil
}
