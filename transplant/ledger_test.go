package transplant

import (
	"maps"
	"path/filepath"
	"testing"

	"gotransplant/llama"

	"github.com/gomlx/compute/dtypes"
)

// TestLedgerCountsCalls: a training sweep books each call under its stream and pass, and only the first sweep of a
// shape compiles.
func TestLedgerCountsCalls(t *testing.T) {
	g := openGolden(t, filepath.Join("testdata", "golden-small"))
	m := g.method(t, dtypes.Float32)
	m.Prefix = Prefix{}
	train := func() llama.Ledger {
		before := m.Engine.Ledger()
		if _, err := m.Train(g.cases[:1], 1); err != nil {
			t.Fatal(err)
		}
		return m.Engine.Ledger().Since(before)
	}
	first, second := train(), train()
	layers := m.layers()
	want := map[llama.Work]int{
		{Stream: ArguerName, Pass: llama.Embedding}: 1, {Stream: ChooserName, Pass: llama.Embedding}: 1,
		{Stream: ArguerName, Pass: llama.Preparing}: 1, {Stream: ChooserName, Pass: llama.Preparing}: 1,
		{Stream: ArguerName, Pass: llama.ForwardPass}:        layers - 1,
		{Stream: ArguerName, Pass: llama.KeysValuesPass}:     1,
		{Stream: ChooserName, Pass: llama.ForwardPass}:       layers,
		{Stream: ChooserName, Pass: llama.ScorePass}:         1,
		{Stream: ChooserName, Pass: llama.BackwardPass}:      layers,
		{Stream: ArguerName, Pass: llama.BackwardKeysValues}: 1,
		{Stream: ArguerName, Pass: llama.BackwardPass}:       layers - 1,
	}
	got := make(map[llama.Work]int)
	for w, tally := range second.Calls {
		got[w] = tally.Calls
		if !(tally.Seconds > 0) {
			t.Errorf("%v: %v seconds, want more than none", w, tally.Seconds)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("calls: got %v, want %v", got, want)
	}
	// Embedding has the two streams' shapes; masks differ where states are inserted.
	if first.Kinds == 0 || first.Compilations != first.Kinds+1 {
		t.Errorf("%d compilations of %d kinds for rows of one length, want one more than kinds", first.Compilations, first.Kinds)
	}
	if second.Compilations != 0 || second.CompileSeconds != 0 {
		t.Errorf("%d compilations (%v s) in the second sweep, want none", second.Compilations, second.CompileSeconds)
	}
}

// TestCompilationsFollowFromShapes: what compiles follows from the kinds of executables and the lengths of the rows
// alone, not from how many goroutines run them.
func TestCompilationsFollowFromShapes(t *testing.T) {
	g := openGolden(t, filepath.Join("testdata", "golden-small"))
	compilations := func(workers int, cases []Case) int {
		m := g.method(t, dtypes.Float32)
		for range 2 {
			if _, err := m.Predict(t.Context(), cases, Pace{Workers: workers, MicroBatch: 1}, nil); err != nil {
				t.Fatal(err)
			}
		}
		return m.Engine.Ledger().Compilations
	}
	one := compilations(1, g.cases[:1])
	if got := compilations(4, []Case{g.cases[0], g.cases[0], g.cases[0], g.cases[0]}); got != one {
		t.Errorf("four equal rows on four goroutines compile %d executables, one row %d", got, one)
	}
	all := compilations(1, g.cases)
	if got := compilations(3, g.cases); got != all {
		t.Errorf("all rows on three goroutines compile %d executables, on one %d", got, all)
	}
	if all < one {
		t.Errorf("all rows compile %d executables, the first of them %d", all, one)
	}
}
