package tokenizer

import "math"

// mergeTable maps a pair of token ids to its merge. It is an open-addressing hash table: lookups are the inner loop of
// encoding, and a Go map costs about three times as much here.
type mergeTable struct {
	slots []mergeSlot
	shift uint
}

type mergeSlot struct {
	pair uint64 // left id in the high half, right id in the low half; noPair when empty
	rank uint32 // merges with a lower rank happen first
	id   int32  // the merged token
}

const (
	noPair = math.MaxUint64
	noRank = math.MaxUint32
)

func newMergeTable(count int) mergeTable {
	bits := uint(4)
	for 1<<bits < count+count/2 {
		bits++
	}
	t := mergeTable{slots: make([]mergeSlot, 1<<bits), shift: 64 - bits}
	for i := range t.slots {
		t.slots[i].pair = noPair
	}
	return t
}

func pairOf(left, right int32) uint64 { return uint64(uint32(left))<<32 | uint64(uint32(right)) }

// slot gives the slot that holds pair, or the empty one where it belongs. The multiplier is 2^64 divided by the golden
// ratio (Knuth, The Art of Computer Programming 3, 6.4).
func (t *mergeTable) slot(pair uint64) *mergeSlot {
	mask := uint64(len(t.slots) - 1)
	for i := pair * 0x9E3779B97F4A7C15 >> t.shift; ; i++ {
		if s := &t.slots[i&mask]; s.pair == pair || s.pair == noPair {
			return s
		}
	}
}

// set records a merge; a later merge of the same pair replaces an earlier one, as in the Rust library.
func (t *mergeTable) set(left, right int32, rank uint32, id int32) {
	*t.slot(pairOf(left, right)) = mergeSlot{pairOf(left, right), rank, id}
}

// find gives the rank and result of merging left and right; the rank is noRank if they do not merge.
func (t *mergeTable) find(left, right int32) (rank uint32, id int32) {
	if s := t.slot(pairOf(left, right)); s.pair != noPair {
		return s.rank, s.id
	}
	return noRank, 0
}

// symbol is a token under construction: its id and where it ends in the text. It starts where its predecessor ends.
type symbol struct {
	id  int32
	end int
}

// word is the working space of one merge; it is reused from word to word.
type word struct {
	symbols []symbol
	ranks   []uint32 // ranks[i]: rank of merging symbol i with its successor
	links   []link
	heap    []uint64 // rank in the high half, symbol index in the low half
}

type link struct{ prev, next int32 }

// scanLimit is the number of symbols up to which scanning for the lowest rank beats a heap.
const scanLimit = 48

// merge applies t to w.symbols until no two neighbours merge: always the lowest rank, and of equals the leftmost.
func (w *word) merge(t *mergeTable) {
	switch {
	case len(w.symbols) < 2:
	case len(w.symbols) <= scanLimit:
		w.mergeShort(t)
	default:
		w.mergeLong(t)
	}
}

// mergeShort is quadratic in the number of symbols.
func (w *word) mergeShort(t *mergeTable) {
	s, ranks := w.symbols, w.ranks[:0]
	for i := 1; i < len(s); i++ {
		rank, _ := t.find(s[i-1].id, s[i].id)
		ranks = append(ranks, rank)
	}
	w.ranks = ranks
	for len(ranks) > 0 {
		best := 0
		for i, rank := range ranks {
			if rank < ranks[best] {
				best = i
			}
		}
		if ranks[best] == noRank {
			break
		}
		_, id := t.find(s[best].id, s[best+1].id)
		s[best] = symbol{id, s[best+1].end}
		s = append(s[:best+1], s[best+2:]...)
		ranks = append(ranks[:best], ranks[best+1:]...)
		if best > 0 {
			ranks[best-1], _ = t.find(s[best-1].id, id)
		}
		if best < len(ranks) {
			ranks[best], _ = t.find(id, s[best+1].id)
		}
	}
	w.symbols = s
}

// mergeLong is n log n in the number of symbols: a heap of candidate merges over a linked list. A heap entry is live
// while the symbol it names still has that rank.
func (w *word) mergeLong(t *mergeTable) {
	w.link(t)
	for len(w.heap) > 0 {
		top := w.pop()
		i := int32(uint32(top))
		if w.ranks[i] != uint32(top>>32) {
			continue
		}
		j := w.links[i].next
		_, id := t.find(w.symbols[i].id, w.symbols[j].id)
		w.symbols[i] = symbol{id, w.symbols[j].end}
		w.ranks[j] = noRank
		next := w.links[j].next
		w.links[i].next = next
		if next >= 0 {
			w.links[next].prev = i
		}
		w.rank(t, i)
		if prev := w.links[i].prev; prev >= 0 {
			w.rank(t, prev)
		}
	}
	kept := w.symbols[:0]
	for i := int32(0); i >= 0; i = w.links[i].next {
		kept = append(kept, w.symbols[i])
	}
	w.symbols = kept
}

// link sets up the linked list, the ranks and the heap of w.symbols.
func (w *word) link(t *mergeTable) {
	n := len(w.symbols)
	w.links, w.ranks, w.heap = w.links[:0], w.ranks[:0], w.heap[:0]
	for i := range n {
		w.links = append(w.links, link{int32(i - 1), int32(i + 1)})
		w.ranks = append(w.ranks, noRank)
	}
	w.links[n-1].next = -1
	for i := range n - 1 {
		rank, _ := t.find(w.symbols[i].id, w.symbols[i+1].id)
		if w.ranks[i] = rank; rank != noRank {
			w.heap = append(w.heap, uint64(rank)<<32|uint64(i))
		}
	}
	for i := len(w.heap)/2 - 1; i >= 0; i-- {
		w.down(i)
	}
}

// rank looks up the merge of symbol i with its successor and puts it on the heap.
func (w *word) rank(t *mergeTable, i int32) {
	w.ranks[i] = noRank
	next := w.links[i].next
	if next < 0 {
		return
	}
	rank, _ := t.find(w.symbols[i].id, w.symbols[next].id)
	if w.ranks[i] = rank; rank != noRank {
		w.push(uint64(rank)<<32 | uint64(i))
	}
}

func (w *word) push(entry uint64) {
	w.heap = append(w.heap, entry)
	i := len(w.heap) - 1
	for i > 0 && entry < w.heap[(i-1)/2] {
		w.heap[i] = w.heap[(i-1)/2]
		i = (i - 1) / 2
	}
	w.heap[i] = entry
}

func (w *word) pop() uint64 {
	top, last := w.heap[0], len(w.heap)-1
	w.heap[0] = w.heap[last]
	w.heap = w.heap[:last]
	if last > 0 {
		w.down(0)
	}
	return top
}

// down moves entry i of the heap below every smaller child.
func (w *word) down(i int) {
	entry := w.heap[i]
	for {
		child := 2*i + 1
		if child >= len(w.heap) {
			break
		}
		if child+1 < len(w.heap) && w.heap[child+1] < w.heap[child] {
			child++
		}
		if entry <= w.heap[child] {
			break
		}
		w.heap[i] = w.heap[child]
		i = child
	}
	w.heap[i] = entry
}
