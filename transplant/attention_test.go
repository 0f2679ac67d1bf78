package transplant

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"gotransplant/llama"

	"github.com/gomlx/compute/dtypes"
)

// conditions are ways to run the method that change what attention meets.
func conditions() map[string]func(*Method) {
	return map[string]func(*Method){
		"all layers":            func(*Method) {},
		"first layer":           func(m *Method) { m.Layers = []bool{true, false, false} },
		"first and last layer":  func(m *Method) { m.Layers = []bool{true, false, true} },
		"stopped gradient":      func(m *Method) { m.StopGradient = true },
		"no transplant":         func(m *Method) { m.NoTransplant = true },
		"one adapter":           func(m *Method) { m.Arguer = m.Chooser },
		"bare chooser":          func(m *Method) { m.Chooser = nil },
		"blocks computed again": func(m *Method) { m.Remat = true },
		"all layers in buckets": func(m *Method) { m.Buckets = Buckets{{Arguer: 224, Chooser: 224, Moved: 96}} },
		"first layer in buckets": func(m *Method) {
			m.Layers, m.Buckets = []bool{true, false, false}, Buckets{{Arguer: 224, Chooser: 288, Moved: 96}}
		},
	}
}

// TestAttentionsAgree: blockwise attention, and fused attention with everything in place (on the Go backend: all scores
// under a causal mask by index, nothing else), give what plain attention over packed rows gives.
func TestAttentionsAgree(t *testing.T) {
	g := small(t)
	cases := g.cases[1:3]
	for name, set := range conditions() {
		t.Run(name, func(t *testing.T) {
			m := g.method(t, dtypes.Float32)
			m.Attention = llama.PlainAttention
			set(m)
			alone := Method{Engine: m.Engine, Layers: m.Layers, NoTransplant: m.NoTransplant} // whose rows share nothing, and are longest
			for _, c := range cases {
				if m.Buckets != nil && m.Buckets.level(alone.need(c)) == len(m.Buckets) {
					t.Fatalf("row %d needs %v, more than %s", c.Row, alone.need(c), m.Buckets)
				}
			}
			want := train(t, m, cases)
			for _, attention := range []llama.Attention{llama.BlockwiseAttention, llama.FusedAttention} {
				t.Run(string(attention), func(t *testing.T) {
					m.Attention = attention
					sameTraining(t, train(t, m, cases), want)
				})
			}
		})
	}
}

// train is a sweep over cases.
func train(t *testing.T, m *Method, cases []Case) Sweep {
	t.Helper()
	s, err := m.Train(cases, 1)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sameTraining allows what float32 leaves of outcomes and gradients when sums are taken in another order.
func sameTraining(t *testing.T, got, want Sweep) {
	t.Helper()
	for i, o := range want.Outcomes {
		for j, logProb := range o.LogProb {
			within(t, "log-probability", got.Outcomes[i].LogProb[j], logProb, 1e-5)
		}
	}
	sameGrads(t, "arguer", got.Arguer, want.Arguer)
	sameGrads(t, "chooser", got.Chooser, want.Chooser)
}

// sameGrads allows what float32 leaves of attention's gradients when sums are taken in another order.
func sameGrads(t *testing.T, name string, got, want Grads) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d gradients, want %d", name, len(got), len(want))
	}
	for i := range want {
		if len(got[i]) != len(want[i]) {
			t.Fatalf("%s: gradient %d has %d values, want %d", name, i, len(got[i]), len(want[i]))
		}
		if d := distance(got[i], want[i]); !(d <= 2e-5) {
			t.Errorf("%s: gradient %d: relative distance %g, want at most 2e-5", name, i, d)
		}
	}
}

// TestInPlaceComputesEveryToken: nothing is left out, and nothing shared.
func TestInPlaceComputesEveryToken(t *testing.T) {
	g := small(t)
	m := g.method(t, dtypes.Float32)
	m.Attention = llama.FusedAttention
	c := g.cases[0]
	got := evaluate(t, m, c)[0].Tokens
	want := len(c.Choose) + moved(c.Argue[0].Span).End + moved(c.Argue[1].Span).End
	if got != want {
		t.Errorf("got %d tokens, want %d", got, want)
	}
}

// TestAttentionsAgreeInHalfPrecision: as far from float32 as plain attention is.
func TestAttentionsAgreeInHalfPrecision(t *testing.T) {
	g := small(t)
	exact, err := g.method(t, dtypes.Float32).Train(g.cases[:1], 1)
	if err != nil {
		t.Fatal(err)
	}
	m := g.method(t, dtypes.BFloat16)
	errs := make(map[llama.Attention]float64)
	for _, attention := range []llama.Attention{llama.PlainAttention, llama.BlockwiseAttention, llama.FusedAttention} {
		m.Attention = attention
		s, err := m.Train(g.cases[:1], 1)
		if err != nil {
			t.Fatal(err)
		}
		within(t, "log-probability", s.Outcomes[0].LogProb[0], exact.Outcomes[0].LogProb[0], 2e-2)
		for i := range s.Chooser {
			errs[attention] += distance(s.Chooser[i], exact.Chooser[i]) + distance(s.Arguer[i], exact.Arguer[i])
		}
	}
	for attention, d := range errs {
		if !(d <= 1.25*errs[llama.PlainAttention]) {
			t.Errorf("%s: summed relative distance of the gradients %g, plain %g", attention, d, errs[llama.PlainAttention])
		}
	}
}

