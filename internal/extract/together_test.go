package extract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"gotransplant/data"
	"gotransplant/internal/states"
	"gotransplant/llama"
	"gotransplant/model/safetensors"
)

// texts are of so many words each, in as many tokens and one in front.
func texts(words ...int) string {
	var text strings.Builder
	for i, n := range words {
		fmt.Fprintln(&text, []string{"Kim", "Ben", "Olga"}[i%3]+strings.Repeat(" nuts", n-1))
	}
	return text.String()
}

// TestFeed: texts of a padded length go to work together as soon as there are all that belong together, and what is left when a
// window is full or the input ends goes as it is. They wait in the order of the input.
func TestFeed(t *testing.T) {
	for _, c := range []struct {
		name, kernels string
		words         []int
		skip, window  int
		want          string // rows that go to work together, from 0
	}{
		{"one length", "graphs", []int{2, 3, 4, 5, 6}, 0, 20, "[0 1 2 3] [4]"},
		{"two lengths", "graphs", []int{2, 9, 3, 10, 4, 5}, 0, 20, "[1 3] [0 2 4 5]"},
		{"longer than a batch", "graphs", []int{40, 2, 40, 3}, 0, 20, "[0] [2] [1 3]"},
		{"a window of two", "graphs", []int{2, 9, 3, 4, 5}, 0, 2, "[0] [1] [2 3] [4]"},
		{"two lengths, a panel both", "panels", []int{2, 9, 3, 10, 4, 5}, 0, 20, "[0 1] [2 3] [4 5]"},
		{"skipped", "graphs", []int{2, 3, 4, 5, 6}, 2, 20, "[0 1 2]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := small(func(o *Options) { o.Text, o.Kernels, o.BatchTokens = write(t, texts(c.words...)), c.kernels, 32 })
			skipUnlessPanels(t, o)
			x, p := loaded(t, o)
			waiting, work := make(chan *job, len(c.words)), make(chan []*job, len(c.words))
			free := make(chan *window, len(c.words))
			for range cap(free) {
				free <- newWindow(c.window, len(p.Layout.Tensors))
			}
			if err := x.feed(context.Background(), c.skip, free, waiting, work); err != nil {
				t.Fatal(err)
			}
			close(work)
			close(waiting)
			row := make(map[*job]int)
			for j := range waiting {
				row[j] = len(row)
				if want := c.skip + len(row); j.item.Line != want {
					t.Errorf("line %d waits, want %d", j.item.Line, want)
				}
			}
			var got []string
			for jobs := range work {
				var rows []int
				for _, j := range jobs {
					rows = append(rows, row[j])
				}
				got = append(got, fmt.Sprint(rows))
			}
			if got := strings.Join(got, " "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestPlanOfBatches: the plan is for as many texts as go together, or as there are of a length, and for all states that are read of
// them.
func TestPlanOfBatches(t *testing.T) {
	sweep := func(positions string, words ...int) int64 {
		o := small(func(o *Options) {
			o.Text, o.Kernels, o.BatchTokens, o.Workers, o.Positions = write(t, texts(words...)), "panels", 64, 1, positions
		})
		skipUnlessPanels(t, o)
		_, p := loaded(t, o)
		return p.Memory.Sweeps
	}
	const state = 8 * 96 // bytes of the embedded model's residual stream
	one, two, four := sweep("last", 2), sweep("last", 2, 3), sweep("last", 2, 3, 2, 3)
	if two != 2*one || four != 4*one {
		t.Errorf("texts of one length: %d bytes for one, %d for two, %d for four; want in proportion", one, two, four)
	}
	if got := sweep("last", 2, 3, 2, 3, 2, 3); got != four {
		t.Errorf("six texts, of which four go together: %d bytes, want %d", got, four)
	}
	if got := sweep("last", 2, 3, 40); got <= two {
		t.Errorf("two short texts and a long one: %d bytes, want more than the %d of the short ones", got, two)
	}
	x, p := loaded(t, small(func(o *Options) { o.Text = write(t, texts(5)) }))
	more := int64(p.Longest-1) * state
	if got := sweep("all", 5, 2); got != sweep("last", 5, 2)+2*more {
		t.Errorf("all states of two texts: %d bytes, want those of the last and %d for the others, as many as the longer has", got, 2*more)
	}
	if x.workers() != 2 || p.Memory.Workers != 1 {
		t.Errorf("one text: a plan for %d batches at a time, want 1 of the %d asked for", p.Memory.Workers, x.workers())
	}
}

// TestErrorNamesItsText: of texts that go together the one whose state cannot be stored is named, and one of them for what is wrong
// with all.
func TestErrorNamesItsText(t *testing.T) {
	x, p := loaded(t, small(func(o *Options) { o.Text, o.Store = write(t, texts(2, 3, 4)), "float16" }))
	var jobs []*job
	var parts []part
	for it, err := range x.input.items(io.Discard) {
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, &job{item: it})
		g := &gathering{extraction: x, layout: p.Layout, ranges: []data.Span{{Start: 0, End: 1}}}
		for range p.Layout.Tensors {
			g.out = append(g.out, make([]byte, 2*96))
		}
		parts = append(parts, part{first: len(parts), count: 1, to: g})
	}
	state := llama.State{Site: llama.SiteResidPost, Layer: 1, Count: 3, Width: 96, Wide: make([]float64, 3*96)}
	if err := x.named(jobs, handOut(state, parts)); err != nil {
		t.Fatal(err)
	}
	state.Wide[96+7] = 65520
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"one", fmt.Errorf("states of %s: %w", state.Site, handOut(state, parts)), "id 2, line 2: states of resid_post: value 7 is 65520"},
		{"all", errors.New("the device is lost"), "id 1, line 1, and 2 texts beside it: the device is lost"},
	} {
		if got := x.named(jobs, c.err); got == nil || !strings.Contains(got.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, got, c.want)
		}
	}
}

// TestHandedOutInParts: states of texts that go together are the same for each text whether they come at once or some at a time, as
// logits do.
func TestHandedOutInParts(t *testing.T) {
	x, p := loaded(t, small(func(o *Options) { o.Text, o.Sites = write(t, texts(2)), "logits" }))
	const width = 711
	counts := []int{3, 1, 4}
	all := make([]float32, 8*width)
	for i := range all {
		all[i] = float32(i%1009) / 7
	}
	handed := func(step int) (out [][]byte) {
		var parts []part
		first := 0
		for _, n := range counts {
			g := &gathering{extraction: x, layout: p.Layout, out: [][]byte{make([]byte, 4*width*n)}}
			for i := range n {
				g.ranges = append(g.ranges, data.Span{Start: i, End: i + 1})
			}
			parts = append(parts, part{first: first, count: n, to: g})
			out, first = append(out, g.out[0]), first+n
		}
		for at := 0; at < 8; at += step {
			n := min(step, 8-at)
			s := llama.State{Site: llama.SiteLogits, Layer: llama.NoLayer, First: at, Count: n, Width: width, Narrow: all[at*width : (at+n)*width]}
			if err := handOut(s, parts); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	whole, err := states.Append(nil, safetensors.F32, all)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []int{8, 5, 2, 1} {
		if got := slices.Concat(handed(step)...); !bytes.Equal(got, whole) {
			t.Errorf("%d at a time: other states", step)
		}
	}
}
