package transplant

import (
	"cmp"
	"fmt"
	"slices"
)

// Shape is what the rows of a micro-batch are padded to: tokens of the arguer's and of the chooser's rows, and states
// moved. Each shape is one more compilation of every kind of executable.
type Shape struct {
	Arguer, Chooser, Moved int
	// Alone are the tokens of an arguer's row in place, which has one prompt to itself. It follows from the rows of a shape: no row is
	// put into another shape for it.
	Alone int
}

// Buckets are the shapes that micro-batches may have, each at least as large as the one before in all three numbers,
// so that a micro-batch of rows from several buckets fits the largest of them.
type Buckets []Shape

// tile is the step of the lengths of buckets, in tokens: tensor cores work on multiples of 8.
const tile = 8

func upToTile(n int) int { return upTo(tile, n) }

// covers says whether rows that need r fit.
func (s Shape) covers(r Shape) bool {
	return r.Arguer <= s.Arguer && r.Chooser <= s.Chooser && r.Moved <= s.Moved
}

// join is the smallest shape for both.
func (s Shape) join(r Shape) Shape {
	return Shape{max(s.Arguer, r.Arguer), max(s.Chooser, r.Chooser), max(s.Moved, r.Moved), max(s.Alone, r.Alone)}
}

// number is one of the three numbers by which a shape is chosen.
func (s *Shape) number(i int) *int { return []*int{&s.Arguer, &s.Chooser, &s.Moved}[i] }

// aloneStep is the step of Shape.Alone.
const aloneStep = 32

// round rounds all numbers up, those by which a shape is chosen with up.
func (s Shape) round(up func(n int) int) Shape {
	return Shape{up(s.Arguer), up(s.Chooser), up(s.Moved), upTo(aloneStep, s.Alone)}
}

// work is the cost of a row of this shape in tokens of a model of the given hidden size M. A block has about 12 M²
// weights and its attention takes 2 M multiplications a key: a query with 6 M keys costs twice a token's products.
func (s Shape) work(hidden int) float64 {
	attended := s.Arguer*s.Arguer + s.Chooser*(s.Chooser+s.Moved)
	return float64(s.Arguer+s.Chooser) + float64(attended)/float64(6*hidden)
}

// need is the shape of a case without padding, behind the prefixes.
func (m *Method) need(c Case) Shape {
	last, all := m.span()
	s := Shape{Chooser: len(packChooser(c, all).token) - len(m.Prefix.Chooser)}
	if last >= 0 {
		r := packArguer(c)
		s.Arguer, s.Moved = len(r.token)-len(m.Prefix.Arguer), len(r.source)
		s.Alone = max(moved(c.Argue[0].Span).End, moved(c.Argue[1].Span).End) // see packAlone
	}
	return s
}

// PlanBuckets chooses at most count shapes for the cases, so that padding every row to the smallest shape that covers it
// costs little. A count of 0 gives none: lengths are then rounded in steps of an eighth and less.
func (m *Method) PlanBuckets(cases []Case, count int) Buckets {
	if count == 0 {
		return nil
	}
	needs := make([]Shape, len(cases))
	for i, c := range cases {
		needs[i] = m.need(c)
	}
	return planBuckets(needs, count, m.Engine.Weights.Config.HiddenSize)
}

// covering is the method with one more bucket where some of the cases fit none of its buckets, as under a control that
// changes what is moved.
func (m *Method) covering(cases []Case) *Method {
	if m.Buckets == nil {
		return m
	}
	largest := m.Buckets[len(m.Buckets)-1]
	for _, c := range cases {
		largest = largest.join(m.need(c).round(upToTile))
	}
	if m.Buckets.level(largest) < len(m.Buckets) {
		return m
	}
	wider := *m
	wider.Buckets = append(slices.Clone(m.Buckets), largest)
	return &wider
}

// rowsOfShape is how many rows need the same.
type rowsOfShape struct {
	Shape
	rows int
}

