package panel

import "unsafe"

// keyByKey rounds m [Rows][Lanes] to [Lanes][Rows], panel by panel.
func keyByKey(to []uint16, m Matrix) {
	var block [dotDepth * Lanes]uint16
	for p := range m.Panels {
		from, to := m.Panel(p), to[p*m.Rows*Lanes:]
		r := 0
		for ; m.Rows%2 == 0 && r+dotDepth <= m.Rows; r += dotDepth { // 16 pairs of rows are turned
			toHalves(block[:], from[r*Lanes:(r+dotDepth)*Lanes])
			turn16((*float32)(unsafe.Pointer(&block[0])), Lanes, (*float32)(unsafe.Pointer(&to[r])), m.Rows/2, &turnLanes)
		}
		for ; r < m.Rows; r++ {
			for c, v := range from[r*Lanes : (r+1)*Lanes] {
				to[c*m.Rows+r] = toBits(v)
			}
		}
	}
}

// dotScores is scoreHalf on AMX, for the factor in s.column.
func (h Head) dotScores(s *Scratch, q []Queries, to []float32, of side) {
	var config tileConfig
	config.palette = 1
	for t := range 3 {
		config.register(t, Lanes, 4*Lanes)
	}
	h.runs(q, func(r run) {
		rows := r.K.Rows
		s.offsets = s.offsets[:0]
		for _, p := range r.panels {
			s.offsets = append(s.offsets, (p+r.shift)*Lanes*rows+h.Group)
		}
		at := r.begin[0] * Lanes * Lanes
		dotScores(&config, len(s.offsets), &s.offsets[0], h.Dim/dotDepth, &r.Half.pairs[of][0], rows, &s.column[0], &to[at])
	})
}

// dotMix is mixHalf on AMX. A dot product is over the 16 keys of a panel, so that it does not matter which panels are seen besides.
func (h Head) dotMix(s *Scratch, r run, to []float32, of side) {
	var config tileConfig
	config.palette = 1
	for t := range 2 {
		config.register(t, Lanes, 4*Lanes)
		config.register(4+2*t, Lanes, 2*Lanes)
	}
	config.register(5, Lanes/2, 4*Lanes)
	b := &s.mixed[r.begin[0]*Lanes*Lanes]
	for i := 0; i < h.Dim; i += 2 * Lanes {
		dotMix(&config, len(s.offsets), &s.offsets[0], &r.Half.rows[of][i*Lanes], b, &to[i*Lanes], r.begin[0] > 0)
	}
}

// dotSpread is spreadHalf on AMX, for what it has rounded.
func (h Head) dotSpread(s *Scratch, q Queries, to Cotangents) {
	var config tileConfig
	config.palette = 1
	for t := range 2 {
		config.register(t, Lanes, 4*Lanes)
		config.register(6+t, Lanes/2, 4*Lanes)
	}
	config.register(2, Lanes, 2*Lanes)
	s.offsets = s.offsets[:0]
	for _, p := range q.Sight.Panels {
		s.offsets = append(s.offsets, p*Lanes*h.Dim)
	}
	for c := 0; c < h.Dim; c += dotDepth {
		dotSpread(&config, len(s.offsets), &s.offsets[0], &s.ds[0], &s.turnedQ[c*Lanes], &to.K[c], h.Dim)
		dotSpread(&config, len(s.offsets), &s.offsets[0], &s.weights[0], &s.turnedDZ[c*Lanes], &to.V[c], h.Dim)
	}
}
