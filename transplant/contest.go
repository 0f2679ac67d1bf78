package transplant

import (
	"fmt"
	"slices"
	"time"

	"gotransplant/llama"
)

// Contest decides between the packed layout and fused attention in place by what they cost: for a shape of micro-batches
// each is run twice, once to be compiled and once to be timed. The fused kernel is the faster one for each token, but in
// place there are more tokens. What it saves grows with the square of the lengths, so that where the packed layout is the
// faster one it is for all smaller shapes as well.
type Contest struct {
	report func(line string)
	time   func(side llama.Attention, run func() error) (time.Duration, error)
	won    map[bout]llama.Attention
	packed []bout // that the packed layout won for being faster
}

// bout is what a decision holds for.
type bout struct {
	shape        Shape
	rows         int
	train        bool
	noTransplant bool
}

// NewContest makes a contest that tells each decision in a line.
func NewContest(report func(line string)) *Contest {
	return &Contest{report: report, won: make(map[bout]llama.Attention), time: timed}
}

func timed(_ llama.Attention, run func() error) (time.Duration, error) {
	start := time.Now()
	err := run()
	return time.Since(start), err
}

// bout of a group.
func (m *Method) bout(g group, train bool) bout { return bout{g.shape, g.rows, train, m.NoTransplant} }

// contested says that there is something to decide.
func (m *Method) contested() bool {
	return m.Contest != nil && m.Attention == llama.AutoAttention
}

// attention says how a group's attention is computed. What was not decided is packed.
func (m *Method) attention(g group, train bool) llama.Attention {
	if !m.contested() {
		return m.Attention
	}
	if won, ok := m.Contest.won[m.bout(g, train)]; ok {
		return won
	}
	return llama.AutoAttention
}

// decide runs the contest for those of the groups whose shape is new. It must not be called while they run.
func (m *Method) decide(groups []group, train bool) {
	if !m.contested() {
		return
	}
	for _, g := range groups {
		key := m.bout(g, train)
		if _, known := m.Contest.won[key]; known {
			continue
		}
		m.Contest.won[key] = llama.AutoAttention
		if !m.Contest.foregone(key) {
			m.Contest.won[key] = m.fight(g, train)
		}
	}
}

// foregone says that the packed layout was the faster one for a larger shape.
func (c *Contest) foregone(b bout) bool {
	return slices.ContainsFunc(c.packed, func(larger bout) bool {
		return larger.train == b.train && larger.noTransplant == b.noTransplant && larger.shape.covers(b.shape)
	})
}

// forced is the method with a group's attention decided.
func (m *Method) forced(g group, train bool, side llama.Attention) *Method {
	f := *m
	f.Contest = &Contest{won: map[bout]llama.Attention{m.bout(g, train): side}}
	return &f
}

// fight times both sides on a group and reports. A side that fails, for lack of memory or because the kernel will not
// take the shape, has lost; where both do, the group is left to fail in earnest.
func (m *Method) fight(g group, train bool) llama.Attention {
	sides := []llama.Attention{llama.AutoAttention, llama.FusedAttention}
	var cost [2]time.Duration
	var failed [2]error
	for i, side := range sides {
		forced := m.forced(g, train, side)
		for range 2 {
			if cost[i], failed[i] = m.Contest.time(side, func() error {
				s, err := forced.pass(g, train, 1)
				s.discard()
				return err
			}); failed[i] != nil {
				break
			}
		}
	}
	winner := 0
	if failed[1] == nil && (failed[0] != nil || cost[1] < cost[0]) {
		winner = 1
	} else if failed[0] == nil && failed[1] == nil {
		m.Contest.packed = append(m.Contest.packed, m.bout(g, train))
	}
	names := []string{"packed", "fused in place"}
	tell := func(i int) string {
		if failed[i] != nil {
			return fmt.Sprintf("%s fails: %v", names[i], failed[i])
		}
		return fmt.Sprintf("%s %.3g s", names[i], cost[i].Seconds())
	}
	m.Contest.report(fmt.Sprintf("attention of %d rows of %d+%d tokens: %s, %s: %s", g.rows, g.shape.Arguer, g.shape.Chooser,
		tell(0), tell(1), names[winner]))
	return sides[winner]
}
