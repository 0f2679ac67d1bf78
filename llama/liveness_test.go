package llama

import (
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
)

// TestWorkspace counts graphs over x and w, [10, 10] float32 of 400 bytes each, by hand.
func TestWorkspace(t *testing.T) {
	const size = 400
	cases := []struct {
		name         string
		build        func(x, w *Node) []*Node
		plain, fused int64 // in tensors
	}{
		{"an output", func(x, w *Node) []*Node { return []*Node{Dot(x, w).Product()} }, 1, 1},
		{"in place", func(x, w *Node) []*Node { return []*Node{Exp(Neg(Dot(x, w).Product()))} }, 1, 1},
		{"arguments are not written to", func(x, w *Node) []*Node { return []*Node{Exp(x)} }, 1, 1},
		{"read twice", func(x, w *Node) []*Node {
			y := Dot(x, w).Product()
			return []*Node{Dot(y, Exp(y)).Product()}
		}, 3, 3},
		{"equal nodes are one", func(x, w *Node) []*Node {
			return []*Node{Add(Dot(x, w).Product(), Dot(x, w).Product())}
		}, 2, 1},
		{"dead code", func(x, w *Node) []*Node {
			Exp(Dot(w, w).Product())
			return []*Node{Dot(x, w).Product()}
		}, 1, 1},
		{"freed on the way", func(x, w *Node) []*Node {
			for range 5 {
				x = Dot(x, w).Product()
			}
			return []*Node{x}
		}, 2, 2},
		{"kept until the end", func(x, w *Node) []*Node {
			y := Dot(x, w).Product()
			return []*Node{Dot(Dot(Dot(y, w).Product(), w).Product(), y).Product()}
		}, 3, 3},
		{"elementwise chains have no memory where they are fused", func(x, w *Node) []*Node {
			y := Dot(x, w).Product()
			return []*Node{Dot(Add(Exp(y), Mul(y, Sin(x))), w).Product()}
		}, 3, 2},
	}
	backend := goBackend(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for fuses, want := range map[bool]int64{false: c.plain, true: c.fused} {
				g := NewGraph(backend, c.name)
				s := shapes.Make(dtypes.Float32, 10, 10)
				got := workspace(c.build(Parameter(g, "x", s), Parameter(g, "w", s)), exactRoom, fuses)
				if got != want*size {
					t.Errorf("fuses=%t: got %d bytes, want %d", fuses, got, want*size)
				}
			}
		})
	}
}

// TestGoRoom: sizes the Go backend is known to take.
func TestGoRoom(t *testing.T) {
	for elements, want := range map[int]int64{1: 4, 256: 1024, 257: 1536, 385: 2048} {
		if got := goRoom(shapes.Make(dtypes.Float32, elements)); got != want {
			t.Errorf("%d float32: got %d bytes, want %d", elements, got, want)
		}
	}
}
