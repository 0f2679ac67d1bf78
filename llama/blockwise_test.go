package llama

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gotransplant/model"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// scene is an attention with everything that can make its tiles differ.
type scene struct {
	name                           string
	rows, length, moved            int
	heads, groups, dim             int
	position, branch               []int32 // rows*length
	movedPosition, movedBranch     []int32 // rows*moved
	known                          order
	replaced                       []int // own tokens, of all rows, whose keys nobody sees
	q, k, v, dz, insertedK, inserV []float32
}

// newScene draws a scene: a trunk of the given share and two branches after it, and at the end of the last row padding.
func newScene(length, moved, heads, groups, dim, padding int, trunk float64, known order) *scene {
	const rows = 2
	s := &scene{rows: rows, length: length, moved: moved, heads: heads, groups: groups, dim: dim, known: known}
	s.name = fmt.Sprintf("S=%d I=%d H=%d G=%d padding=%d trunk=%v order=%d", length, moved, heads, groups, padding, trunk, known)
	r := rand.New(rand.NewPCG(3, uint64(length*1000+moved)))
	for row := range rows {
		shared := int(trunk * float64(length))
		middle := shared + (length-shared)/2
		for i := range length {
			position, branch := i, 0
			switch {
			case row == rows-1 && i >= length-padding:
				position, branch = 0, -1
			case i >= middle:
				position, branch = shared+i-middle, 2
			case i >= shared:
				branch = 1
			}
			s.position, s.branch = append(s.position, int32(position)), append(s.branch, int32(branch))
		}
		for i := range moved {
			branch := int32(0)
			if row == 0 && i >= moved-1 {
				branch = -1
			}
			s.movedPosition, s.movedBranch = append(s.movedPosition, int32(r.IntN(length))), append(s.movedBranch, branch)
		}
	}
	draw := func(n int) []float32 {
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(r.NormFloat64() * 1.5)
		}
		return values
	}
	s.q, s.dz = draw(rows*length*heads*dim), draw(rows*length*heads*dim)
	s.k, s.v = draw(rows*length*groups*dim), draw(rows*length*groups*dim)
	s.insertedK, s.inserV = draw(rows*moved*groups*dim), draw(rows*moved*groups*dim)
	return s
}

// run is z and the gradients of q, k, v and of what is inserted, with tiles of the given edge, or plain for 0.
func (s *scene) run(t testing.TB, size int, compute dtypes.DType) [][]float32 {
	t.Helper()
	frequencies := make([]float64, s.dim/2)
	for i := range frequencies {
		frequencies[i] = math.Pow(10000, -float64(2*i)/float64(s.dim))
	}
	exec := MustNewExec(goBackend(t), func(in []*Node) []*Node {
		f := func(i int, dims ...int) *Node { return ConvertDType(Reshape(in[i], dims...), compute) }
		q, k := f(0, s.rows, s.length, s.heads, s.dim), f(1, s.rows, s.length, s.groups, s.dim)
		v, dz := f(2, s.rows, s.length, s.groups, s.dim), f(3, s.rows, s.length, s.heads*s.dim)
		own := places{Reshape(in[4], s.rows, s.length), Reshape(in[5], s.rows, s.length)}
		var a attention
		keys := places{own.position, Const(own.branch.Graph(), s.visible())}
		keys.branch = Reshape(keys.branch, s.rows, s.length)
		if s.moved > 0 {
			join := func(x *Node, i int) *Node { return Concatenate([]*Node{x, Reshape(in[i], s.rows, s.moved)}, 1) }
			keys = places{join(keys.position, 8), join(keys.branch, 9)}
			a.inserted = &inserted{k: f(6, s.rows, s.moved, s.groups, s.dim), v: f(7, s.rows, s.moved, s.groups, s.dim)}
		}
		a.cos, a.sin = rotaryTables(keys.position, frequencies)
		if size == 0 {
			a.mask = sees(own, keys)
			return widest(append([]*Node{a.forward(q, k, v)}, a.gradient(q, k, v, dz)...))
		}
		a.tiles = &tiles{queries: own, keys: keys, known: s.known, size: size}
		z, lse := a.forwardBlockwise(q, k, v)
		return widest(append([]*Node{z}, a.gradientBlockwise(q, k, v, z, lse, dz)...))
	})
	args := []any{s.q, s.k, s.v, s.valid(s.dz), s.position, s.branch}
	if s.moved > 0 {
		args = append(args, s.insertedK, s.inserV, s.movedPosition, s.movedBranch)
	}
	var out [][]float32
	for i, x := range exec.MustCall(args...) {
		out = append(out, tensors.MustCopyFlatData[float32](x))
		if i == 0 {
			s.valid(out[0])
		}
	}
	return out
}

