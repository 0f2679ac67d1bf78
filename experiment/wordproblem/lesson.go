package wordproblem

import "math/rand/v2"

// A Lesson is a stretch of the pre-training with one mix of documents.
type Lesson struct {
	Steps int // optimizer steps
	Mix   DocumentMix
}

// Lessons are what the embedded model learned from, in order. The first is almost only marked arguments: a judgement
// after every value teaches within a few hundred steps to look whether the value is in the question. When whole
// arguments are judged from the start the model stays at chance; after the first lesson it follows.
func Lessons() []Lesson {
	return []Lesson{
		{Steps: 400, Mix: DocumentMix{Marked: 97, Solved: 2, Records: 1}},
		{Steps: 1200, Mix: DocumentMix{Marked: 20, Facts: 20, Judged: 27, Pairs: 30, Solved: 2, Records: 1}},
	}
}

// Documents draws the documents of all lessons in order, batch of them for every step, and gives each to yield until it
// returns false. It is an iter.Seq; the same seed gives the same documents.
func Documents(lessons []Lesson, batch int, seed uint64) func(yield func(Document) bool) {
	return func(yield func(Document) bool) {
		r := rand.New(rand.NewPCG(seed, 2))
		for _, lesson := range lessons {
			for range lesson.Steps * batch {
				if !yield(NewDocument(r, lesson.Mix)) {
					return
				}
			}
		}
	}
}
