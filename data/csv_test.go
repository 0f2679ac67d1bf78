package data

import (
	"errors"
	"strings"
	"testing"
)

const header = "Question,Correct Answer,Correct Argument,Incorrect Answer,Incorrect Argument,Choice Answer," +
	"Choice Argument,Choice Answers Swapped\n"

func TestReadCSV(t *testing.T) {
	text := "\ufeff" + strings.TrimSpace(header) + "\r\n" +
		`q1,1.0,r1,2.0,"w1, ""quoted""` + "\n" + `second line\n",candidate_2,c1,True` + "\r\n\r\n" +
		"Qué,,r2,,w2,candidate_1,c2,False\n"
	got, err := ReadCSV(strings.NewReader(text), "f.csv")
	if err != nil {
		t.Fatal(err)
	}
	want := []Row{
		{Line: 2, Question: "q1", CorrectAnswer: "1.0", CorrectArgument: "r1", IncorrectAnswer: "2.0",
			IncorrectArgument: "w1, \"quoted\"\nsecond line\\n", Choice: "candidate_2", ChoiceArgument: "c1", Swapped: true},
		{Line: 5, Question: "Qué", CorrectArgument: "r2", IncorrectArgument: "w2", Choice: "candidate_1",
			ChoiceArgument: "c2"},
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestReadCSVColumnOrder(t *testing.T) {
	text := "Note,Choice Answers Swapped,Choice Argument,Choice Answer,Incorrect Argument,Incorrect Answer," +
		"Correct Argument,Correct Answer,Question\nn,True,ca,candidate_1,ia,i,ra,r,q\n"
	got, err := ReadCSV(strings.NewReader(text), "f.csv")
	want := Row{2, "q", "r", "ra", "i", "ia", "candidate_1", "ca", true}
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

// TestReadCSVOfNotes: a column's name may have other separators in it, as many as it likes.
func TestReadCSVOfNotes(t *testing.T) {
	text := "a;b;c;d;e;f;g;h;i;j," + header + "n,q,1,r,2,w,candidate_1,c,False\n"
	if got, err := ReadCSV(strings.NewReader(text), "f.csv"); err != nil || len(got) != 1 {
		t.Errorf("got %+v, %v, want one row", got, err)
	}
}

func TestReadCSVRefuses(t *testing.T) {
	good := "q,1,r,2,w,candidate_1,c,False\n"
	for _, c := range []struct {
		name, text string
		parts      []string
		lacks      string
	}{
		{"nothing", "", []string{"f.csv: empty"}, ""},
		{"no rows", header, []string{"f.csv: no rows"}, ""},
		{"missing columns", "Question,Correct Answer\n",
			[]string{"f.csv:1:", `"Correct Argument"`, `"Choice Answers Swapped"`},
			`lacks the columns ["Question`},
		{"semicolons", "\ufeff" + strings.ReplaceAll(header, ",", ";") + good, []string{`f.csv:1: the header has ";" between`, "with commas"}, "lacks"},
		{"quoted, with tabs", `"` + strings.ReplaceAll(strings.TrimSpace(header), ",", "\"\t\"") + "\"\n" + good,
			[]string{`f.csv:1: the header has "\t" between`}, "quote"},
		{"UTF-16, low byte first", "\xff\xfeQ\x00", []string{"f.csv:1:", "save the file as UTF-8"}, "lacks"},
		{"UTF-16, high byte first", "\xfe\xff\x00Q", []string{"f.csv:1:", "save the file as UTF-8"}, "lacks"},
		{"a column twice", "Question," + header + good, []string{"f.csv:1:", `"Question" stands twice`}, ""},
		{"every bad row", header + good +
			` ,1,r,2,w,candidate_1,c,False` + "\n" +
			`q,1,"r` + "\n" + `r",2,w,candidate_3,c,yes` + "\n" + good +
			`q,1,,2,,candidate_1,c` + "\n" +
			`q,1,,2,` + "\t" + `,candidate_1,,True` + "\n",
			[]string{"f.csv:3: Question is empty", `f.csv:4: Choice Answer is "candidate_3"`, `Swapped is "yes"`,
				"f.csv:7: 7 fields, the header has 8",
				"f.csv:8: Correct Argument is empty; Incorrect Argument is empty; Choice Argument is empty"}, "f.csv:6"},
		{"quotes", header + `q,1,r "x,2,w,candidate_1,c,False` + "\n" + good + `q,1,r,2,w,candidate_1,c,fals` + "\n",
			[]string{"f.csv:2: bare", `f.csv:4: Choice Answers Swapped is "fals"`}, "f.csv:3"},
		{"an open quote", header + good + `q,1,"r,2,w,candidate_1,c,False` + "\n" + good, []string{"f.csv:3:", "quote"}, ""},
		{"not UTF-8", header + "q\xff,1,r,2,w,candidate_1,c,False\n", []string{"f.csv:2: Question is not UTF-8"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows, err := ReadCSV(strings.NewReader(c.text), "f.csv")
			wantError(t, err, c.parts...)
			if rows != nil || (c.lacks != "" && strings.Contains(err.Error(), c.lacks)) {
				t.Errorf("got %d rows and %v; want none and nothing about %q", len(rows), err, c.lacks)
			}
		})
	}
}

func TestReadCSVReadError(t *testing.T) {
	broken := errors.New("disk on fire")
	for _, text := range []string{"", header} {
		_, err := ReadCSV(&failing{strings.NewReader(text), broken}, "f.csv")
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "f.csv") {
			t.Errorf("%q: got %v, want %v with the file's name", text, err, broken)
		}
	}
}

// TestScansStop: a reader that has seen enough gets nothing more, from a bad row on too.
func TestScansStop(t *testing.T) {
	good := "q,1,r,2,w,candidate_1,c,False\n"
	for _, text := range []string{header + good + good, header + "bad\n" + good} {
		n := 0
		for range ScanCSV(strings.NewReader(text), "f.csv") {
			n++
			break
		}
		for range ScanLines(strings.NewReader(text), "f.txt") {
			n++
			break
		}
		if n != 2 {
			t.Errorf("%q: got %d rows, want one of each scan", text, n)
		}
	}
}

// failing gives a text and then an error.
type failing struct {
	text *strings.Reader
	err  error
}

func (f *failing) Read(p []byte) (int, error) {
	if n, err := f.text.Read(p); err == nil {
		return n, nil
	}
	return 0, f.err
}

// TestSwappedOfSpreadsheets: True and False in any case.
func TestSwappedOfSpreadsheets(t *testing.T) {
	for _, c := range []struct {
		text string
		want bool
	}{{"True", true}, {"TRUE", true}, {"true", true}, {"False", false}, {"FALSE", false}, {"false", false}} {
		rows, err := ReadCSV(strings.NewReader(header+"q,1,r,2,w,candidate_1,c,"+c.text+"\n"), "f.csv")
		if err != nil || len(rows) != 1 || rows[0].Swapped != c.want {
			t.Errorf("%s: got %+v, %v; want swapped %v", c.text, rows, err, c.want)
		}
	}
}
