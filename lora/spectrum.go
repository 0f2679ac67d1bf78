package lora

import "math"

// Spectrum are the singular values of what an adapter adds to a projection, scale B A, falling: as many as the rank, or
// as the shorter side where that is less.
type Spectrum []float64

// Spectrum computes them in float64 from two QR factorisations and the r x r matrix between them; no matrix of the
// weight's size is made. nil where the adapter does not stand.
func (a *Adapter) Spectrum(layer int, proj string) Spectrum {
	p, ok := a.pairs[target{layer, proj}]
	if !ok {
		return nil
	}
	return singular(core(triangle(p.columnsOfB()), triangle(p.columnsOfA()), p.scale))
}

// Frobenius is the root of the sum of the squares of all entries.
func (s Spectrum) Frobenius() float64 { return length(s) }

// Spectral is the largest factor by which it stretches a vector.
func (s Spectrum) Spectral() float64 {
	if len(s) == 0 {
		return 0
	}
	return s[0]
}

// EffectiveRank is exp(-Σ p log p), p being each singular value's share of the energy, σ²/Σσ²: r for r equal singular
// values, 1 where one has all, 0 where there is nothing. Roy and Vetterli (EUSIPCO 2007, "The effective rank: a measure of
// effective dimensionality") define it with shares of Σσ; squares are the shares of the Frobenius norm.
func (s Spectrum) EffectiveRank() float64 {
	norm := s.Frobenius()
	if norm == 0 {
		return 0
	}
	var entropy float64
	for _, v := range s {
		if p := v / norm * (v / norm); p > 0 {
			entropy -= p * math.Log(p)
		}
	}
	return math.Exp(entropy)
}
