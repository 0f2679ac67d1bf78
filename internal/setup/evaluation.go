package setup

import (
	"context"
	"fmt"
	"strings"

	"gotransplant/transplant"
)

// Controls are conditions under which the same cases are scored again.
type Controls struct {
	MainOtherRow bool // the first condition itself moves another row's states
	NoTransplant bool // the chooser reads the arguments itself
	OtherRow     bool // the moved states come from another row's arguments
	FlipOrder    bool // the candidates stand in the other order
}

// Condition is the summary of the cases scored in one way.
type Condition struct {
	Name        string                  `json:"name"`
	Summary     transplant.Summary      `json:"summary"`
	TooLong     []int                   `json:"rows_skipped_too_long,omitempty"` // under this control alone
	Predictions []transplant.Prediction `json:"-"`
}

// FlipSummary compares each case's choice with its choice when the candidates stand in the other order.
type FlipSummary struct {
	// SameArgument is how often the same argument was chosen in both orders, SamePosition how often the same position.
	SameArgument transplant.Fraction `json:"same_argument"`
	SamePosition transplant.Fraction `json:"same_position"`
	BothRight    transplant.Fraction `json:"both_right"`
}

// Report is what an evaluation found: the condition asked for first, then the controls.
type Report struct {
	Data       DataSummary  `json:"data"`
	Conditions []Condition  `json:"conditions"`
	Flip       *FlipSummary `json:"flip_order,omitempty"`
}

// DataSummary are the counts and base rates of the scored file.
type DataSummary struct {
	Rows            int     `json:"rows"`
	ArgumentCorrect float64 `json:"argument_correct_rate"`
	Swapped         float64 `json:"swapped_rate"`
	Scored          int     `json:"rows_scored"`
	TooLong         []int   `json:"rows_skipped_too_long"`
	SpecialsInData  int     `json:"special_tokens_in_data"`
}

// Scored are the cases an evaluation scores: all, or those that a training run with the same seed and fraction held out.
func (o *Session) Scored() ([]transplant.Case, error) {
	if o.TestFraction == 0 {
		return o.Cases, nil
	}
	_, test, err := o.Rows.Split(o.Settings)
	return test, err
}

// Evaluate scores the cases as the settings say and then under each control.
func (o *Session) Evaluate(ctx context.Context, c Controls, progress func(what string, done, total int)) (*Report, error) {
	cases, err := o.Scored()
	if err != nil {
		return nil, err
	}
	report := &Report{Data: DataSummary{o.Counts.Rows, o.Counts.ArgumentRate(), o.Counts.SwappedRate(), len(cases),
		o.TooLong, o.SpecialsInData}}
	score := func(name string, m *transplant.Method, a Arrangement) error {
		cases, tooLong := cases, []int(nil)
		if a != (Arrangement{}) {
			if cases, tooLong, err = o.Arranged(cases, a, o.Seed); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		predictions, err := m.Predict(ctx, cases, o.Pace, func(done int) { progress(name, done, len(cases)) })
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		report.Conditions = append(report.Conditions, Condition{name, transplant.Summarize(predictions), tooLong, predictions})
		return nil
	}
	main, as := "transplant", Arrangement{OtherRow: c.MainOtherRow}
	switch {
	case o.NoTransplant:
		main = "no transplant"
	case c.MainOtherRow:
		main = "donor other-row"
	}
	if err := score(main, o.Method, as); err != nil {
		return nil, err
	}
	if c.FlipOrder {
		if err := score("flip order", o.Method, Arrangement{Flip: true, OtherRow: c.MainOtherRow}); err != nil {
			return nil, err
		}
		report.Flip = compareOrders(report.Conditions[0].Predictions, report.Conditions[1].Predictions)
	}
	if c.OtherRow && !o.NoTransplant {
		if err := score("donor other-row", o.Method, Arrangement{OtherRow: true}); err != nil {
			return nil, err
		}
	}
	if c.NoTransplant && !o.NoTransplant {
		reads := *o.Method
		reads.NoTransplant = true
		reads.Buckets = reads.PlanBuckets(cases, o.Buckets) // the chooser's rows are longer, and no one else's there
		if err := score("no transplant", &reads, Arrangement{}); err != nil {
			return nil, err
		}
	}
	return report, nil
}

func compareOrders(as, flipped []transplant.Prediction) *FlipSummary {
	var f FlipSummary
	other := make(map[int]transplant.Prediction)
	for _, p := range flipped {
		other[p.Row] = p
	}
	for _, p := range as {
		q, ok := other[p.Row]
		if !ok { // too long in the other order
			continue
		}
		f.SamePosition.Add(p.Choice() == q.Choice())
		f.SameArgument.Add(p.Choice() != q.Choice())
		f.BothRight.Add(p.Correct && q.Correct)
	}
	return &f
}

// Table is the report for people: one line a figure, one column a condition.
func (r *Report) Table() string {
	var b strings.Builder
	line := func(name string, value func(s transplant.Summary) string) {
		fmt.Fprintf(&b, "%-34s", name)
		for _, c := range r.Conditions {
			fmt.Fprintf(&b, "  %-26s", value(c.Summary))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%-34s", "")
	for _, c := range r.Conditions {
		fmt.Fprintf(&b, "  %-26s", c.Name)
	}
	b.WriteString("\n")
	line("rows", func(s transplant.Summary) string { return fmt.Sprint(s.Rows) })
	line("fraction correct f_c", func(s transplant.Summary) string { return s.FractionCorrect.String() })
	line("f_c | third writer right", func(s transplant.Summary) string { return s.CorrectWhenArgumentCorrect.String() })
	line("f_c | third writer wrong", func(s transplant.Summary) string { return s.CorrectWhenArgumentIncorrect.String() })
	line("mean |P(1)-P(2)| when correct", func(s transplant.Summary) string { return fmt.Sprintf("%.3f", s.ConfidenceWhenCorrect.Value()) })
	line("mean |P(1)-P(2)| when incorrect", func(s transplant.Summary) string { return fmt.Sprintf("%.3f", s.ConfidenceWhenIncorrect.Value()) })
	line("loss", func(s transplant.Summary) string { return fmt.Sprintf("%.4f", s.Loss.Value()) })
	line("third writer right", func(s transplant.Summary) string { return s.ArgumentCorrect.String() })
	line("candidate 1 right", func(s transplant.Summary) string { return fmt.Sprintf("%.3f", s.Candidate1Right.Value()) })
	line("candidate 1 chosen", func(s transplant.Summary) string { return fmt.Sprintf("%.3f", s.Candidate1Chosen.Value()) })
	for _, c := range r.Conditions {
		if len(c.TooLong) > 0 {
			fmt.Fprintf(&b, "%s: %d rows left out, which are too long under it: %s\n", c.Name, len(c.TooLong), some(c.TooLong))
		}
	}
	if r.Flip != nil {
		fmt.Fprintf(&b, "in both orders: the same argument chosen in %s of the rows, the same position in %s, right both times in %s\n",
			r.Flip.SameArgument.String(), r.Flip.SamePosition.String(), r.Flip.BothRight.String())
	}
	return b.String()
}
