package panel

// Keys are the keys and values that queries of one sequence may look at: consecutive panels of K and V.
type Keys struct {
	K, V        Matrix
	First, Size int       // panels
	Half        *HalfKeys // nil, or K and V rounded, which are multiplied then; in all Keys of a Head or in none
}

// Sight says which keys the queries of a panel see: the panels of keys with at least one visible key, in order, and for
// each its 16 keys' bits, one for every query. Panels are numbered over several Keys, one after the other.
type Sight struct {
	Panels []int
	Bits   []*[Lanes]uint16
}

// Places are the position and branch of columns: a query sees a key that is not later and lies in branch 0, the trunk, or
// in the query's own. Columns of branch -1 see nothing and are not seen.
type Places struct{ Position, Branch []int32 }

// everyone is what a panel of keys looks like that all of a panel of queries see; most are such.
var everyone = func() (bits [Lanes]uint16) {
	for i := range bits {
		bits[i] = 1<<Lanes - 1
	}
	return bits
}()

// Append adds what a panel of queries sees of keys, whose first panel has the number first.
func (s *Sight) Append(queries, keys Places, first int) {
	for at := 0; at < len(keys.Position); at += Lanes {
		var bits [Lanes]uint16
		for i := range bits {
			position, branch := keys.Position[at+i], keys.Branch[at+i]
			for j, b := range queries.Branch {
				if branch >= 0 && b >= 0 && position <= queries.Position[j] && (branch == 0 || branch == b) {
					bits[i] |= 1 << j
				}
			}
		}
		switch bits {
		case everyone:
			s.add(first+at/Lanes, &everyone)
		case [Lanes]uint16{}:
		default:
			s.add(first+at/Lanes, &bits)
		}
	}
}

func (s *Sight) add(panel int, bits *[Lanes]uint16) {
	s.Panels, s.Bits = append(s.Panels, panel), append(s.Bits, bits)
}

// Only is what the query in one lane sees, when it stands alone in the first lane of a panel.
func (s Sight) Only(lane int) Sight {
	var one Sight
	for i, bits := range s.Bits {
		var first [Lanes]uint16
		for j, b := range bits {
			first[j] = b >> lane & 1
		}
		if first != [Lanes]uint16{} {
			one.add(s.Panels[i], &first)
		}
	}
	return one
}

// attention is the scratch of one head's work on one panel of queries.
type attention struct {
	scores, dp  []float32
	offsets     []int
	queries, dz []float32 // of one panel, a column after the other: [Lanes][padded dim]
	halfAttention
}

// Head is one head's attention for one panel of queries, to keys and values of Dim rows from Group on.
type Head struct {
	Dim, Group int
	Keys       []Keys
	Sight      Sight
	Scale      float32 // 1/sqrt(Dim)
	// Maximum and Inverse [Lanes] are what the gradient needs of the softmax: its largest score and the inverse of its sum.
	Maximum, Inverse []float32
}

// Attend is z = V softmax(Scale Kᵀ q), q and z [Dim][Lanes]. It writes Maximum and Inverse.
func (h Head) Attend(s *Scratch, q, z []float32) {
	if len(h.Sight.Panels) == 0 { // padding
		clear(z)
		return
	}
	s.room(len(h.Sight.Panels))
	h.score(s, q, s.scores, keySide)
	n := len(h.Sight.Panels) * Lanes
	softmax(s.scores[:n*Lanes], h.Sight.Bits, h.Scale, h.Maximum, h.Inverse)
	h.mix(s, s.scores, z, valueSide)
	scaleRows(z, h.Inverse)
}

func (s *Scratch) room(panels int) {
	if n := panels * Lanes * Lanes; len(s.scores) < n {
		s.scores, s.dp = make([]float32, n), make([]float32, n)
	}
}

// find gives the Keys and the panel in it that number p means.
func find(keys []Keys, p int) (Keys, int) {
	for _, k := range keys {
		if p < k.Size {
			return k, k.First + p
		}
		p -= k.Size
	}
	panic("panel: no such panel of keys")
}

// score is to = Aᵀ b for every visible panel: [panels*Lanes][Lanes].
func (h Head) score(s *Scratch, b, to []float32, of side) {
	if h.half() {
		h.scoreHalf(s, b, to, of)
		return
	}
	for i, p := range h.Sight.Panels {
		k, at := find(h.Keys, p)
		scores16(h.Dim, &k.of(of).rows(at, h.Group, h.Group+h.Dim)[0], &b[0], &to[i*Lanes*Lanes])
	}
}

