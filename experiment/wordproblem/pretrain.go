package wordproblem

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"gotransplant/llama"
	"gotransplant/lora"
	"gotransplant/model"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
)

// Recipe is everything that decides what a pre-training makes, besides the tokenizer. Micro-batches are part of it:
// the order of sums follows them. The number of workers is not.
type Recipe struct {
	Model      model.Config // VocabSize and HeadDim are filled in by NewPretrainer
	Lessons    []Lesson
	Batch      int     // documents a step
	MicroBatch int     // documents that go through the layers together
	Bucket     int     // sequences are padded to a multiple of this many tokens
	Window     int     // steps whose documents are sorted by length together, so that little is padding
	Rest       float64 // weight in the loss of a token that does not judge; one that does has 1
	Adam       lora.AdamWOptions
	Schedule   lora.Schedule // Total is filled in by NewPretrainer
	ClipNorm   float64
	Seed       uint64
}

// DefaultRecipe made the embedded model. Its learning rate matters: at 3e-3 the first lesson stays at chance, at 1e-3 the
// judgements become better than that after 140 steps.
func DefaultRecipe() Recipe {
	return Recipe{
		Model: model.Config{
			HiddenSize: 96, IntermediateSize: 256, NumHiddenLayers: 4, NumAttentionHeads: 4, NumKeyValueHeads: 4,
			MaxPositionEmbeddings: 256, RMSNormEps: 1e-5, RopeTheta: 10000, BOSTokenID: 1, EOSTokenIDs: []int{2},
		},
		Lessons: Lessons(), Batch: 64, MicroBatch: 32, Bucket: 8, Window: 16, Rest: 0.1,
		Adam:     lora.AdamWOptions{Beta1: 0.9, Beta2: 0.98, Eps: 1e-8, WeightDecay: 0.01},
		Schedule: lora.Schedule{Kind: "cosine", Warmup: 50, Peak: 1e-3}, ClipNorm: 1, Seed: 1,
	}
}

// Steps is the number of updates of all lessons.
func (r Recipe) Steps() int {
	total := 0
	for _, l := range r.Lessons {
		total += l.Steps
	}
	return total
}

// validate checks what no other part checks. Its errors name the flags of transplant-pretrain.
func (r Recipe) validate() error {
	for _, n := range []struct {
		flag  string
		value int
	}{{"batch-size", r.Batch}, {"micro-batch", r.MicroBatch}, {"bucket", r.Bucket}, {"window", r.Window}} {
		if n.value < 1 {
			return fmt.Errorf("--%s %d: it must be at least 1", n.flag, n.value)
		}
	}
	switch {
	case r.Steps() < 1:
		return fmt.Errorf("--lesson-steps: the lessons have %d steps in all: give one of them at least 1", r.Steps())
	case !(r.Rest >= 0) || math.IsInf(r.Rest, 1):
		return fmt.Errorf("--rest-weight %v: it must be a finite number of 0 or more", r.Rest)
	}
	return nil
}

// Pretrainer trains a model from scratch on documents. The weights after every step depend on the recipe and the
// tokenizer alone, not on the number of workers or on timing.
type Pretrainer struct {
	Recipe  Recipe
	Workers int // micro-batches that run at the same time

	engine  *llama.Engine
	encode  encoder
	names   []string
	tensors [2][]lora.Tensor // matrices, which decay, and norms, which do not
	adam    [2]*lora.AdamW
	order   map[string]int // by name: place in a sweep's gradients
	step    int
	tokens  int64
	started time.Time

	rehearses bool // the engine runs nothing
}

// NewPretrainer draws fresh weights and puts them on the backend. t is the tokenizer that the model will be used with.
func NewPretrainer(backend compute.Backend, t Tokenizer, r Recipe) (*Pretrainer, error) {
	p, err := prepare(t, r)
	if err != nil {
		return nil, err
	}
	weights, err := llama.NewWeights(backend, p.Recipe.Model, p.fresh)
	if err != nil {
		return nil, err
	}
	if err := p.compute(weights); err != nil {
		return nil, err
	}
	return p, p.newOptimizers()
}

// prepare checks the recipe and fills in what follows from the tokenizer.
func prepare(t Tokenizer, r Recipe) (*Pretrainer, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	bos, ok := t.BOS()
	if !ok {
		return nil, errors.New("--tokenizer: it puts no BOS in front of a text: take one that transplant-datagen wrote")
	}
	r.Model.VocabSize = t.VocabSize()
	r.Model.HeadDim = r.Model.HiddenSize / max(r.Model.NumAttentionHeads, 1)
	r.Schedule.Total = r.Steps() + 1 // a schedule ends at zero, after the last step
	if err := r.Schedule.Validate(); err != nil {
		return nil, err
	}
	return &Pretrainer{Recipe: r, Workers: 1, encode: encoder{t, bos, float32(r.Rest)}, order: map[string]int{}}, nil
}

