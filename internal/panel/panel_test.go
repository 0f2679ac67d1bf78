package panel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// need skips where the kernels cannot run.
func need(t *testing.T) {
	t.Helper()
	if !Available() {
		t.Skip("the kernels need arm64, or AVX-512, or AVX2 and FMA, and on amd64 GOEXPERIMENT=simd")
	}
}

// dense is a plain matrix, [rows][columns], in float64.
type dense [][]float64

func random(r *rand.Rand, rows, columns int) dense {
	m := make(dense, rows)
	for i := range m {
		m[i] = make([]float64, columns)
		for j := range m[i] {
			m[i][j] = float64(float32(r.NormFloat64()))
		}
	}
	return m
}

func zeros(rows, columns int) dense {
	m := make(dense, rows)
	for i := range m {
		m[i] = make([]float64, columns)
	}
	return m
}

// times is the product of a and b.
func (a dense) times(b dense) dense {
	c := zeros(len(a), len(b[0]))
	for i := range a {
		for k, v := range a[i] {
			for j, w := range b[k] {
				c[i][j] += v * w
			}
		}
	}
	return c
}

func (a dense) transposed() dense {
	b := zeros(len(a[0]), len(a))
	for i := range a {
		for j, v := range a[i] {
			b[j][i] = v
		}
	}
	return b
}

// flat are the values row by row.
func (a dense) flat() []float32 {
	var all []float32
	for _, row := range a {
		for _, v := range row {
			all = append(all, float32(v))
		}
	}
	return all
}

// packed lays a out in panels; its columns must fill them.
func (a dense) packed() Matrix {
	m := newMatrix(len(a), len(a[0])/Lanes)
	for j := range a[0] {
		column := make([]float32, len(a))
		for i := range a {
			column[i] = float32(a[i][j])
		}
		m.SetColumn(j, column)
	}
	return m
}

// roundings are the ways to round an operand to bfloat16 that this processor has.
func roundings() map[string]func(a dense) Operand {
	all := map[string]func(a dense) Operand{"rounded in float32": func(a dense) Operand {
		m := a.packed()
		return RoundedIn32(m, make([]float32, len(m.Data)))
	}}
	if HalfAvailable() {
		all["in bfloat16"] = rounding
	}
	return all
}

func rounding(a dense) Operand {
	m := a.packed()
	to := make([]uint16, Halves(m))
	for i := range to {
		to[i] = 0x7fc0 // NaN
	}
	return Rounded(m, to)
}

// halved is a rounded to bfloat16.
func (a dense) halved() dense {
	b := zeros(len(a), len(a[0]))
	for i := range a {
		for j, v := range a[i] {
			b[i][j] = float64(fromBits(toBits(float32(v))))
		}
	}
	return b
}

func newMatrix(rows, panels int) Matrix {
	return Matrix{rows, panels, make([]float32, rows*panels*Lanes)}
}

func (a dense) wide() Wide {
	m := a.packed()
	w := Wide{m.Rows, m.Panels, make([]float64, len(m.Data))}
	for j := range a[0] {
		for i := range a {
			w.Panel(j / Lanes)[i*Lanes+j%Lanes] = a[i][j]
		}
	}
	return w
}

// check compares m with want, allowing an error relative to want's largest value.
func check(t *testing.T, name string, m Matrix, want dense, tolerance float64) {
	t.Helper()
	largest := 0.0
	for _, row := range want {
		for _, v := range row {
			largest = max(largest, math.Abs(v))
		}
	}
	column := make([]float32, m.Rows)
	for j := range want[0] {
		m.Column(j, column)
		for i := range want {
			if got := float64(column[i]); !(math.Abs(got-want[i][j]) <= tolerance*largest) {
				t.Fatalf("%s: element (%d, %d): got %v, want %v", name, i, j, got, want[i][j])
			}
		}
	}
}

