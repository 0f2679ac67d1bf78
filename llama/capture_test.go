package llama

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotransplant/model"

	"github.com/gomlx/compute/dtypes"
)

// allSites are the names in the table.
func allSites() (names []Site) {
	for _, info := range Sites() {
		names = append(names, info.Site)
	}
	return names
}

// taken are captured states by "site layer", all in float64.
type taken map[string][]float64

func (t taken) take(s State) error {
	key := fmt.Sprintf("%s %d", s.Site, s.Layer)
	if s.First*s.Width != len(t[key]) || len(s.Wide)+len(s.Narrow) != s.Count*s.Width {
		return fmt.Errorf("%s: %d states of %d from the %d-th on, after %d values", key, s.Count, s.Width, s.First, len(t[key]))
	}
	t[key] = append(t[key], s.Wide...)
	for _, v := range s.Narrow {
		t[key] = append(t[key], float64(v))
	}
	return nil
}

// captureAll reads everything at the given tokens.
func captureAll(t *testing.T, e *Engine, seq Sequences, source []int32) taken {
	t.Helper()
	states := taken{}
	if err := e.Capture(seq, StreamOptions{Capture: &Capture{Sites: allSites(), Source: source, Take: states.take}}); err != nil {
		t.Fatal(err)
	}
	return states
}

func smallModel() string {
	return filepath.Join("..", "transplant", "testdata", "golden-small", "model")
}

// twoRows are rows of 21 and 37 tokens, padded to 40, and all that is no padding.
func twoRows(vocabulary int) (seq Sequences, tokens []int32) {
	seq = Sequences{Rows: 2, Length: 40}
	for row, n := range []int{21, 37} {
		for i := range seq.Length {
			id, branch := int32((7*i+13*row+3)%vocabulary), int32(0)
			if i >= n {
				id, branch = 0, -1
			} else {
				tokens = append(tokens, int32(row*seq.Length+i))
			}
			seq.Token, seq.Position, seq.Branch = append(seq.Token, id), append(seq.Position, int32(i)), append(seq.Branch, branch)
		}
	}
	return seq, tokens
}

// picked are the rows of all [n, width] with the given numbers.
func picked(all []float64, width int, rows []int32) (out []float64) {
	for _, r := range rows {
		out = append(out, all[int(r)*width:(int(r)+1)*width]...)
	}
	return out
}

func same(t *testing.T, name string, got, want []float64) {
	t.Helper()
	near(t, name, got, want, 0)
}

// TestCaptureIsTheForwardPass: what is captured has the bits of the pass that captures nothing, the parts of the residual
// stream add up exactly, and a layer begins with what the one before left.
func TestCaptureIsTheForwardPass(t *testing.T) {
	decodes(t, smallModel(), func(t *testing.T, e *Engine) {
		cfg := e.Weights.Config
		seq, tokens := twoRows(cfg.VocabSize)
		states := captureAll(t, e, seq, tokens)
		var export *Export
		if e.Panels() {
			export = &Export{Count: len(tokens) / 2, Source: tokens}
		}
		s, err := e.NewStream(seq, StreamOptions{Export: export})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		add := func(a, b []float64) (sum []float64) {
			for i := range a {
				sum = append(sum, a[i]+b[i])
			}
			return sum
		}
		for layer := range cfg.NumHiddenLayers {
			at := func(site Site) []float64 { return states[fmt.Sprintf("%s %d", site, layer)] }
			name := func(site Site) string { return fmt.Sprintf("%s of layer %d", site, layer) }
			same(t, name(SiteResidPre), at(SiteResidPre), picked(residual(t, s), cfg.HiddenSize, tokens))
			kv, err := s.Forward(layer, nil, !e.Panels())
			if err != nil {
				t.Fatal(err)
			}
			if !e.Panels() {
				width := cfg.NumKeyValueHeads * cfg.HeadDim
				same(t, name(SiteK), at(SiteK), picked(flat64(t, kv.K), width, tokens))
				same(t, name(SiteV), at(SiteV), picked(flat64(t, kv.V), width, tokens))
				s.Release(layer)
			}
			same(t, name(SiteResidPost), at(SiteResidPost), picked(residual(t, s), cfg.HiddenSize, tokens))
			same(t, name(SiteResidMid), at(SiteResidMid), add(at(SiteResidPre), at(SiteAttnOut)))
			same(t, name(SiteResidPost), at(SiteResidPost), add(at(SiteResidMid), at(SiteMLPOut)))
		}
		logits, err := s.Logits()
		if err != nil {
			t.Fatal(err)
		}
		var wide []float64
		for _, v := range logits {
			wide = append(wide, float64(v))
		}
		near(t, "logits", states["logits -1"], picked(wide, cfg.VocabSize, tokens), 1e-5)
	})
}

