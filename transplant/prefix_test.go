package transplant

import (
	"context"
	"slices"
	"testing"

	"gotransplant/data"
	"gotransplant/llama"

	"github.com/gomlx/compute/dtypes"
)

// TestSharedPrefix: it is as long as all prompts are alike, and ends before what is moved.
func TestSharedPrefix(t *testing.T) {
	count := func(n int) []int32 {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = int32(i)
		}
		return ids
	}
	row := func(arguer, chooser, argument int) Case { // alike up to there; the arguments follow at once
		other := func(n int) []int32 {
			ids := append(count(n), make([]int32, 60-n)...)
			for i := n; i < len(ids); i++ {
				ids[i] = int32(1000 + n)
			}
			return ids
		}
		c := Case{Choose: other(chooser)}
		for i := range c.Argue {
			c.Argue[i] = Passage{other(arguer), data.Span{Start: argument, End: argument + 1}}
			c.Spans[i] = data.Span{Start: argument + i, End: argument + i + 1}
		}
		return c
	}
	turned := func(c Case) Case { // the second candidate's argument comes first
		c.Spans[0], c.Spans[1] = c.Spans[1], c.Spans[0]
		return c
	}
	for _, c := range []struct {
		name            string
		cases           []Case
		arguer, chooser int
	}{
		{"no rows", nil, 0, 0},
		{"a row by itself", []Case{row(40, 50, 30)}, 0, 0},
		{"up to the first moved state", []Case{row(40, 50, 30), row(40, 50, 35)}, 29, 29},
		{"the second candidate comes first", []Case{turned(row(40, 50, 30)), turned(row(40, 50, 35))}, 29, 29},
		{"the shortest counts", []Case{row(40, 50, 40), row(20, 30, 40), row(33, 44, 40)}, 20, 30},
		{"less than is worth it", []Case{row(40, 50, 40), row(15, 16, 40)}, 0, 16},
		{"nothing alike", []Case{row(40, 50, 40), row(0, 0, 3)}, 0, 0},
	} {
		got := SharedPrefix(c.cases)
		if !slices.Equal(got.Arguer, count(c.arguer)) || !slices.Equal(got.Chooser, count(c.chooser)) {
			t.Errorf("%s: got %d and %d tokens %v, want %d and %d", c.name, len(got.Arguer), len(got.Chooser), got, c.arguer, c.chooser)
		}
	}
}

// TestSharedPrefixChangesNothing: rows that share their prefix score and learn what they do with one of their own.
func TestSharedPrefixChangesNothing(t *testing.T) {
	for name, set := range conditions() {
		t.Run(name, func(t *testing.T) {
			onBoth(t, smallDir(), func(t *testing.T, g golden) {
				attentions := []llama.Attention{llama.AutoAttention}
				if !g.panels {
					attentions = append(attentions, llama.BlockwiseAttention)
				}
				for _, attention := range attentions {
					with := g.method(t, dtypes.Float32)
					with.Attention = attention
					set(with)
					own := *with
					own.Prefix = Prefix{}
					if len(with.Prefix.Arguer) < leastShared || len(with.Prefix.Chooser) < leastShared {
						t.Fatalf("the rows share %d and %d tokens: nothing is tested", len(with.Prefix.Arguer), len(with.Prefix.Chooser))
					}
					compareTraining(t, with, &own, g.cases[1:4])
				}
			})
		})
	}
}

// compareTraining trains on cases both ways.
func compareTraining(t *testing.T, got, want *Method, cases []Case) {
	t.Helper()
	sameTraining(t, train(t, got, cases), train(t, want, cases))
}

// TestSharedPrefixOfDoRA: magnitudes get their part of the gradient through the prefix as well.
func TestSharedPrefixOfDoRA(t *testing.T) {
	onBothDoRA(t, func(t *testing.T, g golden, _ doraRun) {
		with := g.doraMethod(t, dtypes.Float32, llama.AsStored)
		with.Prefix = SharedPrefix(g.cases)
		own := *with
		own.Prefix = Prefix{}
		compareTraining(t, with, &own, g.cases[:3])
	})
}

// TestSharedPrefixIsNotComputedAgain: an update computes it once, however many micro-batches there are, and the trainer's
// gradients are those of rows that begin with their own tokens.
func TestSharedPrefixIsNotComputedAgain(t *testing.T) {
	onBoth(t, smallDir(), func(t *testing.T, g golden) {
		with := g.method(t, dtypes.Float32)
		own := g.method(t, dtypes.Float32)
		own.Prefix = Prefix{}
		saved := len(with.Prefix.Arguer) + len(with.Prefix.Chooser)
		var tokens [2]int
		before := with.Engine.Ledger()
		var losses [2]float64
		for i, m := range []*Method{with, own} {
			o := goldenOptions(g, 2)
			o.Pace.MicroBatch = 1
			trainer, err := NewTrainer(m, o, g.cases, nil)
			if err != nil {
				t.Fatal(err)
			}
			trainer.Order = fileOrder(len(g.cases))
			var r memory
			if err := trainer.Run(context.Background(), &r); err != nil {
				t.Fatal(err)
			}
			tokens[i], losses[i] = r.steps[1].Tokens, r.steps[1].Loss // the second step has what the first learned
		}
		if got, want := tokens[1]-tokens[0], (len(g.cases)-1)*saved; got != want {
			t.Errorf("%d rows that share %d tokens saved %d, want %d", len(g.cases), saved, got, want)
		}
		for _, stream := range []string{ArguerName, ChooserName} { // a stream embeds its tokens once
			got := with.Engine.Ledger().Since(before).Calls[llama.Work{Stream: stream, Pass: llama.Embedding}].Calls
			if want := 2*(len(g.cases)+1) + len(g.cases) + 1; got != want {
				t.Errorf("%s: %d streams in two updates and a score of %d rows, want %d", stream, got, len(g.cases), want)
			}
		}
		within(t, "loss after an update", losses[0], losses[1], 1e-6)
	})
}

// TestRowsWithAnotherBeginning: rows that do not begin with the method's prefix are scored without it.
func TestRowsWithAnotherBeginning(t *testing.T) {
	onBoth(t, smallDir(), func(t *testing.T, g golden) {
		m := g.method(t, dtypes.Float32)
		strange := g.cases[0]
		strange.Choose = slices.Clone(strange.Choose)
		strange.Choose[3]++
		for i := range strange.Argue {
			strange.Argue[i].IDs = slices.Clone(strange.Argue[i].IDs)
			strange.Argue[i].IDs[2]++
		}
		own := *m
		own.Prefix = Prefix{}
		cases := []Case{g.cases[1], strange}
		want, err := own.Predict(context.Background(), cases, Pace{1, 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.Predict(context.Background(), cases, Pace{1, 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// TestPrefixMustBeComputed: rows without their beginning are never run without the states that stand for it.
func TestPrefixMustBeComputed(t *testing.T) {
	g := small(t)
	m := g.method(t, dtypes.Float32)
	if p, err := m.begin(m.group(g.cases[:1], nil, 1), false); err == nil {
		p.close()
		t.Error("a micro-batch has begun behind a prefix that nobody has computed")
	}
}
