package transplant

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gomlx/compute/dtypes"
)

// TestInOrder: results come in order however many workers there are, no more is prepared than the workers hold and one,
// what was prepared is either worked on or discarded, and what was made either delivered or dropped.
func TestInOrder(t *testing.T) {
	failure := errors.New("failure")
	cases := []struct {
		name                     string
		failPrepare, fail, fails int // the piece at which prepare, work or deliver fails; -1 for none
		cancel                   int // the piece at whose delivery the context ends
	}{
		{"nothing fails", -1, -1, -1, -1}, {"prepare fails", 5, -1, -1, -1}, {"the first prepare fails", 0, -1, -1, -1},
		{"work fails", -1, 5, -1, -1}, {"deliver fails", -1, -1, 5, -1}, {"interrupted", -1, -1, -1, 5},
	}
	for _, c := range cases {
		for _, workers := range []int{1, 3} {
			t.Run(c.name, func(t *testing.T) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				var open, most, held, discarded atomic.Int32
				failAt := func(i, at int) error {
					if i == at {
						return failure
					}
					return nil
				}
				var got []int
				err := inOrder(ctx, 20, workers, stages[int, int]{
					prepare: func(i int) (int, error) {
						if n := open.Add(1); n > most.Load() {
							most.Store(n)
						}
						if err := failAt(i, c.failPrepare); err != nil {
							open.Add(-1)
							return 0, err
						}
						return 10 * i, nil
					},
					discard: func(int) { open.Add(-1); discarded.Add(1) },
					work: func(i, prepared int) (int, error) {
						defer open.Add(-1)
						if err := failAt(i, c.fail); err != nil {
							return 0, err
						}
						held.Add(1)
						return prepared + i, nil
					},
					drop: func(result int) {
						held.Add(-1)
						if result%11 != 0 || slices.Contains(got, result/11) {
							t.Errorf("%d is dropped, which was delivered or never made", result)
						}
					},
					deliver: func(i, result int) error {
						held.Add(-1)
						if result != 11*i {
							t.Errorf("piece %d: got %d, want %d", i, result, 11*i)
						}
						got = append(got, i)
						if i == c.cancel {
							cancel()
						}
						return failAt(i, c.fails)
					}})
				switch {
				case c.cancel >= 0:
					if !errors.Is(err, context.Canceled) {
						t.Errorf("got error %v, want that of the context", err)
					}
				case c.name == "nothing fails":
					if err != nil || len(got) != 20 || discarded.Load() != 0 {
						t.Errorf("error %v, %d delivered, %d discarded; want none, 20, none", err, len(got), discarded.Load())
					}
				case !errors.Is(err, failure):
					t.Errorf("got error %v, want the one that occurred", err)
				}
				if !slices.IsSorted(got) {
					t.Errorf("delivered %v, want them in order", got)
				}
				if open.Load() != 0 {
					t.Errorf("%d prepared and neither worked on nor discarded", open.Load())
				}
				if held.Load() != 0 {
					t.Errorf("%d results neither delivered nor dropped", held.Load())
				}
				if most.Load() > int32(workers+1) {
					t.Errorf("%d prepared at a time, want at most one more than the %d workers", most.Load(), workers)
				}
			})
		}
	}
}

// TestPreparedAheadIsTheSame: an update, which prepares micro-batches while others run, sums bit for bit what sweeps one
// after the other give.
func TestPreparedAheadIsTheSame(t *testing.T) {
	g := openGolden(t, filepath.Join("testdata", "golden-small"))
	m := g.method(t, dtypes.Float32)
	o := goldenOptions(g, 1)
	o.Pace.Workers = 1
	trainer := newTrainer(t, m, o, g.cases, nil)
	m, err := m.share(true)
	if err != nil {
		t.Fatal(err)
	}
	defer m.shared.close()
	for _, c := range g.cases {
		s, err := m.pass(m.group([]Case{c}, nil, 1), true, 1/float64(len(g.cases)))
		if err != nil {
			t.Fatal(err)
		}
		if err := trainer.accumulate(m, []Sweep{s}); err != nil {
			t.Fatal(err)
		}
	}
	rest, err := m.backward()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(trainer.sums.add(&rest), trainer.sums.take()); err != nil {
		t.Fatal(err)
	}
	var want [][]float32
	for _, tensor := range trainer.tensors {
		want = append(want, slices.Clone(tensor.Grad))
	}
	for i, got := range gradients(t, g, m, 1) {
		if !slices.Equal(got, want[i]) {
			t.Errorf("%s differs", trainer.tensors[i].Name)
		}
	}
}

// TestInOrderWaits: nothing runs any more when inOrder returns, with an error as well: what the work uses is freed then. What
// was under way and succeeds is dropped.
func TestInOrderWaits(t *testing.T) {
	failure := errors.New("failure")
	var running atomic.Int32
	begun := make(chan bool)
	var dropped []int
	err := inOrder(context.Background(), 2, 2, stages[int, int]{
		prepare: func(i int) (int, error) { return i, nil },
		work: func(i, _ int) (int, error) {
			if i == 0 { // fails when the other is under way
				<-begun
				return 0, failure
			}
			running.Add(1)
			defer running.Add(-1)
			close(begun)
			time.Sleep(50 * time.Millisecond)
			return 7, nil
		},
		drop:    func(result int) { dropped = append(dropped, result) },
		deliver: func(_, _ int) error { return nil },
	})
	if !slices.Equal(dropped, []int{7}) {
		t.Errorf("dropped %v, want the result 7 of the piece that was under way", dropped)
	}
	if left := running.Load(); !errors.Is(err, failure) || left != 0 {
		t.Errorf("got error %v and %d still running, want %v and none", err, left, failure)
	}
}
