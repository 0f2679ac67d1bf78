package lora

import (
	"math"
	"testing"
)

func TestScheduleLR(t *testing.T) {
	half := math.Sqrt2 / 2
	for _, c := range []struct {
		name string
		s    Schedule
		want []float64 // at steps 1, 2, ...
	}{
		{"constant", Schedule{Kind: "constant", Peak: 3}, []float64{3, 3, 3}},
		{"constant with warm-up", Schedule{Kind: "constant", Warmup: 2, Peak: 3}, []float64{1.5, 3, 3}},
		{"linear", Schedule{Kind: "linear", Total: 4, Peak: 4}, []float64{3, 2, 1, 0, 0}},
		{"linear with warm-up", Schedule{Kind: "linear", Warmup: 2, Total: 4, Peak: 4}, []float64{2, 4, 2, 0, 0}},
		{"cosine", Schedule{Kind: "cosine", Total: 4, Peak: 2}, []float64{1 + half, 1, 1 - half, 0, 0}},
		{"cosine with warm-up", Schedule{Kind: "cosine", Warmup: 1, Total: 3, Peak: 2}, []float64{2, 1, 0, 0}},
	} {
		if err := c.s.Validate(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		for i, want := range c.want {
			if got := c.s.LR(i + 1); math.Abs(got-want) > 1e-15 {
				t.Errorf("%s, step %d: got %v, want %v", c.name, i+1, got, want)
			}
		}
	}
	if got := (Schedule{Kind: "constant", Peak: 3e-4}).LR(7); got != 3e-4 {
		t.Errorf("constant: got %v, want exactly the peak 3e-4", got)
	}
}

func TestScheduleValidate(t *testing.T) {
	for _, c := range []struct {
		s    Schedule
		part string
	}{
		{Schedule{Kind: "step"}, "--schedule step"},
		{Schedule{Kind: "constant", Warmup: -1}, "--warmup -1"},
		{Schedule{Kind: "linear", Warmup: 5, Total: 5}, "--warmup 5 of 4 steps leaves --schedule linear with nothing left to decay over: take a --warmup of at most 4"},
		{Schedule{Kind: "constant", Peak: -1}, "--lr -1"},
		{Schedule{Kind: "constant", Peak: math.NaN()}, "--lr NaN"},
		{Schedule{Kind: "constant", Peak: math.Inf(1)}, "--lr +Inf"},
	} {
		wantError(t, c.s.Validate(), c.part)
	}
}
