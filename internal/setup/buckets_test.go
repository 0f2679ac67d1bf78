package setup

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"gotransplant/transplant"
)

// TestBucketsFollowTheBackend: none on the Go backend unless asked for, a few on devices.
func TestBucketsFollowTheBackend(t *testing.T) {
	for _, c := range []struct {
		backend     string
		asked, want int
	}{{"go", 0, 0}, {"go:parallelism=-1", 3, 3}, {"xla:cuda", 0, DeviceBuckets}, {"xla:cuda", 5, 5}} {
		s := Settings{Backend: c.backend, Buckets: c.asked}
		if got := s.buckets(); got != c.want {
			t.Errorf("backend %s, %d asked for: got %d buckets, want %d", c.backend, c.asked, got, c.want)
		}
	}
}

// TestEvaluateWithBuckets: every condition, whose rows have lengths of their own, scores as it does without buckets.
func TestEvaluateWithBuckets(t *testing.T) {
	controls := Controls{NoTransplant: true, OtherRow: true, FlipOrder: true}
	report := func(buckets int) *Report {
		s := goldenSettings()
		s.Buckets, s.MicroBatch = buckets, 4
		o := session(t, s)
		line := fmt.Sprintf("buckets  %d shapes of micro-batches of 4 rows", buckets)
		if got := strings.Contains(o.Describe(), line); got != (buckets > 0) || strings.Contains(o.Describe(), "are padding") != got {
			t.Errorf("%d buckets: want %q with the share of padding where there are any:\n%s", buckets, line, o.Describe())
		}
		r, err := o.Evaluate(context.Background(), controls, func(string, int, int) {})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	want := report(0)
	for i, c := range report(2).Conditions {
		for j, p := range c.Predictions {
			q := want.Conditions[i].Predictions[j]
			if p.Row != q.Row || math.Abs(p.Loss-q.Loss) > 1e-5*q.Loss {
				t.Errorf("%s: row %d has loss %v, want row %d with %v", c.Name, p.Row, p.Loss, q.Row, q.Loss)
			}
		}
	}
}

// TestCompileTellsHowMuch: with buckets a line about what was built, without them nothing.
func TestCompileTellsHowMuch(t *testing.T) {
	for _, buckets := range []int{0, 2} {
		s := goldenSettings()
		s.Training = Defaults().Training
		s.Buckets, s.Kernels = buckets, transplant.Graphs
		o := session(t, s)
		var said strings.Builder
		if err := o.Compile(context.Background(), &said, Controls{}); err != nil {
			t.Fatal(err)
		}
		compiled := o.Method.Engine.Ledger().Compilations
		if (compiled > 0) != (buckets > 0) || (said.Len() > 0) != (buckets > 0) {
			t.Errorf("%d buckets: %d compilations, said %q", buckets, compiled, said.String())
		}
		if want := fmt.Sprintf("%d executables", compiled); buckets > 0 && !strings.Contains(said.String(), want) {
			t.Errorf("said %q, want %q in it", said.String(), want)
		}
	}
}