func TestMultiply(t *testing.T) {
	need(t)
	r := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct{ out, in, panels int }{
		{8, 4, 1}, {16, 512, 2}, {24, 513, 3}, {5, 7, 1}, {13, 1376, 4}, {40, 9, 5}, {1376, 64, 2}, {16, 24, 2*widest + 3},
	} {
		name := fmt.Sprintf("%d x %d, %d panels", c.out, c.in, c.panels)
		w, x, y := random(r, c.out, c.in), random(r, c.in, c.panels*Lanes), random(r, c.out, c.panels*Lanes)
		half := make([]uint16, 0, c.out*c.in)
		rounded := zeros(c.out, c.in)
		for i := range w {
			for j, v := range w[i] {
				bits := uint16(math.Float32bits(float32(v)) >> 16)
				half, rounded[i][j] = append(half, bits), float64(fromBits(bits))
			}
		}
		for _, kind := range []struct {
			name   string
			weight *Weight
			values dense
		}{{"float32", NewWeight(c.out, c.in, w.flat()), w}, {"bfloat16", NewHalfWeight(c.out, c.in, half), rounded}} {
			var s Scratch
			got := newMatrix(c.out, c.panels)
			kind.weight.Multiply(&s, Exact(x.packed()), got, false)
			want := kind.values.times(x)
			check(t, name+" "+kind.name, got, want, 1e-5)
			kind.weight.Multiply(&s, Exact(x.packed()), got, true)
			for i := range want {
				for j := range want[i] {
					want[i][j] *= 2
				}
			}
			check(t, name+" "+kind.name+" twice", got, want, 1e-5)
			got = newMatrix(c.in, c.panels)
			kind.weight.MultiplyTransposed(&s, Exact(y.packed()), got, false)
			check(t, name+" "+kind.name+" transposed", got, kind.values.transposed().times(y), 1e-5)
			turned := newMatrix(c.in, c.panels)
			kind.weight.KeepTransposed()
			kind.weight.MultiplyTransposed(&s, Exact(y.packed()), turned, false)
			if !slices.Equal(got.Data, turned.Data) {
				t.Errorf("%s %s: a transposed copy gives other bits", name, kind.name)
			}
		}
		for how, rounding := range roundings() {
			checkRounded(t, name+" "+how, rounded, x, y, rounding)
		}
	}
}

// checkRounded compares products of a weight [out, in] of bfloat16 with operands rounded to it with those in float64.
func checkRounded(t *testing.T, name string, values, x, y dense, rounding func(dense) Operand) {
	t.Helper()
	out, in, panels := len(values), len(values[0]), len(x[0])/Lanes
	var s Scratch
	weight := NewRoundedWeight(out, in, values.flat())
	got := newMatrix(out, panels)
	weight.Multiply(&s, rounding(x), got, false)
	weight.Multiply(&s, rounding(x), got, true)
	want := values.times(x.halved())
	for i := range want {
		for j := range want[i] {
			want[i][j] *= 2
		}
	}
	check(t, name+", twice", got, want, 1e-5)
	got = newMatrix(in, panels)
	weight.MultiplyTransposed(&s, rounding(y), got, false)
	check(t, name+", transposed", got, values.transposed().times(y.halved()), 1e-5)
	turned := newMatrix(in, panels)
	weight.KeepTransposed()
	weight.MultiplyTransposed(&s, rounding(y), turned, false)
	if !slices.Equal(got.Data, turned.Data) {
		t.Errorf("%s: a transposed copy gives other bits", name)
	}
}

func TestAddProduct(t *testing.T) {
	need(t)
	r := rand.New(rand.NewPCG(2, 1))
	for _, c := range []struct{ n, m, panels int }{{4, 4, 1}, {16, 512, 3}, {3, 9, 2}, {5, 4, 4}, {8, 3, 2}} {
		a, b := random(r, c.n, c.panels*Lanes), random(r, c.m, c.panels*Lanes)
		got := make([]float32, c.n*c.m)
		got[0] = 3
		AddProduct(&Scratch{}, a.packed(), b.packed(), got)
		want := a.times(b.transposed())
		want[0][0] += 3
		for i, v := range want.flat() {
			if math.Abs(float64(got[i]-v)) > 1e-4 {
				t.Fatalf("%d x %d, %d panels: element %d: got %v, want %v", c.n, c.m, c.panels, i, got[i], v)
			}
		}
	}
}