// compute puts an engine over the weights.
func (p *Pretrainer) compute(weights *llama.Weights) (err error) {
	p.engine, err = llama.NewEngine(weights,
		llama.Options{Compute: dtypes.Float32, Residual: dtypes.Float32, TrainBase: true})
	return err
}

// fresh draws the values of one tensor and lists it for training.
func (p *Pretrainer) fresh(name string, shape []int) []float32 {
	values := initial(p.Recipe.Model, p.Recipe.Seed, name, shape)
	kind := 0
	if len(shape) == 1 {
		kind = 1
	}
	p.order[name] = len(p.names)
	p.names = append(p.names, name)
	p.tensors[kind] = append(p.tensors[kind], lora.Tensor{Name: name, Value: values})
	return values
}

func (p *Pretrainer) newOptimizers() (err error) {
	o := p.Recipe.Adam
	if p.adam[0], err = lora.NewAdamW(o, p.tensors[0]); err != nil {
		return err
	}
	o.WeightDecay = 0
	p.adam[1], err = lora.NewAdamW(o, p.tensors[1])
	return err
}

// Parameters is the number of values trained.
func (p *Pretrainer) Parameters() int {
	n := 0
	for _, t := range p.all() {
		n += len(t.Value)
	}
	return n
}

// Step is the number of updates done.
func (p *Pretrainer) Step() int { return p.step }

// all are the trained tensors in the order of their gradients.
func (p *Pretrainer) all() []lora.Tensor {
	all := make([]lora.Tensor, len(p.names))
	for _, kind := range p.tensors {
		for _, t := range kind {
			all[p.order[t.Name]] = t
		}
	}
	return all
}

// PretrainMetrics describe one update, seen from before it.
type PretrainMetrics struct {
	Step         int     `json:"step"`
	Loss         float64 `json:"loss"`          // weighted mean over tokens
	Judged       float64 `json:"judged"`        // mean loss of the tokens that judge
	GradientNorm float64 `json:"gradient_norm"` // before clipping
	LearningRate float64 `json:"lr"`
	Tokens       int     `json:"tokens"`            // in the documents of this step, without padding
	Seconds      float64 `json:"seconds"`           // since Run began
	TokensPerSec float64 `json:"tokens_per_second"` // over the whole of Run
}

// Run does the steps of the recipe that are left, reporting each. When ctx is done it stops between two steps and returns
// the context's error; weights and state are good to be saved.
func (p *Pretrainer) Run(ctx context.Context, report func(PretrainMetrics) error) error {
	p.started = time.Now()
	done := p.step
	for batch := range p.batches() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if done > 0 { // drawn again, for what is drawn next depends on it
			done--
			p.started = time.Now()
			continue
		}
		m, err := p.update(batch)
		if err != nil {
			return fmt.Errorf("step %d: %w", p.step+1, err)
		}
		p.step = m.Step
		if err := report(m); err != nil {
			return err
		}
	}
	return nil
}

// update does one step on a batch.
func (p *Pretrainer) update(batch []example) (PretrainMetrics, error) {
	m := PretrainMetrics{Step: p.step + 1, LearningRate: p.Recipe.Schedule.LR(p.step + 1)}
	total := 0.0
	for _, e := range batch {
		if err := p.fits(e); err != nil {
			return m, err
		}
		total += e.weight()
	}
	sweeps, err := p.sweepAll(batch, total)
	if err != nil {
		return m, err
	}
	judged := 0
	for _, s := range sweeps {
		m.Loss += s.loss / total
		m.Judged += s.judgedLoss
		judged += s.judged
		m.Tokens += s.tokens
	}
	m.Judged /= float64(max(judged, 1))
	if m.GradientNorm, err = p.apply(sweeps, m.LearningRate); err != nil {
		return m, err
	}
	p.tokens += int64(m.Tokens)
	m.Seconds = time.Since(p.started).Seconds()
	m.TokensPerSec = float64(p.tokens) / m.Seconds
	return m, nil
}

// fits refuses a document that is longer than the model's context: config.json would promise too little.
func (p *Pretrainer) fits(e example) error {
	if n, most := len(e.ids), p.Recipe.Model.MaxPositionEmbeddings; n > most {
		return fmt.Errorf("--context %d: a document has %d tokens: raise it", most, n)
	}
	return nil
}

