package panel

// Gain multiplies row r of x by by[r].
func Gain(x Matrix, by []float32) {
	for p := range x.Panels {
		gain(x.Panel(p), by)
	}
}

// GainRows is Gain for rows: element j of each is multiplied by by[j].
func GainRows(x Rows, by []float32) {
	for i := range x.Count() {
		row := x.Row(i)
		for j, v := range by {
			row[j] *= v
		}
	}
}

// AddProducts is sums += a b, element by element.
func AddProducts(a, b, sums []float32) { addProducts(a, b, sums) }

// Difference is y = a - b, rounded to float32.
func Difference(a, b []float64, y []float32) { difference(a, b, y) }

// RowSquares are the sums of the squares of the weight's rows [Out].
func (w *Weight) RowSquares(s *Scratch) []float64 {
	defer w.alive()
	sums := make([]float64, tileCount(w.Out)*tileRows)
	s.Each(tileCount(w.Out), func(s *Scratch, first, end int) {
		for t := first; t < end; t++ {
			tile, sums := w.tile(s, t, 0, w.In), sums[t*tileRows:(t+1)*tileRows]
			for i := 0; i < w.In*tileRows; i += tileRows {
				for r, v := range tile[i : i+tileRows] {
					sums[r] += float64(v) * float64(v)
				}
			}
		}
	})
	return sums[:w.Out]
}