func TestNormalize(t *testing.T) {
	need(t)
	r := rand.New(rand.NewPCG(3, 1))
	const rows, columns, eps = 24, 32, 1e-5
	x, dy := random(r, rows, columns), random(r, rows, columns)
	gain := random(r, 1, rows).flat()
	y, inverse := newMatrix(rows, columns/Lanes), make([]float64, columns)
	Normalize(x.wide(), gain, eps, y, inverse)
	want, wantDX := zeros(rows, columns), zeros(rows, columns)
	for j := range columns {
		square, along := 0.0, 0.0
		for i := range rows {
			square += x[i][j] * x[i][j] / rows
		}
		rms := math.Sqrt(square + eps)
		for i := range rows {
			want[i][j] = x[i][j] / rms * float64(gain[i])
			along += dy[i][j] * float64(gain[i]) * x[i][j] / rows
		}
		for i := range rows {
			wantDX[i][j] = 1 + dy[i][j]*float64(gain[i])/rms - x[i][j]*along/(rms*rms*rms)
		}
	}
	check(t, "y", y, want, 1e-6)
	dx := Wide{rows, columns / Lanes, make([]float64, rows*columns)}
	for i := range dx.Data {
		dx.Data[i] = 1
	}
	NormalizeGradient(dy.packed(), gain, x.wide(), inverse, dx)
	narrow := newMatrix(rows, columns/Lanes)
	dx.Narrow(narrow)
	check(t, "dx", narrow, wantDX, 1e-6)
}

func TestSwiGLU(t *testing.T) {
	need(t)
	r := rand.New(rand.NewPCG(4, 1))
	const rows, columns = 5, 16
	gate, up, dh := random(r, rows, columns), random(r, rows, columns), random(r, rows, columns)
	gate[0][0], gate[1][1], gate[2][2] = 90, -90, 0
	g, u, h := gate.packed(), up.packed(), newMatrix(rows, 1)
	SwiGLU(g, u, h)
	want, dGate, dUp := zeros(rows, columns), zeros(rows, columns), zeros(rows, columns)
	for i := range gate {
		for j, x := range gate[i] {
			s := 1 / (1 + math.Exp(-x))
			want[i][j] = x * s * up[i][j]
			dGate[i][j] = dh[i][j] * up[i][j] * s * (1 + x*(1-s))
			dUp[i][j] = dh[i][j] * x * s
		}
	}
	check(t, "h", h, want, 1e-6)
	SwiGLUGradient(dh.packed(), g, u)
	check(t, "gradient of gate", g, dGate, 1e-6)
	check(t, "gradient of up", u, dUp, 1e-6)
}

func TestRotate(t *testing.T) {
	need(t)
	r := rand.New(rand.NewPCG(5, 1))
	const heads, dim, columns = 2, 6, 16
	x := random(r, heads*dim, columns)
	cos, sin, want := zeros(dim/2, columns), zeros(dim/2, columns), zeros(heads*dim, columns)
	for j := range columns {
		for i := range dim / 2 {
			angle := float64(j+1) / float64(i+1)
			cos[i][j], sin[i][j] = math.Cos(angle), math.Sin(angle)
			for h := range heads {
				a, b := x[h*dim+i][j], x[h*dim+i+dim/2][j]
				want[h*dim+i][j] = a*cos[i][j] - b*sin[i][j]
				want[h*dim+i+dim/2][j] = b*cos[i][j] + a*sin[i][j]
			}
		}
	}
	got := x.packed()
	Rotate(got, cos.packed(), sin.packed(), dim, false)
	check(t, "turned", got, want, 1e-6)
	Rotate(got, cos.packed(), sin.packed(), dim, true)
	check(t, "turned back", got, x, 1e-6)
}

// attending is a head over two sets of keys, some of them hidden, whose rows are 8 to 8+dim of k and v, and the queries of some panels.
type attending struct {
	Head
	k, v, q, dz dense
	sees        func(key, query int) bool
	sights      []Sight
}

// attendedPanels are the panels of keys that panels of queries see: others than their neighbours, and one sees none.
var attendedPanels = [][]int{{0, 2, 3, 4}, {0, 1, 3, 4}, {1, 2}, {}, {0, 4}}

