package wordproblem

import (
	"math/rand/v2"
	"strconv"
	"strings"
)

// A Document is one text of the pre-training.
type Document struct {
	Text string `json:"text"`
	// Judged are byte ranges [start, end) of the words that judge. The pre-training weighs the loss of their tokens up:
	// they are few, and they are the skill.
	Judged [][2]int `json:"judged"`
}

// A DocumentMix says how often each form of document is drawn, as relative weights.
type DocumentMix struct {
	Marked  int // an argument with a mark after every value: ok if it is right, no if not
	Facts   int // single statements, each judged
	Judged  int // whole arguments, each judged
	Pairs   int // a right and a wrong argument, then which is better
	Solved  int // a right argument
	Records int // the values of the problem under numbered keys
}

// NewDocument draws a document about a problem that InDataSet refuses, so the data set stays unseen.
func NewDocument(r *rand.Rand, mix DocumentMix) Document {
	p := NewProblem(r)
	for InDataSet(p.Question()) {
		p = NewProblem(r)
	}
	forms := []struct {
		weight int
		write  func(*writer, Problem)
	}{
		{mix.Marked, (*writer).marked},
		{mix.Facts, (*writer).judgedFacts},
		{mix.Judged, (*writer).judgedArguments},
		{mix.Pairs, (*writer).pair},
		{mix.Solved, (*writer).solved},
		{mix.Records, (*writer).record},
	}
	total := 0
	for _, f := range forms {
		total += f.weight
	}
	w := &writer{r: r, judged: [][2]int{}}
	draw := r.IntN(total)
	for _, f := range forms {
		if draw < f.weight {
			f.write(w, p)
			break
		}
		draw -= f.weight
	}
	return Document{Text: w.text.String(), Judged: w.judged}
}

// A writer puts a document together and remembers where it judges.
type writer struct {
	r      *rand.Rand
	text   strings.Builder
	judged [][2]int
}

func (w *writer) add(parts ...string) {
	for _, s := range parts {
		w.text.WriteString(s)
	}
}

// judge adds a word that judges, with a space before it.
func (w *writer) judge(word string) {
	w.add(" ")
	start := w.text.Len()
	w.add(word)
	w.judged = append(w.judged, [2]int{start, w.text.Len()})
}

// marked writes an argument in which every value may be wrong on its own, and a mark after each.
func (w *writer) marked(p Problem) {
	w.add(p.Question(), " Marked:")
	for _, word := range strings.Fields(drawFrom(w.r, p.kind.arguments)) {
		start, end := strings.IndexByte(word, '{'), strings.IndexByte(word, '}')
		if start < 0 {
			w.add(" ", word)
			continue
		}
		value, right := w.slotValue(p, word[start:end+1])
		w.add(" ", value)
		w.mark(right)
		w.add(word[end+1:])
	}
}

// mark judges a single value.
func (w *writer) mark(right bool) {
	if right {
		w.judge("ok")
		return
	}
	w.judge("no")
}

// slotValue draws the value for one slot of an argument: the right one half of the time.
func (w *writer) slotValue(p Problem, slot string) (value string, right bool) {
	c := p.claims()
	truth := c.write(slot)
	if w.r.IntN(2) == 0 {
		return truth, true
	}
	switch slot {
	case "{A}", "{B}":
		return pickOther(w.r, names, c.names[0], c.names[1]), false
	case "{o}":
		return pickOther(w.r, objects, c.object), false
	case "{t}":
		return strconv.Itoa(otherResult(w.r, p.kind, c.result)), false
	}
	for {
		x := drawOperand(w.r)
		if x != c.first && x != c.second && x != c.result {
			return strconv.Itoa(x), false
		}
	}
}

// verdicts are pairs of words for right and wrong, and what stands before them.
var verdicts = []struct{ before, right, wrong string }{
	{"", "Right.", "Wrong."},
	{" This is", "true.", "false."},
	{" Correct?", "Yes.", "No."},
}

// judgedFacts writes one to four statements and a verdict after each.
func (w *writer) judgedFacts(p Problem) {
	v := drawFrom(w.r, verdicts)
	w.add(p.Question())
	for range 1 + w.r.IntN(4) {
		wrong := w.r.IntN(2) == 0
		w.add(" ", fact(w.r, p, wrong), v.before)
		w.verdict(v.right, v.wrong, !wrong)
	}
}

// judgedArguments writes one or two whole arguments and a verdict after each.
func (w *writer) judgedArguments(p Problem) {
	v := drawFrom(w.r, verdicts)
	w.add(p.Question())
	for range 1 + w.r.IntN(2) {
		e := NoError
		if w.r.IntN(2) == 0 {
			e = DrawError(w.r)
		}
		w.add(" ", NewArgument(w.r, p, e).Text, v.before)
		w.verdict(v.right, v.wrong, e == NoError)
	}
}

func (w *writer) verdict(right, wrong string, isRight bool) {
	word := wrong
	if isRight {
		word = right
	}
	w.judge(strings.TrimSuffix(word, "."))
	w.add(".")
}

// comparisons are wordings for two arguments and the choice between them. None is the wording of the choose template.
var comparisons = []struct{ first, second, question, firstName, secondName string }{
	{" First: ", " Second: ", " Better is the", "first", "second"},
	{" A: ", " B: ", " The right one is", "A", "B"},
	{" One says: ", " Another says: ", " Believe", "one", "another"},
}

// pair writes a right and a wrong argument in random order and names the right one.
func (w *writer) pair(p Problem) {
	v := drawFrom(w.r, comparisons)
	first, second := NewArgument(w.r, p, NoError), NewArgument(w.r, p, DrawError(w.r))
	name := v.firstName
	if w.r.IntN(2) == 0 {
		first, second, name = second, first, v.secondName
	}
	w.add(p.Question(), v.first, first.Text, v.second, second.Text, v.question)
	w.judge(name)
	w.add(".")
}

// solved writes a right argument.
func (w *writer) solved(p Problem) {
	w.add(p.Question(), " Answer: ", NewArgument(w.r, p, NoError).Text)
}

// record lists the values of the problem, so that numbered keys are known.
func (w *writer) record(p Problem) {
	w.add(p.Question(), " object: ", p.Object, ", name_1: ", p.Names[0], ", name_2: ", p.Names[1],
		", number_1: ", strconv.Itoa(p.First), ", number_2: ", strconv.Itoa(p.Second))
}

func drawFrom[T any](r *rand.Rand, list []T) T {
	return list[r.IntN(len(list))]
}
