package llama

import (
	"maps"
	"sync"
	"time"

	"github.com/gomlx/gomlx/core/graph"
)

// Work says what executables were called for.
type Work struct {
	Stream string // StreamOptions.Name
	Pass   string // one of the constants below
}

// What a stream calls executables for.
const (
	Embedding          = "embed"
	Preparing          = "prepare" // masks and rotary tables
	ForwardPass        = "forward"
	KeysValuesPass     = "keys and values"
	ScorePass          = "score" // the head, forward and backward
	BackwardPass       = "backward"
	BackwardKeysValues = "backward of keys and values"
)

// Tally counts calls of executables and the time spent inside them, summed over the goroutines that called.
type Tally struct {
	Calls   int
	Seconds float64
}

// Ledger is what an engine has done since it was made. Compilation is apart from the calls.
type Ledger struct {
	Calls          map[Work]Tally
	Kinds          int     // of executables
	Compilations   int     // one for each kind and each combination of argument shapes
	CompileSeconds float64 // building the graph and, on backends that have it, compiling it
}

// Since is what was done after earlier, an older ledger of the same engine.
func (l Ledger) Since(earlier Ledger) Ledger {
	d := Ledger{make(map[Work]Tally), l.Kinds - earlier.Kinds, l.Compilations - earlier.Compilations,
		l.CompileSeconds - earlier.CompileSeconds}
	for w, t := range l.Calls {
		before := earlier.Calls[w]
		if t.Calls > before.Calls {
			d.Calls[w] = Tally{t.Calls - before.Calls, t.Seconds - before.Seconds}
		}
	}
	return d
}

// clerk keeps the ledger of an engine for many goroutines.
type clerk struct {
	mu     sync.Mutex
	ledger Ledger
	graphs map[*graph.Graph]bool // those counted as compilations
}

func newClerk() *clerk {
	return &clerk{ledger: Ledger{Calls: make(map[Work]Tally)}, graphs: make(map[*graph.Graph]bool)}
}

// compiled notes that a caller waited d for g; only the first to say so counts, the others found it made.
func (c *clerk) compiled(g *graph.Graph, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.graphs[g] {
		c.graphs[g] = true
		c.ledger.Compilations++
		c.ledger.CompileSeconds += d.Seconds()
	}
}

func (c *clerk) called(w Work, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.ledger.Calls[w]
	c.ledger.Calls[w] = Tally{t.Calls + 1, t.Seconds + d.Seconds()}
}

// Ledger is a copy of the books as they are now.
func (e *Engine) Ledger() Ledger {
	e.mu.Lock()
	kinds := len(e.execs)
	e.mu.Unlock()
	e.clerk.mu.Lock()
	defer e.clerk.mu.Unlock()
	l := e.clerk.ledger
	l.Kinds = kinds
	l.Calls = maps.Clone(l.Calls)
	return l
}
