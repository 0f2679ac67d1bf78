package panel

// HalfKeys are keys and values rounded to bfloat16, each laid out twice: in pairs of rows [Panels][Rows/2][Lanes][2], on AMX key by
// key [Panels][Lanes][Rows], of which scores are made, and row by row [Panels][Rows][Lanes], where two keys are a pair, for what is
// mixed of them.
type HalfKeys struct{ pairs, rows [2][]uint16 } // by side

// side says which of the two is meant.
type side int

const (
	keySide side = iota
	valueSide
)

// of is the matrix of a side.
func (k Keys) of(s side) Matrix {
	if s == keySide {
		return k.K
	}
	return k.V
}

// CanRound says whether heads of dim rows can attend in bfloat16.
func CanRound(dim int) bool {
	if amx {
		return dim%dotDepth == 0
	}
	return dim%Lanes == 0 && dots
}

// RoundedKeys is the number of elements that RoundKeys needs for keys k.
func RoundedKeys(k Matrix) int { return 4 * len(k.Data) }

// RoundKeys rounds keys and values of the same shape into to. k and v are not to be changed as long as the outcome is used.
func RoundKeys(k, v Matrix, to []uint16) *HalfKeys {
	var h HalfKeys
	n := len(k.Data)
	for s, m := range []Matrix{keySide: k, valueSide: v} {
		h.pairs[s], h.rows[s], to = to[:n], to[n:2*n], to[2*n:]
		if amx {
			keyByKey(h.pairs[s], m)
		} else {
			toHalves(h.pairs[s], m.Data)
		}
		roundRows(h.rows[s], m.Data)
	}
	return &h
}

// halfAttention is the scratch of a head that attends in bfloat16.
type halfAttention struct {
	column            []uint16 // one panel of queries, or of their cotangents, in pairs of rows
	mixed             []uint16 // what is multiplied with all visible panels, in pairs of keys
	weights, ds       []uint16 // [keys][Lanes], two queries being a pair
	turnedQ, turnedDZ []uint16 // [Dim/Lanes][Lanes/2][Lanes][2], two queries being a pair
	block             [Lanes * Lanes]float32
}

// sized is to with n elements, made anew where it has no room for them.
func sized[T any](to []T, n int) []T {
	if cap(to) < n {
		return make([]T, n)
	}
	return to[:n]
}

// half says that the head's keys were rounded.
func (h Head) half() bool { return h.Keys[0].Half != nil }

// scoreHalf is score with factors in bfloat16, for one panel of queries.
func (h Head) scoreHalf(s *Scratch, q []Queries, b, to []float32, of side) {
	s.column = sized(s.column, len(b))
	toHalves(s.column, b)
	if amx {
		h.dotScores(s, q, to, of)
		return
	}
	for i, p := range q[0].Sight.Panels {
		k, at := find(h.Keys, p)
		scores16Half(h.Dim/2, &k.Half.pairs[of][(at*k.K.Rows+h.Group)*Lanes], &s.column[0], &to[i*Lanes*Lanes])
	}
}

// mixHalf is the part of mix for a run, given the weights of all panels of keys in s.mixed.
func (h Head) mixHalf(s *Scratch, r run, to []float32, of side) {
	if amx {
		h.dotMix(s, r, to, of)
		return
	}
	b := &s.mixed[r.begin[0]*Lanes*Lanes]
	for i := 0; i < h.Dim; i += Lanes {
		mix16Half(len(s.offsets), &s.offsets[0], &r.Half.rows[of][i*Lanes], b, 2*Lanes, &to[i*Lanes], Lanes, r.begin[0] > 0)
	}
}

// spreadHalf adds to the gradients of keys and values what one panel of queries says: ds and p, as softmaxGradient left them,
// times queries and dz.
func (h Head) spreadHalf(s *Scratch, q Queries, to Cotangents) {
	n := len(s.dp)
	s.ds, s.weights = sized(s.ds, n), sized(s.weights, n)
	roundRows(s.ds, s.dp)
	roundRows(s.weights, s.scores)
	s.turnedQ, s.turnedDZ = s.turnedHalves(s.turnedQ, q.Q), s.turnedHalves(s.turnedDZ, q.DZ)
	if amx {
		h.dotSpread(s, q, to)
		return
	}
	var start [1]int
	for i, p := range q.Sight.Panels {
		for c := 0; c < h.Dim; c += Lanes {
			at, from := p*Lanes*h.Dim+c, i*Lanes*Lanes
			mix16Half(1, &start[0], &s.ds[from], &s.turnedQ[c*Lanes], 2*Lanes, &to.K[at], h.Dim, true)
			mix16Half(1, &start[0], &s.weights[from], &s.turnedDZ[c*Lanes], 2*Lanes, &to.V[at], h.Dim, true)
		}
	}
}

// turnedHalves turns x [dim][Lanes], 16 rows at a time, and rounds it in pairs of columns.
func (s *Scratch) turnedHalves(to []uint16, x []float32) []uint16 {
	to = sized(to, len(x))
	for at := 0; at < len(x); at += Lanes * Lanes {
		turn16(&x[at], Lanes, &s.block[0], Lanes, &turnLanes)
		toHalves(to[at:at+Lanes*Lanes], s.block[:])
	}
	return to
}
