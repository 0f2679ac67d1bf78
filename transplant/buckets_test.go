package transplant

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gomlx/compute/dtypes"
)

// randomNeeds are the lengths of rows whose problem, arguments and third argument vary one by one.
func randomNeeds(n int, seed uint64) []Shape {
	r := rand.New(rand.NewPCG(seed, 0))
	needs := make([]Shape, n)
	for i := range needs {
		length := func(mean int) int { return mean/3 + int(r.ExpFloat64()*float64(mean)*2/3) }
		problem, first, second, third := length(60), length(80), length(80), length(100)
		needs[i] = Shape{problem + first + second, problem + third + 120, first + second, problem + max(first, second)}
	}
	return needs
}

func asCounts(needs []Shape) []rowsOfShape {
	all := make([]rowsOfShape, len(needs))
	for i, s := range needs {
		all[i] = rowsOfShape{s, 1}
	}
	return all
}

// TestPlanBuckets: every row is covered, no more shapes than asked for, each at least as large as the one before, and
// never more work than in steps of equal width.
func TestPlanBuckets(t *testing.T) {
	for seed := range uint64(3) {
		for _, rows := range []int{1, 5, 400, 3000} {
			needs := randomNeeds(rows, seed)
			before := 0.0
			for _, count := range []int{1, 2, 8, 20} {
				t.Run(fmt.Sprintf("seed %d, %d rows, %d buckets", seed, rows, count), func(t *testing.T) {
					b := planBuckets(needs, count, 512)
					if len(b) > count || len(b) == 0 {
						t.Fatalf("got %d shapes, want 1 to %d", len(b), count)
					}
					for _, s := range needs {
						if b.level(s) == len(b) {
							t.Fatalf("no shape of %v covers %+v", b, s)
						}
					}
					for k := range b[1:] {
						if !b[k+1].covers(b[k]) || b[k+1].Alone < b[k].Alone {
							t.Errorf("shape %+v does not cover the one before, %+v", b[k+1], b[k])
						}
					}
					for k := range b {
						alone := 0
						for _, s := range needs {
							if b.level(s) <= k {
								alone = max(alone, (s.Alone+31)/32*32)
							}
						}
						if b[k].Alone != alone {
							t.Errorf("shape %+v: want %d tokens in place", b[k], alone)
						}
					}
					all, largest := asCounts(needs), Shape{}
					for _, s := range needs {
						largest = largest.join(s)
					}
					got, equal := b.cost(all, 512), equalWidth(largest, count).cost(all, 512)
					if got > equal {
						t.Errorf("work of %g, in equal steps %g; want no more", got, equal)
					}
					if count > 1 && got > before {
						t.Errorf("work of %g, with fewer buckets %g; want no more", got, before)
					}
					before = got
					if again := planBuckets(needs, count, 512); !slices.Equal(b, again) {
						t.Errorf("planned again: %v, want %v", again, b)
					}
				})
			}
		}
	}
}

// TestPlanBucketsSavesWork: eight shapes chosen from the data save a quarter of the padding of eight equal steps.
func TestPlanBucketsSavesWork(t *testing.T) {
	needs := randomNeeds(3000, 1)
	all, largest, real := asCounts(needs), Shape{}, 0.0
	for _, s := range needs {
		largest, real = largest.join(s), real+s.work(4096)
	}
	got, equal := planBuckets(needs, 8, 4096).cost(all, 4096)/real-1, equalWidth(largest, 8).cost(all, 4096)/real-1
	if !(got <= equal*3/4) {
		t.Errorf("padding of %.3f of the work, in equal steps %.3f; want at most three quarters", got, equal)
	}
}

// TestPlanBucketsIsExact: with as many buckets as there are lengths, nothing is padded beyond the tile.
func TestPlanBucketsIsExact(t *testing.T) {
	needs := []Shape{{40, 80, 16, 0}, {16, 40, 8, 0}, {40, 80, 16, 0}, {24, 48, 8, 0}, {64, 80, 32, 0}}
	b := planBuckets(needs, 4, 64)
	for _, s := range needs {
		if got := b.shape(s); got != s {
			t.Errorf("%+v is padded to %+v, want nothing added; buckets %v", s, got, b)
		}
	}
}

