package llama

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
)

// TestSamplingFrequencies: over many draws each token comes as often as its probability says, and those cut off never.
func TestSamplingFrequencies(t *testing.T) {
	logits := []float32{1, 3, 2, 3, -1, float32(math.Inf(-1))}
	p := func(temperature float64, ids ...int) []float64 { // of the ids, in proportion
		all, total := make([]float64, len(logits)), 0.0
		for _, id := range ids {
			all[id] = math.Exp(float64(logits[id]) / temperature)
			total += all[id]
		}
		for id := range all {
			all[id] /= total
		}
		return all
	}
	// at temperature 1 the probabilities are 0.056, 0.413, 0.152, 0.413, 0.008 and 0, nearly
	cases := []struct {
		name string
		s    Sampling
		want []float64
	}{
		{"greedy", Sampling{0, 0, 1}, p(1, 1)},
		{"temperature 1", Sampling{1, 0, 1}, p(1, 0, 1, 2, 3, 4)},
		{"temperature 2", Sampling{2, 0, 1}, p(2, 0, 1, 2, 3, 4)},
		{"top 1 of two that are equal", Sampling{1, 1, 1}, p(1, 1)},
		{"top 2", Sampling{1, 2, 1}, p(1, 1, 3)},
		{"top 3", Sampling{0.5, 3, 1}, p(0.5, 1, 2, 3)},
		{"more than there are", Sampling{1, 9, 1}, p(1, 0, 1, 2, 3, 4)},
		{"the first is enough", Sampling{1, 0, 0.39}, p(1, 1)},
		{"two are needed", Sampling{1, 0, 0.41}, p(1, 1, 3)},
		{"three are needed", Sampling{1, 0, 0.9}, p(1, 1, 2, 3)},
		{"top-p of what top-k left", Sampling{1, 3, 0.85}, p(1, 1, 2, 3)}, // 0.84 of it is in the first two
		{"top-p of the first two", Sampling{1, 2, 0.5}, p(1, 1)},
		{"all but nothing", Sampling{1, 0, 0.9999999}, p(1, 0, 1, 2, 3, 4)},
	}
	const draws = 20000
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := NewSampler(c.s, 1, "row", 0)
			counts := make([]float64, len(logits))
			for range draws {
				id, err := s.Next(logits)
				if err != nil {
					t.Fatal(err)
				}
				counts[id]++
			}
			for id, n := range counts {
				if got, want := n/draws, c.want[id]; math.Abs(got-want) > 0.015 || want == 0 && n > 0 {
					t.Errorf("token %d in %.4f of the draws, want %.4f", id, got, want)
				}
			}
		})
	}
}

// TestTopPIsTheFewest: against sorting everything, on many random logits with ties.
func TestTopPIsTheFewest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		logits := make([]float32, 1+r.IntN(60))
		for i := range logits {
			logits[i] = float32(r.IntN(12)) / 2
		}
		sampling := Sampling{0.3 + r.Float64(), r.IntN(70), 1 - r.Float64()}
		if r.IntN(3) == 0 {
			sampling.TopP = 1 // so that ties at the border of top-k count
		}
		s := NewSampler(sampling, 1, "", 0)
		s.weigh(logits)
		got := slices.Clone(s.keep(logits))
		slices.Sort(got)
		order := make([]int32, len(logits))
		for i := range order {
			order[i] = int32(i)
		}
		slices.SortStableFunc(order, func(a, b int32) int { return int(2*logits[b]) - int(2*logits[a]) })
		if s.TopK > 0 && s.TopK < len(order) {
			order = order[:s.TopK]
		}
		total, mass := 0.0, 0.0
		for _, id := range order {
			total += s.weights[id]
		}
		n := 0
		for n < len(order) && mass < s.TopP*total*(1-1e-12) {
			mass += s.weights[order[n]]
			n++
		}
		want := order[:n]
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("%+v of %v: got %v, want %v", s.Sampling, logits, got, want)
		}
	}
}