// planBuckets tries several orders of the rows. In one order the best cuts into count runs are found exactly, the shape
// at a cut being the largest of all before it. The best chain of shapes is then improved one number at a time.
func planBuckets(needs []Shape, count, hidden int) Buckets {
	if len(needs) == 0 {
		return nil
	}
	tally := make(map[Shape]int)
	largest := Shape{}
	for _, s := range needs {
		s.Alone = 0
		s = s.round(upToTile)
		tally[s]++
		largest = largest.join(s)
	}
	all := make([]rowsOfShape, 0, len(tally))
	for s, n := range tally {
		all = append(all, rowsOfShape{s, n})
	}
	slices.SortFunc(all, func(a, b rowsOfShape) int { // a map has no order, and a run must have one
		return cmp.Or(cmp.Compare(a.work(hidden), b.work(hidden)), cmp.Compare(a.Arguer, b.Arguer),
			cmp.Compare(a.Chooser, b.Chooser), cmp.Compare(a.Moved, b.Moved))
	})
	best := equalWidth(largest, count)
	try := func(b Buckets) {
		if b.cost(all, hidden) < best.cost(all, hidden) {
			best = b
		}
	}
	for _, key := range orders(all) {
		sorted := slices.Clone(all)
		slices.SortStableFunc(sorted, func(a, b rowsOfShape) int { return cmp.Compare(key(a), key(b)) })
		try(cut(sorted, count, hidden))
	}
	return best.improve(all, hidden).used(all).standing(needs)
}

// standing are the shapes with Alone filled in. A micro-batch may have rows of all shapes up to its own.
func (b Buckets) standing(needs []Shape) Buckets {
	for _, s := range needs {
		for k := b.level(s); k < len(b); k++ {
			b[k].Alone = max(b[k].Alone, upTo(aloneStep, s.Alone))
		}
	}
	return b
}

// orders are keys by which rows may be sorted before they are cut: each number of the shape by itself, their sum, and the
// largest of their ranks, which leaves no row behind that is long in one number alone.
func orders(all []rowsOfShape) []func(rowsOfShape) int {
	keys := []func(rowsOfShape) int{
		func(r rowsOfShape) int { return r.Arguer },
		func(r rowsOfShape) int { return r.Chooser },
		func(r rowsOfShape) int { return r.Arguer + r.Chooser },
	}
	var sorted [3][]int // the values of each number
	for i := range sorted {
		for _, r := range all {
			sorted[i] = append(sorted[i], *r.number(i))
		}
		slices.Sort(sorted[i])
	}
	return append(keys, func(r rowsOfShape) int {
		rank := 0
		for i := range sorted {
			at, _ := slices.BinarySearch(sorted[i], *r.number(i))
			rank = max(rank, at)
		}
		return rank
	})
}

// maxCuts bounds the places at which sorted rows may be cut, since the search is quadratic in them.
const maxCuts = 1024

// cut divides sorted rows into at most count runs at least cost, by dynamic programming over the places of cuts.
func cut(sorted []rowsOfShape, count, hidden int) Buckets {
	stride := (len(sorted) + maxCuts - 1) / maxCuts
	var shapes []Shape // at each place, the largest shape so far
	rows := []int{0}   // rows before each place
	largest, total := Shape{}, 0
	for i, r := range sorted {
		largest, total = largest.join(r.Shape), total+r.rows
		if (i+1)%stride == 0 || i == len(sorted)-1 {
			shapes, rows = append(shapes, largest), append(rows, total)
		}
	}
	n := len(shapes)
	cost := make([]float64, n+1) // of the rows before a place, in the runs so far
	var from [][]int             // by run: where the run that ends at a place begins
	for run := range min(count, n) {
		next, begin := make([]float64, n+1), make([]int, n+1)
		for j := 1; j <= n; j++ {
			work := shapes[j-1].work(hidden)
			next[j] = float64(rows[j]) * work
			for i := 1; i < j && run > 0; i++ {
				if c := cost[i] + float64(rows[j]-rows[i])*work; c < next[j] {
					next[j], begin[j] = c, i
				}
			}
		}
		cost, from = next, append(from, begin)
	}
	var b Buckets
	for run, j := len(from)-1, n; j > 0; run-- {
		b = append(b, shapes[j-1])
		j = from[run][j]
	}
	slices.Reverse(b)
	return b
}

// equalWidth are count shapes in equal steps up to the largest.
func equalWidth(largest Shape, count int) Buckets {
	b := make(Buckets, count)
	for k := range b {
		b[k] = largest.round(func(n int) int { return upToTile(n * (k + 1) / count) })
	}
	return b
}

