package llama

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gotransplant/model"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// smallConfig has grouped heads and sizes that are all different, so that no transposition goes unseen.
func smallConfig(tied bool) model.Config {
	return model.Config{VocabSize: 19, HiddenSize: 12, IntermediateSize: 20, NumHiddenLayers: 2, NumAttentionHeads: 4,
		NumKeyValueHeads: 2, HeadDim: 6, MaxPositionEmbeddings: 32, RMSNormEps: 1e-5, RopeTheta: 10000,
		TieWordEmbeddings: tied}
}

// randomValues draws the tensors of a config, norms around 1.
func randomValues(c model.Config) map[string][]float32 {
	r := rand.New(rand.NewPCG(1, 2))
	values := make(map[string][]float32)
	for _, spec := range c.Specs("F32") {
		v := make([]float32, shapes.Make(dtypes.Float32, spec.Shape...).Size())
		for i := range v {
			v[i] = float32(r.NormFloat64() * 0.4)
			if len(spec.Shape) == 1 {
				v[i]++
			}
		}
		values[spec.Name] = v
	}
	return values
}

// batch are two rows, the second shorter than the first, and a loss at some of the positions.
func batch(c model.Config) (Sequences, Targets) {
	const rows, length, short = 2, 7, 5
	s := Sequences{Rows: rows, Length: length, Position: make([]int32, rows*length), Branch: make([]int32, rows*length)}
	var t Targets
	for i := range rows * length {
		s.Position[i] = int32(i % length)
		s.Token = append(s.Token, int32(i*5%c.VocabSize))
		t.Token, t.Weight = append(t.Token, int32((i*3+1)%c.VocabSize)), append(t.Weight, float32(i%4)/8)
		if i >= length+short {
			s.Branch[i], t.Weight[i] = -1, 0
		}
	}
	return s, t
}

