package transplant

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"gotransplant/llama"

	"github.com/gomlx/gomlx/core/tensors"
)

// Prefix are the tokens with which all prompts of a role begin: the head of its template. Nothing behind them reaches their
// states, so these are the same in every row and are computed once an update, or once an evaluation. On the way back the
// gradients that the rows have for them are summed first, and go through the prefix together: a backward pass is linear.
type Prefix struct{ Arguer, Chooser []int32 }

// leastShared is the length of a prefix from which it is worth two streams more.
const leastShared = 16

// SharedPrefix is the longest prefix of the cases. One case shares it with no other.
func SharedPrefix(cases []Case) Prefix {
	if len(cases) < 2 {
		return Prefix{}
	}
	return Prefix{cases[0].Argue[0].IDs, cases[0].Choose}.common(cases)
}

// Tokens is the number of tokens of both.
func (p Prefix) Tokens() int { return len(p.Arguer) + len(p.Chooser) }

// common is what of the prefix the cases begin with too. It ends before the first state that is moved.
func (p Prefix) common(cases []Case) Prefix {
	shorten := func(prefix *[]int32, prompt []int32) {
		n := 0
		for n < min(len(*prefix), len(prompt)) && (*prefix)[n] == prompt[n] {
			n++
		}
		if *prefix = (*prefix)[:n]; n < leastShared {
			*prefix = nil
		}
	}
	for _, c := range cases {
		for _, passage := range c.Argue {
			shorten(&p.Arguer, passage.IDs[:moved(passage.Span).Start])
		}
		shorten(&p.Chooser, c.Choose[:min(moved(c.Spans[0]).Start, moved(c.Spans[1]).Start)])
	}
	return p
}

// fitting is the method for cases of which some may not begin with all of its prefix, or fit none of its buckets.
func (m *Method) fitting(cases []Case) *Method { return m.beginning(cases).covering(cases) }

// beginning is the method for cases of which some may not begin with all of its prefix.
func (m *Method) beginning(cases []Case) *Method {
	with := *m
	with.Prefix = m.Prefix.common(cases)
	return &with
}

// behind is a packed row without its first n tokens, whose states come from elsewhere.
func (r row) behind(n int) row {
	if n == 0 {
		return r
	}
	r.token, r.position, r.branch = r.token[n:], r.position[n:], r.branch[n:]
	source := make([]int32, len(r.source))
	for i, s := range r.source {
		source[i] = s - int32(n)
	}
	r.source = source
	if r.replaced != nil {
		r.replaced = r.replaced[n:]
	}
	return r
}

// shared are a method's prefixes, computed with the adapters as they are.
type shared struct{ arguer, chooser *opening } // nil: the rows of this role begin with their own tokens

// opening is one role's prefix: a stream of one row that has gone forward through the layers, and the sums of what rows say
// about the states it left.
type opening struct {
	name     string
	role     *Role
	ids      []int32
	depth    int           // the layers from 0 on whose states rows look at
	keep     bool          // it is to go back
	stream   *llama.Stream // nil where no layer needs states
	prefix   *llama.Prefix
	returned []llama.KV      // by layer, where it is to go back
	trained  []llama.Trained // by layer, gradients of the role's adapter, when it has gone back
}

// share computes the prefixes, and returns the method that has them. They are to be closed.
func (m *Method) share(train bool) (*Method, error) {
	with := *m
	with.shared = &shared{}
	if m.Attention == llama.FusedAttention { // takes rows whole
		return &with, nil
	}
	lastMoved, _ := m.span()
	if ids := m.Prefix.Arguer; len(ids) > 0 && lastMoved >= 0 {
		with.shared.arguer = &opening{name: ArguerName, role: m.Arguer, ids: ids, keep: train && m.TrainsArguer(),
			depth: lastMoved} // in the last layer it takes no attention
	}
	if ids := m.Prefix.Chooser; len(ids) > 0 {
		with.shared.chooser = &opening{name: ChooserName, role: m.Chooser, ids: ids, keep: train && m.Chooser != nil, depth: m.layers()}
	}
	if err := with.shared.each(m, func(o *opening) error { return o.run(m) }); err != nil {
		with.shared.close()
		return nil, err
	}
	return &with, nil
}

// each does work for both openings, on panels at the same time: a stream of few tokens fills one core and not two.
func (s *shared) each(m *Method, work func(o *opening) error) error {
	errs := make([]error, 2)
	var group sync.WaitGroup
	for i, o := range []*opening{s.arguer, s.chooser} {
		do := func() {
			if err := work(o); err != nil {
				errs[i] = fmt.Errorf("%s's prefix: %w", o.name, err)
			}
		}
		switch {
		case o == nil:
		case m.Engine.Panels():
			group.Go(do)
		default:
			do()
		}
	}
	group.Wait()
	return errors.Join(errs...)
}

// openingStep is what the length of a prefix is rounded up to: panels have so many columns.
const openingStep = 16

// upTo rounds n up to a multiple of step.
func upTo(step, n int) int { return (n + step - 1) / step * step }