func widest(xs []*Node) []*Node {
	for i, x := range xs {
		xs[i] = ConvertDType(x, dtypes.Float32)
	}
	return xs
}

func distance(got, want []float32) float64 {
	var diff, norm float64
	for i := range want {
		d := float64(got[i]) - float64(want[i])
		diff += d * d
		norm += float64(want[i]) * float64(want[i])
	}
	if diff == 0 {
		return 0
	}
	return math.Sqrt(diff / norm)
}

// visible are the branches of the own keys.
func (s *scene) visible() []int32 {
	branch := slices.Clone(s.branch)
	for _, i := range s.replaced {
		branch[i] = -1
	}
	return branch
}

// valid is x [rows*length, width] with zeros where there is padding.
func (s *scene) valid(x []float32) []float32 {
	width := len(x) / len(s.branch)
	for i, b := range s.branch {
		if b < 0 {
			clear(x[i*width : (i+1)*width])
		}
	}
	return x
}

// scenes are what attention meets: a chooser's prompt alone, with states moved in, the same where its own stand for them
// no more, an arguer's branches, and positions in no order.
func scenes() []*scene {
	replaced := newScene(29, 6, 4, 2, 8, 3, 1, byIndex)
	replaced.name = "own keys replaced"
	replaced.replaced = []int{4, 5, 6, 20, 29 + 3, 29 + 4}
	shuffled := newScene(24, 5, 4, 4, 8, 2, 0.4, anyOrder)
	shuffled.name = "any order"
	rand.New(rand.NewPCG(5, 6)).Shuffle(24, func(i, j int) {
		shuffled.position[i], shuffled.position[j] = shuffled.position[j], shuffled.position[i]
		shuffled.branch[i], shuffled.branch[j] = shuffled.branch[j], shuffled.branch[i]
	})
	return []*scene{
		newScene(32, 0, 4, 4, 8, 0, 1, wholeByIndex),
		newScene(29, 0, 4, 2, 8, 9, 1, wholeByIndex),
		newScene(29, 11, 6, 2, 8, 9, 1, wholeByIndex),
		newScene(32, 16, 4, 1, 6, 0, 1, wholeByIndex),
		newScene(32, 0, 4, 2, 8, 8, 0.4, byIndex),
		newScene(31, 3, 4, 4, 8, 7, 0.3, byIndex),
		newScene(1, 2, 2, 2, 4, 0, 1, wholeByIndex),
		replaced, shuffled,
	}
}

var cotangentNames = []string{"z", "dq", "dk", "dv", "d inserted k", "d inserted v"}

// TestBlockwiseEqualsPlain: forward and back, for tiles that divide the lengths, that do not, and that hold everything.
// In bfloat16 it is as far from float32 as plain attention is.
func TestBlockwiseEqualsPlain(t *testing.T) {
	for _, s := range scenes() {
		want, rounded := s.run(t, 0, dtypes.Float32), s.run(t, 0, dtypes.BFloat16)
		for _, size := range []int{8, 5, 16, 100} {
			t.Run(fmt.Sprintf("%s tile=%d", s.name, size), func(t *testing.T) {
				got, half := s.run(t, size, dtypes.Float32), s.run(t, size, dtypes.BFloat16)
				for i := range want {
					if d := distance(got[i], want[i]); !(d <= 2e-6) {
						t.Errorf("%s: relative distance %g, want at most 2e-6", cotangentNames[i], d)
					}
					d, plain := distance(half[i], want[i]), distance(rounded[i], want[i])
					if !(d <= 1.5*plain) {
						t.Errorf("%s in bfloat16: relative distance %g, plain attention's is %g", cotangentNames[i], d, plain)
					}
				}
			})
		}
	}
}

