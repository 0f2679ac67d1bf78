package transplant

import (
	"context"
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
	var works []func() error
	for _, g := range m.examples(cases, pace.MicroBatch) {
		works = append(works, func() error { return quiet.pass(g, false) })
		if train {
			works = append(works, func() error { return quiet.pass(g, true) })
		}
	}
	return inOrder(ctx, len(works), atOnce,
		func(i int) (func() error, error) { return works[i], nil }, func(func() error) {},
		func(_ int, work func() error) (struct{}, error) { return struct{}{}, work() },
		func(int, struct{}) error { return nil })
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

// pass runs a micro-batch for what it leaves compiled.
func (m *Method) pass(g group, train bool) error {
	p, err := m.begin(g, train)
	if err == nil && train {
		_, err = p.fit(1)
	} else if err == nil {
		_, err = p.evaluate()
	}
	if err != nil {
		return fmt.Errorf("compile for micro-batches of %d rows of %d+%d tokens: %w",
			g.rows, g.shape.Arguer, g.shape.Chooser, err)
	}
	return nil
}