// newAttending draws a head; with rounded all factors are bfloat16 numbers.
func newAttending(dim int, rounded bool) attending {
	const own, moved = 3, 2 // panels
	r := rand.New(rand.NewPCG(6, uint64(dim)))
	queries := len(attendedPanels) * Lanes
	a := attending{k: random(r, dim+8, (own+moved)*Lanes), v: random(r, dim+8, (own+moved)*Lanes), q: random(r, dim, queries),
		dz: random(r, dim, queries)}
	a.sees = func(key, query int) bool {
		return key%3 != query%3 && query != 5 && slices.Contains(attendedPanels[query/Lanes], key/Lanes)
	}
	if rounded {
		a.k, a.v, a.q, a.dz = a.k.halved(), a.v.halved(), a.q.halved(), a.dz.halved()
	}
	for i, panels := range attendedPanels {
		sight := Sight{Panels: panels}
		for _, p := range panels {
			var bits [Lanes]uint16
			for key := range bits {
				for query := range Lanes {
					if a.sees(p*Lanes+key, i*Lanes+query) {
						bits[key] |= 1 << query
					}
				}
			}
			sight.Bits = append(sight.Bits, &bits)
		}
		a.sights = append(a.sights, sight)
	}
	part := func(m dense, from, to int) Matrix {
		var rows dense
		for _, row := range m {
			rows = append(rows, row[from*Lanes:to*Lanes])
		}
		return rows.packed()
	}
	keys := func(from, n int) Keys { return Keys{K: part(a.k, from, from+n), V: part(a.v, from, from+n), Size: n} }
	a.Head = Head{dim, 8, []Keys{keys(0, own), keys(own, moved)}, float32(1 / math.Sqrt(float64(dim)))}
	return a
}

// attended is what comes of a head.
type attended struct {
	z, dq, maximum, inverse Matrix // the statistics of one row
	dk, dv                  []float32
}

// run computes z and the gradients, of so many panels of queries a call.
func (a attending) run(together int) attended {
	var s Scratch
	panels := len(a.sights)
	got := attended{newMatrix(a.Dim, panels), newMatrix(a.Dim, panels), newMatrix(1, panels), newMatrix(1, panels), nil, nil}
	n := len(a.k[0]) * Padded(a.Dim)
	got.dk, got.dv = make([]float32, n), make([]float32, n)
	q, dz := a.q.packed(), a.dz.packed()
	for i := range got.z.Data { // is to be written, whatever was there
		got.z.Data[i], got.dq.Data[i] = float32(math.NaN()), float32(math.NaN())
	}
	for i := range got.inverse.Data {
		got.maximum.Data[i], got.inverse.Data[i] = 1, float32(math.NaN())
	}
	var all []Queries
	for p, sight := range a.sights {
		all = append(all, Queries{sight, q.Panel(p), got.z.Panel(p), dz.Panel(p), got.dq.Panel(p), got.maximum.Panel(p), got.inverse.Panel(p)})
	}
	for some := range slices.Chunk(all, together) {
		a.Attend(&s, some)
		a.Gradient(&s, some, Cotangents{got.dk, got.dv})
	}
	return got
}

// bits are all numbers, one after the other.
func (a attended) bits() []float32 {
	return slices.Concat(a.z.Data, a.dq.Data, a.maximum.Data, a.inverse.Data, a.dk, a.dv)
}

// TestAttendTogether: panels of queries that meet the keys together have the bits that they have alone.
func TestAttendTogether(t *testing.T) {
	need(t)
	for _, dim := range []int{8, 16, 24, 32, 64, 80} {
		a := newAttending(dim, false)
		want := a.run(1).bits()
		for _, together := range []int{2, 3, 5} {
			for i, v := range a.run(together).bits() {
				if math.Float32bits(v) != math.Float32bits(want[i]) {
					t.Errorf("dim %d, %d panels together: element %d is %v, want %v", dim, together, i, v, want[i])
					break
				}
			}
		}
	}
}

// TestAttend compares a head with the formulas, and its gradient with differences of the formulas.
func TestAttend(t *testing.T) {
	need(t)
	for _, dim := range []int{8, 16, 24, 64} {
		a := newAttending(dim, false)
		plain := func() dense { return plainAttention(a.q, a.k, a.v, dim, float64(a.Scale), a.sees) }
		got := a.run(len(a.sights))
		check(t, fmt.Sprintf("dim %d: z", dim), got.z, plain(), 1e-5)
		loss := func() float64 {
			sum := 0.0
			for i, row := range plain() {
				for j, x := range row {
					sum += x * a.dz[i][j]
				}
			}
			return sum
		}
		slope := func(x *float64) float64 {
			const step = 1e-4
			old := *x
			*x = old + step
			up := loss()
			*x = old - step
			down := loss()
			*x = old
			return (up - down) / (2 * step)
		}
		turned := newMatrix(dim, 1)
		for _, c := range []struct {
			name string
			m    dense
			from int
			got  func(i, j int) float32
		}{
			{"dq", a.q, 0, func(i, j int) float32 { return got.dq.Panel(j / Lanes)[i*Lanes+j%Lanes] }},
			{"dk", a.k, 8, func(i, j int) float32 { return got.dk[j*Padded(dim)+i] }},
			{"dv", a.v, 8, func(i, j int) float32 {
				FromColumns(got.dv[j/Lanes*Lanes*Padded(dim):], turned.Data, dim)
				return turned.Data[i*Lanes+j%Lanes]
			}},
		} {
			for i := 0; i < dim; i += 5 {
				for j := i % 2; j < len(c.m[0]); j += 11 {
					want := slope(&c.m[c.from+i][j])
					if got := float64(c.got(i, j)); math.Abs(got-want) > 2e-5 {
						t.Fatalf("dim %d: %s (%d, %d): got %v, want %v", dim, c.name, i, j, got, want)
					}
				}
			}
		}
	}
}