// residual is the residual stream before the next layer, [B, S, M].
func residual(t *testing.T, s *Stream) []float64 {
	t.Helper()
	p := s.panels
	if p == nil {
		return flat64(t, s.x)
	}
	values := make([]float64, p.rows*p.given*p.x.Rows)
	for i := range p.rows * p.given {
		if column, ok := p.column(i); ok {
			readColumns(values[i*p.x.Rows:], p.x.Rows, p.x.Panel, []int{column})
		}
	}
	return values
}

// TestCapturedAttention: rotated keys, and what attention gives each head, follow from the captured queries, keys and
// values by the formulas, written out plainly.
func TestCapturedAttention(t *testing.T) {
	decodes(t, smallModel(), func(t *testing.T, e *Engine) {
		cfg := e.Weights.Config
		const n = 37
		seq := trunk(make([]int32, n))
		for i := range seq.Token {
			seq.Token[i] = int32((11*i + 5) % cfg.VocabSize)
		}
		states := captureAll(t, e, seq, seq.Position) // which are the indices too
		if !e.Panels() {
			blocks := taken{}
			o := StreamOptions{Attention: BlockwiseAttention, Capture: &Capture{Sites: allSites(), Source: seq.Position, Take: blocks.take}}
			if err := e.Capture(seq, o); err != nil {
				t.Fatal(err)
			}
			near(t, "z of blockwise attention", blocks["z 2"], states["z 2"], 1e-5)
			near(t, "k_rot of blockwise attention", blocks["k_rot 2"], states["k_rot 2"], 1e-5)
		}
		for layer := range cfg.NumHiddenLayers {
			at := func(site Site) []float64 { return states[fmt.Sprintf("%s %d", site, layer)] }
			keys := rotated(at(SiteK), cfg, cfg.NumKeyValueHeads)
			near(t, fmt.Sprintf("k_rot of layer %d", layer), at(SiteKRot), keys, 1e-5)
			z := plainAttention(rotated(at(SiteQ), cfg, cfg.NumAttentionHeads), keys, at(SiteV), cfg)
			near(t, fmt.Sprintf("z of layer %d", layer), at(SiteZ), z, 1e-5)
		}
	})
}

// rotated turns heads [n, heads, D] by the angles of positions 0..n-1.
func rotated(x []float64, cfg model.Config, heads int) []float64 {
	out, half := make([]float64, len(x)), cfg.HeadDim/2
	for from := 0; from < len(x); from += cfg.HeadDim {
		for i, f := range cfg.InverseFrequencies() {
			sin, cos := math.Sincos(float64(from/(heads*cfg.HeadDim)) * f)
			a, b := x[from+i], x[from+half+i]
			out[from+i], out[from+half+i] = a*cos-b*sin, b*cos+a*sin
		}
	}
	return out
}

// plainAttention is causal softmax attention of rotated q [n, H, D] over k and v [n, G, D]: [n, H, D].
func plainAttention(q, k, v []float64, cfg model.Config) []float64 {
	heads, groups, dim := cfg.NumAttentionHeads, cfg.NumKeyValueHeads, cfg.HeadDim
	z := make([]float64, len(q))
	for p := range len(q) / (heads * dim) {
		for h := range heads {
			g := h / (heads / groups)
			query, out := q[(p*heads+h)*dim:][:dim], z[(p*heads+h)*dim:][:dim]
			total := 0.0
			for j := range p + 1 {
				key, value := k[(j*groups+g)*dim:][:dim], v[(j*groups+g)*dim:][:dim]
				score := 0.0
				for i := range dim {
					score += query[i] * key[i]
				}
				weight := math.Exp(score / math.Sqrt(float64(dim)))
				total += weight
				for i := range dim {
					out[i] += weight * value[i]
				}
			}
			for i := range dim {
				out[i] /= total
			}
		}
	}
	return z
}