func trainedEngine(t *testing.T, c model.Config, values map[string][]float32) *Engine {
	t.Helper()
	w, err := NewWeights(goBackend(t), c, func(name string, _ []int) []float32 { return values[name] })
	if err != nil {
		t.Fatal(err)
	}
	e, err := NewEngine(w, Options{Compute: dtypes.Float32, Residual: dtypes.Float64, TrainBase: true})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// baseLoss is the weighted loss, and the gradients of all tensors by name; with remat, blocks are run again on the way back.
func baseLoss(t *testing.T, e *Engine, remat bool) (loss float64, grads map[string][]float32) {
	t.Helper()
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	seq, targets := batch(e.Weights.Config)
	s, err := e.NewStream(seq, StreamOptions{Keep: true, Remat: remat})
	fatal(err)
	defer s.Close()
	layers := e.Weights.Config.NumHiddenLayers
	for layer := range layers {
		_, err := s.Forward(layer, nil, false)
		fatal(err)
	}
	scores, err := s.Score(targets, true)
	fatal(err)
	for i, l := range scores.Loss {
		loss += l * float64(targets.Weight[i])
	}
	grads = make(map[string][]float32)
	add := func(name string, grad *tensors.Tensor) {
		values, err := tensors.CopyFlatData[float32](grad)
		fatal(err)
		if before, ok := grads[name]; ok {
			for i := range values {
				values[i] += before[i]
			}
		}
		grads[name] = values
	}
	head, _ := e.Weights.head()
	add(finalNormName, scores.DNorm)
	add(head, scores.DHead)
	dx := scores.DX
	for layer := layers - 1; layer >= 0; layer-- {
		var g Gradients
		dx, g, err = s.Backward(layer, dx, KV{}, true)
		fatal(err)
		if got, want := len(g.Params), len(BlockNames(layer)); got != want {
			t.Fatalf("layer %d has %d gradients, want %d", layer, got, want)
		}
		for i, name := range BlockNames(layer) {
			add(name, g.Params[i])
		}
	}
	table, err := s.EmbeddingGradient(dx)
	fatal(err)
	add(embedName, table)
	return loss, grads
}

// plainModel is the textbook model in float64, all rows and layers in one graph. It shares no graph code with the
// engine.
type plainModel struct {
	c       model.Config
	weights map[string]*Node
}

func (p plainModel) weight(layer int, name string) *Node {
	return p.weights[fmt.Sprintf("model.layers.%d.%s.weight", layer, name)]
}

func (p plainModel) norm(x, gain *Node) *Node {
	scale := Sqrt(AddScalar(ReduceAndKeep(Mul(x, x), ReduceMean, -1), p.c.RMSNormEps))
	return Mul(Div(x, scale), ExpandLeftToRank(gain, 3))
}

// turn rotates x [B, S, heads, D] as complex numbers x[i] + i x[i+D/2].
func (p plainModel) turn(x *Node) *Node {
	s, half := x.Shape().Dim(1), p.c.HeadDim/2
	var cos, sin []float64
	for position := range s {
		for i := range half {
			si, co := math.Sincos(float64(position) * math.Pow(p.c.RopeTheta, -float64(i)/float64(half)))
			cos, sin = append(cos, co), append(sin, si)
		}
	}
	table := func(v []float64) *Node { return Reshape(Const(x.Graph(), v), 1, s, 1, half) }
	re, im := SliceAxis(x, 3, AxisRange(0, half)), SliceAxis(x, 3, AxisRange(half))
	c, n := table(cos), table(sin)
	return Concatenate([]*Node{Sub(Mul(re, c), Mul(im, n)), Add(Mul(re, n), Mul(im, c))}, 3)
}

func (p plainModel) layer(x *Node, layer int) *Node {
	b, s, h, g, d := x.Shape().Dim(0), x.Shape().Dim(1), p.c.NumAttentionHeads, p.c.NumKeyValueHeads, p.c.HeadDim
	linear := func(x *Node, name string) *Node { return Einsum("bsi,oi->bso", x, p.weight(layer, name)) }
	repeat := func(x *Node) *Node { // every group serves h/g heads
		x = BroadcastToShape(Reshape(x, b, s, g, 1, d), shapes.Make(x.DType(), b, s, g, h/g, d))
		return Reshape(x, b, s, h, d)
	}
	n := p.norm(x, p.weight(layer, "input_layernorm"))
	q := p.turn(Reshape(linear(n, "self_attn.q_proj"), b, s, h, d))
	k := repeat(p.turn(Reshape(linear(n, "self_attn.k_proj"), b, s, g, d)))
	v := repeat(Reshape(linear(n, "self_attn.v_proj"), b, s, g, d))
	scores := DivScalar(Einsum("bqhd,bkhd->bhqk", q, k), math.Sqrt(float64(d)))
	causal := BroadcastToShape(InsertAxes(LowerTriangular(x.Graph(), s), 0, 0), shapes.Make(dtypes.Bool, b, h, s, s))
	z := Einsum("bhqk,bkhd->bqhd", MaskedSoftmax(scores, causal, -1), v)
	x = Add(x, linear(Reshape(z, b, s, h*d), "self_attn.o_proj"))
	n = p.norm(x, p.weight(layer, "post_attention_layernorm"))
	gate := linear(n, "mlp.gate_proj")
	return Add(x, linear(Mul(Mul(gate, Sigmoid(gate)), linear(n, "mlp.up_proj")), "mlp.down_proj"))
}

// loss is the weighted cross-entropy. The padding stands behind its row, so causality alone hides it.
func (p plainModel) loss(g *Graph) *Node {
	seq, targets := batch(p.c)
	x := Gather(p.weights[embedName], Reshape(Const(g, seq.Token), seq.Rows, seq.Length, 1))
	for layer := range p.c.NumHiddenLayers {
		x = p.layer(x, layer)
	}
	head := p.weights[headName]
	if p.c.TieWordEmbeddings {
		head = p.weights[embedName]
	}
	logProb := LogSoftmax(Einsum("bsi,vi->bsv", p.norm(x, p.weights[finalNormName]), head), -1)
	picked := Mul(logProb, OneHot(Reshape(Const(g, targets.Token), seq.Rows, seq.Length), p.c.VocabSize, logProb.DType()))
	weight := ConvertDType(Reshape(Const(g, targets.Weight), seq.Rows, seq.Length, 1), logProb.DType())
	return Neg(ReduceAllSum(Mul(picked, weight)))
}

// plainLoss is baseLoss of one whole graph, differentiated by GoMLX.
func plainLoss(t *testing.T, c model.Config, values map[string][]float32) (loss float64, grads map[string][]float64) {
	t.Helper()
	var names []string
	var args []any
	for _, spec := range c.Specs("F32") {
		wide := make([]float64, len(values[spec.Name]))
		for i, v := range values[spec.Name] {
			wide[i] = float64(v)
		}
		names, args = append(names, spec.Name), append(args, tensors.FromFlatDataAndDimensions(wide, spec.Shape...))
	}
	exec := MustNewExec(goBackend(t), func(in []*Node) []*Node {
		p := plainModel{c, make(map[string]*Node)}
		for i, name := range names {
			p.weights[name] = in[i]
		}
		loss := p.loss(in[0].Graph())
		return append([]*Node{loss}, Gradient(loss, in...)...)
	})
	out := exec.MustCall(args...)
	grads = make(map[string][]float64)
	for i, name := range names {
		grads[name] = tensors.MustCopyFlatData[float64](out[1+i])
	}
	return tensors.ToScalar[float64](out[0]), grads
}

// TestBaseGradient: the gradients of every tensor, put together stage by stage and layer by layer, are those of the
// whole model, and the same where blocks are run again.
func TestBaseGradient(t *testing.T) {
	for _, tied := range []bool{false, true} {
		t.Run(fmt.Sprintf("tied=%t", tied), func(t *testing.T) {
			c := smallConfig(tied)
			values := randomValues(c)
			wantLoss, want := plainLoss(t, c, values)
			e := trainedEngine(t, c, values)
			loss, grads := baseLoss(t, e, false)
			_, again := baseLoss(t, e, true)
			if d := math.Abs(loss-wantLoss) / wantLoss; !(d <= 1e-5) {
				t.Errorf("loss %v, want %v", loss, wantLoss)
			}
			if len(grads) != len(want) {
				t.Errorf("%d gradients, want %d", len(grads), len(want))
			}
			for name, w := range want {
				if d := relativeDistance(grads[name], w); !(d <= 1e-5) {
					t.Errorf("gradient of %s: relative distance %g, want at most 1e-5", name, d)
				}
				if !slices.Equal(again[name], grads[name]) {
					t.Errorf("gradient of %s: other bits where blocks are run again", name)
				}
			}
		})
	}
}

// relativeDistance is |got - want| / |want|.
func relativeDistance(got []float32, want []float64) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var difference, size float64
	for i, w := range want {
		difference += (float64(got[i]) - w) * (float64(got[i]) - w)
		size += w * w
	}
	return math.Sqrt(difference / size)
}

// TestBaseGradientIsTheSlope: a step along the gradient of one tensor changes the loss by its squared length.
func TestBaseGradientIsTheSlope(t *testing.T) {
	c := smallConfig(false)
	values := randomValues(c)
	_, grads := baseLoss(t, trainedEngine(t, c, values), false)
	for _, name := range []string{embedName, partName(0, "k_proj"), partName(1, "input_layernorm"), headName} {
		squared := 0.0
		for _, g := range grads[name] {
			squared += float64(g) * float64(g)
		}
		const move = 2e-3 // of the length of the step, small against the weights and large against rounding
		moved := func(sign float64) float64 {
			e := trainedEngine(t, c, values)
			v := slices.Clone(values[name])
			for i, g := range grads[name] {
				v[i] += float32(sign * move * float64(g) / math.Sqrt(squared))
			}
			if err := e.Weights.Set(name, v); err != nil {
				t.Fatal(err)
			}
			loss, _ := baseLoss(t, e, false)
			return loss
		}
		got, want := (moved(1)-moved(-1))/(2*move), math.Sqrt(squared)
		if math.Abs(got-want) > 1e-3*want {
			t.Errorf("%s: slope of the loss along the gradient %v, want its length %v", name, got, want)
		}
	}
}
