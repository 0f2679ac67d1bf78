package wordproblem

import (
	"encoding/csv"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"strconv"

	"gotransplant/internal/spelling"
)

// Header are the columns of the data set, those of the published one.
var Header = []string{
	"Question", "Correct Answer", "Correct Argument", "Incorrect Answer", "Incorrect Argument", "Choice Answer",
	"Choice Argument", "Choice Answers Swapped",
}

// thirdWriterPercent of the rows have a third writer who chose the right candidate.
const thirdWriterPercent = 60

// InDataSet says whether a question is kept for the data set. One question in eight is, by a hash of its words; the
// pre-training uses the others, so the model meets no question of the data set before the transplant training.
func InDataSet(question string) bool {
	h := fnv.New32a()
	io.WriteString(h, question)
	return h.Sum32()%8 == 0
}

// A Row is one line of the data set.
type Row struct {
	Question           string
	Correct, Incorrect Argument
	Choice             int // the third writer's candidate, 1 or 2
	ChoiceArgument     string
	Swapped            bool // the incorrect argument is candidate 1
}

// Label is the candidate that is right, 1 or 2.
func (row Row) Label() int {
	if row.Swapped {
		return 2
	}
	return 1
}

// MostRows is how many rows can be asked for: of the language's five million questions an eighth are in the data set, and
// the last of them would be drawn only after a long time.
const MostRows = 500_000

// Rows draws n rows with n different questions, the same for the same seed. The third writer is right in exactly
// 60 % of them, rounded down, and half of the rows, rounded down, are swapped, each in places drawn at random.
func Rows(n int, seed uint64) []Row {
	r := rand.New(rand.NewPCG(seed, 1))
	rightChoice := exactly(r, n, n*thirdWriterPercent/100)
	swapped := exactly(r, n, n/2)
	seen := make(map[string]bool, n)
	rows := make([]Row, 0, n)
	for len(rows) < n {
		p := NewProblem(r)
		q := p.Question()
		if seen[q] || !InDataSet(q) {
			continue
		}
		seen[q] = true
		row := Row{Question: q, Swapped: swapped[len(rows)]}
		row.Correct = NewArgument(r, p, NoError)
		row.Incorrect = NewArgument(r, p, DrawError(r))
		row.Choice = row.Label()
		if !rightChoice[len(rows)] {
			row.Choice = 3 - row.Choice
		}
		row.ChoiceArgument = fmt.Sprintf(drawFrom(r, reasons), row.Choice)
		rows = append(rows, row)
	}
	return rows
}

// reasons are what the third writer says; they hold no evidence but the choice.
var reasons = []string{
	"Candidate %d is right about the problem.",
	"I believe candidate %d.",
	"The numbers of candidate %d are right.",
}

// exactly returns n booleans of which k, at random places, are true.
func exactly(r *rand.Rand, n, k int) []bool {
	list := make([]bool, n)
	for i := range k {
		list[i] = true
	}
	r.Shuffle(n, func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// WriteCSV writes rows in the published schema: answers with one decimal, the choice as candidate_1 or candidate_2,
// Choice Answers Swapped as True or False.
func WriteCSV(w io.Writer, rows []Row) error {
	c := csv.NewWriter(w)
	if err := c.Write(Header); err != nil {
		return err
	}
	for _, row := range rows {
		swapped := "False"
		if row.Swapped {
			swapped = "True"
		}
		err := c.Write([]string{
			row.Question, decimal(row.Correct.Answer), row.Correct.Text, decimal(row.Incorrect.Answer),
			row.Incorrect.Text, fmt.Sprintf("candidate_%d", row.Choice), row.ChoiceArgument, swapped,
		})
		if err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

func decimal(n int) string {
	return strconv.Itoa(n) + ".0"
}

// A Summary counts what a data set holds.
type Summary struct {
	Rows, ThirdWriterRight, Swapped int
	Errors                          map[Error]int // of the incorrect arguments
}

// Summarize counts rows.
func Summarize(rows []Row) Summary {
	s := Summary{Rows: len(rows), Errors: map[Error]int{}}
	for _, row := range rows {
		s.Errors[row.Incorrect.Error]++
		if row.Choice == row.Label() {
			s.ThirdWriterRight++
		}
		if row.Swapped {
			s.Swapped++
		}
	}
	return s
}

// String is the summary in one line.
func (s Summary) String() string {
	text := fmt.Sprintf("%s, third writer right in %d, swapped %d; errors:", spelling.Count(s.Rows, "row"), s.ThirdWriterRight, s.Swapped)
	for e := WrongNumber; e <= WrongSum; e++ {
		text += fmt.Sprintf(" %s %d", e, s.Errors[e])
	}
	return text
}