// TestCaptureStories: captured states are the reference activations of a model trained by others.
func TestCaptureStories(t *testing.T) {
	dir, _ := storiesIDs(t)
	golden := cGolden(t, filepath.Join(dir, "golden_f32.txt"))
	var ids []int32
	for _, id := range golden["tokens -1 13"] {
		ids = append(ids, int32(id))
	}
	decodes(t, dir, func(t *testing.T, e *Engine) {
		cfg := e.Weights.Config
		seq := trunk(ids)
		states := captureAll(t, e, seq, seq.Position)
		compare := func(name string, all []float64, layer int) {
			width := len(all) / len(ids)
			for p := range ids {
				key := fmt.Sprintf("%s %d %d", name, layer, p)
				near(t, key, all[p*width:(p+1)*width], golden[key], 1e-4)
			}
		}
		compare("resid", states["resid_pre 0"], -1)
		for layer := range cfg.NumHiddenLayers {
			compare("resid", states[fmt.Sprintf("resid_post %d", layer)], layer)
			compare("value", states[fmt.Sprintf("v %d", layer)], layer)
			compare("key_postrope", interleaved(states[fmt.Sprintf("k_rot %d", layer)], cfg), layer)
		}
		compare("logits", states["logits -1"], -1)
	})
}

// interleaved brings rotary pairs side by side, as the C program has them.
func interleaved(k []float64, cfg model.Config) []float64 {
	out, half := make([]float64, len(k)), cfg.HeadDim/2
	for from := 0; from < len(k); from += cfg.HeadDim {
		for i := range half {
			out[from+2*i], out[from+2*i+1] = k[from+i], k[from+half+i]
		}
	}
	return out
}

// TestCaptureSome: only the sites, layers and tokens that were asked for are handed out, in order, with their bits.
func TestCaptureSome(t *testing.T) {
	decodes(t, smallModel(), func(t *testing.T, e *Engine) {
		seq, tokens := twoRows(e.Weights.Config.VocabSize)
		all := captureAll(t, e, seq, tokens)
		source := []int32{int32(seq.Length) + 36, 3, 3} // in any order, and twice
		var order []string
		some := taken{}
		err := e.Capture(seq, StreamOptions{Capture: &Capture{Sites: []Site{SiteV, SiteResidMid}, Layers: []bool{true, false, true},
			Source: source, Take: func(s State) error {
				order = append(order, fmt.Sprintf("%s %d", s.Site, s.Layer))
				return some.take(s)
			}}})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(order, ","), "v 0,resid_mid 0,v 2,resid_mid 2"; got != want {
			t.Errorf("taken %s, want %s", got, want)
		}
		for key, got := range some {
			width := len(got) / len(source)
			var rows []int32
			for _, token := range source {
				rows = append(rows, int32(slices.Index(tokens, token)))
			}
			same(t, key, got, picked(all[key], width, rows))
		}
	})
}

// TestManyLogits: logits that are made in several parts are those made at once.
func TestManyLogits(t *testing.T) {
	decodes(t, smallModel(), func(t *testing.T, e *Engine) {
		seq, tokens := twoRows(e.Weights.Config.VocabSize)
		few := captureAll(t, e, seq, tokens)["logits -1"]
		var source []int32
		var rows []int32
		for i := range LogitsAtATime + 50 {
			source, rows = append(source, tokens[i%len(tokens)]), append(rows, int32(i%len(tokens)))
		}
		many := captureAll(t, e, seq, source)["logits -1"]
		near(t, "logits", many, picked(few, e.Weights.Config.VocabSize, rows), 1e-5)
	})
}

