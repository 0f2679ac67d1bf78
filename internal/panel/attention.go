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

// attention is the scratch of a head's work on panels of queries, at most atOnce of them.
type attention struct {
	scores, dp  []float32       // of one panel after the other: [visible keys][Lanes]
	parts       [atOnce + 1]int // where a panel's part of them begins, and where the last ends
	offsets     []int
	queries, dz []float32 // of one panel after the other, column by column: [Lanes][Padded(Dim)]
	halfAttention
}

// Head is one head's attention, to keys and values of Dim rows from Group on.
type Head struct {
	Dim, Group int
	Keys       []Keys
	Scale      float32 // 1/sqrt(Dim)
}

// Queries are a panel of queries, with what Attend and Gradient make of it: Z and DQ.
type Queries struct {
	Sight        Sight
	Q, Z, DZ, DQ []float32 // [Dim][Lanes]
	// Maximum and Inverse [Lanes] are what the gradient needs of the softmax: its largest score and the inverse of its sum.
	Maximum, Inverse []float32
}

// atOnce is the number of panels of queries that meet a panel of keys together, where there are kernels for two: one alone needs a
// load for every product, and some processors load hardly more than once a cycle.
const atOnce = 2

// inTurn does work for the panels of queries that see anything, with room for their scores. Others are padding.
func (h Head) inTurn(s *Scratch, all []Queries, work func(q []Queries)) {
	together := twos && !h.half()
	sees := func(at int) bool { return at < len(all) && len(all[at].Sight.Panels) > 0 }
	for at := 0; at < len(all); {
		q := all[at : at+1]
		if together && sees(at) && sees(at+1) {
			q = all[at : at+2]
		}
		at += len(q)
		if len(q[0].Sight.Panels) == 0 {
			continue
		}
		for i := range q {
			s.parts[i+1] = s.parts[i] + len(q[i].Sight.Panels)*Lanes*Lanes
		}
		s.scores, s.dp = sized(s.scores, s.parts[len(q)]), sized(s.dp, s.parts[len(q)])
		work(q)
	}
}

// of is what scores or dp hold of the i-th panel.
func (a *attention) of(all []float32, i int) []float32 { return all[a.parts[i]:a.parts[i+1]] }

// Attend is z = V softmax(Scale Kᵀ q) for panels of queries. It writes Z and, but for queries that see nothing, Maximum and
// Inverse.
func (h Head) Attend(s *Scratch, all []Queries) {
	for _, one := range all {
		clear(one.Z)
	}
	h.inTurn(s, all, func(q []Queries) {
		h.score(s, q, queries, s.scores, keySide)
		for i, one := range q {
			softmax(s.of(s.scores, i), one.Sight.Bits, h.Scale, one.Maximum, one.Inverse)
		}
		h.mix(s, q, s.scores, outcomes, valueSide)
		for _, one := range q {
			scaleRows(one.Z, one.Inverse)
		}
	})
}

// factor is what of a panel of queries is multiplied with keys or values, or made of them.
type factor func(q Queries) []float32

func queries(q Queries) []float32        { return q.Q }
func outcomes(q Queries) []float32       { return q.Z }
func cotangents(q Queries) []float32     { return q.DZ }
func queryGradients(q Queries) []float32 { return q.DQ }

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

// run is a stretch of panels of keys that lie in the same Keys and are seen by the same panels of queries.
type run struct {
	Keys
	panels []int        // their numbers
	shift  int          // from these to panels of K and V
	sees   [atOnce]bool // which panels of queries see them
	begin  [atOnce]int  // which of those that these see is the first
}

// alone is the panel of queries that sees the run, unless both do.
func (r run) alone() (i int, alone bool) {
	if r.sees[0] {
		return 0, !r.sees[1]
	}
	return 1, true
}

// runs visits all that panels of queries see, in order.
func (h Head) runs(q []Queries, visit func(r run)) {
	var next [atOnce]int
	for p, sees := upcoming(q, next); p >= 0; {
		k, at := find(h.Keys, p)
		r := run{k, nil, at - p, sees, next}
		for last := k.First + k.Size - r.shift; p >= 0 && p < last && sees == r.sees; p, sees = upcoming(q, next) {
			for i := range next {
				if sees[i] {
					next[i]++
				}
			}
		}
		i, _ := r.alone()
		r.panels = q[i].Sight.Panels[r.begin[i]:next[i]]
		visit(r)
	}
}

// upcoming is the first panel of keys that panels of queries see from the next ones on, or -1, and which of them do.
func upcoming(q []Queries, next [atOnce]int) (p int, sees [atOnce]bool) {
	p = -1
	for i := range q {
		seen := q[i].Sight.Panels[next[i]:]
		if len(seen) == 0 || p >= 0 && seen[0] > p {
			continue
		}
		if seen[0] != p {
			p, sees = seen[0], [atOnce]bool{}
		}
		sees[i] = true
	}
	return p, sees
}

// score is Aᵀ b for the keys or values A that panels of queries see: [visible keys][Lanes], of one panel after the other.
func (h Head) score(s *Scratch, q []Queries, b factor, to []float32, of side) {
	if h.half() {
		h.scoreHalf(s, q, b(q[0]), to, of)
		return
	}
	h.runs(q, func(r run) {
		i, alone := r.alone()
		for n, p := range r.panels {
			a := &r.of(of).rows(p+r.shift, h.Group, h.Group+h.Dim)[0]
			c := func(i int) *float32 { return &to[s.parts[i]+(r.begin[i]+n)*Lanes*Lanes] }
			if alone {
				scores16(h.Dim, a, &b(q[i])[0], c(i))
			} else {
				scores16x2(h.Dim, a, &b(q[0])[0], &b(q[1])[0], c(0), c(1))
			}
		}
	})
}

