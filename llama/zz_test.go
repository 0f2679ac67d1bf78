package llama

import (
	"testing"
	"time"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

func TestZZ(t *testing.T) {
	b := goBackend(t)
	const n, v = 1024, 711
	x := tensors.FromShape(shapes.Make(dtypes.Float32, n, v))
	one := tensors.FromShape(shapes.Make(dtypes.Float32, n, 1))
	run := func(name string, f func(x, y *Node) *Node) {
		e := MustNewExec(b, f)
		e.MustCall(x, one)
		t0 := time.Now()
		for range 10 {
			o := e.MustCall(x, one)
			o[0].MustFinalizeAll()
		}
		t.Logf("%-30s %6.2f ms", name, time.Since(t0).Seconds()*100)
	}
	ones := func(x *Node, d ...int) *Node { return Ones(x.Graph(), shapes.Make(dtypes.Float32, d...)) }
	run("exp", func(x, y *Node) *Node { return Exp(x) })
	run("dot", func(x, y *Node) *Node { return Dot(y, ones(x, 1, v)).Product() })
	run("exp dot", func(x, y *Node) *Node { return Exp(Dot(y, ones(x, 1, v)).Product()) })
	run("exp sub dot", func(x, y *Node) *Node { return Exp(Sub(x, Dot(y, ones(x, 1, v)).Product())) })
	run("exp sub", func(x, y *Node) *Node { return Exp(Sub(x, y)) })
	run("exp concat dot", func(x, y *Node) *Node {
		return Exp(Concatenate([]*Node{Dot(y, ones(x, 1, v)).Product(), ones(x, 1, v)}, 0))
	})
	run("sub dot", func(x, y *Node) *Node { return Sub(x, Dot(y, ones(x, 1, v)).Product()) })
	run("sub", func(x, y *Node) *Node { return Sub(x, x) })
	run("sigmoid", func(x, y *Node) *Node { return Sigmoid(x) })
	run("sigmoid by exp", func(x, y *Node) *Node { return Div(ScalarOne(x.Graph(), dtypes.Float32), AddScalar(Exp(Neg(x)), 1)) })
	run("tanh", func(x, y *Node) *Node { return Tanh(x) })
	run("softmax", func(x, y *Node) *Node { return Softmax(x) })
	run("transpose", func(x, y *Node) *Node { return Transpose(x, 0, 1) })
	run("reduce -1", func(x, y *Node) *Node { return ReduceSum(x, -1) })
	run("reducemax -1", func(x, y *Node) *Node { return ReduceMax(x, -1) })
	run("mul", func(x, y *Node) *Node { return Mul(x, x) })
	run("neg", func(x, y *Node) *Node { return Neg(x) })
	run("div", func(x, y *Node) *Node { return Div(x, AddScalar(x, 1)) })
	run("sqrt", func(x, y *Node) *Node { return Sqrt(x) })
	run("slice", func(x, y *Node) *Node { return SliceAxis(x, 1, AxisRange(0, 700)) })
	run("concat", func(x, y *Node) *Node { return Concatenate([]*Node{x, x}, 0) })
}