// improve moves one number of one shape at a time, between those of its neighbours, as long as that saves work.
func (b Buckets) improve(all []rowsOfShape, hidden int) Buckets {
	const places = 16 // tried between two neighbours
	b = slices.Clone(b)
	best := b.cost(all, hidden)
	for better := true; better; {
		better = false
		for k := range b[:len(b)-1] { // the last must cover everything
			for i := range 3 {
				low, high := 0, *b[k+1].number(i)
				if k > 0 {
					low = *b[k-1].number(i)
				}
				step := max(tile, (high-low)/places/tile*tile)
				kept := *b[k].number(i)
				for v := low; v <= high; v += step {
					*b[k].number(i) = v
					if c := b.cost(all, hidden); c < best {
						best, kept, better = c, v, true
					}
				}
				*b[k].number(i) = kept
			}
		}
	}
	return b
}

// cost is the work of all rows, each in the smallest shape that covers it.
func (b Buckets) cost(all []rowsOfShape, hidden int) float64 {
	rows := make([]int, len(b)+1)
	for _, r := range all {
		rows[b.level(r.Shape)] += r.rows
	}
	total := 0.0
	for k, s := range b {
		total += float64(rows[k]) * s.work(hidden)
	}
	return total
}

// used are the shapes that are some row's smallest.
func (b Buckets) used(all []rowsOfShape) Buckets {
	taken := make([]bool, len(b)+1)
	for _, r := range all {
		taken[b.level(r.Shape)] = true
	}
	var used Buckets
	for k, s := range b {
		if taken[k] {
			used = append(used, s)
		}
	}
	return used
}

// level is the first shape that covers a row's; len(b) if none does.
func (b Buckets) level(need Shape) int {
	for k, s := range b {
		if s.covers(need) {
			return k
		}
	}
	return len(b)
}

// shape is what rows that need this much are padded to. Rows that no bucket covers get a shape of their own.
func (b Buckets) shape(need Shape) Shape {
	if k := b.level(need); k < len(b) {
		return b[k]
	}
	return need.round(roundUp)
}

// group is a micro-batch: cases, the places they had in what was divided, and how they are padded.
type group struct {
	cases []Case
	index []int
	shape Shape
	rows  int // at least len(cases); the rest are filled up with rows of weight 0
}

// group makes one micro-batch of cases, of rows rows.
func (m *Method) group(cases []Case, index []int, rows int) group {
	var need Shape
	for _, c := range cases {
		need = need.join(m.need(c))
	}
	return group{cases, index, m.Buckets.shape(need), rows}
}

// groups divides cases into micro-batches of size rows: as they come, or, with buckets, rows of similar length together,
// the longest first, and the last filled up, because a smaller micro-batch would be one more shape.
func (m *Method) groups(cases []Case, size int) []group {
	order := make([]int, len(cases))
	for i := range order {
		order[i] = i
	}
	if m.Buckets != nil {
		level := make([]int, len(cases))
		for i, c := range cases {
			level[i] = m.Buckets.level(m.need(c))
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(level[b], level[a]) })
	}
	var all []group
	for index := range slices.Chunk(order, size) {
		chosen := make([]Case, len(index))
		for i, at := range index {
			chosen[i] = cases[at]
		}
		rows := len(chosen)
		if m.Buckets != nil {
			rows = size
		}
		all = append(all, m.group(chosen, index, rows))
	}
	return all
}

// Padding is the share of the positions that hold no token in micro-batches of the cases, divided as one batch.
func (m *Method) Padding(cases []Case, size int) float64 {
	padded, real := 0, 0
	for _, g := range m.groups(cases, size) {
		padded += g.rows * (g.shape.Arguer + g.shape.Chooser)
		for _, c := range g.cases {
			n := m.need(c)
			real += n.Arguer + n.Chooser
		}
	}
	return 1 - float64(real)/float64(padded)
}

// String lists the shapes.
func (b Buckets) String() string {
	text := ""
	for i, s := range b {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%d+%d (%d moved)", s.Arguer, s.Chooser, s.Moved)
	}
	return text
}
