package lora

import "fmt"

// Accumulator sums the gradients of micro-batches. Sums are kept in float64 and rounded once, so k micro-batches give
// what their one batch gives up to the rounding of each gradient; the order of Add fixes the result bit for bit. It is
// not safe for concurrent use: add in the order of the rows, whatever order they were finished in.
type Accumulator struct {
	names []string
	sums  [][]float64
	added bool // since they were zeros
}

// NewAccumulator makes an empty sum for gradients of the shapes of tensors' values.
func NewAccumulator(tensors []Tensor) *Accumulator {
	a := &Accumulator{}
	for _, t := range tensors {
		a.names = append(a.names, t.Name)
		a.sums = append(a.sums, make([]float64, len(t.Value)))
	}
	return a
}

// Reset forgets what was added.
func (a *Accumulator) Reset() {
	if !a.added {
		return
	}
	a.added = false
	for _, s := range a.sums {
		clear(s)
	}
}

// Add adds one gradient per tensor, in the order given to [NewAccumulator]; nil stands for zeros. The caller has put
// the weight of the micro-batch, such as 1/rows, into its loss. On an error nothing is added.
func (a *Accumulator) Add(grads [][]float32) error {
	if len(grads) != len(a.sums) {
		return fmt.Errorf("accumulate: %d gradients, want %d", len(grads), len(a.sums))
	}
	for i, g := range grads {
		if g != nil && len(g) != len(a.sums[i]) {
			return fmt.Errorf("accumulate: gradient of %s has %d values, want %d", a.names[i], len(g), len(a.sums[i]))
		}
	}
	a.added = true
	for i, g := range grads {
		for j, v := range g {
			a.sums[i][j] += float64(v)
		}
	}
	return nil
}

// Take writes the sums into the Grad of tensors, which are those of [NewAccumulator], and starts again from zero. A
// nil Grad is allocated.
func (a *Accumulator) Take(tensors []Tensor) error {
	if len(tensors) != len(a.sums) {
		return fmt.Errorf("accumulate: %d tensors, want %d", len(tensors), len(a.sums))
	}
	for i := range tensors {
		t := &tensors[i]
		if t.Name != a.names[i] || len(t.Value) != len(a.sums[i]) {
			return fmt.Errorf("accumulate: tensor %d is %s with %d values, want %s with %d",
				i, t.Name, len(t.Value), a.names[i], len(a.sums[i]))
		}
		if len(t.Grad) != len(t.Value) {
			t.Grad = make([]float32, len(t.Value))
		}
		for j, v := range a.sums[i] {
			t.Grad[j] = float32(v)
		}
		clear(a.sums[i])
	}
	a.added = false
	return nil
}
