package model

import (
	"context"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"runtime"
	"sync"

	"gotransplant/internal/atomicfile"
	"gotransplant/model/safetensors"
)

// Rewriting says how a checkpoint is written anew. The zero value copies every tensor, byte by byte, into one file.
type Rewriting struct {
	DType     safetensors.DType // of all tensors; "" leaves each its own
	ShardSize int64             // bytes of tensors in a file at most, unless one alone takes more; 0: no limit
	// Change returns what changes a tensor on the way, or nil where it stays as it is. nil: nothing changes.
	Change   func(tensor string) RowChange
	Progress func(done, total int) // rows of matrices; nil: nobody is told
}

// RowChange changes rows [n, in] of a matrix in place, the first of which is its row first. Several goroutines may call it
// at the same time, each on rows of its own.
type RowChange func(rows []float64, first int) error

// Altered is what became of a tensor that was not copied byte by byte. Norms are Frobenius norms.
type Altered struct {
	Name        string
	From, To    safetensors.DType
	Changed     bool    // by Rewriting.Change
	Base        float64 // norm of the tensor before
	Moved       float64 // norm of what Change added, before any rounding
	Largest     float64 // largest magnitude of it
	Lost        float64 // norm of what rounding to the stored type took away
	LargestLost float64 // largest magnitude of it
}

// Shards are the files that Rewrite will write, with their tensors in the order of the computation.
func (c *Checkpoint) Shards(r Rewriting) ([]Shard, error) {
	specs := make([]safetensors.Spec, len(c.names))
	for i, name := range c.names {
		t := c.tensors[name]
		specs[i] = safetensors.Spec{Name: name, DType: r.typeOf(t), Shape: t.Shape}
	}
	limit := r.ShardSize
	if limit <= 0 {
		limit = math.MaxInt64
	}
	return split(specs, limit)
}

// typeOf is the type in which a tensor is written.
func (r Rewriting) typeOf(t safetensors.Tensor) safetensors.DType {
	if r.DType == "" {
		return t.DType
	}
	return r.DType
}

// Rewrite makes out, which must not exist or be empty, a checkpoint directory of c's tensors: safetensors files, an index
// if there are several, config.json and the Companions. It holds no more than some MB of the tensors in memory. The
// directory appears when it is whole; an error, or the end of ctx, leaves nothing behind. A value that is not finite, in
// the checkpoint or in its new type, is an error that names the tensor. The result lists what was not copied byte by byte,
// in the order of the computation.
func (c *Checkpoint) Rewrite(ctx context.Context, out string, r Rewriting) ([]Altered, error) {
	shards, err := c.Shards(r)
	if err != nil {
		return nil, err
	}
	w := &rewriter{Rewriting: r, ctx: ctx, from: c, altered: map[string]Altered{}, pieces: make([]piece, 2*runtime.GOMAXPROCS(0))}
	for _, s := range shards {
		for _, t := range s.Tensors {
			rows, _ := matrix(t.Shape)
			w.total += rows
		}
	}
	err = atomicfile.WriteDir(out, func(dir string) error {
		for _, s := range shards {
			if err := w.shard(dir, s); err != nil {
				return err
			}
		}
		if len(shards) > 1 {
			index, err := encodeIndex(shards)
			if err != nil {
				return err
			}
			if err := atomicfile.WriteBytes(filepath.Join(dir, indexFile), index); err != nil {
				return err
			}
		}
		if err := c.copyCompanions(dir); err != nil {
			return err
		}
		return c.copyConfig(dir, mostBytes(shards))
	})
	if err != nil {
		return nil, err
	}
	var all []Altered
	for _, name := range c.names {
		if a, ok := w.altered[name]; ok {
			all = append(all, a)
		}
	}
	return all, nil
}

// mostBytes is the type that most bytes of weights have, which is what config.json calls that of the model.
func mostBytes(shards []Shard) (most safetensors.DType) {
	bytes := map[safetensors.DType]int{}
	for _, s := range shards {
		for _, t := range s.Tensors {
			size, _ := safetensors.ByteSize(t.DType, t.Shape) // split has asked before
			bytes[t.DType] += size
		}
	}
	for _, d := range []safetensors.DType{safetensors.BF16, safetensors.F16, safetensors.F32, safetensors.F64} {
		if bytes[d] > bytes[most] {
			most = d
		}
	}
	return most
}

// matrix is the shape of a tensor as rows of its last axis; a vector is one row.
func matrix(shape []int) (rows, width int) {
	rows, width = 1, 1
	for i, n := range shape {
		if i == len(shape)-1 {
			width = n
		} else {
			rows *= n
		}
	}
	return rows, width
}

// rewriter is a Rewrite under way.
type rewriter struct {
	Rewriting
	ctx         context.Context
	from        *Checkpoint
	pieces      []piece // that are worked on at the same time
	altered     map[string]Altered
	done, total int // rows
}

// shard writes one file.
func (w *rewriter) shard(dir string, s Shard) error {
	metadata := map[string]string{"format": "pt"} // Hugging Face refuses a file without it
	return safetensors.WriteFrom(filepath.Join(dir, s.File), s.Tensors, metadata, func(i int, to io.Writer) error {
		t := w.from.tensors[s.Tensors[i].Name]
		var change RowChange
		if w.Change != nil {
			change = w.Change(t.Name)
		}
		return w.tensor(to, t, s.Tensors[i].DType, change)
	})
}

