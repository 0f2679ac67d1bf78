package transplant

import (
	"context"
	"fmt"
	"testing"

	"github.com/gomlx/compute/dtypes"
)

// TestCompile: after it a run with buckets compiles nothing more, not to add up micro-batches of one shape either.
func TestCompile(t *testing.T) {
	for _, buckets := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d buckets", buckets), func(t *testing.T) { compilesAll(t, small(t), buckets) })
	}
}

func compilesAll(t *testing.T, g golden, buckets int) {
	m := g.method(t, dtypes.Float32)
	m.Buckets = m.PlanBuckets(g.cases, buckets)
	pace := Pace{Workers: 1, MicroBatch: 2}
	if err := m.Compile(context.Background(), g.cases, pace, true, 3); err != nil {
		t.Fatal(err)
	}
	before := m.Engine.Ledger()
	if before.Compilations == 0 {
		t.Fatal("nothing was compiled")
	}
	if len(before.Calls) > 0 {
		t.Errorf("calls %v, want none", before.Calls)
	}
	gradients(t, g, m, pace.MicroBatch)
	if _, err := m.Predict(context.Background(), g.cases, pace, nil); err != nil {
		t.Fatal(err)
	}
	if more := m.Engine.Ledger().Since(before).Compilations; more != 0 {
		t.Errorf("the run compiled %d executables more, want none", more)
	}
}
