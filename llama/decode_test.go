package llama

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
)

// decodes runs a test with an engine that computes with graphs and, where it can, one that computes on panels.
func decodes(t *testing.T, dir string, run func(t *testing.T, e *Engine)) {
	t.Helper()
	decodesIn(t, dir, dtypes.Float32, run)
}

func decodesIn(t *testing.T, dir string, compute dtypes.DType, run func(t *testing.T, e *Engine)) {
	t.Helper()
	for _, k := range []struct {
		name   string
		panels bool
	}{{"graphs", false}, {"panels", true}} {
		t.Run(k.name, func(t *testing.T) {
			o := Options{Compute: compute, Residual: dtypes.Float64}
			e := openEngine(t, dir, o)
			o.Panels = k.panels
			if err := PanelsCan(e.Weights, o); k.panels && err != nil {
				t.Skip("panels: ", err)
			}
			if k.panels {
				e = openEngine(t, dir, o)
			}
			run(t, e)
		})
	}
}

// newDecoder is a decoder with these prompts.
func newDecoder(t testing.TB, e *Engine, overlay Overlay, prompts ...[]int32) *Decoder {
	t.Helper()
	d, err := e.NewDecoder(overlay)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	if err := d.Prefill(prompts); err != nil {
		t.Fatal(err)
	}
	return d
}

// greedy continues a decoder's rows by n tokens each, as long as more allows, and returns them with each step's logits.
func greedy(t testing.TB, d *Decoder, n int) (tokens [][]int32, logits [][][]float32) {
	t.Helper()
	tokens, logits = make([][]int32, len(d.rows)), make([][][]float32, len(d.rows))
	for i := range n {
		next := make([]int32, len(d.rows))
		for row := range d.rows {
			next[row] = Greedy(d.Logits(row))
			tokens[row] = append(tokens[row], next[row])
			logits[row] = append(logits[row], slices.Clone(d.Logits(row)))
		}
		if i == n-1 {
			break
		}
		if err := d.Step(next); err != nil {
			t.Fatal(err)
		}
	}
	return tokens, logits
}

// storiesIDs are the 256 ids that the C program wrote after BOS, which is the first of them.
func storiesIDs(t *testing.T) (dir string, ids []int32) {
	t.Helper()
	dir = filepath.Join(sharedDir(t), "models", "stories260K")
	for _, id := range cGolden(t, filepath.Join(dir, "golden_f32.txt"))["greedy -1 256"] {
		ids = append(ids, int32(id))
	}
	if len(ids) != 256 {
		t.Fatalf("got %d reference ids, want 256", len(ids))
	}
	return dir, ids
}

// TestDecodeStories: the greedy continuation of BOS is the C program's.
func TestDecodeStories(t *testing.T) {
	dir, ids := storiesIDs(t)
	decodes(t, dir, func(t *testing.T, e *Engine) {
		tokens, _ := greedy(t, newDecoder(t, e, nil, ids[:1]), len(ids)-1)
		if got := append([]int32{1}, tokens[0]...); !slices.Equal(got, ids) {
			t.Errorf("got %v, want %v", got, ids)
		}
	})
}

func bitsOf(x []float32) []uint32 {
	all := make([]uint32, len(x))
	for i, v := range x {
		all[i] = math.Float32bits(v)
	}
	return all
}

// TestDecodeEqualsRecomputing: after every step the logits are those of a stream over all tokens so far.
func TestDecodeEqualsRecomputing(t *testing.T) {
	dir, ids := storiesIDs(t)
	decodes(t, dir, func(t *testing.T, e *Engine) {
		const from, to = 3, 80 // past the ends of panels and blocks
		_, logits := greedy(t, newDecoder(t, e, nil, ids[:from]), to-from)
		for i, got := range logits[0] {
			s, err := e.NewStream(trunk(ids[:from+i]), StreamOptions{Last: []int32{int32(from + i - 1)}})
			if err != nil {
				t.Fatal(err)
			}
			for layer := range e.Weights.Config.NumHiddenLayers {
				if _, err := s.Forward(layer, nil, false); err != nil {
					t.Fatal(err)
				}
			}
			want, err := s.Logits()
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			if e.Panels() {
				if !slices.Equal(bitsOf(got), bitsOf(want)) {
					t.Fatalf("%d tokens: other bits than those of all tokens computed anew", from+i)
				}
				continue
			}
			largest := max(slices.Max(want), -slices.Min(want))
			for j := range want {
				if d := math.Abs(float64(got[j] - want[j])); !(d <= 1e-5*float64(largest)) {
					t.Fatalf("%d tokens, logit %d: got %v, want %v", from+i, j, got[j], want[j])
				}
			}
		}
	})
}

