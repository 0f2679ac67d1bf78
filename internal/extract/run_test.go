package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"gotransplant/data"
	"gotransplant/internal/setup"
	"gotransplant/internal/states"
	"gotransplant/llama"
	"gotransplant/model/safetensors"
	"gotransplant/transplant"
)

// questions are n short texts in the embedded model's language.
func questions(n int) string {
	names := []string{"Kim", "Ben", "Olga", "Nils", "Eva"}
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "%s has %d nuts. %s has %d more.\n", names[i%5], i%17, names[(i+i/5+1)%5], i%13)
	}
	return text.String()
}

// content is every file of a directory by name.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, path))
		all[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestResumeAfterCancel: an extraction that is stopped again and again, and resumed, leaves the bytes of one that was not;
// and so does one with another number of workers.
func TestResumeAfterCancel(t *testing.T) {
	for _, format := range []string{"safetensors", "npy"} {
		t.Run(format, func(t *testing.T) {
			file := write(t, strings.Replace(questions(60), "\n", strings.Repeat(" Kim has 1 nuts.", 60)+"\n", 1))
			o := small(func(o *Options) {
				o.Text, o.Format, o.Positions, o.Sites, o.SkipLong = file, format, "last,0", "resid_post,z", true
			})
			x, p := loaded(t, o)
			whole := filepath.Join(t.TempDir(), "whole")
			w, _ := begin(t, x, p, whole)
			if err := x.Run(context.Background(), p, w, func(int) {}); err != nil {
				t.Fatal(err)
			}
			w.Close()
			o.Workers = 1
			x, p = loaded(t, o)
			dir := filepath.Join(t.TempDir(), "stopped")
			w, config := begin(t, x, p, dir)
			stops := 0
			for at := 5; ; at += 9 {
				ctx, cancel := context.WithCancel(context.Background())
				err := x.Run(ctx, p, w, func(done int) {
					if done >= at {
						cancel()
					}
				})
				w.Close()
				cancel()
				if err == nil {
					break
				}
				if !errors.Is(err, transplant.ErrInterrupted) {
					t.Fatal(err)
				}
				stops++
				opened(t, dir) // and read to the end of its index
				if w, err = x.Resume(dir, config, config); err != nil {
					t.Fatal(err)
				}
			}
			if stops < 4 {
				t.Errorf("stopped %d times, want several", stops)
			}
			got, want := content(t, dir), content(t, whole)
			for name := range want {
				if got[name] != want[name] {
					t.Errorf("%s differs: %d bytes, want %d", name, len(got[name]), len(want[name]))
				}
			}
			if len(got) != len(want) || want[SkippedFile] != `{"id":"1","line":1,"tokens":311}`+"\n" {
				t.Errorf("%d files, want %d; %s is %q", len(got), len(want), SkippedFile, want[SkippedFile])
			}
		})
	}
}

// TestTextsDoNotMeet: a text's states have the same bits alone and among others, with which it may go through the layers.
func TestTextsDoNotMeet(t *testing.T) {
	for _, c := range []struct {
		kernels string
		tokens  int // that go together; 0: what is chosen
	}{{"graphs", 0}, {"graphs", 64}, {"panels", 1}, {"panels", 0}} {
		t.Run(fmt.Sprintf("%s, %d tokens", c.kernels, c.tokens), func(t *testing.T) {
			choose := func(text string) Options {
				return small(func(o *Options) {
					o.Text, o.Kernels, o.BatchTokens, o.Sites, o.Positions = write(t, text), c.kernels, c.tokens, "resid_post,k_rot,logits", "last,1"
				})
			}
			lines := questions(9)
			o := choose(lines)
			skipUnlessPanels(t, o)
			s, rows := extracted(t, o)
			for i, line := range strings.Split(strings.TrimSpace(lines), "\n") {
				alone, row := extracted(t, choose(line))
				for _, tensor := range s.Tensors {
					if got, want := values(t, alone, row[0], tensor.Name), values(t, s, rows[i], tensor.Name); !slices.Equal(got, want) {
						t.Errorf("row %d: %s alone differs from that among others", i, tensor.Name)
					}
				}
			}
		})
	}
}

// TestBatchesOnPanels: however many texts go together on panels, the files are the same.
func TestBatchesOnPanels(t *testing.T) {
	file := write(t, questions(40))
	var want map[string]string
	for _, tokens := range []int{1, 64, 300} {
		o := small(func(o *Options) {
			o.Text, o.Kernels, o.BatchTokens, o.Sites, o.Positions = file, "panels", tokens, "resid_pre,k,z,logits", "all"
		})
		skipUnlessPanels(t, o)
		x, p := loaded(t, o)
		dir := filepath.Join(t.TempDir(), "states")
		w, _ := begin(t, x, p, dir)
		if err := x.Run(context.Background(), p, w, func(int) {}); err != nil {
			t.Fatal(err)
		}
		w.Close()
		got := content(t, dir)
		if want == nil {
			want = got
		}
		for name := range want {
			if got[name] != want[name] {
				t.Errorf("%d tokens together: %s differs from that of texts by themselves", tokens, name)
			}
		}
	}
}

// TestPositions: each way to choose positions picks its vectors out of all of them, and the index says which they are.
func TestPositions(t *testing.T) {
	file := write(t, `{"id": "x", "label": [1, "a"], "segments": [{"text": "Kim has "}, {"text": "19 nuts. ", "name": "a"}, {"text": "Ben has 2.", "name": "b"}]}`)
	choose := func(positions, store string) Options {
		return small(func(o *Options) {
			o.JSONL, o.Positions, o.Store, o.Sites = file, positions, store, "resid_mid,q,logits"
		})
	}
	s, rows := extracted(t, choose("all", AsComputed))
	row := rows[0]
	n, a := len(row.Tokens), row.Segments["a"]
	if row.ID != "x" || string(row.Label) != `[1,"a"]` || row.Text != "Kim has 19 nuts. Ben has 2." || row.Count != n || row.Tokens[0] != 1 {
		t.Fatalf("index: %+v", row)
	}
	if got := row.Text[row.Spans[a[0]][0]:row.Spans[a[1]-1][1]]; got != "19 nuts. " || a[1]-a[0] < 2 {
		t.Fatalf("segment a is tokens %v, which are %q", a, got)
	}
	single := func(at ...int) (all [][2]int) {
		for _, i := range at {
			all = append(all, [2]int{i, i + 1})
		}
		return all
	}
	var inside, before []int
	for i := a[0]; i < a[1]; i++ {
		inside, before = append(inside, i), append(before, i-1)
	}
	for _, c := range []struct {
		positions string
		want      [][2]int
	}{
		{"last", single(n - 1)},
		{"0,3,-2", single(0, 3, n-2)},
		{"span:a", single(inside...)},
		{"moved:a", single(before...)},
		{"mean:a", [][2]int{a}},
		{"-1,mean:b,mean:a,0", [][2]int{{n - 1, n}, row.Segments["b"], a, {0, 1}}},
	} {
		t.Run(c.positions, func(t *testing.T) {
			some, rows := extracted(t, choose(c.positions, "float64"))
			got := rows[0]
			for v, r := range c.want {
				end := got.Position[v] + 1
				if got.End != nil {
					end = got.End[v]
				}
				if got.Count != len(c.want) || got.Position[v] != r[0] || end != r[1] {
					t.Errorf("vector %d of %d is tokens %d to %d, want %v of %d", v, got.Count, got.Position[v], end, r, len(c.want))
				}
			}
			for _, tensor := range s.Tensors {
				picked, want := values(t, some, got, tensor.Name), meansOf(values(t, s, row, tensor.Name), n, c.want)
				if tensor.Name == "logits" { // their number changes how they are computed on graphs
					near(t, tensor.Name, picked, want)
				} else if !slices.Equal(picked, want) {
					t.Errorf("%s: got other states than those of %v", tensor.Name, c.want)
				}
			}
		})
	}
}

// meansOf are the means of ranges of n states, one after the other.
func meansOf(all []float64, n int, ranges [][2]int) (means []float64) {
	width := len(all) / n
	for _, r := range ranges {
		for i := range width {
			sum := 0.0
			for p := r[0]; p < r[1]; p++ {
				sum += all[p*width+i]
			}
			means = append(means, sum/float64(r[1]-r[0]))
		}
	}
	return means
}

// TestStore: every type holds the computed states, rounded.
func TestStore(t *testing.T) {
	file := write(t, questions(3))
	choose := func(store string) Options { return small(func(o *Options) { o.Text, o.Store = file, store }) }
	s, rows := extracted(t, choose(AsComputed))
	want := values(t, s, rows[2], "resid_post.1")
	for store, tolerance := range map[string]float64{"float64": 0, "float32": 0x1p-24, "float16": 0x1p-11, "bfloat16": 0x1p-8} {
		some, rows := extracted(t, choose(store))
		for i, got := range values(t, some, rows[2], "resid_post.1") {
			if d := max(got-want[i], want[i]-got); d > tolerance*max(want[i], -want[i])+1e-7 || tolerance == 0 && d > 0 {
				t.Errorf("%s: got %v, want %v", store, got, want[i])
				break
			}
		}
	}
}

// TestStoreOverflow: a state that the type of the files cannot hold ends the run, with its site, layer and text.
func TestStoreOverflow(t *testing.T) {
	x, p := loaded(t, small(func(o *Options) { o.Text, o.Store = write(t, questions(1)), "float16" }))
	g := &gathering{extraction: x, layout: p.Layout, ranges: []data.Span{{Start: 0, End: 1}}, out: make([][]byte, len(p.Layout.Tensors))}
	for i := range g.out {
		g.out[i] = make([]byte, 2*96)
	}
	state := llama.State{Site: llama.SiteResidPost, Layer: 1, Count: 1, Width: 96, Wide: make([]float64, 96)}
	state.Wide[7] = 65520
	if err := g.take(state); err == nil || !strings.Contains(err.Error(), "value 7 is 65520, which F16") {
		t.Errorf("got %v, want value 7 refused", err)
	}
	state.Wide[7] = math.NaN()
	if err := g.take(state); err == nil || !strings.Contains(err.Error(), "value 7 is NaN: the model or the adapter is damaged") {
		t.Errorf("got %v, want the model blamed for NaN", err)
	}
}

// TestMeanInParts: a mean, and single states around it, are the same when they are handed out in parts.
func TestMeanInParts(t *testing.T) {
	x, p := loaded(t, small(func(o *Options) { o.Text, o.Sites = write(t, questions(1)), "logits" }))
	const width, n = 711, 10
	values := make([]float32, n*width)
	for i := range values {
		values[i] = float32(i%101) / 7
	}
	ranges := []data.Span{{Start: 7, End: 8}, {Start: 2, End: 9}, {Start: 3, End: 4}, {Start: 4, End: 5}, {Start: 5, End: 6}}
	gathered := func(step int) []byte {
		g := &gathering{extraction: x, layout: p.Layout, ranges: ranges, out: [][]byte{make([]byte, 4*width*len(ranges))}}
		for first := 0; first < n; first += step {
			count := min(step, n-first)
			s := llama.State{Site: llama.SiteLogits, Layer: llama.NoLayer, First: first, Count: count, Width: width,
				Narrow: values[first*width : (first+count)*width]}
			if err := g.take(s); err != nil {
				t.Fatal(err)
			}
		}
		return g.out[0]
	}
	whole := gathered(n)
	for _, step := range []int{1, 3, 4} {
		if !slices.Equal(gathered(step), whole) {
			t.Errorf("in parts of %d: other bytes", step)
		}
	}
	if got, want := whole[2*4*width:3*4*width], mustAppend(t, values[3*width:4*width]); !slices.Equal(got, want) {
		t.Error("the third vector is not the fourth state")
	}
}

func mustAppend(t *testing.T, values []float32) []byte {
	t.Helper()
	out, err := states.Append(nil, safetensors.F32, values)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSpecials: the name of a special token in a text is that token, or text if asked for, and is counted.
func TestSpecials(t *testing.T) {
	file := write(t, "Kim has 1 nut.</s>\n")
	for _, c := range []struct {
		specials string
		end      bool
	}{{AsTokens, true}, {AsText, false}} {
		o := small(func(o *Options) { o.Text, o.Specials = file, c.specials })
		_, rows := extracted(t, o)
		if got := slices.Contains(rows[0].Tokens, 2); got != c.end {
			t.Errorf("--specials %s: tokens %v, want </s> among them: %t", c.specials, rows[0].Tokens, c.end)
		}
		x, err := Open(t.Context(), o, nil)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := x.Plan(context.Background()); err != nil || p.Specials != 1 {
			t.Errorf("--specials %s: counted %+v, %v, want 1", c.specials, p, err)
		}
	}
}

// TestDataRows: rows of the data set have the tokens that the method reads, and their labels.
func TestDataRows(t *testing.T) {
	for _, c := range []struct{ prompt, label string }{{ArguerCorrect, "true"}, {ArguerIncorrect, "false"}, {Chooser, "2"}} {
		// --specials is for texts: what templates say is theirs
		x, err := Open(t.Context(), small(func(o *Options) { o.Prompt, o.Specials = c.prompt, AsText }), nil)
		if err != nil {
			t.Fatal(err)
		}
		for it, err := range x.input.items(io.Discard) { // the first row, which is swapped
			if err != nil {
				t.Fatal(err)
			}
			want := tokensOfFirstCase(t, x, c.prompt)
			if string(it.Label) != c.label || it.ID != "1" || !slices.Equal(it.tokens.IDs, want) || it.moving != nil {
				t.Errorf("%s: label %s, id %s, tokens %v; want %s, 1, %v", c.prompt, it.Label, it.ID, it.tokens.IDs, c.label, want)
			}
			break
		}
	}
}

// TestMaskChoice: with --mask-choice the chooser's prompt does not say what the third writer chose.
func TestMaskChoice(t *testing.T) {
	rows := write(t, strings.Join(data.Columns(), ",")+"\nq,1,r,2,w,candidate_2,Candidate 2 adds well.,False\n")
	for mask, want := range map[bool]string{false: "Candidate 2 adds well.", true: "Candidate _ adds well."} {
		x, err := Open(t.Context(), small(func(o *Options) {
			o.Data, o.MaskChoice, o.ChooseTemplate = rows, mask, write(t, "{{.ChoiceArgument}}{{span .Candidate1}}{{span .Candidate2}}")
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		for it, err := range x.input.items(io.Discard) {
			if got := it.Prompt.Text(); err != nil || got != want+"rw" {
				t.Errorf("masked %t: got %q, %v; want %q", mask, got, err, want+"rw")
			}
		}
	}
}

// tokensOfFirstCase are those that the method reads of the first row.
func tokensOfFirstCase(t *testing.T, x *Extraction, prompt string) []int32 {
	t.Helper()
	f, err := x.input.open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := data.ReadCSV(f, "embedded")
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := x.input.reader.Case(1, rows[0], rows[0])
	if err != nil {
		t.Fatal(err)
	}
	switch prompt {
	case ArguerCorrect:
		return c.Argue[c.Label-1].IDs
	case ArguerIncorrect:
		return c.Argue[2-c.Label].IDs
	}
	return c.Choose
}

// TestStdin: what comes from the standard input is read twice, and its copy is removed.
func TestStdin(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	x, err := Open(t.Context(), small(func(o *Options) { o.Text = Stdin }), strings.NewReader(questions(3)))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if p, err := x.Plan(context.Background()); err != nil || p.Rows != 3 || p.Input != "standard input" {
			t.Errorf("plan %+v, %v; want 3 rows of the standard input", p, err)
		}
	}
	x.Close()
	if left, _ := os.ReadDir(os.TempDir()); len(left) != 0 {
		t.Errorf("%d temporary files are left", len(left))
	}
}

// TestStdinInterrupted: waiting for the standard input ends with the context, and the copy is removed.
func TestStdinInterrupted(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	waiting, typing := io.Pipe()
	defer typing.Close()
	if _, err := Open(ctx, small(func(o *Options) { o.JSONL = Stdin }), waiting); !errors.Is(err, transplant.ErrInterrupted) {
		t.Errorf("got error %v, want %v", err, transplant.ErrInterrupted)
	}
	if left, _ := os.ReadDir(os.TempDir()); len(left) != 0 {
		t.Errorf("%d temporary files are left", len(left))
	}
}

// TestPlanRefuses: all that is wrong with an input is said at once, by line.
func TestPlanRefuses(t *testing.T) {
	long := strings.Repeat("Kim has 1 nuts. ", 80)
	for _, c := range []struct {
		name   string
		change func(o *Options)
		want   []string
	}{
		{"bad lines", func(o *Options) { o.Text = write(t, "a\n\nb\n \n") }, []string{":2: the line is empty", ":4: the line is empty"}},
		{"long", func(o *Options) { o.Text = write(t, "a\n"+long+"\nb\n") }, []string{"1 of 3 texts", "256 tokens", "ids 2",
			": that is the model's context: take a model with a longer one, or leave them out with --skip-long"}},
		{"longer than the context can be", func(o *Options) { o.Text, o.MaxTokens = write(t, "a\n"+long), 1000 },
			[]string{"more than 256 tokens", ": that is the model's context: take a model"}},
		{"more than are named", func(o *Options) { o.Text = write(t, strings.Repeat(long+"\n", few+1)) },
			[]string{"11 of 11 texts", "(ids 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...)"}},
		{"as many as are named", func(o *Options) { o.Text = write(t, strings.Repeat(long+"\n", few)) }, []string{"9, 10)"}},
		{"all long", func(o *Options) { o.Text, o.SkipLong = write(t, long), true },
			[]string{"all 1 texts have more than 256 tokens: that is the model's context: take a model with a longer one, or shorter texts"}},
		{"max tokens", func(o *Options) { o.Text, o.MaxTokens = write(t, "Kim has 19 nuts.\nKim"), 3 },
			[]string{"more than 3 tokens", ": raise --max-tokens up to the model's context of 256, or leave them out with --skip-long"}},
		{"max tokens, all long", func(o *Options) { o.Text, o.MaxTokens = write(t, "Kim has 19 nuts."), 3 },
			[]string{"1 of 1 texts have more than 3 tokens", ": raise --max-tokens up to the model's context of 256, or shorter texts"}},
		{"no such segment", func(o *Options) {
			o.JSONL, o.Positions = write(t, `{"segments":[{"text":"a","name":"x"}]}`+"\n"+`{"text":"b"}`), "span:y"
		}, []string{`:1: --positions span:y: there is no segment "y"; there are ["x"]`, ":2: "}},
		{"empty segment", func(o *Options) {
			o.JSONL, o.Positions = write(t, `{"segments":[{"text":"a"},{"text":"","name":"x"}]}`), "mean:x"
		}, []string{`segment "x" has no tokens`}},
		{"long arguer", func(o *Options) { o.Transplant, o.ArgueTemplate = true, write(t, long+"{{span .Argument}}") },
			[]string{"1280 of 1280 texts have more than 256 tokens"}},
		{"outside", func(o *Options) { o.Text, o.Positions = write(t, "Kim\nKim has 19 nuts.\n"), "-5" }, []string{":1: ", "position -5 of"}},
		{"more bad lines than are shown", func(o *Options) { o.Text = write(t, strings.Repeat("\n", manyErrors+3)) },
			[]string{fmt.Sprintf(":%d: the line is empty\nand 3 more bad lines", manyErrors)}},
	} {
		x, err := Open(t.Context(), small(c.change), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = x.Plan(context.Background())
		for _, part := range c.want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: got %v, want %q", c.name, err, part)
			}
		}
	}
}

// TestPlanEdges: a text may have all the tokens there are, planning ends with the context, and memory may be used up.
func TestPlanEdges(t *testing.T) {
	file := write(t, "Kim has 19 nuts.")
	whole, err := Open(t.Context(), small(func(o *Options) { o.Text = file }), nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := whole.Plan(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	x, exact := loaded(t, small(func(o *Options) { o.Text, o.MaxTokens = file, p.Longest }))
	if exact.Rows != 1 || exact.TooLong.Rows != 0 {
		t.Errorf("--max-tokens %d: %d rows and %d too long, want the text taken", p.Longest, exact.Rows, exact.TooLong.Rows)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := x.Plan(ctx); !errors.Is(err, transplant.ErrInterrupted) {
		t.Errorf("cancelled: got %v, want %v", err, transplant.ErrInterrupted)
	}
	total := exact.Memory.Total()
	for less, want := range map[int64]string{0: "", 1: "the extraction needs"} {
		err := x.PlanMemory(exact, setup.Capacity{Bytes: total - less, Source: "memory"})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes too few: got %v, want %q", less, err, want)
		}
	}
}

// TestLittleMemory: what does not fit waits with fewer texts, and is then computed in fewer batches at a time, unless their number was
// asked for.
func TestLittleMemory(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	file := write(t, strings.Repeat("Kim has 19 nuts.\n", 200))
	x, p := loaded(t, small(func(o *Options) { o.Text, o.Workers = file, 4 }))
	sweep, window := p.Memory.Sweeps/4, p.Memory.Window
	if window <= 8 {
		t.Fatalf("a window of %d texts, want more than the least of 4 workers", window)
	}
	needs := func(workers, window int) int64 { return x.memory(p, sweep, workers, window).Total() }
	for _, c := range []struct {
		name            string
		asked           int
		room            int64
		workers, window int // 0: refused
		says            string
	}{
		{"all fit", 0, needs(4, window), 4, window, ""},
		{"a byte too few", 0, needs(4, window) - 1, 4, 8, ""},
		{"a byte too few for four", 0, needs(4, 8) - 1, 3, 6, ", with 3 and not 4 batches at a time (--workers)"},
		{"room for two", 0, needs(2, 4), 2, 4, ", with 2 and not 4 batches at a time (--workers)"},
		{"not even one", 0, needs(1, 2) - 1, 0, 0, "; try a smaller --shard-bytes"},
		{"three asked for", 3, needs(3, 6), 3, 6, ""},
		{"three asked for and a byte too few", 3, needs(3, 6) - 1, 0, 0, "; try --workers less than 3, a smaller"},
	} {
		x, p := loaded(t, small(func(o *Options) { o.Text, o.Workers = file, c.asked }))
		err := x.PlanMemory(p, setup.Capacity{Bytes: c.room, Source: "memory"})
		got := p.String()
		if err != nil {
			got = err.Error()
		}
		if (err != nil) != (c.workers == 0) || !strings.Contains(got, c.says) || c.says == "" && strings.Contains(got, "--workers") {
			t.Errorf("%s: got %q, want %q and %d workers", c.name, got, c.says, c.workers)
		}
		if err == nil && (x.workers() != c.workers || p.Memory.Window != c.window) {
			t.Errorf("%s: %d batches at a time and a window of %d, want %d and %d", c.name, x.workers(), p.Memory.Window, c.workers, c.window)
		}
	}
}

// TestVectorsRefuse: positions that a text has not.
func TestVectorsRefuse(t *testing.T) {
	segments := map[string]data.Span{"first": {Start: 0, End: 2}, "second": {Start: 2, End: 4}}
	for _, c := range []struct {
		positions, want string // "" if they are taken
	}{
		{"0", ""}, {"4", ""}, {"-5", ""}, {"5", "position 5 of 5 tokens"}, {"-6", "position -6 of 5 tokens"},
		{"moved:second", ""}, {"span:first", ""}, {"moved:first", `first token of the segment "first"`},
	} {
		picks, err := parsePositions(c.positions)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := vectors(picks, 5, segments); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("--positions %s: got %v, %v; want an error with %q", c.positions, got, err, c.want)
		}
	}
}

// TestLayersAndSites: what was chosen is laid out, in the order of the sites and then of the layers, and nothing else.
func TestLayersAndSites(t *testing.T) {
	x, err := Open(t.Context(), small(func(o *Options) {
		o.Text, o.Sites, o.Layers, o.ShardRows, o.ShardBytes = write(t, "Kim"), "v, logits,resid_pre", "1,3", 1, 1
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, tensor := range x.layout.Tensors {
		got = append(got, tensor.Name)
	}
	if want := []string{"v.1", "v.3", "logits", "resid_pre.1", "resid_pre.3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestPlanText: the plan as it is printed.
func TestPlanText(t *testing.T) {
	long := strings.Repeat("Kim has 1 nuts. ", 80)
	_, p := loaded(t, small(func(o *Options) {
		o.Text, o.SkipLong, o.Sites = write(t, "Kim has 1 nut.</s>\n"+long+"\n"+"Kim\n"), true, "resid_post,k,k_rot,logits"
	}))
	for _, want := range []string{": 2 rows, ", "skipped  1 row of more than 256 tokens: ids 2\n", "note     1 names of special tokens",
		"site     resid_post F64 [2, ", "site     k F32 [2, ", "site     k_rot F32 [2, ", "site     logits F32 [2, 711]: 5688 bytes\n", " in 4 layers: ",
		fmt.Sprintf("files    %d bytes of states, in shards of at most 7 rows", p.Bytes), "memory   weights "} {
		if !strings.Contains(p.String(), want) {
			t.Errorf("got\n%swant %q in it", p, want)
		}
	}
}

// blank is an encoder that makes nothing of a text of spaces, as SentencePiece with remove_extra_whitespaces does.
type blank struct{ data.SpanEncoder }

func (b blank) EncodeSpans(text string, ordinary []data.Span, first bool) ([]int32, []data.Span) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	return b.SpanEncoder.EncodeSpans(text, ordinary, first)
}

// TestNothingButBOS: a text of which the tokenizer makes no token is refused by line; its state would be that of BOS.
func TestNothingButBOS(t *testing.T) {
	x, err := Open(t.Context(), small(func(o *Options) { o.JSONL = write(t, `{"text":"Kim"}`+"\n"+`{"text":" "}`+"\n"+`{"text":" <s>"}`) }), nil)
	if err != nil {
		t.Fatal(err)
	}
	x.input.encoder = blank{x.input.encoder}
	_, err = x.Plan(context.Background())
	if want := ":2: the text has no tokens"; err == nil || !strings.HasSuffix(err.Error(), want) || strings.Contains(err.Error(), ":3:") {
		t.Errorf("got %v, want line 2 alone refused with %q", err, want)
	}
}

// TestOptionsRefuse: options that cannot be are refused with their flag.
func TestOptionsRefuse(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(o *Options)
		want   string
	}{
		{"two inputs", func(o *Options) { o.Text, o.JSONL = "a", "b" }, "--text, --jsonl and --data"},
		{"prompt", func(o *Options) { o.Prompt = "writer" }, "--prompt writer"},
		{"specials", func(o *Options) { o.Specials = "yes" }, "--specials yes"},
		{"site", func(o *Options) { o.Sites = "k,resid" }, `--sites k,resid: "resid" is none of`},
		{"site twice", func(o *Options) { o.Sites = "k,k" }, "stands twice"},
		{"layers", func(o *Options) { o.Layers = "3-4" }, `--layers 3-4: "3-4" is not a layer or range in 0-3`},
		{"positions", func(o *Options) { o.Positions = "last,span" }, `--positions last,span: "span" is none of`},
		{"positions of another kind", func(o *Options) { o.Positions = "sum:a" }, `--positions sum:a: "sum:a" is none of`},
		{"positions of no name", func(o *Options) { o.Positions = "span:" }, `--positions span:: "span:" is none of`},
		{"store", func(o *Options) { o.Store = "int8" }, "--store int8"},
		{"format", func(o *Options) { o.Format = "csv" }, "--format csv"},
		{"no bfloat16 in numpy", func(o *Options) { o.Format, o.Store = "npy", "bfloat16" }, "--store bfloat16"},
		{"shard rows", func(o *Options) { o.ShardRows = 0 }, "--shard-rows 0"},
		{"shard bytes", func(o *Options) { o.ShardBytes = 0 }, "--shard-bytes 0"},
		{"no such adapter", func(o *Options) { o.Adapter = "no/such" }, "no/such"},
		{"no such arguer", func(o *Options) { o.Transplant, o.ArguerAdapter = true, "no/such" }, "no/such"},
		{"transplant into a text", func(o *Options) { o.Transplant, o.Text = true, "a" }, "--transplant moves"},
		{"transplant into the arguer", func(o *Options) { o.Transplant, o.Prompt = true, ArguerCorrect }, "--transplant moves"},
		{"transplanted layers", func(o *Options) { o.Transplant, o.TransplantLayers = true, "7" }, "--transplant-layers 7"},
		{"an arguer for nothing", func(o *Options) { o.ArguerAdapter = "a" }, "give --transplant too"},
		{"no such model", func(o *Options) { o.Model = "no/such" }, "no/such"},
	} {
		if _, err := Open(t.Context(), small(c.change), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// TestMemoryDoesNotGrow: ten thousand texts need no more memory than five hundred, which fill both windows, whatever is garbage not
// counted.
func TestMemoryDoesNotGrow(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: reads ten thousand texts")
	}
	peak := func(t *testing.T, n int) (most uint64) {
		o := small(func(o *Options) { o.Text, o.Layers, o.ShardRows = write(t, questions(n)), "0", 40 })
		x, p := loaded(t, o)
		w, _ := begin(t, x, p, filepath.Join(t.TempDir(), "states"))
		defer w.Close()
		err := x.Run(context.Background(), p, w, func(done int) {
			if done%33 != 0 { // in shards that are nearly full, and others
				return
			}
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		})
		if err != nil {
			t.Fatal(err)
		}
		return most
	}
	var few, many uint64 // one after the other, so that the first leaves nothing behind
	t.Run("500", func(t *testing.T) { few = peak(t, 500) })
	t.Run("10000", func(t *testing.T) { many = peak(t, 10000) })
	t.Logf("most in use: %.2f MB with 500 texts, %.2f MB with 10,000", float64(few)/1e6, float64(many)/1e6)
	const margin = 600_000 // 60 bytes a text
	if many > few+margin {
		t.Errorf("%d bytes in use with 10,000 texts, want at most %d more than the %d with 500", many, margin, few)
	}
}

// TestFileChangesMeanwhile: a file that is not what was planned is an error.
func TestFileChangesMeanwhile(t *testing.T) {
	file := write(t, questions(3))
	x, p := loaded(t, small(func(o *Options) { o.Text = file }))
	for text, want := range map[string]string{questions(4): "changed while it was read", questions(2) + "\n": ":3: the line is empty"} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		w, _ := begin(t, x, p, filepath.Join(t.TempDir(), "states"))
		if err := x.Run(context.Background(), p, w, func(int) {}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
		w.Close()
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Plan(context.Background()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that the file is not there", err)
	}
}

// TestResumeRefuses: an extraction is not continued on another input, model or adapter.
func TestResumeRefuses(t *testing.T) {
	x, p := loaded(t, small(func(o *Options) { o.Text = write(t, questions(3)) }))
	dir := filepath.Join(t.TempDir(), "states")
	w, c := begin(t, x, p, dir)
	w.Close()
	for what, change := range map[string]func(c *Config){
		"the input": func(c *Config) { c.Input = "x" }, "the model's files": func(c *Config) { c.Model = "x" },
		"the adapter's files":          func(c *Config) { c.Adapter = "x" },
		"the arguer's adapter's files": func(c *Config) { c.Arguer = "x" }, "the templates": func(c *Config) { c.Prompts = "x" },
	} {
		now := c
		change(&now)
		if _, err := x.Resume(dir, c, now); err == nil || !strings.Contains(err.Error(), what+" changed") {
			t.Errorf("%s: got %v, want a refusal that names it", what, err)
		}
	}
	one := fingerprintOf(t, "a", "b")
	for name, other := range map[string]string{"a name": fingerprintOf(t, "c", "b"), "a content": fingerprintOf(t, "a", "c")} {
		if one == other {
			t.Errorf("directories that differ in %s of a file have the same fingerprint", name)
		}
	}
	// A merged model has the base's embedding, which its file begins with, and differs in some layers.
	base := strings.Repeat("a", 4*beginning)
	merged := base[:2*beginning] + strings.Repeat("b", beginning/8) + base[2*beginning+beginning/8:]
	if fingerprintOf(t, "a", base) == fingerprintOf(t, "a", merged) {
		t.Error("two models that begin with the same embedding have the same fingerprint")
	}
}

// TestPrints: what the config of an extraction tells apart, and what it does not.
func TestPrints(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) string {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	put("a.json", "a")
	put("b.safetensors", "b")
	adapter := func() string {
		t.Helper()
		sum, err := adapterPrint(dir)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	before := adapter()
	put("notes.txt", "c")
	if err := os.Mkdir(filepath.Join(dir, "c.json"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := adapter(); got != before || got == "" {
		t.Errorf("got %q with notes and a directory beside the files, and %q without", got, before)
	}
	prints, err := FilePrints(os.DirFS(dir), ".")
	if err != nil || len(prints) != 2 || prints["a.json"] == prints["b.safetensors"] || prints["a.json"] == "" {
		t.Errorf("got %v, %v, want prints of a.json and b.safetensors", prints, err)
	}
	put("b.safetensors", "c")
	if adapter() == before {
		t.Error("an adapter with another file has the same fingerprint")
	}
	if got, err := adapterPrint(""); got != "" || err != nil {
		t.Errorf("no adapter: got %q, %v, want nothing", got, err)
	}
	none := filepath.Join(dir, "none")
	for _, err := range []error{second(adapterPrint(none)), second(FilePrints(os.DirFS(none), "."))} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a directory that is not there: got %v, want an error", err)
		}
	}
	prompts := func(change func(o *Options)) string {
		t.Helper()
		sum, err := (&Extraction{options: small(change)}).promptPrint()
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	one, two := put("one.tmpl", "1"), put("two.tmpl", "2")
	seen := map[string]string{}
	for name, o := range map[string]func(o *Options){
		"built in": func(o *Options) {}, "argue": func(o *Options) { o.ArgueTemplate = one }, "choose": func(o *Options) { o.ChooseTemplate = two },
		"both": func(o *Options) { o.ArgueTemplate, o.ChooseTemplate = one, two }, "the other way": func(o *Options) { o.ArgueTemplate, o.ChooseTemplate = two, one },
	} {
		sum := prompts(o)
		if other, twice := seen[sum]; twice || sum == "" {
			t.Errorf("the templates %s and %s have the same print %q", name, other, sum)
		}
		seen[sum] = name
	}
	for name, o := range map[string]func(o *Options){
		"text": func(o *Options) { o.Text, o.ArgueTemplate = "x", one }, "JSONL": func(o *Options) { o.JSONL, o.ArgueTemplate = "x", one },
	} {
		if got := prompts(o); got != "" {
			t.Errorf("%s: got %q, want none: no template is used", name, got)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestSkippedFile: the list of what is left out is there if something is, and comes back if it was lost.
func TestSkippedFile(t *testing.T) {
	long := strings.Repeat("Kim has 1 nuts. ", 80)
	short := `{"text":"Kim"}` + "\n"
	for text, want := range map[string]string{short: "", short + `{"id":"<a>","text":"` + long + `"}`: `{"id":"<a>","line":2,"tokens":`} {
		x, p := loaded(t, small(func(o *Options) { o.JSONL, o.SkipLong = write(t, text), true }))
		dir := filepath.Join(t.TempDir(), "states")
		w, c := begin(t, x, p, dir)
		w.Close()
		begun, there := content(t, dir)[SkippedFile]
		if there != (want != "") || !strings.HasPrefix(begun, want) {
			t.Errorf("begun: got %q, %t, want %q", begun, there, want)
		}
		os.Remove(filepath.Join(dir, SkippedFile))
		w, err := x.Resume(dir, c, c)
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		if resumed, still := content(t, dir)[SkippedFile]; resumed != begun || still != there {
			t.Errorf("resumed: got %q, %t, want %q, %t", resumed, still, begun, there)
		}
	}
}

// TestConfigOfAnotherProgram: the directory of a training, say, is not taken for one of states.
func TestConfigOfAnotherProgram(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, states.ConfigFile), []byte(`{"program": "transplant-train"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadConfig(dir); err == nil || !strings.Contains(err.Error(), "transplant-train") {
		t.Errorf("got %v, want an error that names transplant-train", err)
	}
}

func fingerprintOf(t *testing.T, name, content string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name+".json"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	sum, err := fingerprint(os.DirFS(dir), ".")
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