// TestBlockwiseOfAlikeValues: where all values are alike, the gradients of the scores are what is left when large numbers
// cancel. They are lost when z, of which the backward pass makes one of these numbers, is rounded to bfloat16.
func TestBlockwiseOfAlikeValues(t *testing.T) {
	s := newScene(128, 0, 2, 2, 64, 0, 1, wholeByIndex)
	for i := range s.v {
		s.q[i], s.k[i], s.v[i] = 0.3*s.q[i], 0.3*s.k[i]+1, 0.3*s.v[i]+3*float32(1+i%64%3)
	}
	want, plain, got := s.run(t, 0, dtypes.Float32), s.run(t, 0, dtypes.BFloat16), s.run(t, 32, dtypes.BFloat16)
	for i := range want {
		if d, limit := distance(got[i], want[i]), 2*distance(plain[i], want[i]); !(d <= limit) {
			t.Errorf("%s in bfloat16: relative distance %g, want at most twice plain attention's, %g", cotangentNames[i], d, limit)
		}
	}
}

// TestBlindQueries: queries that see no key at all give numbers.
func TestBlindQueries(t *testing.T) {
	s := newScene(12, 4, 2, 2, 4, 0, 1, anyOrder)
	for i := range s.movedBranch {
		s.movedBranch[i] = -1
	}
	for i := range s.length { // of the first row
		s.replaced = append(s.replaced, i)
	}
	for i, values := range s.run(t, 5, dtypes.Float32) {
		for j, v := range values {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				t.Fatalf("%s[%d] is %v", cotangentNames[i], j, v)
			}
		}
	}
}

// TestRowMax: every element counts, in rows of even and of odd length.
func TestRowMax(t *testing.T) {
	for _, n := range []int{1, 16, 17, 33, 64} {
		values := make([]float32, n*n) // the largest of row i is in column i
		for i := range n {
			for j := range n {
				values[i*n+j] = -float32((i - j) * (i - j))
			}
		}
		exec := MustNewExec(goBackend(t), func(x *Node) *Node { return rowMax(Reshape(x, n, n)) })
		for i, got := range tensors.MustCopyFlatData[float32](exec.MustCall(values)[0]) {
			if got != 0 {
				t.Errorf("row of %d with 0 in place %d, negative elsewhere: the largest is %v", n, i, got)
			}
		}
	}
}