// lowRanks are random additions of different ranks to all projections but one, as the engine takes them.
func lowRanks(t *testing.T, e *Engine) Overlay {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	overlay := make(Overlay, e.Weights.Config.NumHiddenLayers)
	sizes := make(map[string][]int)
	for _, spec := range e.Weights.Config.Specs("F32") {
		sizes[spec.Name] = spec.Shape
	}
	for layer := range overlay {
		overlay[layer] = make(map[string]Extra)
		for i, proj := range Projections()[:6] {
			shape, rank, scale := sizes[partName(layer, proj)], 3+i+layer, 0.5
			a, b := make([]float32, rank*shape[1]), make([]float32, shape[0]*rank)
			for _, m := range [][]float32{a, b} {
				for j := range m {
					m[j] = float32(r.NormFloat64()) * 0.1
				}
			}
			if e.Panels() {
				overlay[layer][proj] = Extra{LowRank: e.NewLowRank(a, b, rank, scale)}
				continue
			}
			extra := Extra{Signature: fmt.Sprint(rank), Apply: func(x, y *Node, values []*Node) *Node {
				contract := func(x, w *Node) *Node { // x wᵀ
					return Dot(x, ConvertDType(w, x.DType())).General([]int{1}, nil, []int{1}, nil)
				}
				return Add(y, ConvertDType(MulScalar(contract(contract(x, values[0]), values[1]), scale), y.DType()))
			}}
			for _, m := range []struct {
				values []float32
				dims   []int
			}{{a, []int{rank, shape[1]}}, {b, []int{shape[0], rank}}} {
				v, err := e.Upload(m.values, m.dims...)
				if err != nil {
					t.Fatal(err)
				}
				extra.Values = append(extra.Values, v)
			}
			overlay[layer][proj] = extra
		}
	}
	t.Cleanup(func() {
		for _, extras := range overlay {
			for _, x := range extras {
				free(x.Values...)
			}
		}
	})
	return overlay
}

// TestRowsDoNotMeet: a row's tokens and the bits of its logits are the same alone, in a batch of 8, and in a shuffled
// batch of 9, whose rows came at two times and end one after the other.
func TestRowsDoNotMeet(t *testing.T) {
	dir, ids := storiesIDs(t)
	lengths := []int{1, 2, 16, 17, 47, 60, 61, 64, 95} // 47, 60, 61 and 64 outgrow what they are given in the beginning
	const steps = 6
	for _, compute := range []dtypes.DType{dtypes.Float32, dtypes.BFloat16} {
		t.Run(compute.String(), func(t *testing.T) {
			decodesIn(t, dir, compute, func(t *testing.T, e *Engine) {
				overlay := lowRanks(t, e)
				prompts, alone := make([][]int32, len(lengths)), make([][][]float32, len(lengths))
				for i, n := range lengths {
					prompts[i] = ids[3*i : 3*i+n]
					_, logits := greedy(t, newDecoder(t, e, overlay, prompts[i]), steps)
					alone[i] = logits[0]
				}
				_, logits := greedy(t, newDecoder(t, e, overlay, prompts[:8]...), steps)
				for i, got := range logits {
					sameSteps(t, fmt.Sprintf("prompt of %d in a batch of 8", lengths[i]), got, alone[i])
				}
				_, logits = greedy(t, newDecoder(t, e, overlay, slices.Repeat(prompts[:4], 3)...), 2)
				for i, got := range logits {
					sameSteps(t, fmt.Sprintf("row %d of 12", i), got, alone[i%4])
				}
				order := rand.New(rand.NewPCG(3, 4)).Perm(len(lengths))
				shuffled := make([][]int32, len(order))
				for to, from := range order {
					shuffled[to] = prompts[from]
				}
				const first = 4
				d := newDecoder(t, e, overlay, shuffled[:first]...)
				got := make([][][]float32, len(order))
				for step := range steps + first {
					if step == 2 {
						if err := d.Prefill(shuffled[first:]); err != nil {
							t.Fatal(err)
						}
					}
					next := make([]int32, len(d.rows))
					for row := range next {
						if len(got[row]) == 2+row%(steps-1) {
							d.Finish(row)
							continue
						}
						got[row] = append(got[row], slices.Clone(d.Logits(row)))
						next[row] = Greedy(d.Logits(row))
					}
					if err := d.Step(next); err != nil {
						t.Fatal(err)
					}
				}
				for to, from := range order {
					sameSteps(t, fmt.Sprintf("prompt of %d in a shuffled batch", lengths[from]), got[to], alone[from])
				}
				if d.CacheBytes() != 0 {
					t.Errorf("finished rows hold %d bytes", d.CacheBytes())
				}
			})
		})
	}
}

