package transplant

import (
	"fmt"

	"gotransplant/data"
)

// Reader makes cases of rows: it renders both templates and encodes them.
type Reader struct {
	Argue, Choose *data.Template
	Encoder       data.Encoder
	MaskChoice    bool // hide in the third writer's argument which candidate it is for
}

// Case renders and encodes one row; number is its place in the file, 1 for the first. The states that are moved come
// from donor's two arguments in donor's order: the row itself, or another one for the control in which the arguments
// have nothing to do with the answer.
func (r Reader) Case(number int, row, donor data.Row) (c Case, specialsInData int, err error) {
	c = Case{Row: number, Label: row.Label(), ArgumentCorrect: row.ArgumentCorrect()}
	if r.MaskChoice {
		row = row.Mask()
	}
	// The chooser's own text at the candidates' places is overwritten anyway; donor's makes the ranges equally long.
	row.CorrectArgument, row.IncorrectArgument = donor.Candidate(row.Label()), donor.Candidate(3-row.Label())
	prompt, err := r.Choose.Choose(row)
	if err != nil {
		return c, 0, err
	}
	choose := data.Encode(prompt, r.Encoder)
	specialsInData = choose.SpecialsInData
	c.Choose = choose.IDs
	for i, fence := range []string{data.Candidate1, data.Candidate2} {
		c.Spans[i] = choose.Spans[fence]
		prompt, err := r.Argue.Argue(donor, i+1)
		if err != nil {
			return c, 0, err
		}
		argue := data.Encode(prompt, r.Encoder)
		specialsInData += argue.SpecialsInData
		c.Argue[i] = Passage{argue.IDs, argue.Spans[data.Argument]}
	}
	if err := c.Check(); err != nil {
		return c, 0, fmt.Errorf("line %d, %w", row.Line, err)
	}
	return c, specialsInData, nil
}

// Labels are the tokens that answer 1 and 2 after the chooser's prompt for a row.
func (r Reader) Labels(row data.Row) ([2]int32, error) {
	if r.MaskChoice {
		row = row.Mask()
	}
	prompt, err := r.Choose.Choose(row)
	if err != nil {
		return [2]int32{}, err
	}
	labels, err := data.LabelIDs(prompt, r.Encoder)
	if err != nil {
		return labels, fmt.Errorf("row at line %d: %w", row.Line, err)
	}
	return labels, nil
}

// Longest is the length of the case's longest prompt, which must fit the model's context.
func (c Case) Longest() int { return max(len(c.Argue[0].IDs), len(c.Argue[1].IDs), len(c.Choose)) }
