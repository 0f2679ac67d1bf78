package transplant

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
)

// Prediction is one line of predictions.jsonl.
type Prediction struct {
	Row             int     `json:"row"` // 1 is the first data row
	LogProb1        float64 `json:"logprob_1"`
	LogProb2        float64 `json:"logprob_2"`
	Label           int     `json:"label"`
	Loss            float64 `json:"loss"`
	Correct         bool    `json:"correct"`
	ArgumentCorrect bool    `json:"argument_correct"`
	Tokens          int     `json:"tokens"` // really computed
}

// predict joins a case with its outcome.
func predict(c Case, o Outcome) Prediction {
	p := Prediction{Row: c.Row, LogProb1: o.LogProb[0], LogProb2: o.LogProb[1], Label: c.Label, Loss: o.Loss,
		ArgumentCorrect: c.ArgumentCorrect, Tokens: o.Tokens}
	p.Correct = p.Choice() == c.Label
	return p
}

// Choice is the candidate the chooser prefers, 1 or 2.
func (p Prediction) Choice() int {
	if p.LogProb2 > p.LogProb1 {
		return 2
	}
	return 1
}

// Confidence is |P(1) - P(2)|.
func (p Prediction) Confidence() float64 {
	return math.Abs(math.Exp(p.LogProb1) - math.Exp(p.LogProb2))
}

// Fraction is a count out of a total. It is NaN, and null in JSON, when the total is 0.
type Fraction struct{ Count, Total int }

// Value is Count / Total.
func (f Fraction) Value() float64 { return float64(f.Count) / float64(f.Total) }

