package llama

import (
	"fmt"

	"gotransplant/internal/matmul"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Targets say what each of the stream's final positions should predict, and how much it counts.
type Targets struct {
	Token  []int32   // one a position; any id where the weight is 0
	Weight []float32 // of the position's loss in the sum that is differentiated
	Watch  []int32   // token ids whose log-probabilities are wanted at every position
}

// Scores are the outcome at the head. LogProb is nil where nothing was watched.
type Scores struct {
	Loss    []float64       // cross-entropy over the whole vocabulary, one a position, not weighted
	LogProb [][]float64     // [position][watched token]
	DX      *tensors.Tensor // gradient of the weighted sum with respect to the residual stream; nil unless wanted
	// With a trained base: gradients of model.norm.weight and of the output matrix, float32; nil otherwise.
	DNorm, DHead *tensors.Tensor
}

// logits are the final norm and the output matrix [V, M] on x [B, Q, M]: float32 [B*Q, V].
func (e *Engine) logits(x, gain, head *Node) *Node {
	y, _ := e.headUses(x, gain, head)
	return ConvertDType(y.y, dtypes.Float32)
}

// headUses are the two products in the logits: with the output matrix, and with the gain.
func (e *Engine) headUses(x, gain, head *Node) (output, norm use) {
	y, normed := rmsNorm(flat(x), gain, e.Weights.Config.RMSNormEps, e.Options.Compute)
	product := matmul.Differentiable(settledBackward(y), ConvertDType(head, e.Options.Compute)).WithOutputDType(dtypes.Float32)
	out := settled(product.General([]int{1}, nil, []int{1}, nil)) // bfloat16 has too few digits for a log-probability
	return use{y, out, y}, use{normed, y, x}
}

// Score runs the head over the stream's final residual stream and, when gradient is set, back to it.
func (s *Stream) Score(t Targets, gradient bool) (Scores, error) {
	e, n := s.engine, len(t.Token)
	if want := s.finals(); n != want || len(t.Weight) != n {
		return Scores{}, fmt.Errorf("score: %d targets and %d weights for %d final positions", n, len(t.Weight), want)
	}
	if s.panels != nil {
		return s.scorePanels(t, gradient)
	}
	target, err := e.int32s(t.Token, n)
	if err != nil {
		return Scores{}, err
	}
	weight, err := FromFloat32(e.backend, t.Weight, n)
	if err != nil {
		free(target)
		return Scores{}, err
	}
	defer free(target, weight)
	args := []*tensors.Tensor{s.x, e.Weights.tensors[finalNormName], nil, target, weight}
	_, args[2] = e.Weights.head()
	out, err := s.run(ScorePass, fmt.Sprintf("score %v gradient=%t", t.Watch, gradient), e.buildScore(t.Watch, gradient), args...)
	if err != nil {
		return Scores{}, err
	}
	scores, err := readScores(out, len(t.Watch), gradient)
	if err != nil {
		free(out...)
	}
	return scores, err
}

// buildScore: x [B, Q, M], gain [M], head [V, M], target [n] and weight [n] with n = B*Q give the losses [n], the
// watched log-probabilities [n, watched] and the gradients. The cross-entropy is differentiated by hand, as weight times
// (softmax - one at the target), because over a whole vocabulary every elementwise pass costs as much as a layer.
func (e *Engine) buildScore(watch []int32, gradient bool) func(in *inputs) []*Node {
	return func(in *inputs) []*Node {
		x, gain, head, target, weight := in.next(), in.next(), in.next(), in.next(), in.next()
		output, norm := e.headUses(x, gain, head)
		logits := ConvertDType(output.y, dtypes.Float32)
		if x.Shape().Dim(1) == 1 { // few rows: float64 costs nothing, and the sum over the vocabulary is exact
			logits = ConvertDType(logits, dtypes.Float64)
		}
		maximum := StopGradient(ReduceAndKeep(logits, ReduceMax, -1))   // [n, 1]
		exps := Exp(Sub(logits, widen(maximum, logits.Shape().Dim(1)))) // [n, V]
		sum := ReduceAndKeep(exps, ReduceSum, -1)
		logSum := Add(Log(sum), maximum)
		places := flatPlaces(target, logits.Shape().Dim(1))                   // [n, 1]
		loss := Sub(Reshape(logSum, -1), Gather(Reshape(logits, -1), places)) // [n], of [n*V]
		out := []*Node{ConvertDType(loss, dtypes.Float64)}
		if len(watch) > 0 {
			columns := make([]*Node, len(watch))
			for i, id := range watch {
				columns[i] = Sub(SliceAxis(logits, 1, AxisElem(int(id))), logSum) // [n, 1]
			}
			out = append(out, ConvertDType(Concatenate(columns, 1), dtypes.Float64))
		}
		if gradient {
			w := ConvertDType(weight, loss.DType())
			share := widen(Div(InsertAxes(w, -1), sum), logits.Shape().Dim(1))                               // [n, V]
			scaled := Reshape(Mul(exps, share), -1)                                                          // [n*V], weight * softmax
			dLogits := Reshape(ScatterSum(scaled, places, Neg(w), true, true), logits.Shape().Dimensions...) // [n, V]
			grads := pullBack([]*Node{output.y}, []*Node{dLogits}, []*Node{x, norm.y})
			out = append(out, grads[0])
			if e.Options.TrainBase {
				out = append(out, norm.weightGradient(gain, grads[1]), output.weightGradient(head, dLogits))
			}
		}
		return out
	}
}

// flatPlaces are the places of ids [n] in a flat [n, width]: [n, 1].
func flatPlaces(ids *Node, width int) *Node {
	rows := Iota(ids.Graph(), shapes.Make(ids.DType(), ids.Shape().Dim(0)), 0)
	return InsertAxes(Add(MulScalar(rows, width), ids), -1)
}

func readScores(out []*tensors.Tensor, watched int, gradient bool) (Scores, error) {
	var s Scores
	var err error
	if s.Loss, err = tensors.CopyFlatData[float64](out[0]); err != nil {
		return Scores{}, err
	}
	free(out[0])
	out = out[1:]
	if watched > 0 {
		all, err := tensors.CopyFlatData[float64](out[0])
		if err != nil {
			return Scores{}, err
		}
		free(out[0])
		out = out[1:]
		for i := range s.Loss {
			s.LogProb = append(s.LogProb, all[i*watched:(i+1)*watched])
		}
	}
	if gradient {
		s.DX = out[0]
		if len(out) == 3 {
			s.DNorm, s.DHead = out[1], out[2]
		}
	}
	return s, nil
}

// Logits are the float32 logits [B*Q, V] at the stream's final positions, row-major.
func (s *Stream) Logits() ([]float32, error) {
	if s.panels != nil {
		return s.panels.logitsOf(s.panels.final()), nil
	}
	e := s.engine
	_, head := e.Weights.head()
	out, err := s.run(ScorePass, "logits", func(in *inputs) []*Node {
		return []*Node{e.logits(in.next(), in.next(), in.next())}
	}, s.x, e.Weights.tensors[finalNormName], head)
	if err != nil {
		return nil, err
	}
	defer free(out...)
	return tensors.CopyFlatData[float32](out[0])
}

// EmbeddingGradient turns dx, the gradient of the residual stream before layer 0, into that of the embedding table
// [V, M] float32, and frees dx.
func (s *Stream) EmbeddingGradient(dx *tensors.Tensor) (*tensors.Tensor, error) {
	e := s.engine
	out, err := s.run(Embedding, "gradient of the embedding", func(in *inputs) []*Node {
		tokens, table, dx := InsertAxes(in.next(), -1), in.next(), in.next()
		rows := Gather(table, tokens) // [B, S, M]
		return pullBack([]*Node{rows}, []*Node{dx}, []*Node{table})
	}, s.tokens, e.Weights.tensors[embedName], dx)
	if err != nil {
		return nil, err
	}
	free(dx)
	return out[0], nil
}