// sweepAll runs the micro-batches of a batch on the workers and returns their results in order.
func (p *Pretrainer) sweepAll(batch []example, total float64) ([]sweep, error) {
	var groups [][]example
	for n := 0; n < len(batch); n += p.Recipe.MicroBatch {
		groups = append(groups, batch[n:min(n+p.Recipe.MicroBatch, len(batch))])
	}
	sweeps, errs := make([]sweep, len(groups)), make([]error, len(groups))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(max(p.Workers, 1), len(groups)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(groups); i = int(next.Add(1)) - 1 {
				sweeps[i], errs[i] = p.sweep(groups[i], total)
			}
		})
	}
	wg.Wait()
	return sweeps, errors.Join(errs...)
}

// apply sums the gradients in the order of the micro-batches, clips them and updates host and device.
func (p *Pretrainer) apply(sweeps []sweep, lr float64) (norm float64, err error) {
	var all []lora.Tensor
	for kind := range p.tensors {
		for i := range p.tensors[kind] {
			t := &p.tensors[kind][i]
			t.Grad = sumGrads(sweeps, p.order[t.Name])
			all = append(all, *t)
		}
	}
	if norm, err = lora.ClipGlobalNorm(all, p.Recipe.ClipNorm); err != nil {
		return 0, err
	}
	for kind := range p.tensors {
		if err := p.adam[kind].Step(p.tensors[kind], lr); err != nil {
			return 0, err
		}
	}
	for _, t := range all {
		if err := p.engine.Weights.Set(t.Name, t.Value); err != nil {
			return 0, err
		}
	}
	return norm, nil
}

// sumGrads adds the gradients of one tensor in the order of the sweeps, which own them, into those of the first.
func sumGrads(sweeps []sweep, tensor int) []float32 {
	sum := sweeps[0].grads[tensor]
	for _, s := range sweeps[1:] {
		for i, g := range s.grads[tensor] {
			sum[i] += g
		}
	}
	return sum
}

// sweep is the outcome of one micro-batch.
type sweep struct {
	loss       float64 // weighted sum
	judgedLoss float64 // sum over the tokens that judge
	judged     int
	tokens     int
	grads      [][]float32 // of loss/total, by the order of the config's tensors
}

// sweep runs one micro-batch forward and backward; total is the weight of the whole batch.
func (p *Pretrainer) sweep(examples []example, total float64) (sweep, error) {
	rows := pad(examples, p.Recipe.MicroBatch, p.Recipe.Bucket)
	s, err := p.forward(rows, true)
	if err != nil {
		return sweep{}, err
	}
	defer s.Close()
	scaled := make([]float32, len(rows.weight))
	for i, w := range rows.weight {
		scaled[i] = float32(float64(w) / total)
	}
	scores, err := s.Score(llama.Targets{Token: rows.target, Weight: scaled}, true)
	if err != nil {
		return sweep{}, err
	}
	out := sweep{grads: make([][]float32, len(p.names))}
	for _, e := range examples {
		out.tokens += len(e.ids)
	}
	for i, loss := range scores.Loss {
		out.loss += loss * float64(rows.weight[i])
		if rows.judged[i] {
			out.judgedLoss += loss
			out.judged++
		}
	}
	return out, p.backward(s, scores, out.grads)
}

// forward runs all layers.
func (p *Pretrainer) forward(rows padded, keep bool) (*llama.Stream, error) {
	s, err := p.engine.NewStream(rows.Sequences, llama.StreamOptions{Keep: keep})
	if err != nil {
		return nil, err
	}
	for layer := range p.Recipe.Model.NumHiddenLayers {
		if _, err := s.Forward(layer, nil, false); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// backward fills grads with the gradients of all tensors.
func (p *Pretrainer) backward(s *llama.Stream, scores llama.Scores, grads [][]float32) error {
	collect := func(name string, t *tensors.Tensor) error {
		if p.rehearses { // what it has on the host is counted by PlanPretraining
			return t.FinalizeAll()
		}
		values, err := tensors.CopyFlatData[float32](t)
		if err != nil {
			return err
		}
		at := p.order[name]
		if grads[at] == nil {
			grads[at] = values
		} else { // a tied head is the embedding
			for i, v := range values {
				grads[at][i] += v
			}
		}
		return t.FinalizeAll()
	}
	head := "lm_head.weight"
	if p.Recipe.Model.TieWordEmbeddings {
		head = "model.embed_tokens.weight"
	}
	if err := errors.Join(collect("model.norm.weight", scores.DNorm), collect(head, scores.DHead)); err != nil {
		return err
	}
	dx := scores.DX
	for layer := p.Recipe.Model.NumHiddenLayers - 1; layer >= 0; layer-- {
		var g llama.Gradients
		var err error
		if dx, g, err = s.Backward(layer, dx, llama.KV{}, true); err != nil {
			return err
		}
		for i, name := range llama.BlockNames(layer) {
			if err := collect(name, g.Params[i]); err != nil {
				return err
			}
		}
	}
	table, err := s.EmbeddingGradient(dx)
	if err != nil {
		return err
	}
	return collect("model.embed_tokens.weight", table)
}
