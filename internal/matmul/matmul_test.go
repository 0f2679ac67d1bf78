package matmul

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	_ "github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

func goBackend(t *testing.T) compute.Backend {
	t.Helper()
	backend, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	return backend
}

// ramp builds rows x cols numbers between -1 and 1 of the given dtype, no two neighbours alike.
func ramp(g *graph.Graph, dtype dtypes.DType, rows, cols int, phase float64) *graph.Node {
	i := graph.IotaFull(g, shapes.Make(dtypes.Float32, rows, cols))
	return graph.ConvertDType(graph.Sin(graph.AddScalar(graph.MulScalar(i, 1.3), phase)), dtype)
}

// products builds l rᵀ, or l r, of the same factors in bfloat16 and float32, and the gradients of a weighted sum of them:
// [rows, cols], [rows, depth] and the shape of r, three of each, in float32.
func products(g *graph.Graph, rows, cols, depth int, transposed bool, narrow, wide func(l, r *graph.Node) *graph.DotBuilder) []*graph.Node {
	l := ramp(g, dtypes.BFloat16, rows, depth, 0)
	r, axis := ramp(g, dtypes.BFloat16, cols, depth, 1), 1
	if !transposed {
		r, axis = graph.Transpose(r, 0, 1), 0
	}
	weights := ramp(g, dtypes.BFloat16, rows, cols, 2)
	of := func(dot func(l, r *graph.Node) *graph.DotBuilder, dtype dtypes.DType) []*graph.Node {
		l, r := graph.ConvertDType(l, dtype), graph.ConvertDType(r, dtype)
		y := dot(l, r).General([]int{1}, nil, []int{axis}, nil) // [rows, cols]
		all := append([]*graph.Node{y}, graph.Gradient(graph.ReduceAllSum(graph.Mul(y, graph.ConvertDType(weights, dtype))), l, r)...)
		for i, n := range all {
			if n.DType() != dtype {
				panic(fmt.Sprintf("number %d is %s, want %s", i, n.DType(), dtype))
			}
			all[i] = graph.ConvertDType(n, dtypes.Float32)
		}
		return all
	}
	return append(of(narrow, dtypes.BFloat16), of(wide, dtypes.Float32)...)
}

// TestOf: products of bfloat16 and their gradients are those of float32 but for the rounding of the outcome, in sizes for every
// kernel of the Go backend: contractions of less than one vector, of several, with a rest, and products that are packed. Where
// GoMLX takes AVX-512 the test runs again in processes that keep it from doing so.
func TestOf(t *testing.T) {
	backend := goBackend(t)
	for _, size := range [][3]int{{1, 1, 16}, {4, 8, 8}, {4, 8, 17}, {5, 9, 64}, {33, 20, 100}, {200, 200, 256}} {
		for _, transposed := range []bool{false, true} {
			for name, narrow := range map[string]func(l, r *graph.Node) *graph.DotBuilder{"Of": Of, "Differentiable": Differentiable} {
				t.Run(fmt.Sprintf("%s %v transposed %t", name, size, transposed), func(t *testing.T) {
					equal(t, backend, size, transposed, narrow)
				})
			}
		}
	}
	inOtherProcesses(t)
}

func equal(t *testing.T, backend compute.Backend, size [3]int, transposed bool, narrow func(l, r *graph.Node) *graph.DotBuilder) {
	exec, err := graph.NewExec(backend, func(g *graph.Graph) []*graph.Node {
		return products(g, size[0], size[1], size[2], transposed, narrow, graph.Dot)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer exec.Finalize()
	all, err := exec.Call()
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"product", "gradient of l", "gradient of r"} {
		got, want := tensors.MustCopyFlatData[float32](all[i]), tensors.MustCopyFlatData[float32](all[i+3])
		largest := 0.0
		for _, v := range want {
			largest = max(largest, math.Abs(float64(v)))
		}
		for j, v := range got {
			if d := math.Abs(float64(v - want[j])); !(d <= largest/128) {
				t.Fatalf("%s, element %d: got %g, want %g", name, j, v, want[j])
			}
		}
	}
}

// inOtherProcesses runs the calling test again with each of the ways to keep GoMLX from AVX-512, and from AVX2 as well.
func inOtherProcesses(t *testing.T) {
	const marker = "MATMUL_TEST_CHILD"
	if os.Getenv(marker) != "" {
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, without := range []string{"GODEBUG=cpu.avx512f=off", "GOMLX_SIMD_AVX512=false", "GODEBUG=cpu.avx512f=off,cpu.avx2=off"} {
		child := exec.Command(self, "-test.run", "^"+t.Name()+"$")
		child.Env = append(os.Environ(), without, marker+"=1")
		if out, err := child.CombinedOutput(); err != nil {
			t.Errorf("%s: %v:\n%s", without, err, out)
		}
	}
}

// TestLeftAsItIs: what no kernel has wrong is not converted.
func TestLeftAsItIs(t *testing.T) {
	backend := goBackend(t)
	g := graph.NewGraph(backend, t.Name())
	for _, dtype := range []dtypes.DType{dtypes.Float32, dtypes.Float64, dtypes.BFloat16} {
		l := ramp(g, dtype, 4, 32, 0)
		y := Of(l, l).General([]int{1}, nil, []int{1}, nil)
		converted := y.Inputs()[0].DType() != dtype
		if want := dtype == dtypes.BFloat16 && dropsHalf(backend); converted != want || y.DType() != dtype {
			t.Errorf("%s: factors converted is %t, want %t; the product is %s", dtype, converted, want, y.DType())
		}
	}
}