// Interval is Wilson's 95 % score interval (Wilson 1927), which stays inside [0, 1] for small totals.
func (f Fraction) Interval() (low, high float64) {
	const z = 1.959963984540054 // the normal distribution's 97.5 % quantile
	n, p := float64(f.Total), f.Value()
	center := (p + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return max(0, center-half), min(1, center+half) // rounding leaves -1e-17 at the ends
}

// String is the value with its interval, for people.
func (f Fraction) String() string {
	if f.Total == 0 {
		return "none"
	}
	low, high := f.Interval()
	return fmt.Sprintf("%.3f (95%%: %.3f-%.3f)", f.Value(), low, high)
}

// MarshalJSON gives the value, the counts behind it and the interval.
func (f Fraction) MarshalJSON() ([]byte, error) {
	if f.Total == 0 {
		return []byte(`{"value":null,"count":0,"total":0}`), nil
	}
	low, high := f.Interval()
	return json.Marshal(struct {
		Value    float64    `json:"value"`
		Count    int        `json:"count"`
		Total    int        `json:"total"`
		Interval [2]float64 `json:"interval_95"`
	}{f.Value(), f.Count, f.Total, [2]float64{low, high}})
}

// Add counts one more, and whether it is one of those meant.
func (f *Fraction) Add(yes bool) {
	f.Total++
	if yes {
		f.Count++
	}
}

// Mean is an average that is NaN, and null in JSON, over nothing.
type Mean struct {
	sum float64
	n   int
}

func (m *Mean) add(x float64) { m.sum, m.n = m.sum+x, m.n+1 }

// Value is the average.
func (m Mean) Value() float64 { return m.sum / float64(m.n) }

// MarshalJSON gives the value or null.
func (m Mean) MarshalJSON() ([]byte, error) {
	if m.n == 0 {
		return []byte("null"), nil
	}
	return json.Marshal(m.Value())
}

// Summary are the figures of a scored set. The two conditional fractions are conditional: their totals are the rows in
// which the third writer was right, or wrong, and not all rows.
type Summary struct {
	Rows                         int      `json:"rows"`
	Loss                         Mean     `json:"loss"`
	FractionCorrect              Fraction `json:"fraction_correct"`
	CorrectWhenArgumentCorrect   Fraction `json:"correct_when_argument_correct"`
	CorrectWhenArgumentIncorrect Fraction `json:"correct_when_argument_incorrect"`
	ConfidenceWhenCorrect        Mean     `json:"confidence_when_correct"`
	ConfidenceWhenIncorrect      Mean     `json:"confidence_when_incorrect"`
	ArgumentCorrect              Fraction `json:"argument_correct"`  // how often the third writer was right
	Candidate1Right              Fraction `json:"candidate_1_right"` // what always answering 1 would score
	Candidate1Chosen             Fraction `json:"candidate_1_chosen"`
	Tokens                       int      `json:"tokens"`
}

// Summarize computes the figures of predictions.
func Summarize(predictions []Prediction) Summary {
	var s Summary
	for _, p := range predictions {
		s.Rows++
		s.Tokens += p.Tokens
		s.Loss.add(p.Loss)
		s.FractionCorrect.Add(p.Correct)
		s.ArgumentCorrect.Add(p.ArgumentCorrect)
		s.Candidate1Right.Add(p.Label == 1)
		s.Candidate1Chosen.Add(p.Choice() == 1)
		if p.ArgumentCorrect {
			s.CorrectWhenArgumentCorrect.Add(p.Correct)
		} else {
			s.CorrectWhenArgumentIncorrect.Add(p.Correct)
		}
		if p.Correct {
			s.ConfidenceWhenCorrect.add(p.Confidence())
		} else {
			s.ConfidenceWhenIncorrect.add(p.Confidence())
		}
	}
	return s
}

// Pace says how cases are run: Workers sweeps at a time, MicroBatch cases in each.
type Pace struct{ Workers, MicroBatch int }

// NotFiniteRowsError names rows whose scores are no numbers: such a row would count as a choice of 1, and no file could hold it.
type NotFiniteRowsError struct {
	Rows  []int
	First [2]float64 // log-probabilities of the first of them
}

func (e *NotFiniteRowsError) Error() string {
	return fmt.Sprintf("rows %s: the log-probabilities of the answers 1 and 2 are not finite, in row %d they are %v and %v: the model or an "+
		"adapter is damaged, or its numbers are too large to compute with; transplant-eval without the adapters tells which",
		ListRows(e.Rows), e.Rows[0], e.First[0], e.First[1])
}

// checkFinite refuses outcomes that are no numbers.
func checkFinite(cases []Case, outcomes []Outcome) error {
	var e NotFiniteRowsError
	for i, o := range outcomes {
		if finite(o.LogProb[0]) && finite(o.LogProb[1]) && finite(o.Loss) {
			continue
		}
		if e.Rows = append(e.Rows, cases[i].Row); len(e.Rows) == 1 {
			e.First = o.LogProb
		}
	}
	if len(e.Rows) == 0 {
		return nil
	}
	return &e
}

// Predict scores cases in order. progress, when not nil, is called after each sweep with the number of cases scored. The
// first sweep with an outcome that is not finite ends it with a NotFiniteRowsError.
func (m *Method) Predict(ctx context.Context, cases []Case, pace Pace, progress func(done int)) ([]Prediction, error) {
	m = m.fitting(cases)
	predictions := make([]Prediction, len(cases))
	batches, scored := m.groups(cases, pace.MicroBatch), 0
	m, err := m.share(false)
	if err != nil {
		return nil, err
	}
	defer m.shared.close()
	m.decide(batches, false)
	sweeps := sweeping{m, false, (*pair).evaluate}
	err = inOrder(ctx, len(batches), pace.Workers, stages[*pair, []Sweep]{
		prepare: func(i int) (*pair, error) { return m.prepare(batches[i], false) },
		discard: discard,
		work:    func(i int, p *pair) ([]Sweep, error) { return sweeps.inParts(batches[i], p) },
		deliver: func(i int, parts []Sweep) error {
			outcomes := outcomes(parts)
			if err := checkFinite(batches[i].cases, outcomes); err != nil {
				return err
			}
			for j, o := range outcomes {
				predictions[batches[i].index[j]] = predict(batches[i].cases[j], o)
			}
			scored += len(batches[i].cases)
			if progress != nil {
				progress(scored)
			}
			return nil
		}})
	if err != nil {
		return nil, err
	}
	return predictions, nil
}
