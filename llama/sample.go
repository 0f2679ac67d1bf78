package llama

import (
	"cmp"
	"container/heap"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Sampling says how a token is drawn from logits. Its steps have the order of Hugging Face's: the logits are divided by
// the temperature, the TopK largest are kept, of these the fewest whose probabilities add up to TopP (Holtzman et al.
// 2020), and one of those is drawn. Equal logits are ordered by id, the lowest first, so that exactly TopK stay.
type Sampling struct {
	Temperature float64 // 0: the token with the largest logit, without drawing
	TopK        int     // 0: all
	TopP        float64 // 0 < TopP <= 1; 1: all
}

// Validate reports what cannot be sampled with.
func (s Sampling) Validate() error {
	switch {
	case !(s.Temperature >= 0) || math.IsInf(s.Temperature, 0):
		return fmt.Errorf("temperature %v: it must be a finite number of 0 (greedy) or more", s.Temperature)
	case s.TopK < 0:
		return fmt.Errorf("top-k %d: it must be a number of tokens, or 0 for all", s.TopK)
	case !(s.TopP > 0 && s.TopP <= 1):
		return fmt.Errorf("top-p %v: it must be more than 0 and at most 1", s.TopP)
	}
	return nil
}

// Sampler draws the tokens of one row. It belongs to one goroutine.
type Sampler struct {
	Sampling
	random  *rand.Rand
	weights []float64 // [V]
	order   []int32
}

// NewSampler returns the sampler of a row. What it draws depends on seed, row and sample, the number of the row's
// continuation, and on nothing else: not on other rows, nor on when this one is computed.
func NewSampler(s Sampling, seed uint64, row string, sample int) *Sampler {
	key := binary.LittleEndian.AppendUint64([]byte("transplant: tokens of a row\x00"), seed)
	key = binary.LittleEndian.AppendUint64(key, uint64(sample))
	return &Sampler{Sampling: s, random: rand.New(rand.NewChaCha8(sha256.Sum256(append(key, row...))))}
}

// Next draws a token behind logits [V]. All arithmetic is float64, in an order that the logits alone decide.
func (s *Sampler) Next(logits []float32) (int32, error) {
	for id, v := range logits {
		if v != v || math.IsInf(float64(v), 1) {
			return 0, fmt.Errorf("the logit of token %d is %v: the model's numbers have overflowed", id, v)
		}
	}
	if s.Temperature == 0 || s.TopK == 1 {
		return Greedy(logits), nil
	}
	s.weigh(logits)
	kept := s.keep(logits)
	total := 0.0
	for _, id := range kept {
		total += s.weights[id]
	}
	left := s.random.Float64() * total
	for _, id := range kept {
		if left -= s.weights[id]; left < 0 {
			return id, nil
		}
	}
	return kept[len(kept)-1], nil // rounding
}

// weigh fills in probabilities that are not yet divided by their sum.
func (s *Sampler) weigh(logits []float32) {
	if len(s.weights) != len(logits) {
		s.weights = make([]float64, len(logits))
	}
	maximum := float64(slices.Max(logits))
	for id, v := range logits {
		s.weights[id] = math.Exp((float64(v) - maximum) / s.Temperature)
	}
}

// keep are the tokens of which one is drawn: by id where all are, else by falling logit.
func (s *Sampler) keep(logits []float32) []int32 {
	s.order = s.order[:0]
	all := s.TopK == 0 || s.TopK >= len(logits)
	switch {
	case !all:
		s.order = largest(s.order, logits, s.TopK)
	case s.TopP == 1:
		for id := range logits {
			s.order = append(s.order, int32(id))
		}
		return s.order
	default:
		// Tokens below this add up to less than 1 - TopP, so those above reach TopP without them.
		least := (1 - s.TopP) * sum(s.weights) / float64(len(logits))
		for id, w := range s.weights {
			if w >= least {
				s.order = append(s.order, int32(id))
			}
		}
	}
	slices.SortFunc(s.order, func(a, b int32) int { return cmp.Or(cmp.Compare(logits[b], logits[a]), cmp.Compare(a, b)) })
	if s.TopP == 1 {
		return s.order
	}
	total := 0.0
	if all {
		total = sum(s.weights)
	} else {
		for _, id := range s.order {
			total += s.weights[id]
		}
	}
	mass := 0.0
	for i, id := range s.order {
		if mass += s.weights[id]; mass >= s.TopP*total {
			return s.order[:i+1]
		}
	}
	return s.order
}

func sum(x []float64) (total float64) {
	for _, v := range x {
		total += v
	}
	return total
}

// largest appends the ids of the k largest logits, of equal ones the lowest, in no order.
func largest(ids []int32, logits []float32, k int) []int32 {
	h := &idHeap{ids: ids, logits: logits}
	for id := range logits {
		switch {
		case len(h.ids) < k:
			heap.Push(h, int32(id))
		case logits[id] > logits[h.ids[0]]:
			h.ids[0] = int32(id)
			heap.Fix(h, 0)
		}
	}
	return h.ids
}

// idHeap has the token that is given up first at the root: of the smallest logits the one with the highest id.
type idHeap struct {
	ids    []int32
	logits []float32
}

func (h *idHeap) Len() int { return len(h.ids) }
func (h *idHeap) Less(i, j int) bool {
	a, b := h.ids[i], h.ids[j]
	return h.logits[a] < h.logits[b] || h.logits[a] == h.logits[b] && a > b
}
func (h *idHeap) Swap(i, j int) { h.ids[i], h.ids[j] = h.ids[j], h.ids[i] }
func (h *idHeap) Push(x any)    { h.ids = append(h.ids, x.(int32)) }

// Pop is heap's; nothing is taken out here.
func (h *idHeap) Pop() any {
	last := h.ids[len(h.ids)-1]
	h.ids = h.ids[:len(h.ids)-1]
	return last
}

// LogProb is the log-probability of a token under softmax(logits), without temperature and with all tokens.
func LogProb(logits []float32, id int32) float64 {
	maximum, total := float64(slices.Max(logits)), 0.0
	for _, v := range logits {
		total += math.Exp(float64(v) - maximum)
	}
	return float64(logits[id]) - maximum - math.Log(total)
}