// TestRowsDoNotMeetInNarrowProducts: where keys have no more than 16 numbers, the Go backend takes rows by three.
func TestRowsDoNotMeetInNarrowProducts(t *testing.T) {
	decodes(t, goldenModel(), func(t *testing.T, e *Engine) {
		var prompts [][]int32
		for i := range 13 {
			prompts = append(prompts, []int32{1, int32(3 + 7*i), int32(400 - 13*i)}[:1+i%3])
		}
		_, together := greedy(t, newDecoder(t, e, nil, prompts...), 4)
		for i, prompt := range prompts {
			_, alone := greedy(t, newDecoder(t, e, nil, prompt), 4)
			sameSteps(t, fmt.Sprintf("row %d", i), together[i], alone[0])
		}
	})
}

// TestRowsDoNotMeetInLargeProducts: at this size the Go backend's kernels sum in another order when there are fewer rows
// than a group has.
func TestRowsDoNotMeetInLargeProducts(t *testing.T) {
	c := smallConfig(true)
	c.HiddenSize, c.IntermediateSize, c.NumHiddenLayers, c.HeadDim = 512, 1376, 1, 128
	values := randomValues(c)
	for _, panels := range []bool{false, true} {
		w, err := NewWeights(goBackend(t), c, func(name string, _ []int) []float32 { return values[name] })
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Compute: dtypes.Float32, Residual: dtypes.Float64, Panels: panels}
		if err := PanelsCan(w, o); panels && err != nil {
			t.Skip("panels: ", err)
		}
		e, err := NewEngine(w, o)
		if err != nil {
			t.Fatal(err)
		}
		prompts := [][]int32{{1, 2, 3}, {4}, {5, 6, 7, 8}, {9, 10}, {11, 12}}
		_, together := greedy(t, newDecoder(t, e, nil, prompts...), 4)
		for i, prompt := range prompts {
			_, alone := greedy(t, newDecoder(t, e, nil, prompt), 4)
			sameSteps(t, fmt.Sprintf("panels=%t, row %d", panels, i), together[i], alone[0])
		}
	}
}

// sameSteps fails unless the logits of some first steps have the bits of want's.
func sameSteps(t *testing.T, name string, got, want [][]float32) {
	t.Helper()
	if len(got) == 0 {
		t.Fatalf("%s: no steps", name)
	}
	for i := range got {
		if !slices.Equal(bitsOf(got[i]), bitsOf(want[i])) {
			t.Fatalf("%s: logits of step %d have other bits than alone: %v, want %v", name, i, got[i][:4], want[i][:4])
		}
	}
}

// TestDecodeWithOverlay: what an overlay adds is in every step, as it is in a stream over all tokens.
func TestDecodeWithOverlay(t *testing.T) {
	dir, ids := storiesIDs(t)
	for compute, tolerance := range map[dtypes.DType]float64{dtypes.Float32: 1e-4, dtypes.BFloat16: 0.5} {
		t.Run(compute.String(), func(t *testing.T) {
			decodesIn(t, dir, compute, func(t *testing.T, e *Engine) {
				overlay := lowRanks(t, e)
				d := newDecoder(t, e, overlay, ids[:5])
				for _, id := range ids[5:9] {
					if err := d.Step([]int32{id}); err != nil {
						t.Fatal(err)
					}
				}
				want, got := newDecoder(t, e, overlay, ids[:9]).Logits(0), d.Logits(0)
				if e.Panels() {
					sameSteps(t, "steps", [][]float32{got}, [][]float32{want})
				}
				near(t, "logits", wideOf(got), wideOf(want), tolerance)
				difference := 0.0
				for i, v := range newDecoder(t, e, nil, ids[:9]).Logits(0) {
					difference = max(difference, math.Abs(float64(v-want[i])))
				}
				if difference < 2 {
					t.Errorf("the overlay changes the logits by %g at most", difference)
				}
			})
		})
	}
}

