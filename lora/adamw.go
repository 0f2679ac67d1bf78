package lora

import (
	"fmt"
	"math"
	"runtime"
	"sync"
)

// Tensor is something to be trained: values, and the gradient of the loss by them. Name is unique in a list.
type Tensor struct {
	Name        string
	Value, Grad []float32
}

// Tensors lists an adapter's matrices for an optimizer, in the order of [Adapter.Params] and without gradients. Value
// is the adapter's own memory. prefix keeps the names of two adapters apart, as in "arguer.".
func (a *Adapter) Tensors(prefix string) []Tensor {
	tensors := make([]Tensor, len(a.params))
	for i, p := range a.params {
		tensors[i] = Tensor{Name: prefix + p.Name(), Value: p.Value}
	}
	return tensors
}

// AdamWOptions are the hyperparameters of [AdamW], named as in torch.optim.AdamW.
type AdamWOptions struct {
	Beta1, Beta2 float64 // in [0, 1)
	Eps          float64 // added outside the square root
	WeightDecay  float64 // decoupled: values shrink by the factor 1 - lr*WeightDecay before the step
}

// Validate checks the ranges. Its errors name the flags of the programs that train.
func (o AdamWOptions) Validate() error {
	for _, b := range []struct {
		name  string
		value float64
	}{{"beta1", o.Beta1}, {"beta2", o.Beta2}} {
		if !(b.value >= 0 && b.value < 1) {
			return fmt.Errorf("--%s %v: it must be at least 0 and less than 1", b.name, b.value)
		}
	}
	if !(o.Eps >= 0) || math.IsInf(o.Eps, 0) {
		return fmt.Errorf("--eps %v: it must be a finite number of 0 or more", o.Eps)
	}
	if !(o.WeightDecay >= 0) || math.IsInf(o.WeightDecay, 0) {
		return fmt.Errorf("--weight-decay %v: it must be a finite number of 0 or more", o.WeightDecay)
	}
	return nil
}

// AdamW is Adam with decoupled weight decay (arXiv 1711.05101) as torch.optim.AdamW computes it. Moments are stored as
// float32 and all arithmetic on them is float64, element by element, so results do not depend on the number of cores.
type AdamW struct {
	options AdamWOptions
	step    int64
	names   []string
	m, v    [][]float32
}

// NewAdamW makes an optimizer at step 0 for the given tensors.
func NewAdamW(o AdamWOptions, tensors []Tensor) (*AdamW, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("AdamW: %w", err)
	}
	w := &AdamW{options: o}
	seen := map[string]bool{}
	for _, t := range tensors {
		if seen[t.Name] {
			return nil, fmt.Errorf("AdamW: tensor %s is listed twice", t.Name)
		}
		seen[t.Name] = true
		w.names = append(w.names, t.Name)
		w.m = append(w.m, make([]float32, len(t.Value)))
		w.v = append(w.v, make([]float32, len(t.Value)))
	}
	return w, nil
}

// Steps is the number of steps taken.
func (w *AdamW) Steps() int64 { return w.step }

// Step changes the values of tensors, which are those of [NewAdamW] in its order, by their gradients with learning rate
// lr. On an error nothing is changed.
func (w *AdamW) Step(tensors []Tensor, lr float64) error {
	if len(tensors) != len(w.names) {
		return fmt.Errorf("AdamW: %d tensors, want %d", len(tensors), len(w.names))
	}
	for i, t := range tensors {
		if t.Name != w.names[i] || len(t.Value) != len(w.m[i]) || len(t.Grad) != len(w.m[i]) {
			return fmt.Errorf("AdamW: tensor %d is %s with %d values and %d gradients, want %s with %d of both",
				i, t.Name, len(t.Value), len(t.Grad), w.names[i], len(w.m[i]))
		}
	}
	w.step++
	o := w.options
	e := elements{
		beta1: o.Beta1, rest1: 1 - o.Beta1, beta2: o.Beta2, rest2: 1 - o.Beta2, eps: o.Eps,
		kept:     1 - float64(lr*o.WeightDecay),
		rate:     lr / (1 - math.Pow(o.Beta1, float64(w.step))),
		correct2: math.Sqrt(1 - math.Pow(o.Beta2, float64(w.step))),
	}
	overChunks(tensors, func(c chunk) {
		t, from, to := tensors[c.tensor], c.start, c.end
		e.step(t.Value[from:to], t.Grad[from:to], w.m[c.tensor][from:to], w.v[c.tensor][from:to])
	})
	return nil
}

