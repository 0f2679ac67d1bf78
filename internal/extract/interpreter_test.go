//go:build cgo

package extract

import (
	"errors"
	"math"
	"slices"
	"testing"

	"gotransplant/internal/interpreter"
	"gotransplant/internal/setup"
	"gotransplant/internal/states"
)

// TestOnDevice runs what a GPU would be given: several texts of a length at a time, in fewer calls, with the states that the host
// computes and, whatever else is read, the same bits.
func TestOnDevice(t *testing.T) {
	plugin, err := interpreter.Build(t.Context(), t.TempDir(), "interpreter")
	if errors.Is(err, interpreter.ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := texts(2, 3, 4, 5, 6)
	run := func(text string, tokens int) (*states.Set, []states.Row, interpreter.Counts) {
		backend, err := interpreter.Open(plugin)
		if err != nil {
			t.Fatal(err)
		}
		defer backend.Finalize()
		x, err := Open(t.Context(), small(func(o *Options) {
			o.Text, o.Backend, o.Kernels, o.Sites, o.Workers, o.BatchTokens = write(t, text), "xla:"+plugin, "graphs", "resid_post,k,logits", 1, tokens
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		p, err := x.Plan(t.Context())
		if err == nil {
			err = x.Load(backend)
		}
		if err == nil {
			err = x.PlanMemory(p, setup.Capacity{})
		}
		if err != nil {
			t.Fatal(err)
		}
		s, rows := ran(t, x, p)
		counts, err := interpreter.CountsOf(backend)
		if err != nil {
			t.Fatal(err)
		}
		return s, rows, counts
	}
	host, want := extracted(t, small(func(o *Options) { o.Text, o.Sites = write(t, lines), "resid_post,k,logits" }))
	alone, _, one := run(lines, 1)
	together, rows, four := run(lines, 32)
	_, _, first := run(texts(2), 32)
	for i, row := range rows {
		for _, tensor := range host.Tensors {
			reference := values(t, host, want[i], tensor.Name)
			for name, s := range map[string]*states.Set{"alone": alone, "together": together} {
				for j, v := range values(t, s, row, tensor.Name) {
					if d := math.Abs(v - reference[j]); !(d <= 1e-4) {
						t.Fatalf("row %d, %s, %s: %v, want %v", i, name, tensor.Name, v, reference[j])
					}
				}
			}
		}
	}
	// Five texts go in two batches of four, and a batch of one is as many calls as a batch of four.
	calls := first.Calls
	if one.Programs != four.Programs || four.Calls >= one.Calls || four.Calls > 2*calls {
		t.Errorf("alone %+v, together %+v, one text %+v: want as many programs, and two batches' calls", one, four, first)
	}
	last, row, _ := run(texts(2, 2, 2, 2, 6)[len(texts(2, 2, 2, 2)):], 32)
	for _, tensor := range last.Tensors {
		if got, want := values(t, last, row[0], tensor.Name), values(t, together, rows[4], tensor.Name); !slices.Equal(got, want) {
			t.Errorf("%s: other bits alone than among others", tensor.Name)
		}
	}
}
