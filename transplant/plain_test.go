package transplant

import (
	"math"
	"path/filepath"
	"testing"

	"gotransplant/data"
	"gotransplant/lora"
	"gotransplant/model"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// plain is the method as it is told, not as it is made fast: both arguer prompts apart, every position computed, keys
// and values pasted over the chooser's own, all layers in one graph that GoMLX differentiates as a whole. It shares no
// graph code with package llama, and computes in float64, so that what differs is the rounding of the fast path alone.
type plain struct {
	cfg     model.Config
	layers  []bool           // transplanted, per layer
	weights map[string]*Node // by Hugging Face name
	arguer  map[string]*Node // by PEFT name; nil: the bare base
	chooser map[string]*Node
	scale   float64
}

// block is one layer on x [S, M] (float64); paste may replace k and v, [S, G, D] each.
func (p plain) block(x *Node, layer int, adapter map[string]*Node, paste func(k, v *Node) (*Node, *Node)) (y, k, v *Node) {
	s, d := x.Shape().Dim(0), p.cfg.HeadDim
	prefix := "model.layers." + string(rune('0'+layer)) + "."
	norm := func(x *Node, name string) *Node {
		mean := ReduceAndKeep(Mul(x, x), ReduceMean, 1)
		scaled := ConvertDType(Div(x, Sqrt(AddScalar(mean, p.cfg.RMSNormEps))), dtypes.Float64)
		return Mul(scaled, ExpandLeftToRank(ConvertDType(p.weights[prefix+name+".weight"], dtypes.Float64), 2))
	}
	linear := func(x *Node, name string) *Node {
		y := Einsum("si,oi->so", x, ConvertDType(p.weights[prefix+name+".weight"], dtypes.Float64))
		peft := "base_model.model." + prefix + name
		if a, ok := adapter[peft+".lora_A.weight"]; ok {
			low := Einsum("si,ri->sr", x, ConvertDType(a, dtypes.Float64))
			y = Add(y, MulScalar(Einsum("sr,or->so", low, ConvertDType(adapter[peft+".lora_B.weight"], dtypes.Float64)), p.scale))
		}
		return y
	}
	n := norm(x, "input_layernorm")
	q := Reshape(linear(n, "self_attn.q_proj"), s, p.cfg.NumAttentionHeads, d)
	k = Reshape(linear(n, "self_attn.k_proj"), s, p.cfg.NumKeyValueHeads, d)
	v = Reshape(linear(n, "self_attn.v_proj"), s, p.cfg.NumKeyValueHeads, d)
	keys, values := k, v
	if paste != nil {
		keys, values = paste(k, v)
	}
	z := p.attend(p.rotate(q), p.rotate(keys), values)
	x = Add(x, ConvertDType(linear(Reshape(z, s, p.cfg.NumAttentionHeads*d), "self_attn.o_proj"), dtypes.Float64))
	n = norm(x, "post_attention_layernorm")
	gate := linear(n, "mlp.gate_proj")
	act := Mul(Mul(gate, Sigmoid(gate)), linear(n, "mlp.up_proj"))
	return Add(x, ConvertDType(linear(act, "mlp.down_proj"), dtypes.Float64)), k, v
}

// rotate multiplies the complex number x[i] + i x[i+D/2] by exp(i position frequency[i]), x being [S, heads, D].
func (p plain) rotate(x *Node) *Node {
	s, half := x.Shape().Dim(0), p.cfg.HeadDim/2
	cos, sin := make([]float32, s*half), make([]float32, s*half)
	for position := range s {
		for i, f := range p.cfg.InverseFrequencies() {
			si, co := math.Sincos(float64(position) * f)
			cos[position*half+i], sin[position*half+i] = float32(co), float32(si)
		}
	}
	table := func(values []float32) *Node {
		return ConvertDType(Reshape(Const(x.Graph(), values), s, 1, half), dtypes.Float64)
	}
	re, im := SliceAxis(x, 2, AxisRange(0, half)), SliceAxis(x, 2, AxisRange(half))
	c, n := table(cos), table(sin)
	return Concatenate([]*Node{Sub(Mul(re, c), Mul(im, n)), Add(Mul(re, n), Mul(im, c))}, 2)
}

// attend is causal attention with the keys and values of a group repeated for its heads: q [S, H, D], k and v [S, G, D].
func (p plain) attend(q, k, v *Node) *Node {
	s, h, g, d := q.Shape().Dim(0), q.Shape().Dim(1), k.Shape().Dim(1), q.Shape().Dim(2)
	repeat := func(x *Node) *Node {
		x = BroadcastToShape(Reshape(x, s, g, 1, d), shapes.Make(x.DType(), s, g, h/g, d))
		return Reshape(x, s, h, d)
	}
	scores := MulScalar(Einsum("qhd,khd->hqk", q, repeat(k)), 1/math.Sqrt(float64(d)))
	causal := BroadcastToShape(InsertAxes(LowerTriangular(q.Graph(), s), 0), shapes.Make(dtypes.Bool, h, s, s))
	return Einsum("hqk,khd->qhd", MaskedSoftmax(scores, causal, -1), repeat(v))
}

// logits are those of the chooser's last position, [V] float32.
func (p plain) logits(g *Graph, c Case) *Node {
	embed := func(ids []int32) *Node {
		rows := Gather(p.weights["model.embed_tokens.weight"], InsertAxes(Const(g, ids), -1))
		return ConvertDType(rows, dtypes.Float64)
	}
	argue := [2]*Node{embed(c.Argue[0].IDs), embed(c.Argue[1].IDs)}
	choose := embed(c.Choose)
	for layer := range p.cfg.NumHiddenLayers {
		var ks, vs [2]*Node
		for i := range argue {
			argue[i], ks[i], vs[i] = p.block(argue[i], layer, p.arguer, nil)
		}
		paste := func(k, v *Node) (*Node, *Node) {
			for i := range argue {
				k = replace(k, moved(c.Spans[i]), ks[i], moved(c.Argue[i].Span))
				v = replace(v, moved(c.Spans[i]), vs[i], moved(c.Argue[i].Span))
			}
			return k, v
		}
		if !p.layers[layer] {
			paste = nil
		}
		choose, _, _ = p.block(choose, layer, p.chooser, paste)
	}
	last := SliceAxis(choose, 0, AxisElem(len(c.Choose)-1)) // [1, M]
	mean := ReduceAndKeep(Mul(last, last), ReduceMean, 1)
	n := ConvertDType(Div(last, Sqrt(AddScalar(mean, p.cfg.RMSNormEps))), dtypes.Float64)
	n = Mul(n, ExpandLeftToRank(ConvertDType(p.weights["model.norm.weight"], dtypes.Float64), 2))
	head := p.weights["lm_head.weight"]
	if p.cfg.TieWordEmbeddings {
		head = p.weights["model.embed_tokens.weight"]
	}
	return Reshape(Einsum("si,vi->sv", n, ConvertDType(head, dtypes.Float64)), p.cfg.VocabSize)
}

// replace puts from[range] in place of to[range], along axis 0.
func replace(to *Node, at data.Span, from *Node, source data.Span) *Node {
	parts := []*Node{SliceAxis(from, 0, AxisRange(source.Start, source.End))}
	if at.Start > 0 {
		parts = append([]*Node{SliceAxis(to, 0, AxisRange(0, at.Start))}, parts...)
	}
	if at.End < to.Shape().Dim(0) {
		parts = append(parts, SliceAxis(to, 0, AxisRange(at.End)))
	}
	return Concatenate(parts, 0)
}

// plainResult is the outcome of one case and the gradients of its loss by name, "arguer." or "chooser." before the PEFT name.
type plainResult struct {
	logProb [2]float64
	grads   map[string][]float32
}

// plainRun computes a case as the plain method does, with the adapters of m and under its conditions.
func plainRun(t *testing.T, m *Method, dir string, c Case) plainResult {
	t.Helper()
	backend := m.Engine.Weights
	checkpoint, err := model.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer checkpoint.Close()
	var names []string
	var args []any
	add := func(name string, value *tensors.Tensor) { names, args = append(names, name), append(args, value) }
	for _, name := range checkpoint.Names() {
		values, err := checkpoint.Tensor(name).Float32s()
		if err != nil {
			t.Fatal(err)
		}
		add(name, tensors.FromFlatDataAndDimensions(values, checkpoint.Tensor(name).Shape...))
	}
	bases := len(names)
	for prefix, role := range map[string]*Role{"arguer.": m.Arguer, "chooser.": m.Chooser} {
		for _, p := range role.Adapter.Params() {
			add(prefix+p.Name(), tensors.FromFlatDataAndDimensions(p.Value, p.Shape[0], p.Shape[1]))
		}
	}
	layers := m.Layers
	if layers == nil {
		for range backend.Config.NumHiddenLayers {
			layers = append(layers, true)
		}
	}
	exec := MustNewExec(goBackend(t), func(in []*Node) []*Node {
		p := plain{cfg: backend.Config, layers: layers, weights: map[string]*Node{}, arguer: map[string]*Node{},
			chooser: map[string]*Node{}, scale: m.Chooser.Adapter.Scale(0, "q_proj")}
		for i, name := range names {
			switch {
			case i < bases:
				p.weights[name] = in[i]
			case name[0] == 'a':
				p.arguer[name[len("arguer."):]] = in[i]
			default:
				p.chooser[name[len("chooser."):]] = in[i]
			}
		}
		if m.StopGradient {
			for name, node := range p.arguer {
				p.arguer[name] = StopGradient(node)
			}
		}
		logProbs := LogSoftmax(ConvertDType(p.logits(in[0].Graph(), c), dtypes.Float64), -1)
		pick := func(id int32) *Node { return Reshape(SliceAxis(logProbs, 0, AxisElem(int(id)))) }
		loss := Neg(pick(m.Labels[c.Label-1]))
		return append([]*Node{pick(m.Labels[0]), pick(m.Labels[1])}, Gradient(loss, in[bases:]...)...)
	})
	out := exec.MustCall(args...)
	grads := make(map[string][]float32)
	for i, name := range names[bases:] {
		grads[name] = tensors.MustCopyFlatData[float32](out[2+i])
	}
	return plainResult{[2]float64{tensors.ToScalar[float64](out[0]), tensors.ToScalar[float64](out[1])}, grads}
}

// TestFastEqualsPlain: dead positions left out, trunk shared, prefix shared or not, stages differentiated on what they kept:
// the same numbers as the plain method, transplanted in all layers, in some, and with the arguer cut off.
func TestFastEqualsPlain(t *testing.T) {
	cases := []struct {
		name string
		set  func(*Method)
	}{
		{"all layers", func(m *Method) {}},
		{"first layer", func(m *Method) { m.Layers = []bool{true, false, false} }},
		{"last layer", func(m *Method) { m.Layers = []bool{false, false, true} }},
		{"first and last layer", func(m *Method) { m.Layers = []bool{true, false, true} }},
		{"no gradient to the arguer", func(m *Method) { m.StopGradient = true }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var want []plainResult // of each row, the same for both kernels
			onBoth(t, smallDir(), func(t *testing.T, g golden) {
				shares := g.method(t, dtypes.Float32)
				c.set(shares)
				whole := *shares
				whole.Prefix = Prefix{}
				for i, row := range g.cases[:2] {
					if i == len(want) {
						want = append(want, plainRun(t, shares, filepath.Join(g.dir, "model"), row))
					}
					for _, m := range []*Method{&whole, shares} {
						s := train(t, m, []Case{row})
						within(t, "logprob_1", s.Outcomes[0].LogProb[0], want[i].logProb[0], 1e-5)
						within(t, "logprob_2", s.Outcomes[0].LogProb[1], want[i].logProb[1], 1e-5)
						checkGrads(t, "arguer.", m.Arguer.Adapter, s.Arguer, want[i].grads)
						checkGrads(t, "chooser.", m.Chooser.Adapter, s.Chooser, want[i].grads)
					}
				}
			})
		})
	}
}

func checkGrads(t *testing.T, prefix string, a *lora.Adapter, grads Grads, want map[string][]float32) {
	t.Helper()
	const tolerance = 2e-5 // the rounding of float32, which is more where sums are kept in fewer lanes
	for i, p := range a.Params() {
		w := want[prefix+p.Name()]
		got := make([]float32, len(w))
		if grads != nil && grads[i] != nil {
			got = grads[i]
		}
		if d := distance(got, w); !(d <= tolerance) {
			t.Errorf("gradient of %s%s: relative distance %g, want at most %g", prefix, p.Name(), d, tolerance)
		}
	}
}