// TestSizedKeepsItsRoom: scratch that was used for little has room for much again, since rows of many lengths follow each other.
func TestSizedKeepsItsRoom(t *testing.T) {
	much := sized([]uint16(nil), 100)
	little := sized(much, 10)
	again := sized(little, 100)
	if len(little) != 10 || len(again) != 100 || &again[0] != &much[0] {
		t.Errorf("%d, then %d elements, the same memory: %t; want 10, 100, true", len(little), len(again), &again[0] == &much[0])
	}
	if more := sized(again, 101); len(more) != 101 {
		t.Errorf("%d elements, want 101", len(more))
	}
}

// TestAttendHalf: in bfloat16 a head gives what it gives in float32 on the same numbers, but for the rounding of the weights
// and of the gradients of the scores.
func TestAttendHalf(t *testing.T) {
	if !HalfAvailable() {
		t.Skip("no products in bfloat16 here")
	}
	for _, dim := range []int{16, 32, 64, 96, 128} {
		if !CanRound(dim) {
			continue
		}
		exact, half := newAttending(dim, true), newAttending(dim, true)
		for i, k := range half.Keys {
			to := make([]uint16, RoundedKeys(k.K))
			for j := range to {
				to[j] = 0x7fc0 // NaN
			}
			half.Keys[i].Half = RoundKeys(k.K, k.V, to)
		}
		got, want := half.run(len(half.sights)), exact.run(len(exact.sights))
		for _, c := range []struct {
			name      string
			got, want []float32
		}{{"z", got.z.Data, want.z.Data}, {"dq", got.dq.Data, want.dq.Data}, {"dk", got.dk, want.dk}, {"dv", got.dv, want.dv}} {
			var apart, size float64
			for i, w := range c.want {
				apart, size = apart+math.Pow(float64(c.got[i]-w), 2), size+math.Pow(float64(w), 2)
			}
			if d := math.Sqrt(apart / size); !(d < 0.003) || d == 0 {
				t.Errorf("dim %d: %s is %g of its size from the one in float32, want less than 0.003, and not the same", dim, c.name, d)
			}
		}
	}
}

// plainAttention is z [dim][queries]; a query that sees nothing gets zeros. The head lies in rows 8 on of k and v.
func plainAttention(q, k, v dense, dim int, scale float64, sees func(key, query int) bool) dense {
	z := zeros(dim, len(q[0]))
	for j := range q[0] {
		weights, sum := make([]float64, len(k[0])), 0.0
		for key := range weights {
			if !sees(key, j) {
				continue
			}
			for i := range dim {
				weights[key] += k[8+i][key] * q[i][j] * scale
			}
			weights[key] = math.Exp(weights[key])
			sum += weights[key]
		}
		for key, w := range weights {
			for i := range dim {
				if sum > 0 {
					z[i][j] += w / sum * v[8+i][key]
				}
			}
		}
	}
	return z
}

// TestEach: every number is done once, on spare processors where there are any, and these are given back.
func TestEach(t *testing.T) {
	for _, spare := range []int{0, 1, 3, 100} {
		var s Scratch
		cores := NewCores(spare)
		s.Share(cores)
		for _, n := range []int{1, 2, 7} {
			done := make([]int32, n)
			used := make(map[*Scratch]bool)
			var mu sync.Mutex
			s.Each(n, func(s *Scratch, from, to int) {
				mu.Lock()
				used[s] = true
				mu.Unlock()
				for i := from; i < to; i++ {
					done[i]++
				}
			})
			for i, times := range done {
				if times != 1 {
					t.Errorf("%d spare, %d numbers: %d was done %d times, want once", spare, n, i, times)
				}
			}
			if want := min(spare+1, n); len(used) != want {
				t.Errorf("%d spare, %d numbers: %d scratches used, want %d", spare, n, len(used), want)
			}
			if got := int(cores.spare.Load()); got != spare {
				t.Errorf("%d spare, %d numbers: %d spare afterwards", spare, n, got)
			}
		}
	}
}

