package setup

import (
	"context"
	"fmt"
	"strings"

	"gotransplant/internal/spelling"
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
	if err == nil && len(test) == 0 {
		err = fmt.Errorf("%s: raise it, or leave it out to score every row", o.noneHeldOut())
	}
	return test, err
}

// noneHeldOut says that no row is, where some should be.
func (o *Session) noneHeldOut() string {
	tooLong := ""
	if len(o.TooLong) > 0 {
		tooLong = fmt.Sprintf(", %d of them too long,", len(o.TooLong))
	}
	return fmt.Sprintf("--test-fraction %v of %d rows%s holds out none", o.TestFraction, len(o.Rows.Rows), tooLong)
}

// SummaryFile holds the report of an evaluation.
const SummaryFile = "summary.json"

// condition is a way in which the cases are scored.
type condition struct {
	name  string
	reads bool // the chooser reads the arguments itself, although the settings do not say so
	as    Arrangement
}

// conditions are the one that the settings ask for and the controls beside it.
func (o *Session) conditions(c Controls) []condition {
	main := condition{name: "transplant", as: Arrangement{OtherRow: c.MainOtherRow}}
	switch {
	case o.NoTransplant:
		main.name = "no transplant"
	case c.MainOtherRow:
		main.name = "donor other-row"
	}
	all := []condition{main}
	if c.FlipOrder {
		all = append(all, condition{name: flipOrder, as: Arrangement{Flip: true, OtherRow: c.MainOtherRow}})
	}
	if c.OtherRow && !o.NoTransplant {
		all = append(all, condition{name: "donor other-row", as: Arrangement{OtherRow: true}})
	}
	if c.NoTransplant && !o.NoTransplant {
		all = append(all, condition{name: "no transplant", reads: true})
	}
	return all
}

// flipOrder is the condition in which the candidates stand in the other order.
const flipOrder = "flip order"

// arrange are the cases as a condition has them, and those too long for it.
func (o *Session) arrange(cases []transplant.Case, c condition) (out []transplant.Case, tooLong []int, err error) {
	if c.as == (Arrangement{}) {
		return cases, nil, nil
	}
	if out, tooLong, err = o.Arranged(cases, c.as, o.Seed); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", c.name, err)
	}
	return out, tooLong, nil
}

// ready are the method that scores a condition, the condition's cases, and the rows that are too long under it.
func (o *Session) ready(c condition, scored []transplant.Case) (m *transplant.Method, cases []transplant.Case, tooLong []int, err error) {
	if cases, tooLong, err = o.arrange(scored, c); err != nil {
		return nil, nil, nil, err
	}
	m = o.under(c)
	if c.reads {
		m.Buckets = m.PlanBuckets(cases, o.Buckets) // the chooser's rows are longer, and no one else's there
	}
	return m, cases, tooLong, nil
}

// under is the method that scores a condition.
func (o *Session) under(c condition) *transplant.Method {
	if !c.reads {
		return o.Method
	}
	reads := *o.Method
	reads.NoTransplant = true
	return &reads
}

// Evaluate scores the cases as the settings say and then under each control.
func (o *Session) Evaluate(ctx context.Context, c Controls, progress func(what string, done, total int)) (*Report, error) {
	all, err := o.Scored()
	if err != nil {
		return nil, err
	}
	report := &Report{Data: DataSummary{o.Counts.Rows, o.Counts.ArgumentRate(), o.Counts.SwappedRate(), len(all),
		o.TooLong, o.SpecialsInData}}
	for _, condition := range o.conditions(c) {
		method, cases, tooLong, err := o.ready(condition, all)
		if err != nil {
			return nil, err
		}
		predictions, err := method.Predict(ctx, cases, o.Pace, func(done int) { progress(condition.name, done, len(cases)) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", condition.name, err)
		}
		report.Conditions = append(report.Conditions, Condition{condition.name, transplant.Summarize(predictions), tooLong, predictions})
		if condition.name == flipOrder {
			report.Flip = compareOrders(report.Conditions[0].Predictions, predictions)
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
			fmt.Fprintf(&b, "%s: %s left out, too long under it: %s\n", c.Name, spelling.Count(len(c.TooLong), "row"),
				transplant.ListRows(c.TooLong))
		}
	}
	if r.Flip != nil {
		fmt.Fprintf(&b, "in both orders: the same argument chosen in %s of the rows, the same position in %s, right both times in %s\n",
			r.Flip.SameArgument.String(), r.Flip.SamePosition.String(), r.Flip.BothRight.String())
	}
	return b.String()
}
