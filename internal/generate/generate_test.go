package generate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"gotransplant/llama"
	"gotransplant/model"
	"gotransplant/model/tokenizer"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	_ "github.com/gomlx/compute/gobackend"
)

// opened is a small random model.
type opened struct {
	engine *llama.Engine
	tok    *tokenizer.Tokenizer
}

// decoder is one that is closed when the test ends.
func (o opened) decoder(t *testing.T) *llama.Decoder {
	t.Helper()
	d, err := o.engine.NewDecoder(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// onBoth runs a test on graphs and, where they can, on panels.
func onBoth(t *testing.T, run func(t *testing.T, o opened)) {
	for _, panels := range []bool{false, true} {
		t.Run(map[bool]string{false: "graphs", true: "panels"}[panels], func(t *testing.T) {
			dir := filepath.Join("..", "..", "transplant", "testdata", "golden-small", "model")
			checkpoint, err := model.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer checkpoint.Close()
			backend, err := compute.NewWithConfig("go:parallelism=-1")
			if err != nil {
				t.Fatal(err)
			}
			w := llama.Deferred(backend, checkpoint, llama.AsStored)
			options := llama.Options{Compute: dtypes.Float32, Residual: dtypes.Float64, Panels: panels}
			if err := llama.PanelsCan(w, options); panels && err != nil {
				t.Skip("panels: ", err)
			}
			var o opened
			if o.engine, err = llama.NewEngine(w, options); err != nil {
				t.Fatal(err)
			}
			if o.tok, err = tokenizer.Open(dir); err != nil {
				t.Fatal(err)
			}
			run(t, o)
		})
	}
}

// jobs are prompts of different lengths.
func jobs(tok *tokenizer.Tokenizer) []Job {
	var all []Job
	for i, text := range []string{"", "Candidate", "How many", "the answer is 4 and", "a", "Kim has 3", "x y z", "Problem: 1 + 1", "so", "7"} {
		ids := append([]int32{1}, tok.EncodeIDs(text)...)
		all = append(all, Job{ID: fmt.Sprint(i + 1), Prompt: llama.Prompt{Tokens: ids}})
	}
	return all
}

// run continues jobs and returns their results by id, with what was said while they ran.
func run(t *testing.T, o opened, options Options, jobs []Job) (map[string]Result, map[string]string, Stats) {
	t.Helper()
	d := o.decoder(t)
	results, said := make(map[string]Result), make(map[string]string)
	r := Runner{Decoder: d, Context: o.engine.Weights.Config.MaxPositionEmbeddings, Tokenizer: o.tok, Options: options,
		Said: func(job int, text string) error {
			if !utf8.ValidString(text) || text == "" {
				t.Errorf("row %s: told %q, want whole characters", jobs[job].ID, text)
			}
			said[jobs[job].ID] += text
			return nil
		},
		Done: func(job int, r Result) error {
			if r.ID != jobs[job].ID {
				t.Errorf("job %d is row %s, want %s", job, r.ID, jobs[job].ID)
			}
			results[r.ID] = r
			return nil
		}}
	stats, err := r.Run(context.Background(), List(jobs...))
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(jobs) || stats.Rows != len(jobs) || stats.ByToken+stats.ByString+stats.ByLength != len(jobs) {
		t.Errorf("%d results, stats %+v, want %d rows", len(results), stats, len(jobs))
	}
	return results, said, stats
}

func greedy(tokens int) Options {
	return Options{MaxTokens: tokens, Sampling: llama.Sampling{TopP: 1}, Rows: 8}
}

func sampled(tokens int) Options {
	return Options{MaxTokens: tokens, Sampling: llama.Sampling{Temperature: 1, TopK: 50, TopP: 0.95}, Seed: 3, Rows: 8, LogProbs: true}
}

// TestRowsAreTheirOwn: a row's tokens, text and log-probabilities are the same alone, in a batch of 8 and in another order
// with places taken over by others, greedy and drawn.
func TestRowsAreTheirOwn(t *testing.T) {
	onBoth(t, func(t *testing.T, o opened) {
		for name, options := range map[string]Options{"greedy": greedy(9), "sampled": sampled(9)} {
			options.Stop = []int32{2, 30, 31, 32, 33, 34, 35, 36} // so that rows end at different times
			all := jobs(o.tok)
			together, _, _ := run(t, o, options, all)
			shuffled := slices.Clone(all)
			rand.New(rand.NewPCG(1, 1)).Shuffle(len(all), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			options.Rows = 3
			other, _, _ := run(t, o, options, shuffled)
			for _, job := range all {
				alone, _, _ := run(t, o, options, []Job{job})
				want := fmt.Sprint(alone[job.ID])
				if got := fmt.Sprint(together[job.ID]); got != want {
					t.Errorf("%s, row %s in a batch of 8: got %s, alone %s", name, job.ID, got, want)
				}
				if got := fmt.Sprint(other[job.ID]); got != want {
					t.Errorf("%s, row %s shuffled: got %s, alone %s", name, job.ID, got, want)
				}
			}
		}
	})
}

// TestGreedyIsTheDecoders: the tokens are those of the decoder itself, and so are the log-probabilities.
func TestGreedyIsTheDecoders(t *testing.T) {
	onBoth(t, func(t *testing.T, o opened) {
		job := jobs(o.tok)[3]
		options := greedy(6)
		options.LogProbs = true
		results, _, stats := run(t, o, options, []Job{job})
		d := o.decoder(t)
		if err := d.Prefill([][]int32{job.Prompt.Tokens}); err != nil {
			t.Fatal(err)
		}
		for i, id := range results[job.ID].Tokens {
			if want := llama.Greedy(d.Logits(0)); id != want {
				t.Fatalf("token %d: got %d, want %d", i, id, want)
			}
			if got, want := results[job.ID].LogProbs[i], llama.LogProb(d.Logits(0), id); got != want || !(got < 0) || math.IsInf(got, 0) {
				t.Errorf("log-probability %d: got %v, want %v", i, got, want)
			}
			if err := d.Step([]int32{id}); err != nil {
				t.Fatal(err)
			}
		}
		if stats.Tokens != 6 || stats.PromptTokens != len(job.Prompt.Tokens) || !(stats.PromptSeconds > 0) || !(stats.DecodeSeconds > 0) {
			t.Errorf("got %+v, want 6 tokens, %d of the prompt, and the time of both", stats, len(job.Prompt.Tokens))
		}
		if want := o.tok.Decode(append(slices.Clone(job.Prompt.Tokens), results[job.ID].Tokens...)); o.tok.Decode(job.Prompt.Tokens)+results[job.ID].Text != want {
			t.Errorf("prompt and text are %q, want %q", o.tok.Decode(job.Prompt.Tokens)+results[job.ID].Text, want)
		}
	})
}

// TestTextIsWhatTheTokensSay: behind the prompt, to the last byte, also where a row ends within a character.
func TestTextIsWhatTheTokensSay(t *testing.T) {
	onBoth(t, func(t *testing.T, o opened) {
		broken := 0
		for seed := range uint64(5) {
			options := sampled(4)
			options.Seed = seed
			all := jobs(o.tok)
			results, said, _ := run(t, o, options, all)
			for _, job := range all {
				r := results[job.ID]
				all, prompt := o.tok.Decode(append(slices.Clone(r.PromptTokens), r.Tokens...)), o.tok.Decode(r.PromptTokens)
				want, ok := strings.CutPrefix(all, prompt)
				if !ok { // bytes that follow spoil the prompt's last, which is a byte too
					want, ok = strings.CutPrefix(all, prompt[:len(prompt)-1]+"\uFFFD")
				}
				if !ok {
					t.Fatalf("%q does not begin with the prompt %q", all, prompt)
				}
				if r.Text != want || said[job.ID] != want {
					t.Errorf("seed %d, row %s: text %q, said %q, want %q", seed, job.ID, r.Text, said[job.ID], want)
				}
				if last, _ := o.tok.TokenString(r.Tokens[3]); strings.HasPrefix(last, "<0x") {
					broken++
				}
			}
		}
		if broken == 0 {
			t.Error("no row ended with a byte: the test shows nothing")
		}
	})
}

// TestEnds: why a row ends, and what is left of its text.
func TestEnds(t *testing.T) {
	onBoth(t, func(t *testing.T, o opened) {
		job := jobs(o.tok)[1]
		free, said, _ := run(t, o, sampled(30), []Job{job})
		text, tokens := free["2"].Text, free["2"].Tokens
		if said["2"] != text || utf8.RuneCountInString(text) < 12 {
			t.Fatalf("said %q while running, and %q in the end", said["2"], text)
		}
		runes := []rune(text)
		middle := string(runes[4:9])
		spelled, _ := o.tok.TokenString(tokens[3])
		cases := []struct {
			name      string
			change    func(*Options)
			finish    string
			text      string
			stoppedBy string
			tokens    int // -1: fewer than all
		}{
			{"length", func(o *Options) { o.MaxTokens = 1 }, ByLength, "", "", 1},
			{"stop id", func(o *Options) { o.Stop = []int32{tokens[3]} }, ByToken, "", spelled, slices.Index(tokens, tokens[3]) + 1},
			{"stop string", func(o *Options) { o.StopStrings = []string{"nowhere", middle} }, ByString, text[:strings.Index(text, middle)], middle, -1},
			{"two stop strings", func(o *Options) { o.StopStrings = []string{middle, string(runes[2:6])} }, ByString,
				text[:strings.Index(text, string(runes[2:6]))], string(runes[2:6]), -1},
			{"one stop string begins another", func(o *Options) { o.StopStrings = []string{string(runes[4:5]) + "\x00", middle} }, ByString,
				text[:strings.Index(text, middle)], middle, -1},
		}
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				options := sampled(30)
				c.change(&options)
				results, said, _ := run(t, o, options, []Job{job})
				r := results["2"]
				if r.Finish != c.finish || c.stoppedBy != "" && r.StoppedBy != c.stoppedBy {
					t.Errorf("ended by %s %q, want %s %q", r.Finish, r.StoppedBy, c.finish, c.stoppedBy)
				}
				if c.finish == ByString && r.Text != c.text || said["2"] != r.Text {
					t.Errorf("text %q, said %q, want %q", r.Text, said["2"], c.text)
				}
				if c.tokens >= 0 && len(r.Tokens) != c.tokens || c.tokens < 0 && len(r.Tokens) >= len(tokens) ||
					!slices.Equal(r.Tokens, tokens[:len(r.Tokens)]) {
					t.Errorf("tokens %v, want %d of %v", r.Tokens, c.tokens, tokens)
				}
			})
		}
	})
}

