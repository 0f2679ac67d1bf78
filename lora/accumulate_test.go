package lora

import (
	"slices"
	"testing"
)

func TestAccumulator(t *testing.T) {
	tensors := []Tensor{{Name: "p", Value: make([]float32, 2)}, {Name: "q", Value: make([]float32, 1)}}
	a := NewAccumulator(tensors)
	for round, want := range [][]float32{{1.5, -1}, {10, 20}, {30, 40}} {
		batches := [][][]float32{{{1, -1}, {1e8}}, {{0.5, 0}, {1}}, {nil, {-1e8}}}
		if round > 0 {
			batches = [][][]float32{{want, {1}}}
		}
		for _, b := range batches {
			if err := a.Add(b); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Take(tensors); err != nil {
			t.Fatal(err)
		}
		if round == 1 { // an update that is given up: round 1 begins with what Take left, round 2 with what Reset did
			if err := a.Add([][]float32{{7, 7}, {7}}); err != nil {
				t.Fatal(err)
			}
			a.Reset()
		}
		// A float32 sum of 1e8 + 1 - 1e8 would be 0.
		if !slices.Equal(tensors[0].Grad, want) || !slices.Equal(tensors[1].Grad, []float32{1}) {
			t.Errorf("round %d: got %v and %v, want %v and [1]", round, tensors[0].Grad, tensors[1].Grad, want)
		}
	}
}

func TestAccumulatorRefuses(t *testing.T) {
	tensors := []Tensor{{Name: "p", Value: make([]float32, 1)}, {Name: "q", Value: make([]float32, 1)}}
	a := NewAccumulator(tensors)
	wantError(t, a.Add([][]float32{{1}}), "1 gradients, want 2")
	wantError(t, a.Add([][]float32{{1}, {1, 2}}), "gradient of q", "2 values, want 1")
	wantError(t, a.Take(tensors[:1]), "1 tensors, want 2")
	wantError(t, a.Take([]Tensor{tensors[1], tensors[0]}), "is q", "want p")
	if err := a.Take(tensors); err != nil || tensors[0].Grad[0] != 0 {
		t.Errorf("after refusals: got %v, %v; want a zero gradient", tensors[0].Grad, err)
	}
}
