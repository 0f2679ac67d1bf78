package transplant

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"gotransplant/llama"
)

// Sweeps are kinds of sweeps over cases.
type Sweeps struct{ Score, Train bool }

// list has false for an evaluation's sweeps and true for training's.
func (s Sweeps) list() (all []bool) {
	if s.Score {
		all = append(all, false)
	}
	if s.Train {
		all = append(all, true)
	}
	return all
}

// Compile builds the executables for every bucket, as many at a time as there are cores, before they are needed. Where there
// is a contest it is held for the largest bucket, and for the smaller ones fused attention is built only if it wins. Without
// buckets, or on panels, there is nothing to build in advance.
func (m *Method) Compile(ctx context.Context, cases []Case, microBatch int, sweeps Sweeps) error {
	if m.Buckets == nil || m.Engine.Panels() || len(cases) == 0 {
		return nil
	}
	m = m.fitting(cases)
	groups := m.examples(cases, microBatch)
	var jobs, larger, smaller []job
	for i, g := range groups {
		for _, t := range sweeps.list() {
			jobs = append(jobs, job{g, t, m.Attention})
			if fused := (job{g, t, llama.FusedAttention}); i == 0 {
				larger = append(larger, fused)
			} else {
				smaller = append(smaller, fused)
			}
		}
	}
	if !m.contested() {
		return m.build(ctx, jobs)
	}
	if err := m.build(ctx, append(jobs, larger...)); err != nil {
		return err
	}
	for _, j := range larger {
		if err := m.hold(j.group, j.train); err != nil {
			return err
		}
	}
	smaller = slices.DeleteFunc(smaller, func(j job) bool { return m.Contest.foregone(m.bout(j.group, j.train)) })
	if len(smaller) == 0 {
		return nil
	}
	return m.build(ctx, smaller)
}

// job is a micro-batch whose executables are wanted: for training or for an evaluation, and with which attention.
type job struct {
	group
	train bool
	side  llama.Attention
}

// hold holds the contest for a group.
func (m *Method) hold(g group, train bool) error {
	ready, err := m.share(train)
	if err != nil {
		return err
	}
	defer ready.shared.close()
	ready.decide([]group{g}, train)
	return nil
}

// build compiles what jobs call, on an engine that runs nothing.
func (m *Method) build(ctx context.Context, jobs []job) error {
	quiet := *m
	quiet.Engine = m.Engine.Compiling()
	scoring, err := quiet.share(false)
	if err != nil {
		return err
	}
	defer scoring.shared.close()
	training, err := quiet.share(slices.ContainsFunc(jobs, func(j job) bool { return j.train }))
	if err != nil {
		return err
	}
	defer training.shared.close()
	sums, _ := quiet.newSums()
	defer sums.reset()
	work := func(j job) (Sweep, error) {
		method := scoring
		if j.train {
			method = training
		}
		if !m.contested() {
			return method.compile(j.group, j.train)
		}
		s, err := method.forced(j.group, j.train, j.side).compile(j.group, j.train)
		if err != nil && j.side == llama.FusedAttention {
			return Sweep{}, nil // the kernel will not take the shape: the contest says so
		}
		return s, err
	}
	summed := -1 // a job that left gradients
	add := func(i int, s Sweep) error {
		if len(s.arguer)+len(s.chooser) > 0 {
			summed = i
		}
		return errors.Join(training.shared.add(quiet.Engine, &s), sums.add(&s))
	}
	err = inOrder(ctx, len(jobs), runtime.GOMAXPROCS(0), stages[job, Sweep]{
		prepare: func(i int) (job, error) { return jobs[i], nil },
		work:    func(_ int, j job) (Sweep, error) { return work(j) },
		deliver: add, // and nothing drops what is left: on an engine that runs nothing a sweep holds none of the device's memory
	})
	if err != nil || summed < 0 {
		return err
	}
	// Once more: with a single bucket nothing has been added to a sum yet.
	again := func() (Sweep, error) { return work(jobs[summed]) }
	for _, last := range []func() (Sweep, error){again, training.backward} {
		s, err := last()
		if err == nil {
			err = add(summed, s)
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

// compile runs a micro-batch for what it leaves compiled. Where the device has no room for that now, what is missing is
// compiled when it is called.
func (m *Method) compile(g group, train bool) (Sweep, error) {
	s, err := m.pass(g, train, 1)
	if outOfMemory(err) {
		return Sweep{}, nil
	}
	if err != nil {
		return Sweep{}, fmt.Errorf("compile for micro-batches of %d rows of %d+%d tokens: %w",
			g.rows, g.shape.Arguer, g.shape.Chooser, err)
	}
	return s, nil
}
