// Package panel computes the parts of a transformer block on the processor: matrices whose columns are tokens, 16 side by
// side in a panel, and kernels that work on whole panels. There are three sets of these: in AVX-512, in AVX2 and FMA, and in NEON.
// In float32 all add up in the same order and give the same bits. Products in bfloat16 are in AVX-512 alone, in AVX512_BF16 or, on
// Intel's processors, in AMX; their sums differ.
//
// A product with a weight reads the weight's tiles once and writes its outcome in the layout of its input, so nothing is
// ever transposed or packed between the steps of a block; sums over features, such as a norm's, and over keys, such as
// the softmax's, run lane by lane. Attention holds the scores of 16 queries of one head at a time.
//
// Functions do not check what their callers guarantee; shapes that do not fit panic.
package panel

// Lanes is the number of columns that lie side by side: the width of an AVX-512 register in float32.
const Lanes = 16

// hidden is less than any score.
const hidden = -1e30

// Matrix is a float32 matrix of Rows rows (features) and Panels*Lanes columns (tokens). Element (r, c) is
// Data[(c/Lanes*Rows+r)*Lanes+c%Lanes].
type Matrix struct {
	Rows, Panels int
	Data         []float32
}

// Panel is the p-th group of columns: Rows rows of Lanes elements.
func (m Matrix) Panel(p int) []float32 { return m.Data[p*m.Rows*Lanes : (p+1)*m.Rows*Lanes] }

// rows are the rows from..to of a panel.
func (m Matrix) rows(p, from, to int) []float32 {
	return m.Data[(p*m.Rows+from)*Lanes : (p*m.Rows+to)*Lanes]
}

// Column copies column c of m to or from a contiguous slice.
func (m Matrix) Column(c int, to []float32) {
	from := m.Panel(c / Lanes)[c%Lanes:]
	for r := range to {
		to[r] = from[r*Lanes]
	}
}

// SetColumn is the inverse of Column.
func (m Matrix) SetColumn(c int, from []float32) {
	to := m.Panel(c / Lanes)[c%Lanes:]
	for r, v := range from {
		to[r*Lanes] = v
	}
}

// Copy writes column c of from into column d of m.
func (m Matrix) Copy(d int, from Matrix, c int) {
	copyColumn(m.Panel(d / Lanes)[d%Lanes:], from.Panel(c / Lanes)[c%Lanes:], m.Rows)
}

// Run are Count columns side by side, from To on in one matrix and from From on in another, in a single panel of either.
type Run struct{ To, From, Count int }

// Join adds the pair of a column to and a column from to runs, at the end of the last one where it continues that.
func Join(runs []Run, to, from int) []Run {
	if n := len(runs) - 1; n >= 0 {
		last := &runs[n]
		if to == last.To+last.Count && from == last.From+last.Count && to%Lanes > 0 && from%Lanes > 0 {
			last.Count++
			return runs
		}
	}
	return append(runs, Run{to, from, 1})
}

// CopyRuns writes columns of from into m.
func (m Matrix) CopyRuns(from Matrix, runs []Run) {
	for _, run := range runs {
		to, from, n := m.Panel(run.To / Lanes)[run.To%Lanes:], from.Panel(run.From / Lanes)[run.From%Lanes:], run.Count
		for i := 0; i < m.Rows*Lanes; i += Lanes {
			copy(to[i:i+n], from[i:i+n])
		}
	}
}

// AddRunsTo adds columns of m to those of own that CopyRuns(own, runs) takes them from.
func (m Matrix) AddRunsTo(own Matrix, runs []Run) {
	for _, run := range runs {
		values, sums := m.Panel(run.To / Lanes)[run.To%Lanes:], own.Panel(run.From / Lanes)[run.From%Lanes:]
		for i := 0; i < m.Rows*Lanes; i += Lanes {
			sum := sums[i : i+run.Count]
			for j, v := range values[i : i+run.Count] {
				sum[j] += v
			}
		}
	}
}

func copyColumn[T float32 | float64](to, from []T, rows int) {
	for i := 0; i < rows*Lanes; i += Lanes {
		to[i] = from[i]
	}
}

func addColumn[T float32 | float64](to, from []T, rows int) {
	for i := 0; i < rows*Lanes; i += Lanes {
		to[i] += from[i]
	}
}

// Wide is a float64 matrix laid out as a Matrix is.
type Wide struct {
	Rows, Panels int
	Data         []float64
}

// Panel is the p-th group of columns.
func (m Wide) Panel(p int) []float64 { return m.Data[p*m.Rows*Lanes : (p+1)*m.Rows*Lanes] }

// Copy writes column c of from into column d of m.
func (m Wide) Copy(d int, from Wide, c int) {
	copyColumn(m.Panel(d / Lanes)[d%Lanes:], from.Panel(c / Lanes)[c%Lanes:], m.Rows)
}

// AddColumn adds column c of from to column d of m.
func (m Wide) AddColumn(d int, from Wide, c int) {
	addColumn(m.Panel(d / Lanes)[d%Lanes:], from.Panel(c / Lanes)[c%Lanes:], m.Rows)
}

// Add is m += y.
func (m Wide) Add(y Matrix) { addWide(m.Data, y.Data) }

// Narrow is y = m in float32.
func (m Wide) Narrow(y Matrix) { narrowTo(y.Data, m.Data) }

// Normalize is RMSNorm (Zhang and Sennrich, 2019) of every column of x times gain [Rows], in float64 but for the last
// product: y. inverse [columns] becomes 1/sqrt(mean(x²) + eps).
func Normalize(x Wide, gain []float32, eps float64, y Matrix, inverse []float64) {
	for p := range x.Panels {
		normalize(x.Panel(p), gain, eps, y.Panel(p), inverse[p*Lanes:(p+1)*Lanes])
	}
}

// NormalizeGradient adds to dx what dy, the cotangent of y, says about x.
func NormalizeGradient(dy Matrix, gain []float32, x Wide, inverse []float64, dx Wide) {
	for p := range x.Panels {
		normalizeGradient(dy.Panel(p), gain, x.Panel(p), inverse[p*Lanes:(p+1)*Lanes], dx.Panel(p))
	}
}

// Rotate turns every head of x, each of dim rows, by the angles whose cosines and sines are cos and sin [dim/2 rows];
// row i of a head is paired with i + dim/2. inverse turns back.
func Rotate(x, cos, sin Matrix, dim int, inverse bool) {
	for p := range x.Panels {
		for r := 0; r < x.Rows; r += dim {
			rotate(x.rows(p, r, r+dim), cos.Panel(p), sin.Panel(p), inverse)
		}
	}
}

// SwiGLU is h = silu(gate) * up (Shazeer, 2020).
func SwiGLU(gate, up, h Matrix) { swiglu(gate.Data, up.Data, h.Data) }

// SwiGLUGradient replaces gate and up by their cotangents, given that of h.
func SwiGLUGradient(dh, gate, up Matrix) { swigluGradient(dh.Data, gate.Data, up.Data) }

// AddTo is x += y.
func AddTo(x, y Matrix) { addTo(x.Data, y.Data) }

// Scale is x *= by.
func Scale(x Matrix, by float32) { scaleBy(x.Data, by) }