// TestContextEnds: a row goes on as long as its tokens have positions, and says so.
func TestContextEnds(t *testing.T) {
	onBoth(t, func(t *testing.T, o opened) {
		size := o.engine.Weights.Config.MaxPositionEmbeddings
		for _, free := range []int{0, 1, 5} {
			ids := make([]int32, size-free)
			for i := range ids {
				ids[i] = int32(3 + i%400)
			}
			job := Job{ID: "long", Prompt: llama.Prompt{Tokens: ids}}
			results, _, stats := run(t, o, greedy(20), []Job{job})
			r := results["long"]
			if r.Finish != ByLength || !r.ContextFull || len(r.Tokens) != free+1 || !slices.Equal(stats.ContextFull, []string{"long"}) {
				t.Errorf("%d positions left: ended by %s with %d tokens, context full %t", free, r.Finish, len(r.Tokens), r.ContextFull)
			}
			if r := mustRun(t, o, greedy(free+1), job); r.ContextFull {
				t.Errorf("%d tokens were asked for and fit: the context was not what ended the row", free+1)
			}
		}
	})
}

func mustRun(t *testing.T, o opened, options Options, job Job) Result {
	t.Helper()
	results, _, _ := run(t, o, options, []Job{job})
	return results[job.ID]
}

// TestCancelled: a run stops between steps.
func TestCancelled(t *testing.T) {
	onBoth(t, func(t *testing.T, o opened) {
		d := o.decoder(t)
		ctx, cancel := context.WithCancel(context.Background())
		said := 0
		r := Runner{Decoder: d, Context: 100, Tokenizer: o.tok, Options: sampled(50), Said: func(int, string) error {
			if said++; said == 3 {
				cancel()
			}
			return nil
		}, Done: func(int, Result) error { return nil }}
		if stats, err := r.Run(ctx, List(jobs(o.tok)[0])); err != context.Canceled || stats.Tokens >= 50 {
			t.Errorf("got error %v after %d tokens, want a run that was cancelled", err, stats.Tokens)
		}
	})
}

