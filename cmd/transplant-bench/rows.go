package main

import (
	"fmt"
	"math/rand/v2"

	"gotransplant/data"
	"gotransplant/model"
	"gotransplant/transplant"
)

// lengths are those of every row's prompts, in tokens.
type lengths struct {
	arguer   int // each of the two arguer prompts, which end with the argument
	chooser  int // the chooser's prompt, both arguments included
	argument int
	prefix   int // with which all prompts of a role begin, where so many are before the argument
}

// published are the means over the published data set with a LLaMA-1 tokenizer; the heads of the built-in templates are of
// 60 and 68 tokens.
func published() lengths { return lengths{arguer: 205, chooser: 397, argument: 87, prefix: 60} }

func (l lengths) validate() error {
	switch {
	case l.prefix < 0:
		return fmt.Errorf("--prefix %d: it must not be negative", l.prefix)
	case l.argument < 1:
		return fmt.Errorf("--argument %d: it must be at least 1", l.argument)
	case l.arguer <= l.argument:
		return fmt.Errorf("--arguer %d: it must be more than --argument %d, with which the prompt ends", l.arguer, l.argument)
	case l.chooser-2*l.argument < 2:
		return fmt.Errorf("--chooser %d: it must hold two arguments of --argument %d, a token before and a token after",
			l.chooser, l.argument)
	}
	return nil
}

// arguerSpan is where the argument lies in the arguer's prompt.
func (l lengths) arguerSpan() data.Span {
	return data.Span{Start: l.arguer - l.argument, End: l.arguer}
}

// chooserSpans are where the arguments lie in the chooser's prompt: half of the other tokens come before them, an eighth
// between them.
func (l lengths) chooserSpans() [2]data.Span {
	others := l.chooser - 2*l.argument
	first := others / 2
	second := first + l.argument + others/8
	return [2]data.Span{{Start: first, End: first + l.argument}, {Start: second, End: second + l.argument}}
}

// labels are the tokens that stand for the answers 1 and 2.
func labels(c model.Config) [2]int32 { return [2]int32{int32(c.VocabSize - 2), int32(c.VocabSize - 1)} }

// cases draws rows of random tokens. The two arguments of a row differ in their first token, so that the arguer's prompts
// share no more than what is before them.
func (l lengths) cases(n int, c model.Config, seed uint64) ([]transplant.Case, error) {
	rng := rand.New(rand.NewPCG(seed, 0))
	draw := func(n int) []int32 {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = rng.Int32N(int32(c.VocabSize))
		}
		return ids
	}
	heads := [2][]int32{draw(l.prefix), draw(l.prefix)}
	cases := make([]transplant.Case, n)
	for i := range cases {
		trunk, choose, spans := draw(l.arguer-l.argument), draw(l.chooser), l.chooserSpans()
		copy(trunk, heads[0])
		copy(choose[:spans[0].Start], heads[1])
		k := transplant.Case{Row: i + 1, Label: 1 + i%2, ArgumentCorrect: true, Choose: choose, Spans: spans}
		for j := range k.Argue {
			argument := draw(l.argument)
			argument[0] = 2*rng.Int32N(int32(c.VocabSize)/2) + int32(j) // even in the one, odd in the other
			k.Argue[j] = transplant.Passage{IDs: append(append([]int32(nil), trunk...), argument...), Span: l.arguerSpan()}
			copy(choose[spans[j].Start:spans[j].End], argument)
		}
		if err := k.Check(); err != nil {
			return nil, err
		}
		cases[i] = k
	}
	return cases, nil
}