func wideOf(x []float32) []float64 {
	wide := make([]float64, len(x))
	for i, v := range x {
		wide[i] = float64(v)
	}
	return wide
}

// TestDecodeGolden: the base model's 12 greedy tokens behind the first row's prompt with the right argument.
func TestDecodeGolden(t *testing.T) {
	dirs := []string{filepath.Join("..", "transplant", "testdata", "golden-small")}
	for _, name := range []string{"mha", "gqa"} {
		dirs = append(dirs, filepath.Join("..", "..", "shared", "golden", name))
		if shared := os.Getenv("TRANSPLANT_SHARED"); shared != "" {
			dirs[len(dirs)-1] = filepath.Join(shared, "golden", name)
		}
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(dir, "expected.json"))
			if os.IsNotExist(err) && dir != dirs[0] {
				t.Skipf("%s: not found: set TRANSPLANT_SHARED", dir)
			}
			var expected struct {
				Greedy []int32 `json:"greedy_base_row0_correct"`
				Rows   []struct {
					CorrectIDs []int32 `json:"correct_ids"`
				}
			}
			if err == nil {
				err = json.Unmarshal(text, &expected)
			}
			if err != nil || len(expected.Greedy) != 12 {
				t.Fatalf("%s: %v, %d greedy tokens", dir, err, len(expected.Greedy))
			}
			decodes(t, filepath.Join(dir, "model"), func(t *testing.T, e *Engine) {
				tokens, _ := greedy(t, newDecoder(t, e, nil, expected.Rows[0].CorrectIDs), 12)
				if !slices.Equal(tokens[0], expected.Greedy) {
					t.Errorf("got %v, want %v", tokens[0], expected.Greedy)
				}
			})
		})
	}
}

// TestDecoderRefuses: what a decoder cannot do leaves it as it was.
func TestDecoderRefuses(t *testing.T) {
	dir, ids := storiesIDs(t)
	decodes(t, dir, func(t *testing.T, e *Engine) {
		context := e.Weights.Config.MaxPositionEmbeddings
		long := slices.Repeat(ids, 3)
		d := newDecoder(t, e, nil, ids[:4], long[:context])
		before := slices.Clone(d.Logits(0))
		d.Finish(1)
		for _, c := range []struct {
			name string
			do   func() error
			want []string
		}{
			{"empty prompt", func() error { return d.Prefill([][]int32{ids[:2], {}}) }, []string{"row 3", "empty"}},
			{"prompt too long", func() error { return d.Prefill([][]int32{long[:context+1]}) }, []string{"row 2", "513", "512"}},
			{"no such token in a prompt", func() error { return d.Prefill([][]int32{{1, 512}}) }, []string{"token 1 of row 2", "512"}},
			{"negative token in a prompt", func() error { return d.Prefill([][]int32{{-1}}) }, []string{"token 0 of row 2", "-1"}},
			{"no such token", func() error { return d.Step([]int32{512, 0}) }, []string{"row 0", "512"}},
			{"too few tokens", func() error { return d.Step([]int32{5}) }, []string{"1 tokens", "2 rows"}},
			{"beyond the context", func() error { return newDecoder(t, e, nil, long[:context]).Step([]int32{1}) },
				[]string{"row 0", "512"}},
		} {
			err := c.do()
			if err == nil {
				t.Errorf("%s: no error", c.name)
				continue
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %q, want %q in it", c.name, err, want)
				}
			}
		}
		if len(d.rows) != 2 || d.Length(0) != 4 || !slices.Equal(d.Logits(0), before) || d.Logits(1) != nil {
			t.Errorf("%d rows, the first of %d tokens: refusals changed something", len(d.rows), d.Length(0))
		}
		if err := d.Step([]int32{ids[4], -1}); err != nil {
			t.Errorf("the token of a finished row was read: %v", err)
		}
	})
}

