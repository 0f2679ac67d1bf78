package wordproblem

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// only is a mix of one form of document.
var only = map[string]DocumentMix{
	"marked": {Marked: 1}, "facts": {Facts: 1}, "judged": {Judged: 1}, "pairs": {Pairs: 1},
	"solved": {Solved: 1}, "records": {Records: 1},
}

// everything is the mix of the last lesson, which has all forms.
func everything() DocumentMix {
	lessons := Lessons()
	return lessons[len(lessons)-1].Mix
}

// Ensure that the ranges of a document are exactly its words of judgement.
func TestDocumentJudged(t *testing.T) {
	words := map[string][]string{
		"marked": {"ok", "no"},
		"facts":  {"Right", "Wrong", "true", "false", "Yes", "No"},
		"judged": {"Right", "Wrong", "true", "false", "Yes", "No"},
		"pairs":  {"first", "second", "A", "B", "one", "another"},
	}
	for form, mix := range only {
		t.Run(form, func(t *testing.T) {
			r := newRand(5)
			met := map[string]bool{}
			for range 500 {
				d := NewDocument(r, mix)
				for _, j := range d.Judged {
					word := d.Text[j[0]:j[1]]
					met[word] = true
					if !slices.Contains(words[form], word) || d.Text[j[0]-1] != ' ' {
						t.Fatalf("%q: judged word %q", d.Text, word)
					}
				}
			}
			if len(met) != len(words[form]) {
				t.Errorf("judged words %v, want all of %q", met, words[form])
			}
		})
	}
}

// Ensure that verdicts on whole arguments are true: each is read again from the text.
func TestDocumentVerdicts(t *testing.T) {
	r := newRand(6)
	for range 1000 {
		d := NewDocument(r, only["judged"])
		question, _, _ := strings.Cut(d.Text, "? ")
		from := len(question) + 2
		for _, j := range d.Judged {
			argument, word := d.Text[from:j[0]], d.Text[j[0]:j[1]]
			right := faults(t, question, argument) == nil
			if said := slices.Contains([]string{"Right", "true", "Yes"}, word); said != right {
				t.Fatalf("%q is judged %q", argument, word)
			}
			from = j[1]
		}
	}
}

// Ensure that the better one of a pair is the one without a fault, and that both places are met.
func TestDocumentPairs(t *testing.T) {
	r := newRand(7)
	counts := map[bool]int{}
	for range 1000 {
		d := NewDocument(r, only["pairs"])
		question, rest, _ := strings.Cut(d.Text, "? ")
		split := max(strings.Index(rest, " Second:"), strings.Index(rest, " B:"), strings.Index(rest, " Another says:"))
		first := faults(t, question, rest[:split]) == nil
		second := faults(t, question, rest[split:]) == nil
		word := d.Text[d.Judged[0][0]:d.Judged[0][1]]
		saidFirst := slices.Contains([]string{"first", "A", "one"}, word)
		if first == second || saidFirst != first {
			t.Fatalf("%q: first is right: %t, second is right: %t, named %q", d.Text, first, second, word)
		}
		counts[first]++
	}
	if counts[true] < 400 || counts[false] < 400 {
		t.Errorf("the right one came first %d times of 1000", counts[true])
	}
}

// Ensure that a mark says whether the value before it belongs there.
func TestDocumentMarks(t *testing.T) {
	r := newRand(8)
	for range 1000 {
		d := NewDocument(r, only["marked"])
		question, _, _ := strings.Cut(d.Text, " Marked:")
		fitting := strings.FieldsFunc(question, func(r rune) bool { return strings.ContainsRune(" .?", r) })
		operands := numberPattern.FindAllString(question, -1)
		a, b := number(t, operands[0]), number(t, operands[1])
		fitting = append(fitting, strconv.Itoa(a+b), strconv.Itoa(a-b))
		for _, j := range d.Judged {
			value, word := wordBefore(d.Text, j[0]), d.Text[j[0]:j[1]]
			if word == "ok" && !slices.Contains(fitting, value) {
				t.Fatalf("%q: %q is marked ok", d.Text, value)
			}
			if word == "no" && slices.Contains(fitting[:len(fitting)-2], value) && !slices.Contains(operands, value) {
				t.Fatalf("%q: %q is marked no", d.Text, value)
			}
		}
	}
}

// wordBefore is the last word of text[:end].
func wordBefore(text string, end int) string {
	words := strings.Fields(text[:end])
	return words[len(words)-1]
}

// Ensure that nothing of the chooser's own wording, and no question of the data set, is met in pre-training.
func TestDocumentsKeepTheDataSetUnseen(t *testing.T) {
	r := newRand(9)
	for range 5000 {
		d := NewDocument(r, everything())
		for _, own := range []string{"andidate", "answer", "argument", "choice", "{", `"`} {
			if strings.Contains(d.Text, own) {
				t.Fatalf("%q holds %q of the choose template", d.Text, own)
			}
		}
		if i := strings.IndexByte(d.Text, '?'); i >= 0 && InDataSet(d.Text[:i+1]) {
			t.Fatalf("%q asks a question of the data set", d.Text)
		}
	}
}

// Ensure that Documents holds every lesson in order and depends on the seed alone.
func TestDocuments(t *testing.T) {
	lessons := []Lesson{{Steps: 3, Mix: only["marked"]}, {Steps: 2, Mix: only["solved"]}}
	draw := func(seed uint64) []Document {
		return slices.Collect(Documents(lessons, 4, seed))
	}
	list := draw(1)
	if len(list) != 20 {
		t.Fatalf("%d documents, want 20", len(list))
	}
	for i, d := range list {
		if marked := strings.Contains(d.Text, "Marked:"); marked != (i < 12) {
			t.Errorf("document %d is marked: %t, want %t", i, marked, i < 12)
		}
	}
	if !reflect.DeepEqual(list, draw(1)) {
		t.Error("the same seed gave other documents")
	}
	if reflect.DeepEqual(list, draw(2)) {
		t.Error("two seeds gave the same documents")
	}
	for d := range Documents(lessons, 4, 1) {
		if !reflect.DeepEqual(d, list[0]) {
			t.Errorf("stopped after %q, want %q", d.Text, list[0].Text)
		}
		break
	}
}
