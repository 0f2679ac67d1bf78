package lora

import (
	"cmp"
	"math"
	"slices"
)

// The functions here work on matrices given by columns: column j of an m x n matrix is a[j], of length m.

// triangle returns R [min(m, n), n], by columns, of a = Q R with Q's columns orthonormal, by Householder reflections
// (Golub and Van Loan, Matrix Computations, section 5.2). It overwrites a.
func triangle(a [][]float64) [][]float64 {
	m, n := len(a[0]), len(a)
	for k := range min(m, n) {
		column := a[k][k:]
		norm := length(column)
		if norm == 0 {
			continue
		}
		head := column[0]
		top := -math.Copysign(norm, head) // away from head, so that nothing cancels
		v := slices.Clone(column)
		v[0] -= top
		for _, other := range a[k:] {
			mirror(other[k:], v)
		}
	}
	p := min(m, n)
	r := make([][]float64, n)
	for j := range r {
		r[j] = make([]float64, p)
		copy(r[j], a[j][:min(j+1, p)])
	}
	return r
}

// mirror applies I - 2 v vᵀ / vᵀv to x.
func mirror(x, v []float64) {
	factor := 2 * dot(x, v) / dot(v, v)
	for i := range x {
		x[i] -= factor * v[i]
	}
}

// core returns scale R_B R_Aᵀ [p, q], by columns, of B = Q_B R_B and Aᵀ = Q_A R_A: B scale A without the orthonormal
// factors on its sides, so that it has the same singular values, norms and inner products. rb is [p, r], ra is [q, r].
func core(rb, ra [][]float64, scale float64) [][]float64 {
	c := make([][]float64, len(ra[0]))
	for j := range c {
		c[j] = make([]float64, len(rb[0]))
		for k, column := range rb {
			factor := scale * ra[k][j]
			for i, v := range column {
				c[j][i] += v * factor
			}
		}
	}
	return c
}

// singular returns the singular values of a, falling, by one-sided Jacobi rotations (Demmel and Veselic 1992, "Jacobi's
// method is more accurate than QR"). It overwrites a.
func singular(a [][]float64) []float64 {
	const sweeps, small = 60, 1e-15
	for range sweeps {
		turned := false
		for i := range a {
			for j := i + 1; j < len(a); j++ {
				turned = orthogonalize(a[i], a[j], small) || turned
			}
		}
		if !turned {
			break
		}
	}
	values := make([]float64, len(a))
	for i, column := range a {
		values[i] = length(column)
	}
	slices.SortFunc(values, func(x, y float64) int { return cmp.Compare(y, x) })
	return values
}

// orthogonalize turns two columns in their plane until they are orthogonal, and says whether they were not.
func orthogonalize(x, y []float64, small float64) bool {
	xx, yy, xy := dot(x, x), dot(y, y), dot(x, y)
	if math.Abs(xy) <= small*math.Sqrt(xx)*math.Sqrt(yy) {
		return false
	}
	zeta := (yy - xx) / (2 * xy)
	t := math.Copysign(1, zeta) / (math.Abs(zeta) + math.Hypot(1, zeta))
	c := 1 / math.Sqrt(1+t*t)
	s := c * t
	for i, v := range x {
		x[i], y[i] = c*v-s*y[i], s*v+c*y[i]
	}
	return true
}

func dot(x, y []float64) (sum float64) {
	for i, v := range x {
		sum += v * y[i]
	}
	return sum
}

// length is the Euclidean norm, safe from overflow.
func length(x []float64) float64 {
	var largest float64
	for _, v := range x {
		largest = max(largest, math.Abs(v))
	}
	if largest == 0 {
		return 0
	}
	var sum float64
	for _, v := range x {
		sum += v / largest * (v / largest)
	}
	return largest * math.Sqrt(sum)
}

// columnsOfB are those of B [out, r], and columnsOfA those of Aᵀ [in, r], in float64.
func (p pair) columnsOfB() [][]float64 {
	out, rank := p.b.Shape[0], p.b.Shape[1]
	columns := make([][]float64, rank)
	for k := range columns {
		columns[k] = make([]float64, out)
		for o := range out {
			columns[k][o] = float64(p.b.Value[o*rank+k])
		}
	}
	return columns
}

func (p pair) columnsOfA() [][]float64 {
	rank, in := p.a.Shape[0], p.a.Shape[1]
	columns := make([][]float64, rank)
	for k := range columns {
		columns[k] = make([]float64, in)
		for i, v := range p.a.Value[k*in : (k+1)*in] {
			columns[k][i] = float64(v)
		}
	}
	return columns
}
