package wordproblem

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
)

// heldOutSeed draws the documents of Evaluate, for every recipe the same.
const heldOutSeed = 0x6865_6c64

// PretrainScore is what a model makes of held-out documents of the last lesson.
type PretrainScore struct {
	Loss    float64 `json:"loss"`    // mean cross-entropy of the tokens that judge
	Correct float64 `json:"correct"` // share of them that the model thinks most likely of the whole vocabulary
	Judged  int     `json:"judged"`  // number of them
}

// String is the score in one line.
func (s PretrainScore) String() string {
	return fmt.Sprintf("held out: loss %.4f, %.1f %% of %d judgements right", s.Loss, 100*s.Correct, s.Judged)
}

// Evaluate scores the model on n documents drawn like those of the last lesson.
func (p *Pretrainer) Evaluate(n int) (PretrainScore, error) {
	r := rand.New(rand.NewPCG(heldOutSeed, 2))
	mix := p.Recipe.Lessons[len(p.Recipe.Lessons)-1].Mix
	var examples []example
	for range n {
		examples = append(examples, p.encode.example(NewDocument(r, mix)))
	}
	groups := chunksByLength(examples, p.Recipe.MicroBatch)
	scores, errs := make([]PretrainScore, len(groups)), make([]error, len(groups))
	room := make(chan struct{}, max(p.Workers, 1))
	var wg sync.WaitGroup
	for i, group := range groups {
		room <- struct{}{}
		wg.Go(func() {
			scores[i], errs[i] = p.score(group)
			<-room
		})
	}
	wg.Wait()
	var sum PretrainScore
	for _, s := range scores {
		sum.Loss += s.Loss
		sum.Correct += s.Correct
		sum.Judged += s.Judged
	}
	sum.Loss /= float64(max(sum.Judged, 1))
	sum.Correct /= float64(max(sum.Judged, 1))
	return sum, errors.Join(errs...)
}

// score gives the sums over one micro-batch.
func (p *Pretrainer) score(examples []example) (PretrainScore, error) {
	rows := pad(examples, p.Recipe.MicroBatch, p.Recipe.Bucket)
	s, err := p.forward(rows, false)
	if err != nil {
		return PretrainScore{}, err
	}
	defer s.Close()
	logits, err := s.Logits()
	if err != nil {
		return PretrainScore{}, err
	}
	var sum PretrainScore
	vocab := p.Recipe.Model.VocabSize
	for i, judged := range rows.judged {
		if !judged {
			continue
		}
		of := logits[i*vocab : (i+1)*vocab]
		total, best := 0.0, 0
		for id, l := range of {
			if l > of[best] {
				best = id
			}
			total += math.Exp(float64(l - of[rows.target[i]]))
		}
		sum.Loss += math.Log(total)
		sum.Judged++
		if int32(best) == rows.target[i] {
			sum.Correct++
		}
	}
	return sum, nil
}
