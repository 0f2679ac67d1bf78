package transplant

import (
	"context"
	"testing"

	"github.com/gomlx/compute/dtypes"
)

// TestCompile: after it a run with buckets compiles nothing more.
func TestCompile(t *testing.T) {
	g := small(t)
	m := g.method(t, dtypes.Float32)
	m.Buckets = m.PlanBuckets(g.cases, 3)
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
