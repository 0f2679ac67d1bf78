package data

import (
	"regexp"
	"testing"
)

// revealing finds a number that still follows the word.
var revealing = regexp.MustCompile(`(?i)candidates?(?:'s)?[\s#:]*_?\d`)

func TestMentions(t *testing.T) {
	for _, c := range []struct{ text, masked, flipped string }{
		{"Candidate 1 is right.", "Candidate _ is right.", "Candidate 2 is right."},
		{"candidate_2", "candidate__", "candidate_1"},
		{"Candidate 1's sum, CANDIDATE 2's", "Candidate _'s sum, CANDIDATE _'s", "Candidate 2's sum, CANDIDATE 1's"},
		{"Both candidates 1 and 2 err", "Both candidates _ and _ err", "Both candidates 2 and 1 err"},
		{"candidates 2, or 1.", "candidates _, or _.", "candidates 1, or 2."},
		{"Candidate 1/2", "Candidate _/_", "Candidate 2/1"},
		{"Candidate #1", "Candidate #_", "Candidate #2"}, {"candidate number 2", "candidate number _", "candidate number 1"},
		{"Candidate No. 2", "Candidate No. _", "Candidate No. 1"}, {"candidate (1)", "candidate (_)", "candidate (2)"},
		{"Candidate\n2", "Candidate\n_", "Candidate\n1"}, {"candidate1", "candidate_", "candidate2"},
		{"Candidate one, candidate Two", "Candidate _, candidate _", "Candidate two, candidate One"},
		{"the first candidate", "the _ candidate", "the second candidate"},
		{"The First and the second candidates", "The _ and the _ candidates", "The Second and the first candidates"},
		{"the 2nd argument", "the _ argument", "the 1st argument"},
		{"the latter candidate", "the _ candidate", "the former candidate"},
		{"Candidate 1 adds 1 and 2", "Candidate _ adds 1 and 2", "Candidate 2 adds 1 and 2"},
		{"Candidate 1, 2 x 3", "Candidate _, 2 x 3", "Candidate 2, 2 x 3"},
		{"the first night, candidates agree on 12", "the first night, candidates agree on 12",
			"the first night, candidates agree on 12"},
		{"candidate oneself", "candidate oneself", "candidate oneself"},
		{"candidate 3", "candidate _", "candidate 3"},
		{"", "", ""},
	} {
		if got := MaskChoice(c.text); got != c.masked {
			t.Errorf("mask %q: got %q, want %q", c.text, got, c.masked)
		}
		if got := renumber(c.text); got != c.flipped {
			t.Errorf("renumber %q: got %q, want %q", c.text, got, c.flipped)
		}
	}
}

func TestRowRoles(t *testing.T) {
	r := Row{CorrectArgument: "right", IncorrectArgument: "wrong", Choice: "candidate_1", ChoiceArgument: "Candidate 1!"}
	for _, c := range []struct {
		name          string
		row           Row
		label         int
		first, second string
		correct       bool
		argument      string
	}{
		{"in order", r, 1, "right", "wrong", true, "Candidate 1!"},
		{"flipped", r.Flip(), 2, "wrong", "right", true, "Candidate 2!"},
		{"swapped", Row{CorrectArgument: "right", IncorrectArgument: "wrong", Choice: "candidate_1", Swapped: true},
			2, "wrong", "right", false, ""},
		{"masked", r.Mask(), 1, "right", "wrong", true, "Candidate _!"},
	} {
		got := c.row
		if got.Label() != c.label || got.Candidate(1) != c.first || got.Candidate(2) != c.second ||
			got.ArgumentCorrect() != c.correct || got.ChoiceArgument != c.argument {
			t.Errorf("%s: got label %d, candidates %q %q, argument correct %v, %q; want %d, %q %q, %v, %q", c.name,
				got.Label(), got.Candidate(1), got.Candidate(2), got.ArgumentCorrect(), got.ChoiceArgument,
				c.label, c.first, c.second, c.correct, c.argument)
		}
	}
	rows := []Row{r, r.Flip(), {Choice: "candidate_2"}, {Choice: "candidate_1"}}
	got, want := Count(rows), Counts{4, 3, 1, 2}
	if got != want || got.ArgumentRate() != 0.75 || got.SwappedRate() != 0.25 {
		t.Errorf("got %+v with rates %v and %v, want %+v, 0.75, 0.25", got, got.ArgumentRate(), got.SwappedRate(), want)
	}
	if got := Count(nil).ArgumentRate(); got != 0 {
		t.Errorf("rate of no rows: got %v, want 0", got)
	}
}