// pieceValues is how much of a tensor is worked on at a time: whole rows of about as many values. It does not depend on
// the cores, and neither do sums over pieces.
const pieceValues = 1 << 18

// tensor writes one tensor piece by piece, several pieces being worked on at the same time.
func (w *rewriter) tensor(to io.Writer, t safetensors.Tensor, as safetensors.DType, change RowChange) error {
	rows, width := matrix(t.Shape)
	each := max(1, pieceValues/width)
	sum := Altered{Name: t.Name, From: t.DType, To: as, Changed: change != nil}
	for first := 0; first < rows; first += each * len(w.pieces) {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		var group sync.WaitGroup
		used := w.pieces[:min(len(w.pieces), (rows-first+each-1)/each)]
		for i := range used {
			p, from := &used[i], first+i*each
			p.first, p.rows, p.width = from, min(each, rows-from), width
			group.Go(func() { p.err = p.run(w.from, t, as, change) })
		}
		group.Wait()
		for i := range used {
			p := &used[i]
			if p.err != nil {
				return p.err
			}
			if _, err := to.Write(p.out); err != nil {
				return err
			}
			sum.add(p.sum)
			w.done += p.rows
		}
		if w.Progress != nil {
			w.Progress(w.done, w.total)
		}
	}
	if change != nil || as != t.DType {
		w.altered[t.Name] = sum.root()
	}
	return nil
}

// piece is a few rows of a tensor on their way, and its memory.
type piece struct {
	first, rows, width int
	raw, fresh         []byte    // as stored, and as to be stored
	base, exact, back  []float64 // before, after the change, and after rounding
	out                []byte    // one of the two
	sum                Altered   // of this piece, with squares for norms
	err                error
}

// run reads the rows, changes them and leaves in p.out what is to be written.
func (p *piece) run(c *Checkpoint, t safetensors.Tensor, as safetensors.DType, change RowChange) error {
	wide := t.DType.Bits() / 8
	from := p.first * p.width * wide
	p.raw = room(p.raw, p.rows*p.width*wide)
	if err := c.ReadAt(t.Name, p.raw, from); err != nil {
		return err
	}
	c.Forget(t.Name, from, from+len(p.raw))
	if i := safetensors.NotFinite(t.DType, p.raw); i >= 0 {
		return fmt.Errorf("value %v of the stored tensor is not finite: the checkpoint is damaged", p.at(i))
	}
	p.out, p.sum = p.raw, Altered{}
	if change == nil && as == t.DType {
		return nil
	}
	return p.alter(t.DType, as, change)
}

// alter changes the rows that p.raw holds and stores them in another type.
func (p *piece) alter(from, as safetensors.DType, change RowChange) error {
	n := p.rows * p.width
	p.base, p.exact, p.back = room(p.base, n), room(p.exact, n), room(p.back, n)
	if err := safetensors.Decode64(p.base, from, p.raw); err != nil {
		return err
	}
	copy(p.exact, p.base)
	if change != nil {
		if err := change(p.exact, p.first); err != nil {
			return err
		}
	}
	p.fresh = room(p.fresh, n*as.Bits()/8)
	if err := safetensors.Encode64(p.fresh, as, p.exact); err != nil {
		return err
	}
	if i := safetensors.NotFinite(as, p.fresh); i >= 0 {
		return fmt.Errorf("value %v would be %g, which %s cannot hold: choose another type", p.at(i), p.exact[i], DTypeName(as))
	}
	p.out = p.fresh
	if err := safetensors.Decode64(p.back, as, p.out); err != nil {
		return err
	}
	p.measure()
	return nil
}

// at is the row and column of the piece's i-th value.
func (p *piece) at(i int) [2]int { return [2]int{p.first + i/p.width, i % p.width} }

// room is old with n elements, or new memory.
func room[T any](old []T, n int) []T {
	if cap(old) < n {
		return make([]T, n)
	}
	return old[:n]
}

// measure fills p.sum.
func (p *piece) measure() {
	s := &p.sum
	for i, base := range p.base {
		moved, lost := p.exact[i]-base, p.exact[i]-p.back[i]
		s.Base += base * base
		s.Moved += moved * moved
		s.Lost += lost * lost
		s.Largest = max(s.Largest, math.Abs(moved))
		s.LargestLost = max(s.LargestLost, math.Abs(lost))
	}
}

// add takes a piece's sums in.
func (a *Altered) add(b Altered) {
	a.Base, a.Moved, a.Lost = a.Base+b.Base, a.Moved+b.Moved, a.Lost+b.Lost
	a.Largest, a.LargestLost = max(a.Largest, b.Largest), max(a.LargestLost, b.LargestLost)
}

// root makes norms of squares.
func (a Altered) root() Altered {
	a.Base, a.Moved, a.Lost = math.Sqrt(a.Base), math.Sqrt(a.Moved), math.Sqrt(a.Lost)
	return a
}
