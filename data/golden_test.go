package data

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"gotransplant/model/tokenizer"
)

// golden is what golden/*/expected.json says of encoding. Its spans are the ranges that move, one to the left of the
// segment's tokens.
type golden struct {
	LabelIDs [2]int32 `json:"label_ids"`
	Rows     []struct {
		Swapped       bool    `json:"swapped"`
		CorrectIDs    []int32 `json:"correct_ids"`
		CorrectSpan   [2]int  `json:"correct_span"`
		IncorrectIDs  []int32 `json:"incorrect_ids"`
		IncorrectSpan [2]int  `json:"incorrect_span"`
		ChooserIDs    []int32 `json:"chooser_ids"`
		Candidate1    [2]int  `json:"candidate_1_span"`
		Candidate2    [2]int  `json:"candidate_2_span"`
	} `json:"rows"`
}

func mustGolden(t *testing.T, dir string) golden {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(content, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func mustTemplate(t *testing.T, parse func(name, text string) (*Template, error), path string) *Template {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := parse(path, string(text))
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

func TestGoldenTokens(t *testing.T) {
	root := filepath.Join(sharedDir(t), "golden")
	for _, name := range []string{"small", "mha", "gqa"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(root, name)
			tok, err := tokenizer.Open(filepath.Join(dir, "model"))
			if err != nil {
				t.Fatal(err)
			}
			e := realEncoder{tok}
			argue := mustTemplate(t, ParseArgue, filepath.Join(dir, "templates", "argue.tmpl"))
			choose := mustTemplate(t, ParseChoose, filepath.Join(dir, "templates", "choose.tmpl"))
			want := mustGolden(t, dir)
			rows := mustReadRows(t, filepath.Join(dir, "rows.csv"))
			if len(rows) != len(want.Rows) {
				t.Fatalf("got %d rows, want %d", len(rows), len(want.Rows))
			}
			for i, r := range rows {
				w := want.Rows[i]
				if r.Swapped != w.Swapped {
					t.Errorf("row %d: got swapped %v, want %v", i+1, r.Swapped, w.Swapped)
				}
				compare := func(what string, p Prompt, err error, ids []int32, spans map[string][2]int) {
					if err != nil {
						t.Fatal(err)
					}
					got := Encode(p, e)
					if !slices.Equal(got.IDs, ids) || got.SpecialsInData != 0 {
						t.Errorf("row %d, %s: got %v and %d specials\nwant %v and 0", i+1, what, got.IDs, got.SpecialsInData, ids)
					}
					for fence, moved := range spans {
						if s := got.Spans[fence]; s != (Span{moved[0] + 1, moved[1] + 1}) {
							t.Errorf("row %d, %s: %s is at %v, want one right of %v", i+1, what, fence, s, moved)
						}
					}
				}
				p, err := argue.Argue(r, r.Label())
				compare("correct", p, err, w.CorrectIDs, map[string][2]int{Argument: w.CorrectSpan})
				p, err = argue.Argue(r, 3-r.Label())
				compare("incorrect", p, err, w.IncorrectIDs, map[string][2]int{Argument: w.IncorrectSpan})
				p, err = choose.Choose(r)
				compare("chooser", p, err, w.ChooserIDs, map[string][2]int{Candidate1: w.Candidate1, Candidate2: w.Candidate2})
				if labels, err := LabelIDs(p, e); err != nil || labels != want.LabelIDs {
					t.Errorf("row %d: got labels %v, %v; want %v", i+1, labels, err, want.LabelIDs)
				}
			}
		})
	}
}

// The published data set: 2,748 rows, and in 0.594 of them the third writer chose the right candidate, which is
// candidate_2 in swapped rows and candidate_1 in the others.
func TestPublishedDataSet(t *testing.T) {
	shared := sharedDir(t)
	rows := mustReadRows(t, filepath.Join(shared, "data", "cot-correctness", "dataset.csv"))
	got := Count(rows)
	want := Counts{Rows: 2748, ArgumentCorrect: 1633, Swapped: 1402, ChoseFirst: 2397}
	if got != want || math.Abs(got.ArgumentRate()-0.594) > 0.0005 {
		t.Errorf("got %+v, third writer right in %v; want %+v, 0.594", got, got.ArgumentRate(), want)
	}
	for _, r := range rows {
		masked := MaskChoice(r.ChoiceArgument)
		if m := revealing.FindString(masked); m != "" {
			t.Errorf("line %d: masked argument still says %q: %s", r.Line, m, masked)
		}
		if again := r.Flip().Flip(); again != r {
			t.Errorf("line %d: flipped twice, got %+v\nwant %+v", r.Line, again, r)
		}
		if f := r.Flip(); f.ArgumentCorrect() != r.ArgumentCorrect() || f.Candidate(1) != r.Candidate(2) {
			t.Errorf("line %d: flipping changed who is right: %+v", r.Line, f)
		}
	}
}

// The default templates take every published row, and end so that the label is a token of its own.
func TestDefaultTemplatesOnPublishedRows(t *testing.T) {
	shared := sharedDir(t)
	rows := mustReadRows(t, filepath.Join(shared, "data", "cot-correctness", "dataset.csv"))[:200]
	for _, dir := range []string{"golden/small/model", "golden/mha/model", "golden/gqa/model"} {
		tok, err := tokenizer.Open(filepath.Join(shared, dir))
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		checkDefaults(t, dir, rows, realEncoder{tok})
	}
}

func checkDefaults(t *testing.T, name string, rows []Row, e Encoder) {
	t.Helper()
	argue, choose := mustDefaults(t)
	tokens := 0
	for _, r := range rows {
		p, err := choose.Choose(r)
		if err != nil {
			t.Fatal(err)
		}
		c := Encode(p, e)
		if _, err := LabelIDs(p, e); err != nil {
			t.Fatalf("%s, line %d: %v", name, r.Line, err)
		}
		for n, fence := range []string{Candidate1, Candidate2} {
			p, err := argue.Argue(r, n+1)
			if err != nil {
				t.Fatal(err)
			}
			a := Encode(p, e)
			from, to := a.Spans[Argument], c.Spans[fence]
			if got, want := c.IDs[to.Start:to.End], a.IDs[from.Start:from.End]; !slices.Equal(got, want) || len(got) == 0 {
				t.Fatalf("%s, line %d: %s has %v, the arguer's prompt %v", name, r.Line, fence, got, want)
			}
			if from.End != len(a.IDs) {
				t.Fatalf("%s, line %d: the arguer's prompt goes on after the argument", name, r.Line)
			}
			tokens += len(a.IDs)
		}
		tokens += len(c.IDs)
	}
	t.Logf("%s: %.1f tokens a row", name, float64(tokens)/float64(len(rows)))
}

func mustDefaults(t *testing.T) (argue, choose *Template) {
	t.Helper()
	parsed := func(parse func(name, text string) (*Template, error), text string, err error) *Template {
		if err != nil {
			t.Fatal(err)
		}
		tmpl, err := parse("default", text)
		if err != nil {
			t.Fatal(err)
		}
		return tmpl
	}
	text, err := DefaultArgue()
	argue = parsed(ParseArgue, text, err)
	text, err = DefaultChoose()
	return argue, parsed(ParseChoose, text, err)
}
