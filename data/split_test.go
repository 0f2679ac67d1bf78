package data

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

func TestSplitSizes(t *testing.T) {
	for _, c := range []struct {
		n        int
		fraction float64
		test     int
	}{{2748, 0.1, 275}, {10, 0, 0}, {10, 0.25, 3}, {10, 0.04, 0}, {6, 0.1, 1}, {0, 0.5, 0}, {2, 0.5, 1}} {
		train, test, err := Split(c.n, c.fraction, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(test) != c.test || len(train) != c.n-c.test || !slices.IsSorted(train) || !slices.IsSorted(test) {
			t.Errorf("%d rows, %v: got %d for training and %d for test, want %d for test, both in order",
				c.n, c.fraction, len(train), len(test), c.test)
		}
		all := slices.Sorted(slices.Values(append(slices.Clone(train), test...)))
		for i, v := range all {
			if v != i {
				t.Fatalf("%d rows, %v: together they hold %v, want each row once", c.n, c.fraction, all)
			}
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	for _, fraction := range []float64{-0.1, 1, math.NaN()} {
		_, _, err := Split(10, fraction, 1)
		wantError(t, err, fmt.Sprint(fraction))
	}
	_, _, err := Split(0, 1, 1) // a fraction that is wrong is so without rows too
	wantError(t, err, "test fraction 1")
	_, _, err = Split(2, 0.9, 1)
	wantError(t, err, "0.9", "2 rows")
}

func TestSplitAndOrderDependOnTheSeed(t *testing.T) {
	split := func(seed uint64) []int { _, test, _ := Split(100, 0.3, seed); return test }
	if !slices.Equal(split(1), split(1)) || slices.Equal(split(1), split(2)) {
		t.Error("the split is not a function of the seed")
	}
	order := func(epoch int, seed uint64) []int { return Order(100, epoch, seed) }
	if !slices.Equal(order(3, 1), order(3, 1)) {
		t.Error("the same epoch and seed give two orders")
	}
	if slices.Equal(order(0, 1), order(1, 1)) || slices.Equal(order(0, 1), order(0, 2)) {
		t.Error("the order ignores the epoch or the seed")
	}
	sorted := slices.Sorted(slices.Values(order(0, 1)))
	if sorted[0] != 0 || sorted[99] != 99 || len(slices.Compact(sorted)) != 100 {
		t.Errorf("the order is not a permutation: %v", sorted)
	}
}

// Run directories hold seeds, so these numbers must never change.
func TestSplitAndOrderAreFixed(t *testing.T) {
	_, test, _ := Split(20, 0.25, 42)
	if got, want := fmt.Sprint(test, Order(8, 2, 42)), "[1 2 5 17 19] [5 4 2 3 6 0 1 7]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
