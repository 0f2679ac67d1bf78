package main

import (
	"fmt"
	"math"
	"testing"

	"gotransplant/lora"
	"gotransplant/model"
	"gotransplant/model/safetensors"
)

// plain is a LLaMA in float64, written without regard to speed: what the weights say, without the rounding of the engine.
type plain struct {
	t       *testing.T
	c       *model.Checkpoint
	adapter *lora.Adapter // or nil
}

// weight are the values of a tensor, row-major.
func (p plain) weight(name string) []float64 {
	tensor := p.c.Tensor(name)
	values := make([]float64, len(tensor.Data)*8/tensor.DType.Bits())
	if err := safetensors.Decode64(values, tensor.DType, tensor.Data); err != nil {
		p.t.Fatal(err)
	}
	return values
}

// times is w [out, in] x.
func times(w, x []float64) []float64 {
	y := make([]float64, len(w)/len(x))
	for o := range y {
		for i, v := range x {
			y[o] += w[o*len(x)+i] * v
		}
	}
	return y
}

// project is a projection of each x, the adapter's part computed apart.
func (p plain) project(layer int, block, proj string, x [][]float64) [][]float64 {
	w := p.weight(fmt.Sprintf("model.layers.%d.%s.%s.weight", layer, block, proj))
	y := make([][]float64, len(x))
	for t := range x {
		y[t] = times(w, x[t])
	}
	if p.adapter == nil {
		return y
	}
	a, b, ok := p.adapter.Pair(layer, proj)
	if !ok {
		return y
	}
	for t := range x {
		for o, v := range times(wide(b.Value), times(wide(a.Value), x[t])) {
			y[t][o] += p.adapter.Scale(layer, proj) * v
		}
	}
	return y
}

func wide(values []float32) []float64 {
	all := make([]float64, len(values))
	for i, v := range values {
		all[i] = float64(v)
	}
	return all
}

func (p plain) norm(x [][]float64, gain []float64) [][]float64 {
	y := make([][]float64, len(x))
	for t, row := range x {
		var square float64
		for _, v := range row {
			square += v * v
		}
		y[t] = make([]float64, len(row))
		for i, v := range row {
			y[t][i] = v / math.Sqrt(square/float64(len(row))+p.c.Config.RMSNormEps) * gain[i]
		}
	}
	return y
}

// rotate turns the heads in x [tokens][heads*dim] to their positions.
func (p plain) rotate(x [][]float64) {
	d := p.c.Config.HeadDim
	for t, row := range x {
		for head := 0; head < len(row); head += d {
			for i, f := range p.c.Config.InverseFrequencies() {
				sin, cos := math.Sincos(float64(t) * f)
				a, b := row[head+i], row[head+d/2+i]
				row[head+i], row[head+d/2+i] = a*cos-b*sin, b*cos+a*sin
			}
		}
	}
}

// attend is causal attention of q over k and v.
func (p plain) attend(q, k, v [][]float64) [][]float64 {
	d, group := p.c.Config.HeadDim, p.c.Config.NumAttentionHeads/p.c.Config.NumKeyValueHeads
	z := make([][]float64, len(q))
	for t := range q {
		z[t] = make([]float64, len(q[t]))
		for h := range p.c.Config.NumAttentionHeads {
			own, shared := h*d, h/group*d
			weights, sum := make([]float64, t+1), 0.0
			for s := range weights {
				for i := range d {
					weights[s] += q[t][own+i] * k[s][shared+i] / math.Sqrt(float64(d))
				}
				weights[s] = math.Exp(weights[s])
				sum += weights[s]
			}
			for s, w := range weights {
				for i := range d {
					z[t][own+i] += w / sum * v[s][shared+i]
				}
			}
		}
	}
	return z
}

func add(x, y [][]float64) {
	for t := range x {
		for i := range x[t] {
			x[t][i] += y[t][i]
		}
	}
}

// logits are those behind every token, [tokens, vocabulary].
func (p plain) logits(ids []int32) []float64 {
	c := p.c.Config
	table := p.weight("model.embed_tokens.weight")
	x := make([][]float64, len(ids))
	for t, id := range ids {
		x[t] = append([]float64(nil), table[int(id)*c.HiddenSize:(int(id)+1)*c.HiddenSize]...)
	}
	for layer := range c.NumHiddenLayers {
		normed := p.norm(x, p.weight(fmt.Sprintf("model.layers.%d.input_layernorm.weight", layer)))
		q, k, v := p.project(layer, "self_attn", "q_proj", normed), p.project(layer, "self_attn", "k_proj", normed),
			p.project(layer, "self_attn", "v_proj", normed)
		p.rotate(q)
		p.rotate(k)
		add(x, p.project(layer, "self_attn", "o_proj", p.attend(q, k, v)))
		normed = p.norm(x, p.weight(fmt.Sprintf("model.layers.%d.post_attention_layernorm.weight", layer)))
		gate, up := p.project(layer, "mlp", "gate_proj", normed), p.project(layer, "mlp", "up_proj", normed)
		for t := range gate {
			for i, g := range gate[t] {
				gate[t][i] = g / (1 + math.Exp(-g)) * up[t][i]
			}
		}
		add(x, p.project(layer, "mlp", "down_proj", gate))
	}
	head := p.weight("lm_head.weight")
	var all []float64
	for _, row := range p.norm(x, p.weight("model.norm.weight")) {
		all = append(all, times(head, row)...)
	}
	return all
}