// elements are the numbers of a step of AdamW, the same for every element: both betas and what is left of 1, lr/(1 - beta1^t)
// and sqrt(1 - beta2^t) for the t-th step.
type elements struct{ beta1, rest1, beta2, rest2, eps, kept, rate, correct2 float64 }

// step changes elements and their moments.
func (e elements) step(value, grad, m, v []float32) {
	for i := e.stepFirst(value, grad, m, v); i < len(value); i++ {
		g := float64(grad[i])
		// Products are rounded before they are added, so that the bits are the same where the compiler could fuse both.
		mi := float64(e.beta1*float64(m[i])) + float64(e.rest1*g)
		vi := float64(e.beta2*float64(v[i])) + float64(e.rest2*g*g)
		m[i], v[i] = float32(mi), float32(vi)
		p := float64(float64(value[i]) * e.kept)
		if mi != 0 { // with Eps 0, a gradient that has always been zero would give 0/0
			p -= e.rate * mi / (math.Sqrt(vi)/e.correct2 + e.eps)
		}
		value[i] = float32(p)
	}
}

// ClipGlobalNorm scales all gradients by limit/(norm + 1e-6) when that is below 1, where norm is the Euclidean norm of
// all of them together, and returns norm: torch.nn.utils.clip_grad_norm_. A limit of 0 only measures. A gradient that
// is not finite is an error naming its tensor, and nothing is scaled.
func ClipGlobalNorm(tensors []Tensor, limit float64) (norm float64, err error) {
	chunks := chunksOf(tensors)
	sums := make([]float64, len(chunks))
	overChunks(tensors, func(c chunk) {
		var sum float64
		for _, g := range tensors[c.tensor].Grad[c.start:c.end] {
			sum += float64(g) * float64(g)
		}
		sums[c.index] = sum
	})
	var total float64
	for i, s := range sums { // in order, so that the sum has the same bits on any number of cores
		if math.IsNaN(s) || math.IsInf(s, 0) {
			return 0, fmt.Errorf("gradient of %s is not finite", tensors[chunks[i].tensor].Name)
		}
		total += s
	}
	norm = math.Sqrt(total)
	factor := limit / (norm + 1e-6)
	if limit <= 0 || factor >= 1 {
		return norm, nil
	}
	overChunks(tensors, func(c chunk) {
		grad := tensors[c.tensor].Grad[c.start:c.end]
		for i, g := range grad {
			grad[i] = float32(float64(g) * factor)
		}
	})
	return norm, nil
}

// chunk is a range of one tensor's elements.
type chunk struct{ index, tensor, start, end int }

// chunkSize is fixed, so that sums over chunks do not depend on the number of cores.
const chunkSize = 1 << 14

func chunksOf(tensors []Tensor) []chunk {
	var chunks []chunk
	for i, t := range tensors {
		for start := 0; start < len(t.Grad); start += chunkSize {
			chunks = append(chunks, chunk{len(chunks), i, start, min(start+chunkSize, len(t.Grad))})
		}
	}
	return chunks
}

// overChunks calls visit on every chunk of the tensors' gradients, on all cores when there is enough to do.
func overChunks(tensors []Tensor, visit func(chunk)) {
	chunks := chunksOf(tensors)
	workers := min(runtime.GOMAXPROCS(0), len(chunks))
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(chunks); i += workers {
				visit(chunks[i])
			}
		})
	}
	wg.Wait()
}
