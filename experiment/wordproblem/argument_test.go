package wordproblem

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func newRand(seed uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, 7))
}

var (
	numberPattern = regexp.MustCompile(`[0-9]+`)
	wordPattern   = regexp.MustCompile(`[A-Za-z]+`)
	sumPattern    = regexp.MustCompile(`([0-9]+) ([+-]) ([0-9]+) = ([0-9]+)`)
)

// faults reads an argument as a stranger would and lists what its question or arithmetic speaks against.
func faults(t *testing.T, question, argument string) []Error {
	t.Helper()
	m := sumPattern.FindStringSubmatch(argument)
	if m == nil {
		t.Fatalf("argument %q states no sum", argument)
	}
	a, b, result := number(t, m[1]), number(t, m[3]), number(t, m[4])
	if m[2] == "-" {
		b = -b
	}
	var list []Error
	asked := append(numberPattern.FindAllString(question, -1), m[4])
	for _, n := range numberPattern.FindAllString(argument, -1) {
		if !slices.Contains(asked, n) {
			list = append(list, WrongNumber)
			break
		}
	}
	words := wordPattern.FindAllString(question, -1)
	for _, w := range wordPattern.FindAllString(argument, -1) {
		switch {
		case slices.Contains(words, w):
		case slices.Contains(names, w):
			list = append(list, WrongName)
		case slices.Contains(objects, w):
			list = append(list, WrongObject)
		}
	}
	if a+b != result {
		list = append(list, WrongSum)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Ensure that an argument has exactly the error it was drawn with, found from the text alone.
func TestArgumentHasItsErrorAndNoOther(t *testing.T) {
	for e := NoError; e <= WrongSum; e++ {
		t.Run(e.String(), func(t *testing.T) {
			r := newRand(uint64(e))
			var want []Error
			if e != NoError {
				want = []Error{e}
			}
			for range 3000 {
				p := NewProblem(r)
				a := NewArgument(r, p, e)
				if got := faults(t, p.Question(), a.Text); !slices.Equal(got, want) {
					t.Fatalf("%q\n%q has the faults %v, want %v", p.Question(), a.Text, got, want)
				}
			}
		})
	}
}

// Ensure that Answer is what the text concludes, and the problem's own answer when nothing is wrong.
func TestArgumentAnswer(t *testing.T) {
	r := newRand(1)
	for range 3000 {
		p := NewProblem(r)
		right, wrong := NewArgument(r, p, NoError), NewArgument(r, p, DrawError(r))
		if right.Answer != p.Answer() {
			t.Fatalf("%q: answer %d, want %d", right.Text, right.Answer, p.Answer())
		}
		for _, a := range []Argument{right, wrong} {
			m := sumPattern.FindStringSubmatch(a.Text)
			if got := number(t, m[4]); got != a.Answer {
				t.Fatalf("%q: Answer is %d, the text says %d", a.Text, a.Answer, got)
			}
		}
		if (wrong.Error == WrongNumber || wrong.Error == WrongSum) && wrong.Answer == right.Answer {
			t.Fatalf("%q has the right answer %d in spite of a wrong %s", wrong.Text, wrong.Answer, wrong.Error)
		}
	}
}

// Ensure that every error can stand in every wording: a wording without a slot would leave the argument right.
func TestWordingsUseEverySlot(t *testing.T) {
	slots := []string{"{A}", "{B}", "{o}", "{n}", "{m}", "{t}"}
	for i, k := range kinds {
		for _, wording := range k.arguments {
			for _, slot := range slots {
				if !strings.Contains(wording, slot) {
					t.Errorf("kind %d, wording %q has no slot %s", i, wording, slot)
				}
			}
			sign := map[bool]string{false: "{n} + {m} = {t}", true: "{n} - {m} = {t}"}[k.minus]
			if !strings.Contains(wording, sign) {
				t.Errorf("kind %d, wording %q does not hold %q", i, wording, sign)
			}
		}
		for _, slot := range slots[:5] {
			if !strings.Contains(k.question, slot) {
				t.Errorf("kind %d, question %q has no slot %s", i, k.question, slot)
			}
		}
	}
}

// Ensure that the errors come in their shares: three of ten each, the sum one of ten.
func TestDrawErrorShares(t *testing.T) {
	r := newRand(2)
	counts := map[Error]int{}
	const n = 10000
	for range n {
		counts[DrawError(r)]++
	}
	want := map[Error]int{NoError: 0, WrongNumber: 3000, WrongName: 3000, WrongObject: 3000, WrongSum: 1000}
	for e, w := range want {
		if counts[e] < w-w/10 || counts[e] > w+w/10 {
			t.Errorf("%s drawn %d times in %d, want about %d", e, counts[e], n, w)
		}
	}
}

// Ensure that a wrong fact is never a true one in other words.
func TestFact(t *testing.T) {
	r := newRand(3)
	for range 3000 {
		p := NewProblem(r)
		var truths []string
		for _, wording := range p.kind.facts {
			truths = append(truths, p.claims().write(wording))
		}
		if got := fact(r, p, false); !slices.Contains(truths, got) {
			t.Fatalf("right fact %q is none of %q", got, truths)
		}
		if got := fact(r, p, true); slices.Contains(truths, got) {
			t.Fatalf("wrong fact %q is a true one", got)
		}
	}
}

func TestProblemBounds(t *testing.T) {
	r := newRand(4)
	for range 5000 {
		p := NewProblem(r)
		if p.First < minOperand || p.First > maxOperand || p.Second < minOperand || p.Second > maxOperand {
			t.Fatalf("operands %d and %d outside [%d, %d]", p.First, p.Second, minOperand, maxOperand)
		}
		if p.First == p.Second || p.Answer() < 1 || p.Answer() > 2*maxOperand || p.Names[0] == p.Names[1] {
			t.Fatalf("problem %+v", p)
		}
		if strings.ContainsAny(p.Question(), "{}") {
			t.Fatalf("question %q has an unfilled slot", p.Question())
		}
	}
}