// mix is to = A b over all visible panels, b [panels*Lanes][Lanes], to [Dim][Lanes].
func (h Head) mix(s *Scratch, b, to []float32, of side) {
	panels, add := h.Sight.Panels, false
	if h.half() {
		s.mixed = sized(s.mixed, len(panels)*Lanes*Lanes)
		toHalves(s.mixed, b[:len(s.mixed)])
	}
	h.runs(func(k Keys, at, begin, end int) {
		m := k.of(of)
		s.offsets = s.offsets[:0]
		for _, p := range panels[begin:end] {
			s.offsets = append(s.offsets, ((p-panels[begin]+at)*m.Rows+h.Group)*Lanes)
		}
		if h.half() {
			h.mixHalf(s, k, of, begin, to, add)
			add = true
			return
		}
		r := 0
		for ; r+16 <= h.Dim; r += 16 {
			mix16(len(s.offsets), &s.offsets[0], &m.Data[r*Lanes], &b[begin*Lanes*Lanes], Lanes, &to[r*Lanes], Lanes, add)
		}
		for ; r < h.Dim; r += 8 {
			mix8(len(s.offsets), &s.offsets[0], &m.Data[r*Lanes], &b[begin*Lanes*Lanes], Lanes, &to[r*Lanes], Lanes, add)
		}
		add = true
	})
}

// runs visits the visible panels, those in the same Keys at a time: from the begin-th to before the end-th, of which the first is
// panel at of k.
func (h Head) runs(visit func(k Keys, at, begin, end int)) {
	panels := h.Sight.Panels
	for begin := 0; begin < len(panels); {
		k, at := find(h.Keys, panels[begin])
		last, end := panels[begin]-at+k.First+k.Size, begin
		for end < len(panels) && panels[end] < last {
			end++
		}
		visit(k, at, begin, end)
		begin = end
	}
}

// Cotangents are where a head's gradient goes: that of the queries [Dim][Lanes], which is written, and those of the head's
// keys and values, one key after the other, [keys][Padded(Dim)], which are added to.
type Cotangents struct{ Q, K, V []float32 }

// Gradient goes back through Attend, given q and the cotangent dz of z. With p the weights and dp = Vᵀ dz,
// ds = p (dp - Σ dp p) (FlashAttention, Dao et al. 2022, appendix B.2).
func (h Head) Gradient(s *Scratch, q, dz []float32, to Cotangents) {
	if len(h.Sight.Panels) == 0 {
		clear(to.Q)
		return
	}
	s.room(len(h.Sight.Panels))
	h.score(s, q, s.scores, keySide)
	h.score(s, dz, s.dp, valueSide)
	n := len(h.Sight.Panels) * Lanes * Lanes
	softmaxGradient(s.scores[:n], s.dp[:n], h.Sight.Bits, h.Scale, h.Maximum, h.Inverse)
	h.mix(s, s.dp, to.Q, keySide)
	if h.half() {
		h.spreadHalf(s, q, dz, to)
		return
	}
	s.queries, s.dz = turned(s.queries, q, h.Dim), turned(s.dz, dz, h.Dim)
	wide := Padded(h.Dim)
	var start [1]int
	for i, p := range h.Sight.Panels {
		for c := 0; c < wide; c += Lanes {
			at, from := p*Lanes*wide+c, i*Lanes*Lanes
			mix16(1, &start[0], &s.dp[from], &s.queries[c], wide, &to.K[at], wide, true)
			mix16(1, &start[0], &s.scores[from], &s.dz[c], wide, &to.V[at], wide, true)
		}
	}
}

// Padded is the length of a column that holds n elements for Head.Gradient.
func Padded(n int) int { return (n + Lanes - 1) / Lanes * Lanes }

// turned writes the columns of x [dim][Lanes] one after the other into to, filled up with zeros.
func turned(to, x []float32, dim int) []float32 {
	wide := Padded(dim)
	if len(to) != Lanes*wide {
		to = make([]float32, Lanes*wide)
	}
	r := 0
	for ; r+Lanes <= dim; r += Lanes {
		turn16(&x[r*Lanes], Lanes, &to[r], wide, &turnLanes)
	}
	for ; r < dim; r++ {
		for c := range Lanes {
			to[c*wide+r] = x[r*Lanes+c]
		}
	}
	return to
}

// FromColumns writes columns [Lanes][Padded(dim)] as a panel to [dim][Lanes].
func FromColumns(columns, to []float32, dim int) {
	wide := Padded(dim)
	r := 0
	for ; r+Lanes <= dim; r += Lanes {
		turn16(&columns[r], wide, &to[r*Lanes], Lanes, &turnLanes)
	}
	for ; r < dim; r++ {
		for c := range Lanes {
			to[r*Lanes+c] = columns[c*wide+r]
		}
	}
}

// turnLanes are the lanes that two rows of a matrix exchange in the four rounds of its transposition, in which rows 8,
// 4, 2 and 1 apart meet: what the upper row becomes, and what the lower, numbers from 16 on being the lower's.
var turnLanes = func() (lanes [8][16]uint32) {
	for round, apart := range []uint32{8, 4, 2, 1} {
		for l := range uint32(16) {
			if l&apart == 0 {
				lanes[2*round][l], lanes[2*round+1][l] = l, l+apart
			} else {
				lanes[2*round][l], lanes[2*round+1][l] = 16+l-apart, 16+l
			}
		}
	}
	return lanes
}()
