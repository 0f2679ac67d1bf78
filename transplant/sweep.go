package transplant

import (
	"fmt"

	"gotransplant/internal/panel"
	"gotransplant/llama"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
)

// Method is the transplant over one model: who reads with which adapter, and what is moved.
type Method struct {
	Engine  *llama.Engine
	Arguer  *Role    // nil: the bare base
	Chooser *Role    // nil: the bare base; the same pointer as Arguer when the adapter is shared
	Labels  [2]int32 // the tokens "1" and "2"

	// Layers says for each layer whether the arguer's keys and values replace the chooser's there; nil: in all.
	Layers []bool
	// NoTransplant is the control in which the chooser reads the arguments itself and the arguer does not run.
	NoTransplant bool
	// StopGradient keeps the loss from reaching the arguer through the moved states.
	StopGradient bool
	// Remat has training keep no more than each block's input and compute the block again on the way back: less memory,
	// more time, the same gradients.
	Remat bool
	// Limits remembers what the device had no room for; nil: every micro-batch is first tried whole.
	Limits *Limits
	// Buckets bound the shapes of micro-batches where every shape is a compilation; nil: lengths are rounded up a little.
	Buckets Buckets
	// Prefix are the tokens with which all prompts begin, whose states rows share; empty: every row computes its own.
	Prefix Prefix
	// Attention is how both streams compute attention; fused, it has its own layout. Zero: by length, or by Contest.
	Attention llama.Attention
	// Contest, when not nil, decides between the layouts where Attention does not.
	Contest *Contest

	shared *shared // nil before share
}

// The two streams of a method, by their names in the engine's ledger.
const (
	ArguerName  = "arguer"
	ChooserName = "chooser"
)

// What computes a Method, by the names of --kernels.
const (
	Panels = "panels" // internal/panel
	Graphs = "graphs" // GoMLX
)

// Kernels says what computes the method.
func (m *Method) Kernels() string {
	if m.Engine.Panels() {
		return Panels
	}
	return Graphs
}

// Products names what multiplies bfloat16 on panels, of which there are several kinds that round sums differently; "" where nothing
// does.
func (m *Method) Products() string {
	if !m.Engine.Panels() || m.Engine.Options.Compute != dtypes.BFloat16 {
		return ""
	}
	return panel.Products()
}

// Computing is what a start line says of kernels, one of the two, that compute in dtype: with panels, in which instructions.
func Computing(kernels, dtype string) string {
	if kernels == Panels {
		return Panels + " (" + panel.Instructions(dtype == "bfloat16") + ")"
	}
	return kernels
}

// Outcome is what a sweep says about one case.
type Outcome struct {
	LogProb [2]float64 // of the tokens "1" and "2" over the whole vocabulary
	Loss    float64    // cross-entropy of the right one
	Tokens  int        // really computed, padding not counted
}

// Grads are gradients per matrix of an adapter, in the order of lora.Adapter.Params; nil where nothing arrived.
type Grads [][]float32

// Sweep is the outcome of one batch of cases that went through the layers together, and, in training, the gradients of
// the sum of the cases' losses times their weight.
type Sweep struct {
	Outcomes        []Outcome
	Arguer, Chooser Grads // Train's; nil unless trained

	// By layer, of a sweep that is one of several: gradients of adapters, which are sums.add's, and of the states of
	// prefixes, which are shared.add's.
	arguer, chooser             []llama.Trained
	arguerPrefix, chooserPrefix []llama.KV
}

// transplants says whether states are moved in a layer.
func (m *Method) transplants(layer int) bool {
	return !m.NoTransplant && (m.Layers == nil || m.Layers[layer])
}

// span returns the last transplanted layer, or -1, and whether all layers are.
func (m *Method) span() (last int, all bool) {
	last, all = -1, true
	for layer := range m.layers() {
		if m.transplants(layer) {
			last = layer
		} else {
			all = false
		}
	}
	return last, all
}

func (m *Method) layers() int { return m.Engine.Weights.Config.NumHiddenLayers }

// TrainsArguer says whether gradients reach the arguer's adapter.
func (m *Method) TrainsArguer() bool {
	last, _ := m.span()
	return m.Arguer != nil && last >= 0 && !m.StopGradient
}