// run takes the prefix forward.
func (o *opening) run(m *Method) (err error) {
	length := upTo(openingStep, len(o.ids))
	var states []llama.KV
	if o.depth > 0 {
		var r row
		for p, id := range o.ids {
			r.add(id, int32(p), 0)
		}
		if o.stream, err = m.Engine.NewStream(pad([]row{r}, length).Sequences, llama.StreamOptions{Name: o.name,
			Overlay: o.role.Overlay(), Keep: o.keep, Remat: m.Remat, Attention: m.Attention}); err != nil {
			return err
		}
		if states, err = o.forward(); err != nil {
			return err
		}
	}
	if o.keep {
		o.returned = make([]llama.KV, o.depth)
	}
	o.prefix, err = m.Engine.NewPrefix(states, length, len(o.ids))
	return err
}

// forward gives the states of the layers whose states are looked at; of the last one no more is computed.
func (o *opening) forward() (states []llama.KV, err error) {
	for layer := range o.depth {
		var kv llama.KV
		if layer < o.depth-1 {
			kv, err = o.stream.Forward(layer, nil, true)
		} else {
			kv, err = o.stream.KeysValues(layer)
		}
		if err != nil {
			return nil, err
		}
		states = append(states, kv)
	}
	return states, nil
}

// states are what streams of rows take of an opening, nil of none.
func (o *opening) states() *llama.Prefix {
	if o == nil {
		return nil
	}
	return o.prefix
}

// length is the number of tokens that rows leave to an opening.
func (o *opening) length() int {
	if o == nil {
		return 0
	}
	return len(o.ids)
}

// add takes what a sweep says about the states, by layer. It is to be called in the order of the sweeps, so that sums have
// the same bits whenever these end.
func (o *opening) add(e *llama.Engine, said []llama.KV) error {
	if o == nil || !o.keep {
		release(tensorsOf(said)...)
		return nil
	}
	for layer, kv := range said {
		if kv.None() { // of a fused micro-batch
			continue
		}
		if err := e.AddStates(o.name, &o.returned[layer], kv); err != nil {
			release(tensorsOf(said[layer+1:])...)
			return err
		}
	}
	return nil
}

// backward goes back through the prefix with all that was added.
func (o *opening) backward() error {
	if len(o.returned) == 0 || o.returned[0].None() {
		return nil
	}
	o.trained = make([]llama.Trained, o.depth)
	var dy *tensors.Tensor
	for layer := o.depth - 1; layer >= 0; layer-- {
		returned := o.returned[layer]
		o.returned[layer] = llama.KV{}
		var g llama.Gradients
		var err error
		if dy, g, err = o.stream.Backward(layer, dy, returned, layer > 0); err != nil {
			return err
		}
		o.trained[layer] = g.Trained
	}
	return nil
}

func (o *opening) close() {
	if o == nil {
		return
	}
	release(tensorsOf(o.returned)...)
	o.prefix.Close()
	if o.stream != nil {
		o.stream.Close()
	}
}

// tensorsOf are the states' tensors, nil on panels.
func tensorsOf(states []llama.KV) (all []*tensors.Tensor) {
	for _, kv := range states {
		all = append(all, kv.K, kv.V)
	}
	return all
}

// add takes what a sweep says about the prefixes. It is to be called in the order of the sweeps.
func (s *shared) add(e *llama.Engine, sweep *Sweep) error {
	arguer, chooser := sweep.arguerPrefix, sweep.chooserPrefix
	sweep.arguerPrefix, sweep.chooserPrefix = nil, nil
	if err := s.arguer.add(e, arguer); err != nil {
		release(tensorsOf(chooser)...)
		return err
	}
	return s.chooser.add(e, chooser)
}

// backward is the part of a batch's gradients that comes through the prefixes, as a sweep without cases.
func (m *Method) backward() (s Sweep, err error) {
	err = m.shared.each(m, (*opening).backward)
	if o := m.shared.chooser; o != nil {
		s.chooser, o.trained = o.trained, nil
	}
	if o := m.shared.arguer; o != nil {
		s.arguer, o.trained = o.trained, nil
	}
	if err != nil {
		s.discard()
		return Sweep{}, err
	}
	return s, nil
}

// tokens are those of both prefixes.
func (s *shared) tokens() int { return s.arguer.length() + s.chooser.length() }

func (s *shared) close() {
	s.arguer.close()
	s.chooser.close()
}

// discard frees the gradients of a sweep that nobody will add.
func (s Sweep) discard() {
	release(tensorsOf(s.arguerPrefix)...)
	release(tensorsOf(s.chooserPrefix)...)
	for _, t := range slices.Concat(s.arguer, s.chooser) {
		t.Free()
	}
}

func discardAll(sweeps []Sweep) {
	for _, s := range sweeps {
		s.discard()
	}
}

// before are the prefixes for the streams of a layout.
func (m *Method) before(l layout) (shared, error) {
	if l.attention == llama.FusedAttention {
		return shared{}, nil
	}
	var s shared
	if m.shared != nil {
		s = *m.shared
	}
	if s.chooser.length() != len(m.Prefix.Chooser) || l.insertion != nil && s.arguer.length() != len(m.Prefix.Arguer) {
		return s, errors.New("the prefixes that the rows go without have not been computed")
	}
	return s, nil
}
