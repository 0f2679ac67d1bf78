package llama

import (
	"math"
	"slices"
)

// Gain multiplies row o of a projection's output by Value[o] / Over[o]. Value has a gradient, Over stands still.
type Gain struct {
	value, over, quotient []float32 // [out]
	recoverable           bool
}

// SetGain gives the addition a gain: the projection's output is then value / over * (W x + Scale B A x), row by row. No
// stream may be running.
func (l *LowRank) SetGain(value, over []float32) {
	g := &Gain{value: slices.Clone(value), over: slices.Clone(over), quotient: make([]float32, len(value)),
		recoverable: Recoverable(value, over)}
	for o, v := range value {
		g.quotient[o] = v / over[o]
	}
	l.Gain = g
}

// Recoverable says whether what a gain of value / over multiplies can be told from the product. If not, a backward pass
// has to compute it again.
func Recoverable(value, over []float32) bool {
	const least = 1e-6
	for o, v := range value {
		if !(math.Abs(float64(v)) > least*math.Abs(float64(over[o]))) {
			return false
		}
	}
	return true
}

// bytes is the memory that the gain takes.
func (g *Gain) bytes() int64 {
	if g == nil {
		return 0
	}
	return 3 * 4 * int64(len(g.value))
}
