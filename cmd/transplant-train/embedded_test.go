package main

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"gotransplant/transplant"
)

// TestEmbeddedModelLearns: the README's first command. Without flags the held-out fraction correct begins at chance and
// ends far above the third writer's 0.6.
func TestEmbeddedModelLearns(t *testing.T) {
	if testing.Short() {
		t.Skip("the whole embedded run takes a minute or two; left out by -short")
	}
	dir := filepath.Join(t.TempDir(), "run")
	succeed(t, "--out", dir)
	f, err := os.Open(filepath.Join(dir, transplant.CurveFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	fraction := func(record []string) float64 {
		v, err := strconv.ParseFloat(record[4], 64)
		if err != nil {
			t.Fatalf("fraction_correct %q: %v", record[4], err)
		}
		return v
	}
	points := records[1:]
	if start := fraction(points[0]); start < 0.35 || start > 0.65 {
		t.Errorf("before training the held-out fraction correct is %v, want about 0.5", start)
	}
	if end := fraction(points[len(points)-1]); end < 0.85 {
		t.Errorf("after training the held-out fraction correct is %v, want at least 0.85; the curve:\n%v", end, points)
	}
}