// TestContest: each shape is decided once, by the second run of either side; who fails loses.
func TestContest(t *testing.T) {
	g := small(t)
	m := g.method(t, dtypes.Float32)
	m.Buckets = m.PlanBuckets(g.cases, 2)
	m, err := m.share(true)
	if err != nil {
		t.Fatal(err)
	}
	defer m.shared.close()
	outcomes := []struct {
		name                    string
		packed, fused           time.Duration
		packedError, fusedError error
		want                    llama.Attention
		line                    string
	}{
		{"packed is faster", 2, 3, nil, nil, llama.AutoAttention, ": packed"},
		{"fused is faster", 3, 2, nil, nil, llama.FusedAttention, ": fused in place"},
		{"the kernel refuses", 3, 2, nil, errors.New("no engine"), llama.AutoAttention, "fused in place fails: no engine"},
		{"packed has no room", 2, 3, errors.New("no room"), nil, llama.FusedAttention, "packed fails: no room"},
		{"both fail", 3, 2, errors.New("no room"), errors.New("no room"), llama.AutoAttention, ": packed"},
	}
	for _, o := range outcomes {
		t.Run(o.name, func(t *testing.T) {
			var lines []string
			m.Contest = NewContest(func(line string) { lines = append(lines, line) })
			runs := make(map[llama.Attention]int)
			m.Contest.time = func(side llama.Attention, run func() error) (time.Duration, error) {
				if runs[side]++; o.name == "packed is faster" { // once is enough for each side to be seen to run
					if err := run(); err != nil {
						t.Fatal(err)
					}
				}
				switch {
				case side == llama.FusedAttention && runs[side] == 2:
					return o.fused, o.fusedError
				case side != llama.FusedAttention && runs[side] == 2:
					return o.packed, o.packedError
				}
				return time.Hour, nil // compiling
			}
			first := m.groups(g.cases, 2)[0]
			m.decide([]group{first, first}, true)
			if got := m.attention(first, true); got != o.want {
				t.Errorf("got %s, want %s", got, o.want)
			}
			if len(lines) != 1 || !strings.Contains(lines[0], o.line) {
				t.Errorf("reported %q, want one line with %q", lines, o.line)
			}
			if got := m.attention(first, false); got != llama.AutoAttention {
				t.Errorf("an evaluation uses %s, which nothing has decided", got)
			}
		})
	}
}

// TestForegone: a shape for which packed was faster decides smaller ones of the same kind of sweep.
func TestForegone(t *testing.T) {
	short, long := Shape{Arguer: 16, Chooser: 16, Moved: 8, Alone: 32}, Shape{Arguer: 32, Chooser: 16, Moved: 8, Alone: 48}
	c := Contest{packed: []bout{{long, 2, true, false}}}
	for _, b := range []struct {
		name string
		bout bout
		want bool
	}{
		{"a smaller shape", bout{short, 2, true, false}, true},
		{"fewer rows", bout{long, 1, true, false}, true},
		{"without gradients", bout{short, 2, false, false}, false},
		{"no transplant", bout{short, 2, true, true}, false},
		{"a larger shape", bout{Shape{Arguer: 48, Chooser: 16, Moved: 8, Alone: 64}, 2, true, false}, false},
	} {
		if got := c.foregone(b.bout); got != b.want {
			t.Errorf("%s: got %t, want %t", b.name, got, b.want)
		}
	}
}

// TestContestDecidesBeforeTheRun: scoring is the same whichever side wins, and the winner is asked for.
func TestContestDecidesBeforeTheRun(t *testing.T) {
	g := small(t)
	m := g.method(t, dtypes.Float32)
	want, err := m.Predict(context.Background(), g.cases, Pace{1, 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Contest = NewContest(func(string) {})
	n := time.Duration(100)
	m.Contest.time = func(llama.Attention, func() error) (time.Duration, error) { n--; return n, nil }
	got, err := m.Predict(context.Background(), g.cases, Pace{1, 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	trainer := newTrainer(t, m, goldenOptions(g, 1), g.cases[:2], nil)
	step, err := trainer.update(context.Background(), &memory{})
	if err != nil {
		t.Fatal(err)
	}
	if want := want[0].Tokens + want[1].Tokens; step.Tokens <= want {
		t.Errorf("a step computes %d tokens, want more than the packed %d", step.Tokens, want)
	}
	for i := range want {
		within(t, "log-probability", got[i].LogProb1, want[i].LogProb1, 1e-5)
		if got[i].Tokens <= want[i].Tokens {
			t.Errorf("row %d: %d tokens computed, want more than the packed %d", i+1, got[i].Tokens, want[i].Tokens)
		}
	}
}

// TestInPlaceLengthsAreTheBuckets: rows in place are as long as their bucket says, whichever rows these are: other lengths would
// be further compilations.
func TestInPlaceLengthsAreTheBuckets(t *testing.T) {
	g := small(t)
	m := g.method(t, dtypes.Float32)
	m.Attention = llama.FusedAttention
	m.Buckets = m.PlanBuckets(g.cases, 1)
	m.Buckets[0].Alone += 2 * aloneStep // as if a longer row were among those planned for
	for _, of := range m.groups(g.cases, 1) {
		if got := m.layout(of, true).arguer.Length; got != of.shape.Alone || got == 0 {
			t.Errorf("row %d: %d tokens in place, want %d", of.cases[0].Row, got, of.shape.Alone)
		}
	}
}
