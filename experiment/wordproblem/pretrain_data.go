package wordproblem

import (
	"math/rand/v2"
	"slices"

	"gotransplant/llama"
	"gotransplant/model/tokenizer"
)

// Tokenizer is what the pre-training needs of one; *tokenizer.Tokenizer is it.
type Tokenizer interface {
	Encode(text string, ordinary []tokenizer.Range) []tokenizer.Token
	BOS() (id int32, ok bool)
	VocabSize() int
}

// example is a document in tokens, BOS first.
type example struct {
	ids     []int32
	weights []float32 // of the loss of predicting the token; the first is 0
	judged  []bool    // the token judges
}

// weight is the sum of the weights.
func (e example) weight() float64 {
	var sum float64
	for _, w := range e.weights {
		sum += float64(w)
	}
	return sum
}

// encoder turns documents into examples.
type encoder struct {
	tokenizer Tokenizer
	bos       int32
	rest      float32 // weight of a token that does not judge
}

func (c encoder) example(d Document) example {
	tokens := c.tokenizer.Encode(d.Text, nil)
	e := example{ids: []int32{c.bos}, weights: []float32{0}, judged: []bool{false}}
	for _, t := range tokens {
		judged := slices.ContainsFunc(d.Judged, func(r [2]int) bool { return t.Start < r[1] && r[0] < t.End })
		weight := c.rest
		if judged {
			weight = 1
		}
		e.ids, e.weights, e.judged = append(e.ids, t.ID), append(e.weights, weight), append(e.judged, judged)
	}
	return e
}

// batches draws the documents of all steps. Those of a window of steps are sorted by length and dealt out in batches
// of like length, which come in random order.
func (p *Pretrainer) batches() func(yield func([]example) bool) {
	r := p.Recipe
	shuffle := rand.New(rand.NewPCG(r.Seed, 3))
	return func(yield func([]example) bool) {
		var window []example
		deal := func() bool {
			batches := chunksByLength(window, r.Batch)
			shuffle.Shuffle(len(batches), func(i, j int) { batches[i], batches[j] = batches[j], batches[i] })
			for _, b := range batches {
				if !yield(b) {
					return false
				}
			}
			window = nil
			return true
		}
		for d := range Documents(r.Lessons, r.Batch, r.Seed) {
			if window = append(window, p.encode.example(d)); len(window) == r.Window*r.Batch && !deal() {
				return
			}
		}
		deal()
	}
}

// chunksByLength sorts examples by length and cuts them into chunks of size.
func chunksByLength(examples []example, size int) [][]example {
	slices.SortStableFunc(examples, func(a, b example) int { return len(a.ids) - len(b.ids) })
	return slices.Collect(slices.Chunk(examples, size))
}

// padded are examples as rows of one length: position i of a row predicts its token i+1.
type padded struct {
	llama.Sequences
	target []int32
	weight []float32
	judged []bool // the target judges
}

// pad makes rows rows of examples, all padded to the longest and further to a multiple of bucket, so that few shapes
// are compiled.
func pad(examples []example, rows, bucket int) padded {
	length := 1
	for _, e := range examples {
		length = max(length, len(e.ids)-1)
	}
	length = (length + bucket - 1) / bucket * bucket
	n := rows * length
	p := padded{
		Sequences: llama.Sequences{Rows: rows, Length: length,
			Token: make([]int32, n), Position: make([]int32, n), Branch: make([]int32, n)},
		target: make([]int32, n), weight: make([]float32, n), judged: make([]bool, n),
	}
	for row := range rows {
		for i := range length {
			at := row*length + i
			p.Position[at] = int32(i)
			if row >= len(examples) || i+1 >= len(examples[row].ids) {
				p.Branch[at] = -1
				continue
			}
			e := examples[row]
			p.Token[at], p.target[at], p.weight[at], p.judged[at] = e.ids[i], e.ids[i+1], e.weights[i+1], e.judged[i+1]
		}
	}
	return p
}
