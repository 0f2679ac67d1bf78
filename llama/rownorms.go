package llama

import (
	"fmt"
	"math"
	"runtime"

	"gotransplant/internal/matmul"
	"gotransplant/internal/panel"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Factors are a change of a projection's weight, Scale B A: A [Rank, in] and B [out, Rank], row-major.
type Factors struct {
	A, B  []float32
	Rank  int
	Scale float64
}

// RowNorms are the Euclidean norms [out] of the rows of W + Scale B A, summed in float64, W being a projection's weight
// as the engine multiplies it.
func (e *Engine) RowNorms(layer int, proj string, f Factors) ([]float32, error) {
	if e.panels != nil {
		return e.panels.rowNorms(layer, proj, f), nil
	}
	in, out := len(f.A)/f.Rank, len(f.B)/f.Rank
	a, err := e.Upload(f.A, f.Rank, in)
	if err != nil {
		return nil, err
	}
	defer free(a)
	b, err := e.Upload(f.B, out, f.Rank)
	if err != nil {
		return nil, err
	}
	defer free(b)
	key := fmt.Sprintf("row norms of %s, scale %v", proj, f.Scale)
	args := append(e.Weights.part(layer, proj), a, b)
	norms, err := e.run(Work{"row norms", Preparing}, key, e.buildRowNorms(proj, in, f.Scale), args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", partName(layer, proj), err)
	}
	defer free(norms...)
	return tensors.CopyFlatData[float32](norms[0])
}

// buildRowNorms: a projection's weight, with its scales if it has any, a [r, in] and b [out, r] give the norms [out].
func (e *Engine) buildRowNorms(proj string, in int, scale float64) func(in *inputs) []*Node {
	return func(args *inputs) []*Node {
		b := &block{compute: e.Options.Compute, storage: e.Weights.storage,
			weights: map[string]*Node{proj: args.next()}, scales: make(map[string]*Node)}
		b.scales[proj] = args.optional(b.storage.quantized())
		w, perRow := b.matrix(proj, in) // [out, in], nil or [out]
		wide := func(x *Node) *Node { return ConvertDType(x, dtypes.Float64) }
		w = wide(w)
		if perRow != nil {
			w = Mul(w, InsertAxes(wide(perRow), -1)) // [out, in] by [out, 1]
		}
		down, up := wide(args.next()), wide(args.next())
		change := matmul.Of(up, down).Product() // [out, r] . [r, in] -> [out, in]
		squares := ReduceSum(Square(Add(w, MulScalar(change, scale))), 1)
		return []*Node{ConvertDType(Sqrt(squares), dtypes.Float32)} // [out]
	}
}

// rowNorms are those of a projection: |w|² + s b (2 W aᵀ + s b a aᵀ) for each row w of W and b of B, so that what grows
// with out in is one product and a sum that is made once.
func (m *panelModel) rowNorms(layer int, proj string, f Factors) []float32 {
	w := m.layers[layer].projections[proj]
	var s panel.Scratch
	s.Share(panel.NewCores(runtime.GOMAXPROCS(0) - 1))
	known, ok := m.rowSquares.Load(w)
	if !ok {
		known, _ = m.rowSquares.LoadOrStore(w, w.RowSquares(&s))
	}
	squares := known.([]float64)
	columns := newMatrix(w.In, panelsOf(f.Rank)) // aᵀ [in, r]
	for k := range f.Rank {
		columns.SetColumn(k, f.A[k*w.In:(k+1)*w.In])
	}
	mixed := newMatrix(w.Out, columns.Panels) // W aᵀ [out, r]
	w.Multiply(&s, panel.Exact(columns), mixed, false)
	rows := changedRows{f, w, f.gram(&s)}
	norms := make([]float32, w.Out)
	s.Each(w.Out, func(_ *panel.Scratch, from, to int) {
		row := make([]float64, f.Rank)
		for o := from; o < to; o++ {
			for k := range row {
				row[k] = float64(mixed.Panel(k / panel.Lanes)[o*panel.Lanes+k%panel.Lanes])
			}
			norms[o] = float32(math.Sqrt(rows.square(o, squares[o], row)))
		}
	})
	return norms
}

// changedRows are those of w + Scale B A. gram is A Aᵀ [r, r].
type changedRows struct {
	Factors
	w    *panel.Weight
	gram []float64
}

// gram is A Aᵀ [r, r].
func (f Factors) gram(s *panel.Scratch) []float64 {
	in, gram := len(f.A)/f.Rank, make([]float64, f.Rank*f.Rank)
	s.Each(f.Rank, func(_ *panel.Scratch, from, to int) {
		for k := from; k < to; k++ {
			for l := range k + 1 {
				var sum float64
				other := f.A[l*in : (l+1)*in]
				for i, v := range f.A[k*in : (k+1)*in] {
					sum += float64(v) * float64(other[i])
				}
				gram[k*f.Rank+l] = sum
			}
		}
	})
	for k := range f.Rank {
		for l := range k {
			gram[l*f.Rank+k] = gram[k*f.Rank+l]
		}
	}
	return gram
}

// square is the squared norm of row o, of which the weight's own part has the given square; mixed are the products of that
// part with the rows of A. Where the change takes nearly all of the weight away, the sum of the three has no digits left,
// and the row itself is summed.
func (c changedRows) square(o int, own float64, mixed []float64) float64 {
	b := c.B[o*c.Rank : (o+1)*c.Rank]
	var cross, change float64
	for k, v := range b {
		inner := 0.0
		for l, u := range b {
			inner += float64(float64(u) * c.gram[k*c.Rank+l]) // rounded, or some processors would give other bits
		}
		cross += float64(float64(v) * mixed[k])
		change += float64(float64(v) * inner)
	}
	change = float64(change * (c.Scale * c.Scale))
	const left = 1e-2 // of the larger of the two
	if sum := own + float64(2*c.Scale*cross) + change; sum > left*max(own, change) || math.IsNaN(sum) {
		return sum
	}
	row, sum := make([]float32, c.w.In), 0.0
	c.w.Row(o, row)
	for i, w := range row {
		delta := 0.0
		for k, v := range b {
			delta += float64(v) * float64(c.A[k*c.w.In+i])
		}
		v := float64(w) + float64(c.Scale*delta)
		sum += float64(v * v)
	}
	return sum
}
