package llama

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// TestRotaryTablesFarOut: cosines and sines are exact to float32 at positions where the angle itself would not be.
func TestRotaryTablesFarOut(t *testing.T) {
	c := smallConfig(false)
	c.HeadDim, c.RopeTheta = 8, 500000
	positions := []int32{0, 1, 2000, 8191, 131071}
	frequencies := c.InverseFrequencies()
	exec := MustNewExec(goBackend(t), func(position *Node) []*Node {
		cos, sin := rotaryTables(position, frequencies)
		return []*Node{cos, sin}
	})
	out := exec.MustCall(tensors.FromFlatDataAndDimensions(positions, 1, len(positions)))
	var cos, sin []float64
	for _, p := range positions {
		for i := range c.HeadDim / 2 {
			si, co := math.Sincos(float64(p) * math.Pow(c.RopeTheta, -float64(2*i)/float64(c.HeadDim)))
			cos, sin = append(cos, co), append(sin, si)
		}
	}
	near(t, "cos", flat64(t, out[0]), cos, 1e-7)
	near(t, "sin", flat64(t, out[1]), sin, 1e-7)
}

// bfloat16Values are random numbers that bfloat16 holds exactly.
func bfloat16Values(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.IntN(129)-64) / 32
	}
	return v
}

// TestScoresAreNotRounded: in bfloat16 the softmax is that of the scores' sums, not of these rounded to bfloat16, in which
// a score of 8 may be wrong by 1/32 and its key's weight by 3 percent.
func TestScoresAreNotRounded(t *testing.T) {
	const queries, keys, dim = 8, 12, 64
	r := rand.New(rand.NewPCG(3, 4))
	q, k := bfloat16Values(r, queries*dim), bfloat16Values(r, keys*dim)
	exec := MustNewExec(goBackend(t), func(q, k *Node) *Node {
		narrow := func(x *Node) *Node { return ConvertDType(x, dtypes.BFloat16) }
		a := attention{mask: Zeros(q.Graph(), shapes.Make(dtypes.Float32, 1, queries, keys))}
		return a.weights(narrow(q), narrow(k))
	})
	out := exec.MustCall(tensors.FromFlatDataAndDimensions(q, 1, 1, queries, dim), tensors.FromFlatDataAndDimensions(k, 1, 1, keys, dim))
	var want []float64
	for i := range queries {
		row, total := make([]float64, keys), 0.0
		for j := range keys {
			for d := range dim {
				row[j] += float64(q[i*dim+d]) * float64(k[j*dim+d]) / math.Sqrt(dim)
			}
			row[j] = math.Exp(row[j])
			total += row[j]
		}
		for _, p := range row {
			want = append(want, p/total)
		}
	}
	near(t, "weights", flat64(t, out[0]), want, 1e-5)
}
