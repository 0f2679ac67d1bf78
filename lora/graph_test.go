package lora

import (
	"math"
	"testing"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// ramp fills rows x cols with small distinct values.
func ramp(rows, cols int, phase float64) []float32 {
	v := make([]float32, rows*cols)
	for i := range v {
		v[i] = float32(math.Sin(phase + 1.3*float64(i)))
	}
	return v
}

// product multiplies l [n, k] by r [k, m].
func product(l, r []float64, n, k, m int) []float64 {
	out := make([]float64, n*m)
	for i := range n {
		for j := range m {
			for s := range k {
				out[i*m+j] += l[i*k+s] * r[s*m+j]
			}
		}
	}
	return out
}

// transposed of v [n, m] is [m, n].
func transposed(v []float64, n, m int) []float64 {
	out := make([]float64, len(v))
	for i := range n {
		for j := range m {
			out[j*n+i] = v[i*m+j]
		}
	}
	return out
}

func wide(v []float32) []float64 {
	out := make([]float64, len(v))
	for i := range v {
		out[i] = float64(v[i])
	}
	return out
}

func scaled(v []float64, factor float64) []float64 {
	for i := range v {
		v[i] *= factor
	}
	return v
}

// The loss is the sum of Apply's output times fixed weights w [rows, out]. With low = x Aᵀ and u = w B:
// dA = scale uᵀ x, dB = scale wᵀ low, dx = scale u A, dy = w.
func TestApplyForwardAndGradient(t *testing.T) {
	const rows, in, out, rank, scale = 3, 5, 4, 2, 0.75
	x, y, w := ramp(rows, in, 0), ramp(rows, out, 1), ramp(rows, out, 2)
	a, b := ramp(rank, in, 3), ramp(out, rank, 4)
	backend, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Finalize()
	got, err := graph.CallOnceN(backend, func(n []*graph.Node) []*graph.Node {
		z := Apply(n[0], n[1], n[2], n[3], scale)
		loss := graph.ReduceAllSum(graph.Mul(z, n[4]))
		return append([]*graph.Node{z}, graph.Gradient(loss, n[0], n[1], n[2], n[3])...)
	}, tensors.FromFlatDataAndDimensions(x, rows, in), tensors.FromFlatDataAndDimensions(y, rows, out),
		tensors.FromFlatDataAndDimensions(a, rank, in), tensors.FromFlatDataAndDimensions(b, out, rank),
		tensors.FromFlatDataAndDimensions(w, rows, out))
	if err != nil {
		t.Fatal(err)
	}
	low := product(wide(x), transposed(wide(a), rank, in), rows, in, rank)
	u := product(wide(w), wide(b), rows, out, rank)
	z := scaled(product(low, transposed(wide(b), out, rank), rows, rank, out), scale)
	for i := range z {
		z[i] += float64(y[i])
	}
	for i, c := range []struct {
		name string
		want []float64
	}{
		{"output", z},
		{"dx", scaled(product(u, wide(a), rows, rank, in), scale)},
		{"dy", wide(w)},
		{"dA", scaled(product(transposed(u, rows, rank), wide(x), rank, rows, in), scale)},
		{"dB", scaled(product(transposed(wide(w), rows, out), low, out, rows, rank), scale)},
	} {
		values := tensors.MustCopyFlatData[float32](got[i])
		if len(values) != len(c.want) {
			t.Fatalf("%s: got %d values, want %d", c.name, len(values), len(c.want))
		}
		for j, want := range c.want {
			if math.Abs(float64(values[j])-want) > 1e-6 {
				t.Errorf("%s[%d]: got %v, want %v", c.name, j, values[j], want)
			}
		}
	}
}

// x W'ᵀ with the merged weight is what Apply makes of x Wᵀ.
func TestMergedEqualsApplied(t *testing.T) {
	c := smallConfig()
	adapter := mustNew(t, Options{Rank: 3, Alpha: 4, RSLoRA: true, Targets: Targets{Names: []string{"down_proj"}}}, c, 7)
	pa, pb, _ := adapter.Pair(0, "down_proj") // [3, 12] and [8, 3]
	copy(pb.Value, ramp(8, 3, 5))
	weight, x := ramp(8, 12, 6), ramp(2, 12, 7)
	merged, err := adapter.Merge(0, "down_proj", weight)
	if err != nil {
		t.Fatal(err)
	}
	y := product(wide(x), transposed(wide(weight), 8, 12), 2, 12, 8)
	yFlat := make([]float32, len(y))
	for i := range y {
		yFlat[i] = float32(y[i])
	}
	backend, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Finalize()
	got, err := graph.CallOnce(backend, func(n []*graph.Node) *graph.Node {
		return Apply(n[0], n[1], n[2], n[3], adapter.Scale(0, "down_proj"))
	}, tensors.FromFlatDataAndDimensions(x, 2, 12), tensors.FromFlatDataAndDimensions(yFlat, 2, 8),
		tensors.FromFlatDataAndDimensions(pa.Value, 3, 12), tensors.FromFlatDataAndDimensions(pb.Value, 8, 3))
	if err != nil {
		t.Fatal(err)
	}
	want := product(wide(x), transposed(wide(merged), 8, 12), 2, 12, 8)
	for i, v := range tensors.MustCopyFlatData[float32](got) {
		if math.Abs(float64(v)-want[i]) > 1e-5 {
			t.Errorf("[%d]: got %v, want %v", i, v, want[i])
		}
	}
}