// TestRowsBeyondTheBuckets: a row that no bucket covers gets a shape of its own and loses nothing.
func TestRowsBeyondTheBuckets(t *testing.T) {
	b := Buckets{{16, 16, 8, 32}, {32, 32, 16, 64}}
	for _, c := range []struct{ need, want Shape }{
		{Shape{3, 9, 2, 40}, Shape{16, 16, 8, 32}}, {Shape{3, 17, 2, 2}, Shape{32, 32, 16, 64}}, {Shape{3, 33, 2, 40}, Shape{8, 40, 8, 64}},
	} {
		if got := b.shape(c.need); got != c.want {
			t.Errorf("%+v: got %+v, want %+v", c.need, got, c.want)
		}
	}
}

// TestGroups: each case once, with the place it had; without buckets in order, with them padded to them and filled up.
func TestGroups(t *testing.T) {
	g := small(t)
	m := g.method(t, dtypes.Float32)
	for _, count := range []int{0, 1, 3} {
		m.Buckets = m.PlanBuckets(g.cases, count)
		var places, levels []int
		for _, got := range m.groups(g.cases, 4) {
			places = append(places, got.index...)
			for i, at := range got.index {
				levels = append(levels, -m.Buckets.level(m.need(got.cases[i])))
				if got.cases[i].Row != g.cases[at].Row {
					t.Errorf("%d buckets: row %d has the place of row %d", count, got.cases[i].Row, g.cases[at].Row)
				}
				if !got.shape.covers(m.need(got.cases[i])) {
					t.Errorf("%d buckets: row %d needs %+v, its shape is %+v", count, got.cases[i].Row, m.need(got.cases[i]), got.shape)
				}
			}
			if count > 0 && (got.rows != 4 || !slices.Contains(m.Buckets, got.shape)) {
				t.Errorf("%d buckets: %d rows of %+v, want 4 of one of %v", count, got.rows, got.shape, m.Buckets)
			}
		}
		if count > 0 && !slices.IsSorted(levels) {
			t.Errorf("%d buckets: the rows' buckets are, negative, %v; want the largest first", count, levels)
		}
		if count == 0 && !slices.IsSorted(places) {
			t.Errorf("without buckets the order is %v, want it kept", places)
		}
		if slices.Sort(places); !slices.Equal(places, fileOrder(len(g.cases))(0)) {
			t.Errorf("%d buckets: places %v, want each once", count, places)
		}
	}
}

// gradients are those of one training batch, as the trainer sums them.
func gradients(t *testing.T, g golden, m *Method, micro int) [][]float32 {
	t.Helper()
	o := goldenOptions(g, 1)
	o.Pace.MicroBatch = micro
	trainer := newTrainer(t, m, o, g.cases, nil)
	if _, err := trainer.update(context.Background(), &memory{}); err != nil {
		t.Fatal(err)
	}
	var all [][]float32
	for _, tensor := range trainer.tensors {
		all = append(all, tensor.Grad)
	}
	return all
}

