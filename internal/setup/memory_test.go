package setup

import (
	"strings"
	"testing"

	"gotransplant/internal/panel"
	"gotransplant/llama"
	"gotransplant/transplant"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend"
)

// embeddedSession is a training session on the embedded model, or an evaluation of it, on graphs.
func embeddedSession(t *testing.T, train bool) *Session {
	t.Helper()
	return sessionOn(t, transplant.Graphs, train)
}

// sessionOn is embeddedSession on graphs or panels.
func sessionOn(t *testing.T, kernels string, train bool) *Session {
	t.Helper()
	backend, err := compute.NewWithConfig("go:parallelism=-1")
	if err != nil {
		t.Fatal(err)
	}
	s := Embedded()
	s.Kernels = kernels
	if !train {
		s.Training = nil
	}
	o, err := Open(s, backend)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestPlanMemory: what --remat becomes, what is said, and what is refused, between the needs of its two ways.
func TestPlanMemory(t *testing.T) {
	o := embeddedSession(t, true)
	o.Workers, o.Pace.Workers = 2, 2
	need := func(remat bool) int64 {
		o.Method.Remat = remat
		plan, err := o.plan(Controls{})
		if err != nil {
			t.Fatal(err)
		}
		return o.total(plan)
	}
	none, full := need(false), need(true)
	if full >= none {
		t.Fatalf("full needs %d bytes, none %d: want less", full, none)
	}
	cases := []struct {
		name, remat string
		capacity    int64
		want        string // the mode; "" for an error
		says        string
	}{
		{"auto with room", RematAuto, none, RematNone, "fits\n"},
		{"auto without", RematAuto, none - 1, RematFull, "computed again (--remat full), keeping everything would take " + gigabytes(none)},
		{"auto of a run from before there was one", "", none - 1, RematFull, "computed again"},
		{"auto, hopeless", RematAuto, full - 1, "", "--micro-batch less than 8"},
		{"none with room", RematNone, none, RematNone, "= " + gigabytes(none) + " of " + gigabytes(none) + ": fits\n"},
		{"none without", RematNone, none - 1, "", "--remat full"},
		{"none with fewer workers", RematNone, none - 1, "", "--workers less than 2"},
		{"full with room for none", RematFull, none, RematFull, "(--remat full)\n"},
		{"full without", RematFull, full - 1, "", "kept activations"},
		{"auto, unknown", RematAuto, 0, RematNone, "of an unknown amount: ask someone"},
		{"full, unknown", RematFull, 0, RematFull, "of an unknown amount: ask someone"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o.Remat, o.Method.Remat = c.remat, false
			line, err := o.PlanMemory(Capacity{c.capacity, "ask someone"}, Controls{})
			if c.want == "" {
				if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "ask someone") {
					t.Errorf("got error %v, want one with %q", err, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if o.Remat != c.want || o.Method.Remat != (c.want == RematFull) {
				t.Errorf("--remat became %s (%t), want %s", o.Remat, o.Method.Remat, c.want)
			}
			if !strings.HasPrefix(line, "memory   ") || !strings.Contains(line, c.says) {
				t.Errorf("got %q, want it to say %q", line, c.says)
			}
			for _, item := range []string{"weights", "moved states", "workspace", "adapters", "optimizer and gradients"} {
				if !strings.Contains(line, " "+item+" ") {
					t.Errorf("got %q, want %s among its items", line, item)
				}
			}
		})
	}
}

// TestAdviceCanBeFollowed: nothing less than one row at a time is advised.
func TestAdviceCanBeFollowed(t *testing.T) {
	o := embeddedSession(t, true)
	o.Pace = transplant.Pace{Workers: 1, MicroBatch: 1}
	if _, err := o.PlanMemory(Capacity{1, "a test"}, Controls{}); err == nil || strings.Contains(err.Error(), "less than") ||
		strings.Contains(err.Error(), "--remat") {
		t.Errorf("got error %v, want one that advises neither a smaller --micro-batch nor fewer --workers, nor the --remat there is", err)
	}
}

// TestPlanMemoryOfEvaluation: there is no --remat, and a control whose chooser reads more is planned as well.
func TestPlanMemoryOfEvaluation(t *testing.T) {
	o := embeddedSession(t, false)
	plan, err := o.plan(Controls{})
	if err != nil {
		t.Fatal(err)
	}
	reads := *o.Method
	reads.NoTransplant = true
	control, err := reads.Memory(o.Cases, o.Pace, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.PlanMemory(Capacity{o.total(plan), "a test"}, Controls{}); err != nil || o.total(plan) >= o.total(control) {
		t.Errorf("without the control, which has %d bytes: %v, want a plan of %d", o.total(control), err, o.total(plan))
	}
	larger := max(o.total(plan), o.total(control))
	if _, err := o.PlanMemory(Capacity{larger, "a test"}, Controls{NoTransplant: true}); err != nil {
		t.Error(err)
	}
	o.Workers = o.Pace.Workers
	if _, err := o.PlanMemory(Capacity{larger - 1, "a test"}, Controls{NoTransplant: true}); err == nil ||
		strings.Contains(err.Error(), "--remat") {
		t.Errorf("got error %v, want one that does not speak of --remat", err)
	}
	if got := plan.Host; got != 0 {
		t.Errorf("%d bytes for an optimizer, want none", got)
	}
}

// TestFewerWorkers: where their number was not asked for, as many micro-batches run at a time as fit. On panels that comes before
// blocks are computed again, up to eight cores for one; on graphs behind it.
func TestFewerWorkers(t *testing.T) {
	const most = 16
	for _, kernels := range []string{transplant.Graphs, transplant.Panels} {
		if kernels == transplant.Panels && !panel.Available() {
			continue // no kernels for this processor, or built without GOEXPERIMENT=simd
		}
		o := sessionOn(t, kernels, true)
		o.BatchSize = most * o.Pace.MicroBatch
		for workers, fewest := range map[int]int{1: 1, 8: 1, 9: 2, most: 2} {
			if kernels == transplant.Graphs {
				fewest = workers
			}
			if o.Pace.Workers = workers; o.fewestThatKeep() != fewest {
				t.Errorf("%s: blocks are all kept by %d and more of %d, want %d", kernels, o.fewestThatKeep(), workers, fewest)
			}
		}
		need := func(workers int, remat bool) int64 {
			o.Pace.Workers, o.Method.Remat = workers, remat
			plan, err := o.plan(Controls{})
			if err != nil {
				t.Fatal(err)
			}
			return o.total(plan)
		}
		panels := kernels == transplant.Panels
		cases := []struct {
			name, remat string
			asked       int // --workers
			capacity    int64
			full        bool
			says        string // "" for an error
		}{
			{"room for all", RematAuto, 0, need(most, false), false, ": fits\n"},
			{"room for all but one", RematAuto, 0, need(most-1, false), !panels, ": fits, with "},
			{"room for two", RematAuto, 0, need(2, false), !panels, " and not 16 micro-batches at a time (--workers)\n"},
			{"room for less than two", RematAuto, 0, need(2, false) - 1, true, "computed again (--remat full), keeping everything would take"},
			{"room for one whose blocks are computed again", RematAuto, 0, need(1, true), true, ", with 1 and not 16 micro-batches at a time"},
			{"room for none", RematAuto, 0, need(1, true) - 1, false, ""},
			{"all is to be kept", RematNone, 0, need(1, false), false, ", with 1 and not 16 micro-batches at a time"},
			{"nothing is to be kept", RematFull, 0, need(5, true), true, ", with 5 and not 16 micro-batches at a time"},
			{"all are asked for", RematNone, most, need(most, false) - 1, false, ""},
		}
		for _, c := range cases {
			t.Run(kernels+", "+c.name, func(t *testing.T) {
				o.Workers, o.Remat, o.Pace.Workers = c.asked, c.remat, most
				line, err := o.PlanMemory(Capacity{c.capacity, "a test"}, Controls{})
				if c.says == "" {
					if err == nil || strings.Contains(err.Error(), "--workers") != (c.asked > 0) {
						t.Errorf("got %q and error %v, want one that advises fewer --workers only where they were asked for", line, err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if o.Method.Remat != c.full || !strings.Contains(line, c.says) {
					t.Errorf("--remat full %t, said %q, want %t and %q", o.Method.Remat, line, c.full, c.says)
				}
				n := o.Pace.Workers
				if needs := o.total(o.Needs); needs > c.capacity || needs != need(n, c.full) {
					t.Errorf("%d at a time, which need %d bytes, are planned with %d, want at most %d", n, need(n, c.full), needs, c.capacity)
				}
				if n < most && need(n+1, c.full) <= c.capacity {
					t.Errorf("%d at a time, want the most that fit", n)
				}
			})
		}
	}
}

// TestRounded: numbers of parameters as people say them.
func TestRounded(t *testing.T) {
	for n, want := range map[float64]string{6738415616: "6.74B", 1e6: "1M", 580123: "580K", 12: "12"} {
		if got := rounded(n); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestPlanCountsWorkersThatHaveWork: a batch of one micro-batch needs the memory of one, however many may run.
func TestPlanCountsWorkersThatHaveWork(t *testing.T) {
	o := embeddedSession(t, true)
	need := func(workers, batch int) int64 {
		o.Pace.Workers, o.BatchSize = workers, batch
		plan, err := o.plan(Controls{})
		if err != nil {
			t.Fatal(err)
		}
		return plan.Device()
	}
	one, idle, two := need(1, 8), need(4, 8), need(4, 16)
	if idle != one || two <= one {
		t.Errorf("a batch of one micro-batch on four workers: %d bytes, want the %d of one worker; of two: %d, want more", idle, one, two)
	}
}

// TestPlanOfAContest: where fused attention in place may be chosen the plan has room for it, and where there is none for it the
// run goes without and says so.
func TestPlanOfAContest(t *testing.T) {
	s := goldenSettings()
	s.Training = Defaults().Training
	s.Backend, s.DType, s.Kernels, s.MicroBatch = "xla:cuda", "bfloat16", transplant.Graphs, 4
	open := func(attention string) *Session {
		s.Attention = attention
		o, err := Outline(s, llama.Planned{Name: "xla:cuda", Builder: goBackend(t)})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	var said string
	needs := func(attention string) int64 {
		o := open(attention)
		var err error
		if said, err = o.PlanMemory(Capacity{}, Controls{}); err != nil {
			t.Fatal(err)
		}
		return o.total(o.Needs)
	}
	packed, fused, either := needs("plain"), needs("fused"), needs("auto")
	if want := "optimizer and gradients "; strings.Count(said, want) != 1 || !strings.Contains(said, " of the program's own\n") {
		t.Errorf("said %q, want once %q, in memory that is not the device's", said, want)
	}
	if want := "fused in place, packed it is " + gigabytes(packed); !strings.Contains(said, want) {
		t.Errorf("said %q, want %q in it", said, want)
	}
	if fused <= packed || either != fused {
		t.Errorf("packed needs %d bytes, fused in place %d, one of both %d: want more in place, and room for it", packed, fused, either)
	}
	o := open("auto")
	line, err := o.PlanMemory(Capacity{packed, "a test"}, Controls{})
	if err != nil || o.Remat != RematNone {
		t.Fatalf("room for packed rows alone: error %v, --remat %s", err, o.Remat)
	}
	if got := o.total(o.Needs); got != packed || !strings.Contains(line, gigabytes(packed)) {
		t.Errorf("planned %d bytes, want the packed %d: %s", got, packed, line)
	}
	if o.Compete(func(string) {}); o.Method.Contest != nil || !strings.Contains(o.Describe(), "not fused: in place it would take "+gigabytes(fused)) {
		t.Errorf("contest %v, described as %q", o.Method.Contest, o.Describe())
	}
	o = open("auto")
	o.LeaveOutFused("it is broken")
	if _, err := o.PlanMemory(Capacity{}, Controls{}); err != nil || o.total(o.Needs) != packed {
		t.Errorf("with a kernel that is broken: planned %d bytes (%v), want the packed %d", o.total(o.Needs), err, packed)
	}
	if o.Compete(func(string) {}); o.Method.Contest != nil || !strings.Contains(o.Describe(), "not fused: it is broken\n") {
		t.Errorf("with a kernel that is broken: contest %v, described as %q", o.Method.Contest, o.Describe())
	}
}