// mix adds A b for the keys or values A that panels of queries see, given b [visible keys][Lanes] of one panel after the other.
func (h Head) mix(s *Scratch, q []Queries, b []float32, to factor, of side) {
	if h.half() {
		s.mixed = sized(s.mixed, len(b))
		toHalves(s.mixed, b)
	}
	h.runs(q, func(r run) {
		m := r.of(of)
		s.offsets = s.offsets[:0]
		for _, p := range r.panels {
			s.offsets = append(s.offsets, ((p+r.shift)*m.Rows+h.Group)*Lanes)
		}
		i, alone := r.alone()
		part := func(i int) []float32 { return b[s.parts[i]+r.begin[i]*Lanes*Lanes:] }
		switch {
		case h.half():
			h.mixHalf(s, r, to(q[0]), of)
		case alone:
			mix(s.offsets, m.Data, part(i), to(q[i]))
		default:
			for r, c0, c1 := 0, to(q[0]), to(q[1]); r < len(c0); r += 8 * Lanes {
				mix8x2(len(s.offsets), &s.offsets[0], &m.Data[r], &part(0)[0], &part(1)[0], Lanes, &c0[r], &c1[r], Lanes)
			}
		}
	})
}

// mix adds A b to c [rows][Lanes], see mix16.
func mix(offsets []int, a, b, c []float32) {
	r := 0
	for ; r+16*Lanes <= len(c); r += 16 * Lanes {
		mix16(len(offsets), &offsets[0], &a[r], &b[0], Lanes, &c[r], Lanes)
	}
	for ; r < len(c); r += 8 * Lanes {
		mix8(len(offsets), &offsets[0], &a[r], &b[0], Lanes, &c[r], Lanes)
	}
}

// Cotangents are what a head's gradients of keys and values are added to, one key after the other: [keys][Padded(Dim)].
type Cotangents struct{ K, V []float32 }

// Gradient goes back through Attend, given DZ and what Attend was given and wrote. With p the weights and dp = Vᵀ dz,
// ds = p (dp - Σ dp p) (FlashAttention, Dao et al. 2022, appendix B.2).
func (h Head) Gradient(s *Scratch, all []Queries, to Cotangents) {
	for _, one := range all {
		clear(one.DQ)
	}
	h.inTurn(s, all, func(q []Queries) {
		h.score(s, q, queries, s.scores, keySide)
		h.score(s, q, cotangents, s.dp, valueSide)
		for i, one := range q {
			softmaxGradient(s.of(s.scores, i), s.of(s.dp, i), one.Sight.Bits, h.Scale, one.Maximum, one.Inverse)
		}
		h.mix(s, q, s.dp, queryGradients, keySide)
		if h.half() {
			h.spreadHalf(s, q[0], to)
		} else {
			h.spread(s, q, to)
		}
	})
}

// spread adds to the gradients of keys and values what panels of queries say: ds and p, as softmaxGradient left them, times queries
// and dz.
func (h Head) spread(s *Scratch, q []Queries, to Cotangents) {
	wide := Padded(h.Dim)
	column := Lanes * wide // of a panel of queries
	s.queries, s.dz = sized(s.queries, len(q)*column), sized(s.dz, len(q)*column)
	for i, one := range q {
		turnColumns(s.queries[i*column:][:column], one.Q, h.Dim)
		turnColumns(s.dz[i*column:][:column], one.DZ, h.Dim)
	}
	h.runs(q, func(r run) {
		for n, p := range r.panels {
			s.offsets = s.offsets[:0]
			for i := range q {
				if r.sees[i] {
					s.offsets = append(s.offsets, s.parts[i]+(r.begin[i]+n)*Lanes*Lanes)
				}
			}
			i, _ := r.alone()
			at := p * Lanes * wide
			addOuter(s.offsets, s.dp, s.queries[i*column:], to.K[at:], wide)
			addOuter(s.offsets, s.scores, s.dz[i*column:], to.V[at:], wide)
		}
	})
}

// addOuter adds A b to c [Lanes][wide], A being the blocks [Lanes][Lanes] that start offsets behind a, side by side, and b
// [len(offsets)*Lanes][wide].
func addOuter(offsets []int, a, b, c []float32, wide int) {
	col := 0
	for ; twos && col+2*Lanes <= wide; col += 2 * Lanes {
		for r := 0; r < Lanes; r += 8 {
			to := c[r*wide+col:]
			mix8x2(len(offsets), &offsets[0], &a[r*Lanes], &b[col], &b[col+Lanes], wide, &to[0], &to[Lanes], wide)
		}
	}
	for ; col < wide; col += Lanes {
		mix16(len(offsets), &offsets[0], &a[0], &b[col], wide, &c[col], wide)
	}
}

// Padded is the length of a column that holds n elements for Head.Gradient.
func Padded(n int) int { return (n + Lanes - 1) / Lanes * Lanes }

// turnColumns writes the columns of x [dim][Lanes] one after the other, filled up with zeros: [Lanes][Padded(dim)].
func turnColumns(to, x []float32, dim int) {
	wide := Padded(dim)
	if dim < wide {
		clear(to)
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