// TestBucketsDoNotChangeResults: log-probabilities and adapter gradients with buckets, rows divided by length and
// micro-batches filled up, are those without. Gradients of rows that go through a product together are summed in
// float32 there, which alone makes a relative difference of 2e-6.
func TestBucketsDoNotChangeResults(t *testing.T) {
	g := small(t)
	m := g.method(t, dtypes.Float32)
	predict := func(micro int) []Prediction {
		p, err := m.Predict(context.Background(), g.cases, Pace{Workers: 1, MicroBatch: micro}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	want, wantGrads := predict(1), gradients(t, g, m, 1)
	for _, c := range []struct {
		buckets, micro int
		tolerance      float64
	}{{1, 1, 1e-6}, {3, 1, 1e-6}, {2, 2, 5e-6}, {3, 4, 5e-6}} {
		name := fmt.Sprintf("%d buckets, micro-batch %d, ", c.buckets, c.micro)
		m = g.method(t, dtypes.Float32)
		m.Buckets = m.PlanBuckets(g.cases, c.buckets)
		for i, p := range predict(c.micro) {
			if p.Row != want[i].Row || p.Tokens != want[i].Tokens {
				t.Errorf("%sat %d: row %d of %d tokens, want row %d of %d", name, i, p.Row, p.Tokens, want[i].Row, want[i].Tokens)
			}
			within(t, fmt.Sprintf("%srow %d logprob 1", name, p.Row), p.LogProb1, want[i].LogProb1, 1e-6)
			within(t, fmt.Sprintf("%srow %d logprob 2", name, p.Row), p.LogProb2, want[i].LogProb2, 1e-6)
		}
		for i, got := range gradients(t, g, m, c.micro) {
			if d := distance(got, wantGrads[i]); !(d <= c.tolerance) {
				t.Errorf("%sgradient %d: relative distance %g, want at most %g", name, i, d, c.tolerance)
			}
		}
	}
}

// TestBucketsBoundCompilations: with one bucket, batches that do not divide evenly compile what one row does; with more,
// that many times as much at most.
func TestBucketsBoundCompilations(t *testing.T) {
	g := small(t)
	compilations := func(buckets int) (shapes, compiled int) {
		m := g.method(t, dtypes.Float32)
		m.Buckets = m.PlanBuckets(g.cases, buckets)
		o := goldenOptions(g, 2)
		o.BatchSize, o.Pace = 5, Pace{Workers: 1, MicroBatch: 2} // batches of 5 and 1 rows
		if err := newTrainer(t, m, o, g.cases, g.cases[:3]).Run(context.Background(), &memory{}); err != nil {
			t.Fatal(err)
		}
		return len(m.Buckets), m.Engine.Ledger().Compilations
	}
	_, one := compilations(1)
	m := g.method(t, dtypes.Float32)
	m.Buckets = m.PlanBuckets(g.cases, 1)
	for _, run := range []func(group) error{
		func(g group) error { _, err := m.Evaluate(g.cases); return err },
		func(g group) error { _, err := m.Train(g.cases, 1); return err },
	} {
		if err := run(m.groups(g.cases, 2)[0]); err != nil {
			t.Fatal(err)
		}
	}
	const sums = 2 // of what micro-batches say about the prefix of either role
	if kinds := m.Engine.Ledger().Compilations; one != kinds+sums {
		t.Errorf("%d compilations in a run with one bucket, want the %d of one micro-batch and %d sums", one, kinds, sums)
	}
	shapes, some := compilations(3)
	if _, free := compilations(0); shapes < 2 || some > shapes*one || free <= some {
		t.Errorf("%d compilations with %d buckets, %d with one, %d without; want at most as many times more, and more without",
			some, shapes, one, free)
	}
}

// TestCovering: cases longer than all buckets get one more, which covers all of them; others none.
func TestCovering(t *testing.T) {
	g := small(t)
	m := g.method(t, dtypes.Float32)
	m.Buckets = m.PlanBuckets(g.cases, 2)
	if got := m.covering(g.cases); len(got.Buckets) != len(m.Buckets) {
		t.Errorf("got %v for the cases that were planned for, want %v", got.Buckets, m.Buckets)
	}
	before := len(m.Buckets)
	m.NoTransplant = true // the chooser reads the arguments itself
	wider := m.covering(g.cases)
	if len(wider.Buckets) != before+1 || len(m.Buckets) != before {
		t.Errorf("%d buckets, and %d in the method itself; want %d and %d", len(wider.Buckets), len(m.Buckets), before+1, before)
	}
	for _, c := range g.cases {
		if wider.Buckets.level(m.need(c)) == len(wider.Buckets) {
			t.Errorf("row %d: %v does not cover %+v", c.Row, wider.Buckets, m.need(c))
		}
	}
}

// TestPredictOfUncoveredCases: cases beyond the buckets cost one more shape, and not one a micro-batch.
func TestPredictOfUncoveredCases(t *testing.T) {
	g := small(t)
	compilations := func(buckets func(m *Method) Buckets) int {
		m := g.method(t, dtypes.Float32)
		m.Buckets = buckets(m)
		m.NoTransplant = true
		if _, err := m.Predict(context.Background(), g.cases, Pace{Workers: 1, MicroBatch: 1}, nil); err != nil {
			t.Fatal(err)
		}
		return m.Engine.Ledger().Compilations
	}
	got := compilations(func(m *Method) Buckets { return m.PlanBuckets(g.cases, 1) })
	want := compilations(func(*Method) Buckets { return Buckets{{Arguer: 200, Chooser: 400, Moved: 200}} })
	if got != want {
		t.Errorf("%d compilations, want the %d of one shape", got, want)
	}
}