// TestDepth: no more layers run than are needed.
func TestDepth(t *testing.T) {
	for _, c := range []struct {
		name    string
		capture *Capture
		want    int
	}{
		{"all", &Capture{Sites: []Site{SiteQ}}, 4},
		{"first two", &Capture{Sites: []Site{SiteQ}, Layers: []bool{true, true, false, false}}, 2},
		{"logits need all", &Capture{Sites: []Site{SiteLogits}, Layers: []bool{true, false, false, false}}, 4},
		{"nothing", &Capture{Sites: []Site{SiteQ}, Layers: make([]bool, 4)}, 0},
		{"no capture", nil, 0},
	} {
		if got := c.capture.Depth(4); got != c.want {
			t.Errorf("%s: %d layers, want %d", c.name, got, c.want)
		}
	}
}

// TestCaptureRefuses: what cannot be captured is refused before anything runs.
func TestCaptureRefuses(t *testing.T) {
	decodes(t, smallModel(), func(t *testing.T, e *Engine) {
		seq, tokens := twoRows(e.Weights.Config.VocabSize)
		nobody := func(State) error { return nil }
		for _, c := range []struct {
			name string
			o    StreamOptions
			want string
		}{
			{"nobody to take", StreamOptions{Capture: &Capture{Source: tokens}}, "set Take"},
			{"padding", StreamOptions{Capture: &Capture{Source: []int32{21}, Take: nobody}}, "token 21 is padding"},
			{"outside", StreamOptions{Capture: &Capture{Source: []int32{80}, Take: nobody}}, "token 80"},
			{"no tokens", StreamOptions{Capture: &Capture{Take: nobody}}, "no positions"},
			{"layers", StreamOptions{Capture: &Capture{Source: tokens, Layers: []bool{true}, Take: nobody}}, "1 layers given, the model has 3"},
			{"site", StreamOptions{Capture: &Capture{Source: tokens, Sites: []Site{"resid"}, Take: nobody}}, `no site "resid"`},
			{"last", StreamOptions{Last: []int32{1, 41}, Capture: &Capture{Source: tokens, Take: nobody}}, "Last nil"},
			{"keep", StreamOptions{Keep: true, Capture: &Capture{Source: tokens, Take: nobody}}, "Keep off"},
			{"no capture", StreamOptions{}, "choose no states"},
		} {
			if err := e.Capture(seq, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want %q", c.name, err, c.want)
			}
		}
		full := errors.New("disk full")
		o := StreamOptions{Capture: &Capture{Sites: []Site{SiteQ}, Source: tokens, Take: func(State) error { return full }}}
		if err := e.Capture(seq, o); !errors.Is(err, full) || !strings.Contains(err.Error(), "q in layer 0") {
			t.Errorf("got %v, want %v with its site and layer", err, full)
		}
	})
}

// TestCaptureInHalfPrecision: in bfloat16 too the parts of the residual stream add up exactly, and a float32 stream is
// handed out in float32.
func TestCaptureInHalfPrecision(t *testing.T) {
	decodesIn(t, smallModel(), dtypes.BFloat16, func(t *testing.T, e *Engine) {
		seq, tokens := twoRows(e.Weights.Config.VocabSize)
		states := captureAll(t, e, seq, tokens)
		for i, pre := range states["resid_pre 1"] {
			if got, want := states["resid_mid 1"][i], pre+states["attn_out 1"][i]; got != want {
				t.Fatalf("resid_mid[%d] is %v, want resid_pre + attn_out = %v", i, got, want)
			}
		}
	})
	e := openEngine(t, smallModel(), Options{Compute: dtypes.Float32, Residual: dtypes.Float32})
	seq, tokens := twoRows(e.Weights.Config.VocabSize)
	err := e.Capture(seq, StreamOptions{Capture: &Capture{Sites: allSites(), Source: tokens, Take: func(s State) error {
		if s.Wide != nil || len(s.Narrow) != s.Count*s.Width {
			return fmt.Errorf("%d values in float64, %d in float32, want %d in float32", len(s.Wide), len(s.Narrow), s.Count*s.Width)
		}
		return nil
	}}})
	if err != nil {
		t.Error(err)
	}
}