// TestSamplersOfRows: a row's draws are its own: the same for the same seed, row and sample, others for any other.
func TestSamplersOfRows(t *testing.T) {
	logits := make([]float32, 1000)
	draw := func(seed uint64, row string, sample int) (ids []int32) {
		s := NewSampler(Sampling{1, 0, 1}, seed, row, sample)
		for range 8 {
			id, err := s.Next(logits)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		return ids
	}
	first := draw(1, "1", 0)
	if again := draw(1, "1", 0); !slices.Equal(first, again) {
		t.Errorf("got %v and then %v", first, again)
	}
	for name, other := range map[string][]int32{"seed": draw(2, "1", 0), "row": draw(1, "2", 0), "sample": draw(1, "1", 1)} {
		if slices.Equal(first, other) {
			t.Errorf("another %s draws the same %v", name, other)
		}
	}
}

// TestDrawsAreFixed: a seed gives the same tokens in every version, and top-k of all tokens those of no top-k.
func TestDrawsAreFixed(t *testing.T) {
	logits := []float32{1, 3, 2, 3, -1, 2.5}
	for _, c := range []struct {
		s    Sampling
		want []int32
	}{
		{Sampling{1, 0, 1}, []int32{3, 5, 3, 5, 1, 1, 2, 3, 3, 5, 3, 5, 2, 3, 3, 1}},
		{Sampling{1, 6, 1}, []int32{3, 5, 3, 5, 1, 1, 2, 3, 3, 5, 3, 5, 2, 3, 3, 1}},
		{Sampling{1, 100, 1}, []int32{3, 5, 3, 5, 1, 1, 2, 3, 3, 5, 3, 5, 2, 3, 3, 1}},
		{Sampling{2, 4, 1}, []int32{5, 2, 5, 2, 3, 1, 3, 5, 5, 2, 5, 2, 3, 3, 5, 1}},
		{Sampling{1, 0, 0.9}, []int32{5, 2, 3, 2, 3, 1, 3, 5, 5, 2, 5, 2, 3, 3, 3, 1}},
	} {
		var got []int32
		s := NewSampler(c.s, 7, "row", 1)
		for range 16 {
			id, err := s.Next(logits)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, id)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: got %v, want %v", c.s, got, c.want)
		}
	}
}

// TestSampledRowsDoNotMeet: sampled texts are the same alone, in a batch of 8, and in another order.
func TestSampledRowsDoNotMeet(t *testing.T) {
	dir, ids := storiesIDs(t)
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	decodesIn(t, dir, dtypes.Float32, func(t *testing.T, e *Engine) {
		sampled := func(rows ...int) map[string][]int32 {
			var prompts [][]int32
			var samplers []*Sampler
			for _, row := range rows {
				prompts = append(prompts, ids[row:3*row+1])
				samplers = append(samplers, NewSampler(Sampling{0.8, 40, 0.95}, 7, names[row], 0))
			}
			d, texts := newDecoder(t, e, nil, prompts...), make(map[string][]int32)
			for range 12 {
				next := make([]int32, len(rows))
				for i := range rows {
					var err error
					if next[i], err = samplers[i].Next(d.Logits(i)); err != nil {
						t.Fatal(err)
					}
					texts[names[rows[i]]] = append(texts[names[rows[i]]], next[i])
				}
				if err := d.Step(next); err != nil {
					t.Fatal(err)
				}
			}
			return texts
		}
		together, shuffled := sampled(0, 1, 2, 3, 4, 5, 6, 7), sampled(5, 2, 7, 0, 3, 6, 1, 4)
		for row, name := range names {
			alone := sampled(row)[name]
			if !slices.Equal(together[name], alone) || !slices.Equal(shuffled[name], alone) {
				t.Errorf("row %s: %v in a batch, %v in another order, want %v as alone", name, together[name], shuffled[name], alone)
			}
		}
	})
}

// TestSamplingRefuses: numbers that mean nothing, and logits that are none.
func TestSamplingRefuses(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		s    Sampling
		want string
	}{
		{Sampling{-1, 0, 1}, "temperature -1"}, {Sampling{nan, 0, 1}, "temperature NaN"}, {Sampling{math.Inf(1), 0, 1}, "temperature +Inf"},
		{Sampling{1, -1, 1}, "top-k -1"}, {Sampling{1, 0, 0}, "top-p 0"}, {Sampling{1, 0, 1.1}, "top-p 1.1"}, {Sampling{1, 0, nan}, "top-p NaN"},
	} {
		if err := c.s.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got error %v, want %q", c.s, err, c.want)
		}
	}
	for _, s := range []Sampling{{0.7, 40, 0.9}, {0, 0, 1}} {
		if err := s.Validate(); err != nil {
			t.Errorf("%+v: got error %v", s, err)
		}
	}
	for _, logits := range [][]float32{{1, float32(nan)}, {1, float32(math.Inf(1))}} {
		if _, err := NewSampler(Sampling{0, 0, 1}, 1, "", 0).Next(logits); err == nil || !strings.Contains(err.Error(), "token 1") {
			t.Errorf("%v: got error %v, want token 1 named", logits, err)
		}
	}
}

func TestLogProb(t *testing.T) {
	if got, want := LogProb([]float32{0, 100, 100}, 2), math.Log(0.5); math.Abs(got-want) > 1e-12 {
		t.Errorf("got %v, want %v", got, want)
	}
}
