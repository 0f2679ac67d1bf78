package wordproblem

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"slices"
	"testing"
)

func TestRowsCounts(t *testing.T) {
	for _, n := range []int{1, 5, 100, 1280} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := Summarize(Rows(n, 3))
			if s.Rows != n || s.ThirdWriterRight != n*60/100 || s.Swapped != n/2 {
				t.Errorf("got %d rows, third writer right in %d, swapped %d; want %d, %d, %d",
					s.Rows, s.ThirdWriterRight, s.Swapped, n, n*60/100, n/2)
			}
			if s.Errors[NoError] != 0 {
				t.Errorf("%d incorrect arguments without an error", s.Errors[NoError])
			}
		})
	}
}

// Ensure that the third writer's choice, the order and the error tell nothing about each other.
func TestRowsAreNotAligned(t *testing.T) {
	rows := Rows(1280, 1)
	both, firstChosen := 0, 0
	for _, row := range rows {
		if row.Swapped && row.Choice == row.Label() {
			both++
		}
		if row.Choice == 1 {
			firstChosen++
		}
	}
	if both < 340 || both > 430 {
		t.Errorf("swapped and third writer right in %d of 1280, want about 384", both)
	}
	if firstChosen < 570 || firstChosen > 710 {
		t.Errorf("third writer chose candidate 1 in %d of 1280, want about half", firstChosen)
	}
}

// Ensure that no question comes twice, so that no split can hold one on both sides, and that pre-training misses all.
func TestRowsQuestions(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range Rows(1280, 1) {
		if seen[row.Question] {
			t.Errorf("question %q comes twice", row.Question)
		}
		seen[row.Question] = true
		if !InDataSet(row.Question) {
			t.Errorf("question %q is not kept from the pre-training", row.Question)
		}
	}
}

// Ensure that the arguments of a row are right and wrong by their text.
func TestRowsArguments(t *testing.T) {
	for i, row := range Rows(1280, 1) {
		if got := faults(t, row.Question, row.Correct.Text); got != nil {
			t.Errorf("row %d: correct argument %q has the faults %v", i+1, row.Correct.Text, got)
		}
		want := []Error{row.Incorrect.Error}
		if got := faults(t, row.Question, row.Incorrect.Text); !slices.Equal(got, want) {
			t.Errorf("row %d: incorrect argument %q has the faults %v, want %v", i+1, row.Incorrect.Text, got, want)
		}
	}
}

func TestWriteCSV(t *testing.T) {
	rows := []Row{{
		Question: "Q?", Correct: Argument{Text: "a, b.", Answer: 3}, Incorrect: Argument{Text: "c.", Answer: 4},
		Choice: 2, ChoiceArgument: "I believe candidate 2.", Swapped: true,
	}}
	var b bytes.Buffer
	if err := WriteCSV(&b, rows); err != nil {
		t.Fatal(err)
	}
	got, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Q?", "3.0", "a, b.", "4.0", "c.", "candidate_2", "I believe candidate 2.", "True"}
	if len(got) != 2 || !slices.Equal(got[0], Header) || !slices.Equal(got[1], want) {
		t.Errorf("got %q, want the header and %q", got, want)
	}
}

func TestWriteCSVIsDeterministic(t *testing.T) {
	write := func(seed uint64) string {
		var b bytes.Buffer
		if err := WriteCSV(&b, Rows(50, seed)); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	first := write(1)
	if write(1) != first {
		t.Error("the same seed gave two data sets")
	}
	if write(2) == first {
		t.Error("two seeds gave the same data set")
	}
}