// TestOrderOf: what is known of own keys, and what must not be believed.
func TestOrderOf(t *testing.T) {
	cases := []struct {
		name                      string
		position, branch, visible []int32
		want                      order
	}{
		{"a trunk", []int32{0, 1, 2}, []int32{0, 0, 0}, nil, wholeByIndex},
		{"padded on the right", []int32{0, 1, 0}, []int32{0, 0, -1}, nil, wholeByIndex},
		{"with gaps", []int32{0, 4, 9}, []int32{0, 0, 0}, nil, wholeByIndex},
		{"padded on the left", []int32{0, 0, 1}, []int32{-1, 0, 0}, nil, byIndex},
		{"branches", []int32{0, 1, 2, 3, 2, 3}, []int32{0, 0, 1, 1, 2, 2}, nil, byIndex},
		{"own keys replaced", []int32{0, 1, 2}, []int32{0, 0, 0}, []int32{0, -1, 0}, byIndex},
		{"backwards", []int32{2, 1, 0}, []int32{0, 0, 0}, nil, anyOrder},
		{"twice the same position", []int32{0, 1, 1}, []int32{0, 0, 0}, nil, anyOrder},
		{"a branch backwards", []int32{0, 2, 1}, []int32{0, 1, 1}, nil, anyOrder},
		{"a branch before its trunk ends", []int32{0, 3, 2}, []int32{0, 0, 1}, nil, anyOrder},
		{"trunk after a branch, seen from it", []int32{0, 5, 3}, []int32{0, 1, 0}, nil, anyOrder},
		{"trunk after a branch, later than it", []int32{0, 1, 2}, []int32{0, 1, 0}, nil, byIndex},
	}
	for _, c := range cases {
		visible := c.visible
		if visible == nil {
			visible = c.branch
		}
		seq := Sequences{Rows: 1, Length: len(c.position), Position: c.position, Branch: c.branch}
		if got := orderOf(seq, visible); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

// TestTiles: a graph has a bounded number of them, and short rows small ones.
func TestTiles(t *testing.T) {
	e := longEngine(t)
	for _, c := range []struct{ keys, want int }{{100, 128}, {2048, 128}, {2049, 256}, {4096, 256}, {8192, 512}, {16384, 512},
		{32768, 512}, {32769, 1024}} {
		if got := e.tileSize(c.keys); got != c.want {
			t.Errorf("%d keys: tiles of %d, want %d", c.keys, got, c.want)
		}
	}
}

// TestAttentionByLength: auto is plain for short rows and blockwise for long ones; a name that is none is refused.
func TestAttentionByLength(t *testing.T) {
	e := longEngine(t)
	for length, want := range map[int]Attention{e.BlockwiseFrom() - 1: PlainAttention, e.BlockwiseFrom(): BlockwiseAttention} {
		quiet, _ := e.Rehearse()
		seq := Sequences{Rows: 1, Length: length, Token: make([]int32, length), Position: make([]int32, length),
			Branch: make([]int32, length)}
		s, err := quiet.NewStream(seq, StreamOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if s.own.attention != want {
			t.Errorf("%d tokens: got %s, want %s", length, s.own.attention, want)
		}
		s.Close()
		_, err = quiet.NewStream(seq, StreamOptions{Attention: "clever"})
		if err == nil || !strings.Contains(err.Error(), "blockwise") {
			t.Errorf("attention clever: got error %v, want one that names what there is", err)
		}
	}
}

// TestFusedRefuses: what the kernel cannot compute is refused, and where it is missing that is said.
func TestFusedRefuses(t *testing.T) {
	e := longEngine(t)
	seq := Sequences{Rows: 1, Length: 3, Token: make([]int32, 3), Position: []int32{0, 1, 1}, Branch: []int32{0, 1, 2}}
	trunk := seq
	trunk.Position, trunk.Branch = []int32{0, 1, 2}, make([]int32, 3)
	behind := &Insertion{Count: 1, Position: []int32{1}, Valid: []bool{true}}
	beside := &Insertion{Count: 1, Position: []int32{3}, Valid: []bool{true}, InPlace: true}
	twice := &Insertion{Count: 2, Position: []int32{1, 1}, Valid: []bool{true, true}, InPlace: true}
	for _, c := range []struct {
		name string
		seq  Sequences
		o    StreamOptions
		want string
	}{
		{"branches", seq, StreamOptions{Attention: FusedAttention}, "single trunks"},
		{"states behind the tokens", trunk, StreamOptions{Attention: FusedAttention, Insertion: behind}, "in place"},
		{"two states for one token", trunk, StreamOptions{Insertion: twice}, "another state"},
		{"a state where no token is", trunk, StreamOptions{Insertion: beside}, "position 3"},
	} {
		if _, err := e.NewStream(c.seq, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one with %q", c.name, err, c.want)
		}
	}
	if got := e.NotFused(); !strings.Contains(got, "Float32") {
		t.Errorf("not fused: %q, want it to name the compute type", got)
	}
	half, err := NewEngine(e.Weights, Options{Compute: dtypes.BFloat16, Residual: dtypes.Float64})
	if err != nil {
		t.Fatal(err)
	}
	if got := half.NotFused(); !strings.Contains(got, "backend") {
		t.Errorf("not fused: %q, want it to name the backend", got)
	}
	half.Weights = &Weights{Config: model.Config{HeadDim: 20}}
	if got := half.NotFused(); !strings.Contains(got, "this one is 20") {
		t.Errorf("not fused: %q, want it to name the head dimension", got)
	}
	if !isCUDA("xla:cuda - PJRT plugin") || isCUDA("xla:cpu - PJRT plugin") {
		t.Error("a CUDA plugin is told by its name")
	}
}