// TestCacheGrowsByBlocks: room for keys and values is made for many tokens at a time.
func TestCacheGrowsByBlocks(t *testing.T) {
	dir, ids := storiesIDs(t)
	decodes(t, dir, func(t *testing.T, e *Engine) {
		d := newDecoder(t, e, nil, ids[:30])
		cfg := e.Weights.Config
		token := int64(2 * 4 * cfg.NumHiddenLayers * cfg.NumKeyValueHeads * cfg.HeadDim)
		sizes := make(map[int64]int)
		for i := range 100 {
			if err := d.Step(ids[i : i+1]); err != nil {
				t.Fatal(err)
			}
			sizes[d.CacheBytes()/token]++
		}
		want := map[int64]int{64: 34, 128: 64, 192: 2}
		if !e.Panels() { // a group of rows, powers of two and the numbers halfway
			want = map[int64]int{groupRows * 64: 34, groupRows * 96: 32, groupRows * 128: 32, groupRows * 192: 2}
		}
		if len(sizes) != len(want) {
			t.Errorf("room for tokens by steps: got %v, want %v", sizes, want)
		}
		for size, steps := range want {
			if sizes[size] != steps {
				t.Errorf("room for %d tokens: in %d steps, want %d", size, sizes[size], steps)
			}
		}
	})
}

func TestGreedyTakesTheLowest(t *testing.T) {
	for _, c := range []struct {
		logits []float32
		want   int32
	}{{[]float32{3}, 0}, {[]float32{-2, -1, -1}, 1}, {[]float32{0, 5, 7, 7, 1}, 2}} {
		if got := Greedy(c.logits); got != c.want {
			t.Errorf("%v: got %d, want %d", c.logits, got, c.want)
		}
	}
}

// TestBatchPrompts: every prompt is in one stream, none is idle for another much longer, and none is too large.
func TestBatchPrompts(t *testing.T) {
	for _, c := range []struct {
		lengths []int
		workers int
		want    [][]int
	}{
		{[]int{5}, 2, [][]int{{0}}},
		{[]int{5, 90, 6, 70}, 2, [][]int{{1, 3}, {2, 0}}},
		{[]int{5, 5, 5}, 2, [][]int{{0, 1}, {2}}},
		{[]int{600, 400, 2000, 20}, 1, [][]int{{2}, {0}, {1, 3}}},
	} {
		prompts := make([][]int32, len(c.lengths))
		for i, n := range c.lengths {
			prompts[i] = make([]int32, n)
		}
		if got := batchPrompts(prompts, c.workers); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%v for %d workers: got %v, want %v", c.lengths, c.workers, got, c.want)
		}
	}
}

// BenchmarkDecodeStories decodes 255 tokens behind BOS in some rows at a time.
func BenchmarkDecodeStories(b *testing.B) {
	dir := filepath.Join("..", "..", "shared", "models", "stories260K")
	if shared := os.Getenv("TRANSPLANT_SHARED"); shared != "" {
		dir = filepath.Join(shared, "models", "stories260K")
	}
	if _, err := os.Stat(dir); err != nil {
		b.Skipf("%s: not found: set TRANSPLANT_SHARED", dir)
	}
	const steps = 255
	for _, panels := range []bool{false, true} {
		o := Options{Compute: dtypes.Float32, Residual: dtypes.Float64}
		e := openEngine(b, dir, o)
		kernels := "graphs"
		if panels {
			o.Panels, kernels = true, "panels"
			if err := PanelsCan(e.Weights, o); err != nil {
				b.Skip("panels: ", err)
			}
			e = openEngine(b, dir, o)
		}
		for _, rows := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s/rows=%d", kernels, rows), func(b *testing.B) {
				for b.Loop() {
					d := newDecoder(b, e, nil, slices.Repeat([][]int32{{1}}, rows)...)
					next := make([]int32, rows)
					for range steps {
						for row := range next {
							next[row] = Greedy(d.Logits(row))
						}
						if err := d.Step(next); err != nil {
							b.Fatal(err)
						}
					}
					d.Close()
				}
				b.ReportMetric(float64(b.N*rows*steps)/b.Elapsed().Seconds(), "tokens/s")
			})
		}
	}
}
