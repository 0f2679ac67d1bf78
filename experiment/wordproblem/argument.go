package wordproblem

import (
	"math/rand/v2"
)

// An Error is what is wrong with an argument.
type Error int

// The errors, those that copying can reveal first.
const (
	NoError     Error = iota
	WrongNumber       // an operand that is not in the question; the sum is done properly with it
	WrongName         // a name that is not in the question
	WrongObject       // an object that is not in the question
	WrongSum          // the operands of the question, but another result
)

// String names the error as the data generator's report does.
func (e Error) String() string {
	return [...]string{"none", "number", "name", "object", "sum"}[e]
}

// An Argument is a solution of a problem in one of the wordings of its kind.
type Argument struct {
	Text   string
	Answer int // the result that the text states
	Error  Error
}

// NewArgument draws a wording for p and puts the error into it. Every place that the changed value stands in is changed
// alike, so the argument is consistent with itself and only the question, or the sum, gives it away.
func NewArgument(r *rand.Rand, p Problem, e Error) Argument {
	c := p.claims()
	c.spoil(r, p.kind, e)
	wording := p.kind.arguments[r.IntN(len(p.kind.arguments))]
	return Argument{Text: c.write(wording), Answer: c.result, Error: e}
}

// DrawError draws one of the four errors: the three that copying reveals alike in nine of ten cases, else the sum.
func DrawError(r *rand.Rand) Error {
	if r.IntN(10) == 0 {
		return WrongSum
	}
	return WrongNumber + Error(r.IntN(3))
}

// spoil changes the one value of c that the error concerns.
func (c *claims) spoil(r *rand.Rand, k *kind, e Error) {
	switch e {
	case WrongNumber:
		c.spoilOperand(r, k)
	case WrongName:
		c.names[r.IntN(2)] = pickOther(r, names, c.names[0], c.names[1])
	case WrongObject:
		c.object = pickOther(r, objects, c.object)
	case WrongSum:
		c.result = otherResult(r, k, c.result)
	}
}

// spoilOperand replaces one operand by a number that is neither in the question nor its answer, nor the new result, so
// that it does look out of place.
func (c *claims) spoilOperand(r *rand.Rand, k *kind) {
	for {
		first, second := c.first, c.second
		x := drawOperand(r)
		if r.IntN(2) == 0 {
			first = x
		} else {
			second = x
		}
		result := k.result(first, second)
		strange := x != c.first && x != c.second && x != c.result && x != result
		if strange && first != second && result >= 1 {
			c.first, c.second, c.result = first, second, result
			return
		}
	}
}

// otherResult draws a result that some other problem of the kind has.
func otherResult(r *rand.Rand, k *kind, result int) int {
	for {
		a, b := drawOperand(r), drawOperand(r)
		if x := k.result(a, b); x >= 1 && x != result {
			return x
		}
	}
}

// fact draws one statement of the solution of p and, if wrong, puts an error into it that changes its words.
func fact(r *rand.Rand, p Problem, wrong bool) string {
	wording := p.kind.facts[r.IntN(len(p.kind.facts))]
	right := p.claims().write(wording)
	for text := right; ; {
		if !wrong || text != right {
			return text
		}
		c := p.claims()
		c.spoil(r, p.kind, DrawError(r))
		text = c.write(wording)
	}
}