// TestEachWaitsForNobody: while one processor is at its first part, the others do all the rest.
func TestEachWaitsForNobody(t *testing.T) {
	const n = 8
	var s Scratch
	s.Share(NewCores(1))
	var done atomic.Int32
	rest := make(chan struct{})
	s.Each(n, func(by *Scratch, from, to int) {
		if by != &s {
			select {
			case <-rest:
			case <-time.After(5 * time.Second):
				t.Errorf("%d of %d numbers are done while a processor is at its first, want %d", done.Load(), n, n-1)
			}
			return
		}
		if done.Add(int32(to-from)) == n-1 {
			close(rest)
		}
	})
}

// TestRuns copies columns and adds them back, one by one for comparison: with shifts within panels, across their ends, out of
// order, and single columns.
func TestRuns(t *testing.T) {
	const rows, panels = 3, 3
	numbered := func(from int) Matrix {
		m := Matrix{rows, panels, make([]float32, rows*panels*Lanes)}
		for i := range m.Data {
			m.Data[i] = float32(from + i)
		}
		return m
	}
	pairs := [][2]int{{0, 20}, {1, 21}, {20, 5}}
	for i := range 21 { // ends of panels in either matrix
		pairs = append(pairs, [2]int{25 + i, 10 + i})
	}
	pairs = append(pairs, [2]int{3, 40}, [2]int{2, 41})
	own, out, want := numbered(1), numbered(1000), numbered(1000)
	sums, wantSums := numbered(1), numbered(1)
	var runs []Run
	for _, p := range pairs {
		runs = Join(runs, p[0], p[1])
		column, sum := make([]float32, rows), make([]float32, rows)
		own.Column(p[1], column)
		want.SetColumn(p[0], column)
		wantSums.Column(p[1], sum)
		for r := range sum {
			sum[r] += column[r]
		}
		wantSums.SetColumn(p[1], sum)
	}
	wantRuns := []Run{{0, 20, 2}, {20, 5, 1}, {25, 10, 6}, {31, 16, 1}, {32, 17, 14}, {3, 40, 1}, {2, 41, 1}}
	if !slices.Equal(runs, wantRuns) {
		t.Errorf("got runs %v, want %v", runs, wantRuns)
	}
	out.CopyRuns(own, runs)
	if !slices.Equal(out.Data, want.Data) {
		t.Errorf("copied: got %v, want %v", out.Data, want.Data)
	}
	out.AddRunsTo(sums, runs)
	if !slices.Equal(sums.Data, wantSums.Data) {
		t.Errorf("added: got %v, want %v", sums.Data, wantSums.Data)
	}
}

// TestOddPanels: of any number of panels each has the bits that it has alone.
func TestOddPanels(t *testing.T) {
	need(t)
	const out, in = 40, 1030 // two stretches, the second shorter
	rng := rand.New(rand.NewPCG(5, 6))
	random := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		return v
	}
	for _, half := range []bool{false, true} {
		if half && !HalfAvailable() {
			continue
		}
		w := NewZeros(out, in, half)
		w.Set(random(out * in))
		operand := func(m Matrix) Operand {
			if half {
				return Rounded(m, make([]uint16, Halves(m)))
			}
			return Exact(m)
		}
		for _, add := range []bool{false, true} {
			for panels := 1; panels <= 9; panels++ {
				x, y := Matrix{in, panels, random(in * panels * Lanes)}, Matrix{out, panels, random(out * panels * Lanes)}
				want := Matrix{out, panels, slices.Clone(y.Data)}
				for p := range panels {
					w.Multiply(&Scratch{}, operand(Matrix{in, 1, x.Panel(p)}), Matrix{out, 1, want.Panel(p)}, add)
				}
				w.Multiply(&Scratch{}, operand(x), y, add)
				if !slices.Equal(y.Data, want.Data) {
					t.Errorf("half %t, add %t, %d panels: not the bits of each alone", half, add, panels)
				}
			}
		}
	}
}