// TestNothingSaid: a run need not be told the texts as they come.
func TestNothingSaid(t *testing.T) {
	onBoth(t, func(t *testing.T, o opened) {
		d := o.decoder(t)
		job := jobs(o.tok)[1]
		var got Result
		r := Runner{Decoder: d, Context: 100, Tokenizer: o.tok, Options: greedy(5), Done: func(_ int, r Result) error { got = r; return nil }}
		if _, err := r.Run(context.Background(), List(job)); err != nil {
			t.Fatal(err)
		}
		if want := mustRun(t, o, greedy(5), job); got.Text != want.Text || got.Text == "" {
			t.Errorf("got %q, want %q", got.Text, want.Text)
		}
	})
}

// TestRunStopsAtErrors: what a row's text or result cannot be given to, and a prompt that cannot be computed, end the run.
func TestRunStopsAtErrors(t *testing.T) {
	onBoth(t, func(t *testing.T, o opened) {
		broken := errors.New("disk on fire")
		cases := []struct {
			name       string
			tokens     int
			said, done error
			prompt     []int32 // of the second job, if not nil
			want       string
			results    int // told before
		}{
			{"first tokens", 1, nil, broken, nil, "disk on fire", 1},
			{"later tokens", 2, nil, broken, nil, "disk on fire", 1},
			{"what is said at first", 1, broken, nil, nil, "row 1: disk on fire", 0},
			{"what is said later", 9, broken, nil, nil, "row 2: disk on fire", 0},
			{"empty prompt", 1, nil, nil, []int32{}, "prompts 1 to 3: ", 0},
		}
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				d := o.decoder(t)
				all := jobs(o.tok)[:3]
				if c.prompt != nil {
					all[1].Prompt.Tokens = c.prompt
				}
				results := 0
				r := Runner{Decoder: d, Context: 100, Tokenizer: o.tok, Options: greedy(c.tokens),
					Said: func(job int, text string) error { return c.said },
					Done: func(int, Result) error { results++; return c.done }}
				_, err := r.Run(context.Background(), List(all...))
				if err == nil || !strings.Contains(err.Error(), c.want) || results != c.results {
					t.Errorf("got %v after %d results, want %q after %d", err, results, c.want, c.results)
				}
			})
		}
	})
}

