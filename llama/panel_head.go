package llama

import (
	"math"

	"gotransplant/internal/panel"
)

// final are the columns of the stream whose logits are wanted, side by side: each sequence's last, or all tokens as
// given. Padding that was left out has the column -1.
func (s *panelStream) final() []int {
	var columns []int
	if s.last != nil {
		for b := range s.rows {
			columns = append(columns, b*panel.Lanes)
		}
		return columns
	}
	for i := range s.rows * s.given {
		c, ok := s.column(i)
		if !ok {
			c = -1
		}
		columns = append(columns, c)
	}
	return columns
}

// logits are those of the given columns: the stream there, its norm, and the logits [V].
func (s *panelStream) logits(columns []int) (x panel.Wide, inverse []float64, logits panel.Matrix) {
	x = s.wideZeros(s.x.Rows, panelsOf(len(columns))) // what padding that was left out has
	for i, c := range columns {
		if c >= 0 {
			x.Copy(i, s.x, c)
		}
	}
	normed, inverse := s.norm(x, s.model.finalNorm)
	logits = s.matrix(s.model.head.Out, x.Panels)
	s.model.head.MultiplyColumns(s.scratch, normed, logits, false, firsts(len(columns)))
	return x, inverse, logits
}

// firsts are the columns 0 to n-1.
func firsts(n int) []int {
	columns := make([]int, n)
	for i := range columns {
		columns[i] = i
	}
	return columns
}

// score is Stream.Score; with gradient s.dy becomes the gradient of the stream.
func (s *panelStream) score(t Targets, gradient bool) Scores {
	columns := s.final()
	x, inverse, logits := s.logits(columns)
	var out Scores
	column, p := s.lend(logits.Rows), s.lendWide(logits.Rows)
	for i := range columns {
		logits.Column(i, column)
		logSum := softmaxColumn(column, p)
		out.Loss = append(out.Loss, logSum-float64(column[t.Token[i]]))
		if len(t.Watch) > 0 {
			watched := make([]float64, len(t.Watch))
			for j, id := range t.Watch {
				watched[j] = float64(column[id]) - logSum
			}
			out.LogProb = append(out.LogProb, watched)
		}
		if gradient {
			p[t.Token[i]]--
			for r, v := range p {
				column[r] = float32(v * float64(t.Weight[i]))
			}
			logits.SetColumn(i, column)
		}
	}
	if gradient {
		s.scoreGradient(columns, x, inverse, logits)
	}
	s.settle(nil)
	return out
}

// softmaxColumn writes the softmax of logits to p and returns the logarithm of its sum.
func softmaxColumn(logits []float32, p []float64) (logSum float64) {
	largest := float32(math.Inf(-1))
	for _, v := range logits {
		largest = max(largest, v)
	}
	sum := 0.0
	for i, v := range logits {
		p[i] = math.Exp(float64(v) - float64(largest))
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return math.Log(sum) + float64(largest)
}

func (s *panelStream) scoreGradient(columns []int, x panel.Wide, inverse []float64, dLogits panel.Matrix) {
	dNormed := s.matrix(x.Rows, x.Panels)
	s.model.head.MultiplyTransposedColumns(s.scratch, s.operand(dLogits), dNormed, false, firsts(len(columns)))
	dx := s.wideZeros(x.Rows, x.Panels)
	panel.NormalizeGradient(dNormed, s.model.finalNorm, x, inverse, dx)
	s.dy = s.wideZeros(s.x.Rows, s.x.Panels)
	for i, c := range columns {
		if c >= 0 {
			s.dy.Copy(c, dx, i)
		}
	}
}
