package lora

import (
	"fmt"
	"math"
	"slices"

	"gotransplant/internal/spelling"
)

// Schedule gives the learning rate of each step: a linear warm-up to Peak, then constant, or down to 0 at step Total.
type Schedule struct {
	Kind   string // "constant", "linear" or "cosine"
	Warmup int    // steps; step s of them has Peak * s/Warmup
	Total  int    // steps; not used by "constant"
	Peak   float64
}

// Validate checks the fields against each other. Its errors name the flags of the programs that train.
func (s Schedule) Validate() error {
	kinds := []string{"constant", "linear", "cosine"}
	switch {
	case !slices.Contains(kinds, s.Kind):
		return fmt.Errorf("--schedule %s", spelling.Unknown(s.Kind, kinds...))
	case s.Warmup < 0:
		return fmt.Errorf("--warmup %d: it must be 0 or more", s.Warmup)
	case s.Kind != "constant" && s.Total <= s.Warmup:
		return fmt.Errorf("--warmup %d of %d steps leaves --schedule %s with nothing left to decay over: take a --warmup of at most %[2]d, "+
			"more steps, or --schedule constant", s.Warmup, s.Total-1, s.Kind) // the rate is 0 at Total, which is no step
	case !(s.Peak >= 0) || math.IsInf(s.Peak, 0):
		return fmt.Errorf("--lr %v: it must be a finite number of 0 or more", s.Peak)
	}
	return nil
}

// LR is the learning rate of a step, counted from 1. A decaying schedule is zero at step Total and after it.
func (s Schedule) LR(step int) float64 {
	if step <= s.Warmup {
		return s.Peak * float64(step) / float64(s.Warmup)
	}
	if s.Kind == "constant" {
		return s.Peak
	}
	done := min(1, float64(step-s.Warmup)/float64(s.Total-s.Warmup))
	if s.Kind == "linear" {
		return s.Peak * (1 - done)
	}
	return s.Peak * (1 + math.Cos(math.Pi*done)) / 2
}
