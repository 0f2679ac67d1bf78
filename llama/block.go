package llama

import (
	"slices"

	"gotransplant/internal/matmul"
	"gotransplant/model"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
)

// Projections are the seven linear maps of a block in Hugging Face's names, in the order of use.
func Projections() []string {
	return []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
}

// The parts of a block that carry weights, grouped by the stage that uses them, in order of use.
var (
	attentionInParts  = []string{"input_layernorm", "q_proj", "k_proj", "v_proj"}
	attentionOutParts = []string{"o_proj"}
	gateUpParts       = []string{"post_attention_layernorm", "gate_proj", "up_proj"}
	downParts         = []string{"down_proj"}
	blockParts        = slices.Concat(attentionInParts, attentionOutParts, gateUpParts, downParts)
)

// block builds the stages of one transformer block. Each stage takes what the one before left, so that the backward
// pass can differentiate a stage on its own kept inputs (see gradient.go).
type block struct {
	cfg       model.Config
	compute   dtypes.DType
	weights   map[string]*Node // by part: projections [out, in], or the codes that stand for them, norms [M]
	scales    map[string]*Node // by projection: what belongs to its codes
	storage   Storage
	extras    map[string]extra // by projection: what an overlay adds
	trainBase bool             // the backward pass differentiates the weights too
	uses      map[string][]use // by part: where the graph being built uses its weights
	made      map[string]*Node // by projection: what the forward pass kept of its output [N, out]
	// forwardOnly says that the graph is not differentiated, so that products may take the layout that runs fastest.
	forwardOnly bool
}

// use is the product of rows with a weight: y [N, out] = x [N, in] Wᵀ, or, for a norm, y = x times the gain, x being
// made from the node of.
type use struct{ x, y, of *Node }

// extra is an overlay's addition to one projection, inside a graph.
type extra struct {
	apply         func(x, y *Node, values []*Node) *Node
	back          func(x, y, output *Node, values []*Node) *Node
	values, fixed []*Node
}

// over is the output of a projection whose base made y of x; output is what the forward pass kept of it, or nil.
func (e extra) over(x, y, output *Node) *Node {
	values := slices.Concat(e.values, e.fixed)
	if output != nil && e.back != nil {
		return e.back(x, y, output, values)
	}
	return e.apply(x, y, values)
}

// linear is xWᵀ of the named projection, x being [N, in], plus what the overlay adds: [N, out].
func (b *block) linear(proj string, x *Node) *Node {
	w, scale := b.matrix(proj, x.Shape().Dim(1)) // [out, in], nil or [out]
	product, contract := matmul.Differentiable(settledBackward(x), w), 1
	if b.forwardOnly && x.Shape().Size()*w.Shape().Dim(0) < smallProduct {
		product, contract = matmul.Of(x, Transpose(w, 0, 1)), 0
	}
	intoStream := b.forwardOnly && (proj == "o_proj" || proj == "down_proj")
	if intoStream || b.forwardOnly && scale != nil {
		product = product.WithOutputDType(dtypes.Float32) // into the residual stream, or the scaling, without rounding to bfloat16
	}
	y := settled(product.General([]int{1}, nil, []int{contract}, nil)) // [N, out]
	if scale != nil {
		y = Mul(ConvertDType(y, dtypes.Float32), stack(scale, y.Shape().Dim(0)))
	}
	if scale != nil && !intoStream {
		y = ConvertDType(y, b.compute)
	}
	b.uses[proj] = append(b.uses[proj], use{x, y, x})
	if e, ok := b.extras[proj]; ok {
		y = e.over(x, y, b.made[proj])
	}
	return y
}

// matrix is the weight [out, in] of a projection in the compute dtype. Where scale [out], float32, is not nil, the rows
// of the weight, or the columns of a product with its transpose, have yet to be multiplied by it.
func (b *block) matrix(proj string, in int) (w, scale *Node) {
	switch b.storage {
	case Int8:
		return int8Matrix(b.weights[proj], b.scales[proj], b.compute)
	case NF4:
		return nf4Matrix(b.weights[proj], b.scales[proj], in, b.compute), nil
	}
	return ConvertDType(b.weights[proj], b.compute), nil
}

// smallProduct is the number of multiplications below which the Go backend (compute v0.1.4) takes a kernel that sums
// each element of x Wᵀ by itself: transposing W first is then three times faster. Larger products are packed anyway.
const smallProduct = 4 << 20

// rmsNorm is x / sqrt(mean(x²) + eps) * gain (Zhang and Sennrich, 2019): computed in the residual dtype of x [N, M],
// cast down to normed, then scaled by the gain [M]. Div by Sqrt, because Rsqrt has no gradient in GoMLX v0.28.
func rmsNorm(x, gain *Node, eps float64, compute dtypes.DType) (y, normed *Node) {
	width := x.Shape().Dim(-1)
	meanSquare := ReduceAndKeep(Square(x), ReduceMean, -1)
	root := Sqrt(AddScalar(meanSquare, eps)) // [N, 1]
	if interpreted(x) {
		normed = ConvertDType(Div(x, widen(root, width)), compute)
	} else { // one division a row: a GPU divides float64 slowly, and differentiating divides again
		normed = ConvertDType(Mul(x, Div(ScalarOne(x.Graph(), x.DType()), root)), compute)
	}
	return Mul(normed, stack(ConvertDType(gain, compute), x.Shape().Dim(0))), normed
}

