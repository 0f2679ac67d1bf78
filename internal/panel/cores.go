package panel

import (
	"sync"
	"sync/atomic"
)

// Cores counts the processors that nobody computes on, so that work which happens to be alone can spread out while work
// that has company stays on its own core.
type Cores struct{ spare atomic.Int32 }

// NewCores begins with n processors.
func NewCores(n int) *Cores {
	c := &Cores{}
	c.spare.Store(int32(n))
	return c
}

// Enter says that the caller computes from now on, Leave that it no longer does.
func (c *Cores) Enter() { c.spare.Add(-1) }
func (c *Cores) Leave() { c.spare.Add(1) }

// take takes up to n spare processors.
func (c *Cores) take(n int) int {
	for {
		spare := c.spare.Load()
		got := min(int32(n), spare)
		if got <= 0 {
			return 0
		}
		if c.spare.CompareAndSwap(spare, spare-got) {
			return int(got)
		}
	}
}

// turns is the number of parts for every processor: one that is slower than the others, as half of a laptop's are, or disturbed,
// takes fewer of them.
const turns = 4

// Share lets the functions that are given s, and Each, use spare processors.
func (s *Scratch) Share(c *Cores) { s.cores = c }

// Each does work for 0 to n-1, in parts on as many processors as are spare, each with a scratch of its own. What work
// does for one number must not depend on the others, since who does it is left to chance.
func (s *Scratch) Each(n int, work func(s *Scratch, from, to int)) {
	helpers := 0
	if s.cores != nil {
		helpers = s.cores.take(n - 1)
	}
	if helpers == 0 {
		work(s, 0, n)
		return
	}
	for len(s.others) < helpers {
		s.others = append(s.others, &Scratch{})
	}
	parts := min(n, turns*(helpers+1))
	var taken atomic.Int32
	taken.Store(int32(helpers + 1))
	some := func(s *Scratch, part int) {
		for ; part < parts; part = int(taken.Add(1)) - 1 {
			work(s, part*n/parts, (part+1)*n/parts)
		}
	}
	var group sync.WaitGroup
	for i, other := range s.others[:helpers] {
		group.Go(func() { some(other, i+1) })
	}
	some(s, 0)
	group.Wait()
	s.cores.spare.Add(int32(helpers))
}