// TestText: pieces of text with stop strings over their borders.
func TestText(t *testing.T) {
	cases := []struct {
		name     string
		stops    []string
		pieces   []string
		certain  []string // after each piece
		said, by string
	}{
		{"none", nil, []string{"a", "", "b"}, []string{"a", "", "b"}, "ab", ""},
		{"over a border", []string{"xyz"}, []string{"ax", "y", "zb"}, []string{"a", "", ""}, "a", "xyz"},
		{"not after all", []string{"xyz"}, []string{"ax", "y", "b"}, []string{"a", "", "xyb"}, "axyb", ""},
		{"begins anew", []string{"aab"}, []string{"aa", "a", "b"}, []string{"", "a", ""}, "a", "aab"},
		{"the first of two", []string{"c", "b"}, []string{"abc"}, []string{"a"}, "a", "b"},
		{"the first to end", []string{"b", "bc"}, []string{"abc"}, []string{"a"}, "a", "b"},
		{"the first to end, in pieces", []string{"b", "bc"}, []string{"ab", "c"}, []string{"a", ""}, "a", "b"},
		{"one within another", []string{"abc", "b"}, []string{"xabc"}, []string{"xa"}, "xa", "b"},
		{"one within another, in pieces", []string{"abc", "b"}, []string{"xa", "bc"}, []string{"x", "a"}, "xa", "b"},
		{"the longest that ends there", []string{"c", "bc", "zc"}, []string{"abc"}, []string{"a"}, "a", "bc"},
		{"the longest that ends there, told first", []string{"bc", "c"}, []string{"abc"}, []string{"a"}, "a", "bc"},
		{"one within another, told first", []string{"b", "abc"}, []string{"xabc"}, []string{"xa"}, "xa", "b"},
		{"begun at the end", []string{"xyz"}, []string{"ax"}, []string{"a"}, "ax", ""},
		{"nothing after it", []string{"b"}, []string{"ab", "c"}, []string{"a", ""}, "a", "b"},
		{"at once", []string{"ab"}, []string{"abc"}, []string{""}, "", "ab"},
		{"characters of several bytes", []string{"é!"}, []string{"xé", "?"}, []string{"x", "é?"}, "xé?", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := &text{stops: c.stops}
			for i, piece := range c.pieces {
				w.add(piece)
				if got := w.certain(false); got != c.certain[i] {
					t.Errorf("after %q: got %q, want %q", piece, got, c.certain[i])
				}
			}
			w.certain(true)
			if w.said != c.said || w.stopped != c.by || w.shown != len(w.said) {
				t.Errorf("got %q stopped by %q, %d shown; want %q stopped by %q", w.said, w.stopped, w.shown, c.said, c.by)
			}
		})
	}
}
