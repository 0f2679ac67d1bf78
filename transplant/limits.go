package transplant

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"gotransplant/llama"
)

// Limit is the most rows of a shape that are tried at once, after more of them did not fit the device.
type Limit struct {
	Train bool  `json:"train"` // with gradients
	Shape Shape `json:"shape"` // and all that cover it
	Rows  int   `json:"rows"`
}

// Limits remembers what the device had no room for, so that it is not tried again. A nil *Limits remembers nothing.
type Limits struct {
	Report func(line string) // told of the first; nil: no one is

	mu  sync.Mutex
	all []Limit
}

// limit is the most rows of a group's shape that may be tried at once.
func (l *Limits) limit(g group, train bool) int {
	rows := g.rows
	if l == nil {
		return rows
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, known := range l.all {
		if known.Train == train && g.shape.covers(known.Shape) {
			rows = min(rows, known.Rows)
		}
	}
	return rows
}

// note remembers that a group did not fit.
func (l *Limits) note(g group, train bool) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == 0 && l.Report != nil {
		l.Report(fmt.Sprintf("the device is out of memory with %d rows of %d + %d tokens and %d moved states: they run in parts, "+
			"and so do later rows as long; the last digits of sums over them may differ", g.rows, g.shape.Arguer, g.shape.Chooser, g.shape.Moved))
	}
	l.all = append(l.all, Limit{train, g.shape, half(g.rows)})
}

// list and restore are for the saved state of a run.
func (l *Limits) list() []Limit {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

func (l *Limits) restore(all []Limit) {
	if l != nil {
		l.all = all
	}
}

func half(rows int) int { return (rows + 1) / 2 }

// prepare begins a micro-batch ahead of its turn. Where there is no room, or none is expected, nothing is begun: when its
// turn comes others have made room, or it is divided.
func (m *Method) prepare(g group, train bool) (*pair, error) {
	if m.Limits.limit(g, train) < g.rows {
		return nil, nil
	}
	p, err := m.begin(g, train)
	if outOfMemory(err) {
		return nil, nil
	}
	return p, err
}

// discard closes what prepare began and no one ran.
func discard(p *pair) {
	if p != nil {
		p.close()
	}
}

// sweeping is what is done with micro-batches.
type sweeping struct {
	*Method
	train bool
	run   func(p *pair) (Sweep, error)
}

// inParts runs a micro-batch that prepare began. If the device is out of memory, its halves are run one after the other,
// and so on down to single rows; the results are in the order of the rows. Everything of a failed attempt is freed, so
// that no row counts twice, and so is what its first parts left when a later one fails.
func (m sweeping) inParts(g group, p *pair) ([]Sweep, error) {
	size := m.Limits.limit(g, m.train)
	if size == g.rows {
		result, err := m.once(g, p)
		if err == nil {
			return []Sweep{result}, nil
		}
		if !outOfMemory(err) {
			return nil, err
		}
		if g.rows == 1 {
			return nil, fmt.Errorf("row %d, of %d + %d tokens, does not fit by itself: %w; leave out long rows with --max-tokens and "+
				"--skip-long, or try --remat full, --dtype bfloat16 or --weights int8", g.cases[0].Row, g.shape.Arguer, g.shape.Chooser, err)
		}
		m.Limits.note(g, m.train)
		size = half(g.rows)
	} else {
		discard(p)
	}
	var all []Sweep
	for from := 0; from < len(g.cases); from += size {
		parts, err := m.inParts(m.part(g, from, size), nil)
		if err != nil {
			discardAll(all)
			return nil, err
		}
		all = append(all, parts...)
	}
	return all, nil
}

// once runs a micro-batch, which is begun here if that was not done before.
func (m sweeping) once(g group, p *pair) (result Sweep, err error) {
	if p == nil {
		if p, err = m.begin(g, m.train); err != nil {
			return result, err
		}
	}
	return m.run(p)
}

// part are the cases of a group from one on, at most size. With buckets it has size rows, filled up if need be.
func (m *Method) part(g group, from, size int) group {
	to := min(from+size, len(g.cases))
	rows := to - from
	if m.Buckets != nil {
		rows = size
	}
	return m.group(g.cases[from:to], g.index[from:to], rows)
}

func outOfMemory(err error) bool {
	var full *llama.OutOfMemoryError
	return errors.As(err, &full)
}