// norm flattens x [B, S, M] to rows and norms it: [B*S, M] in the compute dtype.
func (b *block) norm(name string, x *Node) *Node {
	for _, u := range b.uses[name] {
		if u.of == x { // queries and keys are made from the same
			return u.y
		}
	}
	rows := Reshape(x, -1, b.cfg.HiddenSize) // [B*S, M]
	y, normed := rmsNorm(rows, b.weights[name], b.cfg.RMSNormEps, b.compute)
	b.uses[name] = append(b.uses[name], use{normed, y, x})
	return y
}

// queries projects xq [B, Q, M]: q [B, Q, H, D], not yet rotated.
func (b *block) queries(xq *Node) *Node {
	q := b.linear("q_proj", b.norm("input_layernorm", xq))
	return Reshape(q, xq.Shape().Dim(0), xq.Shape().Dim(1), b.cfg.NumAttentionHeads, b.cfg.HeadDim) // [B, Q, H, D]
}

// keysValues projects x [B, S, M]: k and v [B, S, G, D]; k is not yet rotated, so that it can be moved.
func (b *block) keysValues(x *Node) (k, v *Node) {
	n := b.norm("input_layernorm", x)
	heads := func(y *Node) *Node { // [B*S, G*D] -> [B, S, G, D]
		return Reshape(y, x.Shape().Dim(0), x.Shape().Dim(1), b.cfg.NumKeyValueHeads, b.cfg.HeadDim)
	}
	return heads(b.linear("k_proj", n)), heads(b.linear("v_proj", n))
}

// attentionOut is the output projection of z [B, Q, H*D]: [B, Q, M] in the compute dtype.
func (b *block) attentionOut(z *Node) *Node {
	o := b.linear("o_proj", Reshape(ConvertDType(z, b.compute), -1, z.Shape().Dim(2))) // [B*Q, M]
	return Reshape(o, z.Shape().Dim(0), z.Shape().Dim(1), b.cfg.HiddenSize)            // [B, Q, M]
}

// gateUp is the first half of the feed-forward on x [B, Q, M]: gate and up, each [B*Q, F].
func (b *block) gateUp(x *Node) (gate, up *Node) {
	n := b.norm("post_attention_layernorm", x)
	return b.linear("gate_proj", n), b.linear("up_proj", n)
}

// down is the second half: (silu(gate) * up) Wᵀ, [B*Q, M] in the compute dtype (SwiGLU, Shazeer 2020).
func (b *block) down(gate, up *Node) *Node {
	return b.linear("down_proj", Mul(Mul(gate, Sigmoid(gate)), up))
}

// addResidual adds y, any shape of x's size, to the residual stream x in x's dtype.
func addResidual(x, y *Node) *Node {
	return Add(x, ConvertDType(Reshape(y, x.Shape().Dimensions...), x.DType()))
}

// takeRows picks one position per row of x [B, S, ...]: flat [B, 1, 1] holds b*S + s. The result is [B, 1, ...].
func takeRows(x, flat *Node) *Node {
	dims := x.Shape().Dimensions
	rows := Reshape(x, append([]int{dims[0] * dims[1]}, dims[2:]...)...) // [B*S, ...]
	return Gather(rows, flat)
}

// kept is what the forward pass of one block leaves for its backward pass.
type kept struct {
	x        *Node // [B, S, M] the block's input, residual dtype
	q, k, v  *Node // [B, Q, H, D], [B, S, G, D], [B, S, G, D] before rotation
	z        *Node // [B, Q, H*D] attention output before o_proj, float32 where attention is blockwise
	lse      *Node // nil, or what blockwise attention keeps beside z
	attn     *Node // [B, Q, M] what attention adds to the residual stream
	mid      *Node // [B, Q, M] residual stream between attention and feed-forward
	gate, up *Node // [B*Q, F]
	mlp      *Node // [B*Q, M] what the feed-forward adds to the residual stream
}

// forward runs the whole block on x [B, S, M] and returns y [B, Q, M] with everything kept. last, when not nil, is the
// flat index [B, 1, 1] of the only position per row that anyone still reads: queries and feed-forward run there alone.
func (b *block) forward(x *Node, a attention, last *Node) (y *Node, keep kept) {
	xq := x
	if last != nil {
		xq = takeRows(x, last) // [B, 1, M]
	}
	keep.x, keep.q = x, b.queries(xq)
	keep.k, keep.v = b.keysValues(x)
	keep.z, keep.lse = a.attend(keep.q, keep.k, keep.v)
	keep.attn = b.attentionOut(keep.z)
	keep.mid = addResidual(xq, keep.attn)
	keep.gate, keep.up = b.gateUp(keep.mid)
	keep.mlp = b.down(keep.gate, keep.up)
	return addResidual(keep.mid, keep.mlp), keep
}
