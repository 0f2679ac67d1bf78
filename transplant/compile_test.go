package transplant

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"gotransplant/llama"

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
	if err := m.Compile(context.Background(), g.cases, pace.MicroBatch, Sweeps{Score: true, Train: true}); err != nil {
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

// TestCompileWithContest: the contest is held for the largest bucket before the run, which compiles nothing more whoever wins;
// where packed wins no smaller bucket has fused attention built, or a contest.
func TestCompileWithContest(t *testing.T) {
	compiled := make(map[llama.Attention]int)
	for _, winner := range []llama.Attention{llama.AutoAttention, llama.FusedAttention} {
		t.Run(string(winner), func(t *testing.T) {
			g := small(t)
			m := g.method(t, dtypes.Float32)
			m.Buckets = m.PlanBuckets(g.cases, 3)
			pace := Pace{Workers: 1, MicroBatch: 1}
			var lines []string
			m.Contest = NewContest(func(line string) { lines = append(lines, line) })
			m.Contest.time = func(side llama.Attention, run func() error) (time.Duration, error) {
				if side == winner {
					return time.Second, run()
				}
				return time.Minute, run()
			}
			if err := m.Compile(context.Background(), g.cases, pace.MicroBatch, Sweeps{Score: true, Train: true}); err != nil {
				t.Fatal(err)
			}
			if len(lines) != 2 {
				t.Errorf("reported %q, want a line for training and one for scoring", lines)
			}
			before := m.Engine.Ledger()
			compiled[winner] = before.Compilations
			gradients(t, g, m, pace.MicroBatch)
			if _, err := m.Predict(context.Background(), g.cases, pace, nil); err != nil {
				t.Fatal(err)
			}
			if more := m.Engine.Ledger().Since(before).Compilations; more != 0 {
				t.Errorf("the run compiled %d executables more, want none", more)
			}
			want := 2
			if winner == llama.FusedAttention {
				want = 2 * len(m.Buckets)
			}
			if len(lines) != want {
				t.Errorf("%d contests of %d buckets, want %d:\n%s", len(lines), len(m.Buckets), want, strings.Join(lines, "\n"))
			}
		})
	}
	if compiled[llama.AutoAttention] >= compiled[llama.FusedAttention] {
		t.Errorf("compiled %v, want fewer where packed wins", compiled)
	}
}

// TestCompileWithoutTheKernel: a kernel that refuses a shape is no reason for a run to end.
func TestCompileWithoutTheKernel(t *testing.T) {
	g := small(t)
	m := g.method(t, dtypes.Float32)
	m.Buckets = Buckets{{Arguer: 320, Chooser: 320, Moved: 320, Alone: 320}}
	var lines []string
	m.Contest = NewContest(func(line string) { lines = append(lines, line) })
	m.Contest.time = func(side llama.Attention, run func() error) (time.Duration, error) {
		if side == llama.FusedAttention {
			return 0, errors.New("no engine for it")
		}
		return time.Second, run()
	}
	if err := m.Compile(context.Background(), g.cases, 2, Sweeps{Score: true}); err != nil {
		t.Fatal(err)
	}
	if told := strings.Join(lines, "\n"); !strings.Contains(told, "no engine for it: packed") {
		t.Errorf("reported %q, want that the kernel refuses", told)
	}
}