// Evaluate runs cases forward.
func (m *Method) Evaluate(cases []Case) ([]Outcome, error) {
	m = m.beginning(cases)
	s, err := m.alone(m.group(cases, nil, len(cases)), false, 0)
	return s.Outcomes, err
}

// Train runs cases forward and backward; weight multiplies each case's loss in the sum that is differentiated.
func (m *Method) Train(cases []Case, weight float64) (Sweep, error) {
	m = m.beginning(cases)
	return m.alone(m.group(cases, nil, len(cases)), true, weight)
}

// alone runs a micro-batch that shares its prefixes with no other.
func (m *Method) alone(g group, train bool, weight float64) (Sweep, error) {
	m, err := m.share(train)
	if err != nil {
		return Sweep{}, err
	}
	defer m.shared.close()
	s, err := m.pass(g, train, weight)
	if err != nil || !train {
		return s, err
	}
	defer func() { s.discard() }() // what an error leaves
	if err := m.shared.add(m.Engine, &s); err != nil {
		return Sweep{}, err
	}
	rest, err := m.backward()
	if err != nil {
		return Sweep{}, err
	}
	defer func() { rest.discard() }()
	if s.Arguer, err = m.Arguer.gather(&s.arguer, &rest.arguer); err == nil {
		s.Chooser, err = m.Chooser.gather(&s.chooser, &rest.chooser)
	}
	if err != nil {
		return Sweep{}, err
	}
	return s, nil
}

// pass runs a micro-batch of a method that has its prefixes.
func (m *Method) pass(g group, train bool, weight float64) (s Sweep, err error) {
	p, err := m.begin(g, train)
	switch {
	case err != nil:
		return s, err
	case train:
		return p.fit(weight)
	}
	return p.evaluate()
}

// plus adds other, if there is any, to the gradients.
func (g Grads) plus(other Grads) Grads {
	if g == nil {
		return other
	}
	for i, values := range other {
		if g[i] == nil {
			g[i] = values
			continue
		}
		for j, v := range values {
			g[i][j] += v
		}
	}
	return g
}

// evaluate runs what was begun forward and closes it.
func (p *pair) evaluate() (s Sweep, err error) {
	defer p.close()
	if err := p.forward(p.layers()); err != nil {
		return s, err
	}
	s.Outcomes, _, err = p.score(0)
	return s, err
}

// fit runs what was begun forward and backward and closes it.
func (p *pair) fit(weight float64) (Sweep, error) {
	defer p.close()
	if err := p.forward(p.layers()); err != nil {
		return Sweep{}, err
	}
	outcomes, dx, err := p.score(weight)
	if err != nil {
		return Sweep{}, err
	}
	if err := p.backward(dx); err != nil {
		return Sweep{}, err
	}
	s := p.left
	p.left = Sweep{}
	s.Outcomes = outcomes
	return s, nil
}

// pair is the two streams of a batch on their way through the layers.
type pair struct {
	*Method
	group
	arguer, chooser *llama.Stream // arguer is nil when nothing is moved
	tokens          []int         // per case
	train           bool
	lastMoved       int
	left            Sweep // what backward has made of its gradients
}

// begin lays out the cases of a micro-batch and embeds both streams. It reads no adapter.
func (m *Method) begin(g group, train bool) (*pair, error) {
	lastMoved, _ := m.span()
	l := m.layout(g, train)
	before, err := m.before(l)
	if err != nil {
		return nil, err
	}
	p := &pair{Method: m, group: g, train: train, lastMoved: lastMoved, tokens: l.tokens}
	if l.insertion != nil {
		p.arguer, err = m.Engine.NewStream(l.arguer.Sequences, llama.StreamOptions{
			Name: ArguerName, Overlay: m.Arguer.Overlay(), Export: &l.export, Keep: train && m.TrainsArguer(),
			Remat: m.Remat, Attention: l.attention, Prefix: before.arguer.states()})
		if err != nil {
			return nil, fmt.Errorf("arguer: %w", err)
		}
	}
	p.chooser, err = m.Engine.NewStream(l.chooser.Sequences, llama.StreamOptions{
		Name: ChooserName, Overlay: m.Chooser.Overlay(), Insertion: l.insertion, Last: l.chooser.last, Keep: train,
		Remat: m.Remat, Attention: l.attention, Prefix: before.chooser.states()})
	if err != nil {
		p.close()
		return nil, fmt.Errorf("chooser: %w", err)
	}
	return p, nil
}

