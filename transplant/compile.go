package transplant

import (
	"context"
	"errors"
	"fmt"
)

// Compile builds the executables for every bucket, several at a time, before they are needed: those of an evaluation
// and, with train, those of training. Without buckets, or on panels, there is nothing to build in advance.
func (m *Method) Compile(ctx context.Context, cases []Case, pace Pace, train bool, atOnce int) error {
	if m.Buckets == nil || m.Engine.Panels() {
		return nil
	}
	quiet := *m
	quiet.Engine = m.Engine.Compiling()
	groups := m.examples(cases, pace.MicroBatch)
	scoring, err := quiet.share(false)
	if err != nil {
		return err
	}
	defer scoring.shared.close()
	training, err := quiet.share(train)
	if err != nil {
		return err
	}
	defer training.shared.close()
	sums, _ := quiet.newSums()
	defer sums.reset()
	var works []func() (Sweep, error)
	for _, g := range groups {
		works = append(works, func() (Sweep, error) { return scoring.compile(g, false) })
		if train {
			works = append(works, func() (Sweep, error) { return training.compile(g, true) })
		}
	}
	add := func(s Sweep) error { return errors.Join(training.shared.add(quiet.Engine, &s), sums.add(&s)) }
	err = inOrder(ctx, len(works), atOnce,
		func(i int) (func() (Sweep, error), error) { return works[i], nil }, func(func() (Sweep, error)) {},
		func(_ int, work func() (Sweep, error)) (Sweep, error) { return work() },
		func(_ int, s Sweep) error { return add(s) })
	if err != nil || !train {
		return err
	}
	// Once more: with a single bucket nothing has been added to a sum yet.
	for _, last := range []func() (Sweep, error){func() (Sweep, error) { return training.compile(groups[0], true) }, training.backward} {
		s, err := last()
		if err == nil {
			err = add(s)
		}
		if err != nil {
			return err
		}
	}
	return sums.take()
}

// examples are one micro-batch for each bucket, the largest first: what takes longest to compile begins first.
func (m *Method) examples(cases []Case, rows int) []group {
	byLevel := make([][]Case, len(m.Buckets)+1)
	for _, c := range cases {
		level := m.Buckets.level(m.need(c))
		byLevel[level] = append(byLevel[level], c)
	}
	var all []group
	for level := len(m.Buckets) - 1; level >= 0; level-- {
		if len(byLevel[level]) > 0 {
			all = append(all, m.group(byLevel[level][:1], nil, rows))
		}
	}
	return all
}

// compile runs a micro-batch for what it leaves compiled.
func (m *Method) compile(g group, train bool) (Sweep, error) {
	s, err := m.pass(g, train, 1)
	if err != nil {
		return Sweep{}, fmt.Errorf("compile for micro-batches of %d rows of %d+%d tokens: %w",
			g.rows, g.shape.Arguer, g.shape.Chooser, err)
	}
	return s, nil
}
