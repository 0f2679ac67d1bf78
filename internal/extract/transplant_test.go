package extract

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// transplanted are the options that read the golden case's chooser during the transplant.
func transplanted(kernels string) Options {
	dir := filepath.Join("..", "..", "transplant", "testdata", "golden-small")
	return small(func(o *Options) {
		o.Model, o.Data, o.Kernels = filepath.Join(dir, "model"), filepath.Join(dir, "rows.csv"), kernels
		o.ArgueTemplate, o.ChooseTemplate = filepath.Join(dir, "templates", "argue.tmpl"), filepath.Join(dir, "templates", "choose.tmpl")
		o.Adapter, o.ArguerAdapter = filepath.Join(dir, "adapters", "chooser"), filepath.Join(dir, "adapters", "arguer")
		o.Transplant, o.Sites = true, "logits"
	})
}

// TestTransplantIsTheReference: the logits that the chooser has with the arguer's states are those of the reference run,
// and without --transplant those of the reference without it.
func TestTransplantIsTheReference(t *testing.T) {
	var expected struct {
		LabelIDs [2]int `json:"label_ids"`
		Rows     []struct {
			ChooserIDs []int32 `json:"chooser_ids"`
			With1      float64 `json:"logprob_1"`
			With2      float64 `json:"logprob_2"`
			Without1   float64 `json:"no_transplant_logprob_1"`
			Without2   float64 `json:"no_transplant_logprob_2"`
		}
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "transplant", "testdata", "golden-small", "expected.json"))
	if err == nil {
		err = json.Unmarshal(text, &expected)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, kernels := range []string{"graphs", "panels"} {
		for _, moved := range []bool{true, false} {
			o := transplanted(kernels)
			skipUnlessPanels(t, o)
			if o.Transplant = moved; !moved {
				o.ArguerAdapter = ""
			}
			s, rows := extracted(t, o)
			if len(rows) != len(expected.Rows) {
				t.Fatalf("%d rows, want %d", len(rows), len(expected.Rows))
			}
			for i, row := range rows {
				want := expected.Rows[i]
				if !slices.Equal(row.Tokens, want.ChooserIDs) {
					t.Errorf("row %d: tokens %v, want %v", i, row.Tokens, want.ChooserIDs)
				}
				logits, err := s.Float64s(row, "logits")
				if err != nil {
					t.Fatal(err)
				}
				both := [2]float64{want.With1, want.With2}
				if !moved {
					both = [2]float64{want.Without1, want.Without2}
				}
				for j, id := range expected.LabelIDs {
					if got := logits[id] - logSum(logits); math.Abs(got-both[j]) > 1e-4*math.Abs(both[j]) {
						t.Errorf("%s, transplant %t, row %d, label %d: got %v, want %v", kernels, moved, i, j+1, got, both[j])
					}
				}
			}
		}
	}
}

// TestTransplantLayers: in a layer that is not transplanted the stream is that of the chooser alone; the logits are not.
func TestTransplantLayers(t *testing.T) {
	read := func(moved bool, layers, name string) []float64 {
		o := transplanted("auto")
		o.Sites, o.Positions = "resid_post,logits", "last"
		if o.Transplant, o.TransplantLayers = moved, layers; !moved {
			o.ArguerAdapter = ""
		}
		s, rows := extracted(t, o)
		x, err := s.Float64s(rows[0], name)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	off := func(a, b []float64) (largest float64) {
		for i, v := range a {
			largest = max(largest, math.Abs(v-b[i]))
		}
		return largest
	}
	if d := off(read(true, "1", "resid_post.0"), read(false, "all", "resid_post.0")); d > 1e-5 {
		t.Errorf("layer 1 transplanted: layer 0 is %g from the chooser alone", d)
	}
	for _, layers := range []string{"0", "all"} {
		if d := off(read(true, "1", "logits"), read(true, layers, "logits")); d < 1e-3 {
			t.Errorf("layers 1 and %s transplanted: logits are %g apart", layers, d)
		}
	}
}

// logSum is the logarithm of the sum of the exponentials.
func logSum(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(v - slices.Max(x))
	}
	return math.Log(sum) + slices.Max(x)
}

// TestTransplantReadsEveryPosition: also those whose keys and values are replaced, and the plan counts the arguer's prompts
// among what must fit into the context.
func TestTransplantReadsEveryPosition(t *testing.T) {
	o := transplanted("auto")
	o.Sites, o.Positions = "resid_post", "moved:Candidate1,all"
	s, rows := extracted(t, o)
	for _, row := range rows {
		segment := row.Segments["Candidate1"]
		if row.Count != segment[1]-segment[0]+len(row.Tokens) {
			t.Errorf("row %s: %d vectors for %d tokens and the segment %v", row.ID, row.Count, len(row.Tokens), segment)
		}
		x, err := s.Float64s(row, "resid_post.0")
		if err != nil {
			t.Fatal(err)
		}
		width := len(x) / row.Count
		n := segment[1] - segment[0]
		all := x[n*width:]
		if !slices.Equal(x[:n*width], all[(segment[0]-1)*width:(segment[1]-1)*width]) {
			t.Errorf("row %s: the moved positions are not those one to the left of the segment", row.ID)
		}
	}
	x, p := loaded(t, o)
	if c := p.longest.moving; c == nil || p.longest.length() != c.Longest() || p.Memory.Sweeps <= 0 {
		t.Errorf("the longest row %+v, memory %+v", p.longest.ID, p.Memory)
	}
	if got, want := x.reading.Method.Arguer != nil, true; got != want {
		t.Error("the method has no arguer")
	}
}