func padReplaced(rows []row, length int) []bool {
	var all []bool
	for _, r := range rows {
		all = append(append(all, r.replaced...), make([]bool, length-len(r.replaced))...)
	}
	return all
}

func (p *pair) close() {
	p.left.discard()
	if p.arguer != nil {
		p.arguer.Close()
	}
	if p.chooser != nil {
		p.chooser.Close()
	}
}

// forward runs both streams through the first layers, the chooser one block behind the arguer.
func (p *pair) forward(layers int) error {
	for layer := range layers {
		states, err := p.argue(layer)
		if err != nil {
			return fmt.Errorf("arguer: %w", err)
		}
		if _, err := p.chooser.Forward(layer, states, false); err != nil {
			return fmt.Errorf("chooser: %w", err)
		}
	}
	return nil
}

// argue runs the arguer's layer as far as someone still needs it and returns the states to move, if any. Without a
// backward pass the states are the arguer's until the next layer.
func (p *pair) argue(layer int) (*llama.KV, error) {
	if layer > p.lastMoved {
		return nil, nil
	}
	if layer > 0 && !p.train {
		p.arguer.Release(layer - 1)
	}
	run := func() (llama.KV, error) { return p.arguer.Forward(layer, nil, p.transplants(layer)) }
	if layer == p.lastMoved {
		run = func() (llama.KV, error) { return p.arguer.KeysValues(layer) }
	}
	kv, err := run()
	if err != nil || !p.transplants(layer) {
		return nil, err
	}
	return &kv, nil
}

// score runs the head on each row's final position. Rows that only fill up have the weight 0 and no outcome.
func (p *pair) score(weight float64) ([]Outcome, *tensors.Tensor, error) {
	t := llama.Targets{Watch: p.Labels[:], Token: make([]int32, p.rows), Weight: make([]float32, p.rows)}
	for i, c := range p.cases {
		t.Token[i], t.Weight[i] = p.Labels[c.Label-1], float32(weight)
	}
	scores, err := p.chooser.Score(t, weight != 0)
	if err != nil {
		return nil, nil, err
	}
	outcomes := make([]Outcome, len(p.cases))
	for i := range p.cases {
		outcomes[i] = Outcome{LogProb: [2]float64(scores.LogProb[i]), Loss: scores.Loss[i], Tokens: p.tokens[i]}
	}
	return outcomes, scores.DX, nil
}

// backward carries dy back through the chooser and, with what it says about the moved states, through the arguer.
func (p *pair) backward(dy *tensors.Tensor) error {
	left := &p.left
	left.chooser, left.chooserPrefix = make([]llama.Trained, p.layers()), make([]llama.KV, p.layers())
	if p.TrainsArguer() {
		left.arguer, left.arguerPrefix = make([]llama.Trained, p.lastMoved+1), make([]llama.KV, p.lastMoved)
	}
	var arguerDY *tensors.Tensor
	for layer := p.layers() - 1; layer >= 0; layer-- {
		var g llama.Gradients
		var err error
		if dy, g, err = p.chooser.Backward(layer, dy, llama.KV{}, layer > 0); err != nil {
			release(arguerDY)
			return fmt.Errorf("chooser: %w", err)
		}
		left.chooser[layer], left.chooserPrefix[layer] = g.Trained, g.Prefix
		if layer > p.lastMoved {
			continue
		}
		if !p.TrainsArguer() {
			release(g.Moved.K, g.Moved.V)
			p.arguer.Release(layer)
			continue
		}
		if arguerDY, g, err = p.arguer.Backward(layer, arguerDY, g.Moved, layer > 0); err != nil {
			release(dy)
			return fmt.Errorf("arguer: %w", err)
		}
		left.arguer[layer] = g.Trained
		if layer < p.lastMoved {
			left.arguerPrefix[layer] = g.Prefix
		}
	}
	return nil
}

func release(ts ...*tensors.Tensor) {
	for _, t := range ts {
		if t != nil {
			t.MustFinalizeAll()
		}
	}
}
