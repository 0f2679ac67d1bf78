package panel

import (
	"testing"

	"gotransplant/internal/guard"
)

// TestShortSlicesPanic: kernels that go element by element panic where a slice is too short, even if its array goes on.
func TestShortSlicesPanic(t *testing.T) {
	need(t)
	x, y, wide, inverse, gains := make([]float32, 2*Lanes), make([]float32, 2*Lanes), make([]float64, 2*Lanes), make([]float64, Lanes), make([]float32, 2)
	scores, masks := make([]float32, Lanes*Lanes), []*[Lanes]uint16{&everyone}
	short, shortWide := make([]float32, 2*Lanes)[:Lanes], make([]float64, 2*Lanes)[:Lanes]
	few, fewWide := make([]float32, Lanes)[:8], make([]float64, Lanes)[:8]
	for _, c := range []struct {
		name string
		run  func()
	}{
		{"normalize, x", func() { normalize(shortWide, gains, 1, y, inverse) }},
		{"normalize, y", func() { normalize(wide, gains, 1, short, inverse) }},
		{"normalize, inverse", func() { normalize(wide, gains, 1, y, fewWide) }},
		{"normalizeGradient, dy", func() { normalizeGradient(short, gains, wide, inverse, wide) }},
		{"normalizeGradient, x", func() { normalizeGradient(x, gains, shortWide, inverse, wide) }},
		{"normalizeGradient, inverse", func() { normalizeGradient(x, gains, wide, fewWide, wide) }},
		{"normalizeGradient, dx", func() { normalizeGradient(x, gains, wide, inverse, shortWide) }},
		{"addWide", func() { addWide(shortWide, x) }},
		{"narrowTo", func() { narrowTo(x, shortWide) }},
		{"rotate, cosines", func() { rotate(scores, short, scores, false) }},
		{"rotate, sines", func() { rotate(scores, scores, short, false) }},
		{"swiglu, gate", func() { swiglu(short, x, y) }},
		{"swiglu, up", func() { swiglu(x, short, y) }},
		{"swigluGradient, gate", func() { swigluGradient(x, short, y) }},
		{"swigluGradient, up", func() { swigluGradient(x, y, short) }},
		{"softmax, scores", func() { softmax(short, masks, 1, x, y) }},
		{"softmax, maximum", func() { softmax(scores, masks, 1, few, y) }},
		{"softmax, inverse", func() { softmax(scores, masks, 1, x, few) }},
		{"softmaxGradient, scores", func() { softmaxGradient(short, scores, masks, 1, x, y) }},
		{"softmaxGradient, dp", func() { softmaxGradient(scores, short, masks, 1, x, y) }},
		{"softmaxGradient, maximum", func() { softmaxGradient(scores, scores, masks, 1, few, y) }},
		{"softmaxGradient, inverse", func() { softmaxGradient(scores, scores, masks, 1, x, few) }},
		{"scaleRows", func() { scaleRows(x, few) }},
		{"addTo", func() { addTo(x, short) }},
		{"gain", func() { gain(short, gains) }},
		{"addProducts, a", func() { addProducts(short, x, y) }},
		{"addProducts, b", func() { addProducts(x, short, y) }},
		{"difference, a", func() { difference(shortWide, wide, y) }},
		{"difference, b", func() { difference(wide, shortWide, y) }},
	} {
		if err := guard.Do(c.name, func() error { c.run(); return nil }); err == nil {
			t.Errorf("%s: no panic for a slice that is too short", c.name)
		}
	}
}
