package wordproblem

import (
	"math/rand/v2"
	"strconv"
	"strings"
)

// Operands are drawn from [minOperand, maxOperand], so a result is at most 2*maxOperand.
const (
	minOperand = 2
	maxOperand = 20
)

// A Problem is a word problem about two people and one kind of object, with one sum or difference to be done.
type Problem struct {
	kind   *kind
	Names  [2]string // who stands at {A} and {B} of the wording
	Object string    // plural: "apples"
	First  int       // {n}
	Second int       // {m}
}

// NewProblem draws a problem: any kind, two different names, two different operands, a result of at least 1.
func NewProblem(r *rand.Rand) Problem {
	p := Problem{
		kind:   &kinds[r.IntN(len(kinds))],
		Object: objects[r.IntN(len(objects))],
	}
	p.Names[0] = names[r.IntN(len(names))]
	p.Names[1] = pickOther(r, names, p.Names[0])
	for {
		p.First, p.Second = drawOperand(r), drawOperand(r)
		if p.First != p.Second && p.Answer() >= 1 {
			return p
		}
	}
}

// Question is the problem in words.
func (p Problem) Question() string {
	return p.claims().write(p.kind.question)
}

// Answer is First + Second or First - Second, as the kind of problem asks.
func (p Problem) Answer() int {
	return p.kind.result(p.First, p.Second)
}

// claims is what a faultless argument says about the problem.
func (p Problem) claims() claims {
	return claims{names: p.Names, object: p.Object, first: p.First, second: p.Second, result: p.Answer()}
}

// claims are the values an argument puts into its wording.
type claims struct {
	names                 [2]string
	object                string
	first, second, result int
}

// write fills the slots {A} {B} {o} {n} {m} {t} of a wording.
func (c claims) write(wording string) string {
	return strings.NewReplacer(
		"{A}", c.names[0], "{B}", c.names[1], "{o}", c.object,
		"{n}", strconv.Itoa(c.first), "{m}", strconv.Itoa(c.second), "{t}", strconv.Itoa(c.result),
	).Replace(wording)
}

func drawOperand(r *rand.Rand) int {
	return minOperand + r.IntN(maxOperand-minOperand+1)
}

// pickOther draws an element of list that is none of taken. There must be one.
func pickOther(r *rand.Rand, list []string, taken ...string) string {
	for {
		s := list[r.IntN(len(list))]
		free := true
		for _, t := range taken {
			free = free && s != t
		}
		if free {
			return s
		}
	}
}
