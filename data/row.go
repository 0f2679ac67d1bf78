package data

import (
	"fmt"
	"strings"
)

// Row is one row of the data set. Candidate 1 is the correct argument unless Swapped.
type Row struct {
	Line                           int // in the file, where the row begins
	Question                       string
	CorrectAnswer, CorrectArgument string
	IncorrectAnswer                string
	IncorrectArgument              string
	Choice                         string // the third writer's choice: "candidate_1" or "candidate_2"
	ChoiceArgument                 string // what the third writer wrote for it
	Swapped                        bool
}

// Label is the candidate that is right: 2 if the row is swapped, else 1.
func (r Row) Label() int {
	if r.Swapped {
		return 2
	}
	return 1
}

// Candidate is the argument that stands as candidate n, 1 or 2.
func (r Row) Candidate(n int) string {
	if n == r.Label() {
		return r.CorrectArgument
	}
	return r.IncorrectArgument
}

// ArgumentCorrect says whether the third writer chose the candidate that is right.
func (r Row) ArgumentCorrect() bool { return r.Choice == fmt.Sprintf("candidate_%d", r.Label()) }

// Flip is the same row with the candidates in the other order, renumbered in the third writer's choice and argument.
func (r Row) Flip() Row {
	r.Swapped = !r.Swapped
	r.Choice = renumber(r.Choice)
	r.ChoiceArgument = renumber(r.ChoiceArgument)
	return r
}

// Mask is the row with the third writer's choice hidden in its argument, see [MaskChoice].
func (r Row) Mask() Row {
	r.ChoiceArgument = MaskChoice(r.ChoiceArgument)
	return r
}

// Counts are the base rates of a data set.
type Counts struct {
	Rows            int
	ArgumentCorrect int // the third writer chose the right candidate
	Swapped         int // the right candidate is the second
	ChoseFirst      int // the third writer chose candidate 1
}

// Count counts rows.
func Count(rows []Row) Counts {
	c := Counts{Rows: len(rows)}
	for _, r := range rows {
		if r.ArgumentCorrect() {
			c.ArgumentCorrect++
		}
		if r.Swapped {
			c.Swapped++
		}
		if strings.HasSuffix(r.Choice, "1") {
			c.ChoseFirst++
		}
	}
	return c
}

// ArgumentRate is the fraction of rows in which the third writer is right, 0 without rows.
func (c Counts) ArgumentRate() float64 { return rate(c.ArgumentCorrect, c.Rows) }

// SwappedRate is the fraction of rows whose right candidate is the second, 0 without rows. Always choosing one
// candidate is right in this fraction of the rows, or in the rest.
func (c Counts) SwappedRate() float64 { return rate(c.Swapped, c.Rows) }

func rate(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}
