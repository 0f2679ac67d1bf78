package llama

import (
	"gotransplant/internal/matmul"

	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
)

// The Go backend (compute v0.1.4) runs a graph op by op. Its transpositions and its broadcasts walk the elements with
// one counter per axis, at six and four nanoseconds each, while slices, joins and products are five to twenty times
// faster. The functions below say the same thing in both ways; other backends get the plain one, which they fuse.

// interpreted says that x's graph runs on the Go backend.
func interpreted(x *Node) bool { return x.Graph().Backend().String() == "go" }

// headsFirst turns x [B, n, H, D] into [B, H, n, D].
func headsFirst(x *Node) *Node { return swapMiddle(x) }

// headsLast turns x [B, H, n, D] into [B, n, H, D].
func headsLast(x *Node) *Node { return swapMiddle(x) }

// swapMiddle exchanges axes 1 and 2 of x, of which one is the heads and short.
func swapMiddle(x *Node) *Node {
	d := x.Shape().Dimensions
	if !interpreted(x) || min(d[1], d[2]) > 64 {
		return TransposeAllAxes(x, 0, 2, 1, 3)
	}
	if d[1] == 1 || d[2] == 1 {
		return Reshape(x, d[0], d[2], d[1], d[3])
	}
	from, to := 1, 2
	if d[2] < d[1] {
		from, to = 2, 1
	}
	parts := make([]*Node, d[from])
	for i := range parts {
		parts[i] = SliceAxis(x, from, AxisElem(i)) // 1 long along from
		if from == 1 {
			parts[i] = Reshape(parts[i], d[0], d[2], 1, d[3]) // of [B, 1, n, D]
		} else {
			parts[i] = Reshape(parts[i], d[0], 1, d[1], d[3]) // of [B, n, 1, D]
		}
	}
	return Concatenate(parts, to)
}

// repeat makes an axis of length 1 n long where that is faster than to leave it to a broadcast.
func repeat(x *Node, axis, n int) *Node {
	if !interpreted(x) || n == 1 {
		return x
	}
	copies := make([]*Node, n)
	for i := range copies {
		copies[i] = x
	}
	return Concatenate(copies, axis)
}

// widen makes the last axis of x, of length 1, n long where that is faster than to leave it to a broadcast: the product
// with a row of ones is exact.
func widen(x *Node, n int) *Node {
	if !interpreted(x) {
		return x
	}
	dims := append([]int(nil), x.Shape().Dimensions...)
	dims[len(dims)-1] = n
	return Reshape(settled(matmul.Of(Reshape(x, -1, 1), Ones(x.Graph(), shapes.Make(x.DType(), 1, n))).Product()), dims...)
}

// stack repeats x [M] as n rows: [n, M], or [1, M] where a broadcast is as good.
func stack(x *Node, n int) *Node {
	row := InsertAxes(x, 0)
	if !interpreted(x) {
		return row
	}
	return settled(matmul.Of(Ones(x.Graph(), shapes.Make(x.DType(), n, 1)), row).Product())
}

// settled is x, the outcome of a product, once the thread that waited for it has left the state in which the AVX-512
// kernels (compute v0.1.4) leave it: upper halves of vector registers in use, which makes all scalar arithmetic after
// it up to five times slower. Any copy of more than 256 bytes ends that state, so a little of x is copied before x is
// used.
func settled(x *Node) *Node {
	const enough = 128 // elements: 256 bytes of the narrowest type, twice
	if !interpreted(x) || x.Shape().Size() < enough {
		return x
	}
	little := x
	for axis, size := range x.Shape().Dimensions {
		rest := little.Shape().Size() / size // elements in one index of this axis
		little = SliceAxis(little, axis, AxisRange(0, min(size, (enough+rest-1)/rest)))
	}
	return SchedulingBarrier(x, Concatenate([]*Node{little, little}, 0))
}

// settledBackward is x, whose gradient is the outcome of a product.
func settledBackward(x *Node) *Node {
	if !interpreted(x) {
		return x
	}
	return IdentityWithCustomGradient(x, func(_, v *Node) *Node { return settled(v) })
}
