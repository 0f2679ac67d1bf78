package llama

import (
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// TestIntoTheStreamWithoutRounding: what a block adds to the residual stream has the digits of the products' sums, in
// bfloat16 too; the other projections are rounded.
func TestIntoTheStreamWithoutRounding(t *testing.T) {
	c := smallConfig(false)
	const rows, in = 3, 24
	r := rand.New(rand.NewPCG(5, 6))
	x, w := bfloat16Values(r, rows*in), bfloat16Values(r, c.HiddenSize*in)
	var want []float64
	for i := range rows {
		for o := range c.HiddenSize {
			sum := 0.0
			for j := range in {
				sum += float64(x[i*in+j]) * float64(w[o*in+j])
			}
			want = append(want, sum)
		}
	}
	for proj, limits := range map[string][2]float64{"o_proj": {0, 1e-5}, "down_proj": {0, 1e-5}, "up_proj": {1e-4, 1e-1}} {
		exec := MustNewExec(goBackend(t), func(x, w *Node) *Node {
			b := &block{cfg: c, compute: dtypes.BFloat16, weights: map[string]*Node{proj: w}, uses: make(map[string][]use), forwardOnly: true}
			stream := Zeros(x.Graph(), shapes.Make(dtypes.Float64, 1, rows, c.HiddenSize))
			return addResidual(stream, b.linear(proj, ConvertDType(x, dtypes.BFloat16)))
		})
		out := exec.MustCall(tensors.FromFlatDataAndDimensions(x, rows, in), tensors.FromFlatDataAndDimensions(w, c.HiddenSize, in))
		if d := distance64(flat64(t, out[0]), want); !(d >= limits[0] && d <= limits[1]) {
			t.Errorf("%s: relative distance %g from the exact product, want %g to %g", proj, d, limits[0], limits[1])
		}
	}
}
