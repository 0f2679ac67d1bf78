package panel

import "math"

// What elementwise_amd64.go and its neighbours do, in NEON: the 16 lanes of a panel are 4 times the 4 of a register. Sums run
// lane by lane, so the bits are the same. The kernels take their lengths from one slice; the others are cut to it here, so that
// shapes that do not fit panic.

// exponentialTable is what EXPONENTIAL needs, in the order in which CONSTANTS takes it.
var exponentialTable = [...]float32{math.Log2E, ln2Upper, ln2Lower, exp7, exp6, exp5, exp4, exp3, exp2, 1, near * near, far}

// fit are the first n elements of s. Unlike s[:n] it panics where s has fewer, whatever lies behind them.
func fit[T any](s []T, n int) []T { return s[:n:len(s)] }

//go:noescape
func normalizeNEON(x []float64, gain []float32, eps float64, y []float32, inverse []float64)

func normalize(x []float64, gain []float32, eps float64, y []float32, inverse []float64) {
	n := len(gain) * Lanes
	normalizeNEON(fit(x, n), gain, eps, fit(y, n), fit(inverse, Lanes))
}

// normalizeGradientNEON also takes -1/len(gain).
//
//go:noescape
func normalizeGradientNEON(dy, gain []float32, x, inverse, dx []float64, share float64)

func normalizeGradient(dy, gain []float32, x []float64, inverse, dx []float64) {
	n := len(gain) * Lanes
	normalizeGradientNEON(fit(dy, n), gain, fit(x, n), fit(inverse, Lanes), fit(dx, n), -1/float64(len(gain)))
}

//go:noescape
func addWideNEON(x []float64, y []float32)

func addWide(x []float64, y []float32) { addWideNEON(fit(x, len(y)), y) }

//go:noescape
func narrowToNEON(y []float32, x []float64)

func narrowTo(y []float32, x []float64) { narrowToNEON(y, fit(x, len(y))) }

// rotateNEON takes both halves of x on their own.
//
//go:noescape
func rotateNEON(a, b, cos, sin []float32, inverse bool)

func rotate(x, cos, sin []float32, inverse bool) {
	half := len(x) / 2
	rotateNEON(x[:half], x[half:], fit(cos, half), fit(sin, half), inverse)
}

//go:noescape
func swigluNEON(gate, up, h []float32)

func swiglu(gate, up, h []float32) { swigluNEON(fit(gate, len(h)), fit(up, len(h)), h) }

//go:noescape
func swigluGradientNEON(dh, gate, up []float32)

func swigluGradient(dh, gate, up []float32) {
	swigluGradientNEON(dh, fit(gate, len(dh)), fit(up, len(dh)))
}

//go:noescape
func softmaxNEON(scores []float32, masks []*[Lanes]uint16, scale, low float32, maximum, inverse []float32)

func softmax(scores []float32, masks []*[Lanes]uint16, scale float32, maximum, inverse []float32) {
	softmaxNEON(fit(scores, len(masks)*Lanes*Lanes), masks, scale, hidden, fit(maximum, Lanes), fit(inverse, Lanes))
}

//go:noescape
func softmaxGradientNEON(scores, dp []float32, masks []*[Lanes]uint16, scale float32, maximum, inverse []float32)

func softmaxGradient(scores, dp []float32, masks []*[Lanes]uint16, scale float32, maximum, inverse []float32) {
	n := len(masks) * Lanes * Lanes
	softmaxGradientNEON(fit(scores, n), fit(dp, n), masks, scale, fit(maximum, Lanes), fit(inverse, Lanes))
}

//go:noescape
func scaleRowsNEON(x, by []float32)

func scaleRows(x, by []float32) { scaleRowsNEON(x, fit(by, Lanes)) }

func scaleBy(x []float32, by float32) {
	var all [Lanes]float32
	for i := range all {
		all[i] = by
	}
	scaleRowsNEON(x, all[:])
}

//go:noescape
func addToNEON(x, y []float32)

func addTo(x, y []float32) { addToNEON(x, fit(y, len(x))) }

//go:noescape
func roundToNEON(to, from []float32)

func roundTo(to, from []float32) { roundToNEON(fit(to, len(from)), from) }

// exponentials replaces scores by e to the power of (score - maximum) * scale. Their number is a multiple of Lanes.
//
//go:noescape
func exponentials(scores []float32, maximum, scale float32)

// largestNEON is the largest of low and the scores.
//
//go:noescape
func largestNEON(scores []float32, low float32) float32

// largest of scores, whose number is a multiple of Lanes.
func largest(scores []float32) float32 { return largestNEON(scores, hidden) }

//go:noescape
func gainNEON(x, by []float32)

func gain(x, by []float32) { gainNEON(fit(x, len(by)*Lanes), by) }

//go:noescape
func addProductsNEON(a, b, sums []float32)

func addProducts(a, b, sums []float32) { addProductsNEON(fit(a, len(sums)), fit(b, len(sums)), sums) }

//go:noescape
func differenceNEON(a, b []float64, y []float32)

func difference(a, b []float64, y []float32) { differenceNEON(fit(a, len(y)), fit(b, len(y)), y) }
