package llama

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/compute/support"
	. "github.com/gomlx/gomlx/core/graph"
)

// workspace is how many bytes of its own an executable holds at its worst moment, its outputs included and its arguments
// not. The graph is walked in the order in which the Go backend (compute v0.1.4) runs it, a buffer is freed after its
// last use or overwritten in it. Other backends have an order of their own and fuse: there, what is elementwise is
// part of what reads it, which leaves the operands and results of products.
func workspace(outputs []*Node, room func(shapes.Shape) int64, fuses bool) int64 {
	w := &walk{room: room, inputs: make(map[*Node][]*Node), uses: make(map[*Node]int), buffers: make(map[*Node]*buffer),
		parts: make(map[*Node]int64)}
	w.read(outputs)
	if fuses {
		w.fuse()
	}
	for _, y := range w.outputs {
		w.count(y)
	}
	order := w.schedule()
	uses := maps.Clone(w.uses)
	for _, n := range order {
		w.start(n)
		w.finish(n)
	}
	w.uses, w.live = uses, 0
	for _, wave := range w.waves(order) {
		for _, n := range wave {
			w.start(n)
		}
		for _, n := range wave {
			w.finish(n)
		}
	}
	return w.peak
}

// goRoom is what the Go backend (compute v0.1.4) takes for a buffer: sizes are rounded up to a power of two, or to one and
// a half of one, so that freed buffers find new users.
func goRoom(s shapes.Shape) int64 { return int64(support.TwoBitBucketLen(int(s.ByteSize()))) }

// exactRoom is for backends of which no rounding worth mentioning is known.
func exactRoom(s shapes.Shape) int64 { return int64(s.ByteSize()) }

// walk is an execution of a graph of which only the sizes of buffers are known.
type walk struct {
	room       func(shapes.Shape) int64
	outputs    []*Node
	nodes      []*Node           // in the order of their making, without repetitions
	inputs     map[*Node][]*Node // as executed
	uses       map[*Node]int     // that are still to come
	buffers    map[*Node]*buffer // of nodes that were executed
	parts      map[*Node]int64   // of nodes with several outputs: their bytes
	live, peak int64
}

// buffer is the memory of a node, or of several that work in place one after the other.
type buffer struct {
	size  int64
	owned bool // neither argument nor constant: may be overwritten and freed
}

// Operations by what they do with buffers.
const (
	making      = iota // a new one
	elementwise        // a new one, or their input's where sizes agree
	passing            // their first input's where no one else reads it
	spreading          // none where an elementwise operation reads it, on the Go backend as well
)

func behaviour(n *Node) int {
	switch n.Type() {
	case NodeTypeAdd, NodeTypeSub, NodeTypeMul, NodeTypeDiv, NodeTypeMax, NodeTypeMin, NodeTypePow, NodeTypeExp, NodeTypeLog,
		NodeTypeNeg, NodeTypeSqrt, NodeTypeRsqrt, NodeTypeLogistic, NodeTypeTanh, NodeTypeSin, NodeTypeCos, NodeTypeAbs, NodeTypeSign,
		NodeTypeWhere, NodeTypeEqual, NodeTypeLessOrEqual, NodeTypeLessThan, NodeTypeGreaterThan, NodeTypeGreaterOrEqual,
		NodeTypeLogicalAnd, NodeTypeLogicalOr, NodeTypeLogicalNot:
		return elementwise
	case NodeTypeReshape, NodeTypeIdentity, NodeTypeSchedulingBarrier, NodeTypeOptimizationBarrier:
		return passing
	case NodeTypeBroadcastInDim:
		return spreading
	}
	return making
}

var nodeNumber = regexp.MustCompile(`#\d+`)

// read takes the nodes from the graph as the backend does: of those with equal operation and inputs only the first, but
// for those that pass their input on.
func (w *walk) read(outputs []*Node) {
	same := make(map[int]*Node)
	first := make(map[string]*Node)
	number := func(text string) string { // #7 -> the number of the node that stands for node 7
		id, _ := strconv.Atoi(text[1:])
		return strconv.Itoa(int(same[id].Id()))
	}
	for _, n := range outputs[0].Graph().Nodes() {
		same[int(n.Id())] = n
		_, text, _ := strings.Cut(n.String(), "#")
		_, text, _ = strings.Cut(text, " ") // without its own number
		key := nodeNumber.ReplaceAllStringFunc(text, number)
		twin, repeated := first[key]
		switch {
		case behaviour(n) == passing && n.Type() != NodeTypeReshape, n.Type() == NodeTypeParameter:
		case repeated:
			same[int(n.Id())] = twin
			continue
		default:
			first[key] = n
		}
		for _, in := range n.Inputs() {
			in = same[int(in.Id())]
			if behaviour(n) == elementwise && behaviour(in) == spreading && w.inputs[in][0].Rank() == n.Rank() {
				in = w.inputs[in][0]
			}
			w.inputs[n] = append(w.inputs[n], in)
		}
		if n.Type() == NodeTypeSplitNode {
			w.parts[w.inputs[n][0]] += w.room(n.Shape())
		}
		w.nodes = append(w.nodes, n)
	}
	for _, y := range outputs {
		w.outputs = append(w.outputs, same[int(y.Id())])
	}
}

// fuse has every node read through the elementwise nodes before it, except where a product, a barrier, or anything else that is
// no sum or maximum, needs their results in memory.
func (w *walk) fuse() {
	fusible := func(n *Node) bool {
		return len(w.inputs[n]) > 0 && (behaviour(n) != making || n.Type() == NodeTypeConvertDType || n.Type() == NodeTypeSlice)
	}
	inMemory := make(map[*Node]bool)
	for _, y := range w.outputs {
		inMemory[y] = true
	}
	for _, n := range w.nodes {
		read := w.inputs[n]
		switch {
		case n.Type() == NodeTypeReduceSum || n.Type() == NodeTypeReduceMax:
			read = nil
		case n.Type() == NodeTypeSchedulingBarrier:
			read = read[1:] // is to be there before others begin
		case fusible(n):
			read = nil
		}
		for _, in := range read {
			inMemory[in] = true
		}
	}
	for _, n := range w.nodes {
		var through []*Node
		for _, in := range w.inputs[n] {
			read := []*Node{in}
			if fusible(in) && !inMemory[in] {
				read = w.inputs[in]
			}
			for _, r := range read {
				if !slices.Contains(through, r) {
					through = append(through, r)
				}
			}
		}
		w.inputs[n] = through
	}
}

// count counts the uses of n and of what it needs.
func (w *walk) count(n *Node) {
	w.uses[n]++
	if w.uses[n] == 1 {
		for _, in := range w.inputs[n] {
			w.count(in)
		}
	}
}

// schedule is the order of execution: what has the longest way to an output comes first.
func (w *walk) schedule() []*Node {
	needed := slices.DeleteFunc(slices.Clone(w.nodes), func(n *Node) bool { return w.uses[n] == 0 })
	way := make(map[*Node]int)
	for _, n := range slices.Backward(needed) {
		for _, in := range w.inputs[n] {
			way[in] = max(way[in], way[n]+1)
		}
	}
	slices.SortStableFunc(needed, func(a, b *Node) int { return cmp.Compare(way[b], way[a]) })
	return needed
}

// waves are the nodes in groups that are ready at the same time.
func (w *walk) waves(order []*Node) (waves [][]*Node) {
	level := make(map[*Node]int)
	for _, n := range order { // inputs come first
		for _, in := range w.inputs[n] {
			level[n] = max(level[n], level[in]+1)
		}
		for len(waves) <= level[n] {
			waves = append(waves, nil)
		}
		waves[level[n]] = append(waves[level[n]], n)
	}
	return waves
}

// start gives n a buffer.
func (w *walk) start(n *Node) {
	if n.Type() == NodeTypeParameter || n.Type() == NodeTypeConstant {
		w.buffers[n] = &buffer{}
		return
	}
	if n.NumOutputs() != 1 { // it has no shape: each output is that of the node which splits it off
		w.buffers[n] = &buffer{}
		w.peak = max(w.peak, w.live+w.parts[n])
		return
	}
	b := w.inPlace(n)
	if b == nil {
		b = &buffer{size: w.room(n.Shape()), owned: true}
		w.live += b.size
	}
	w.buffers[n] = b
	w.peak = max(w.peak, w.live+w.scratch(n))
}

// finish frees the buffers of which n was the last reader.
func (w *walk) finish(n *Node) {
	for _, in := range w.inputs[n] {
		w.uses[in]--
		if old := w.buffers[in]; w.uses[in] == 0 && old.owned && old != w.buffers[n] {
			w.live -= old.size
		}
	}
}

// inPlace is the buffer of an input that n takes over: it is as large as n, and no one else will read it.
func (w *walk) inPlace(n *Node) *buffer {
	inputs := w.inputs[n]
	switch behaviour(n) {
	case making, spreading:
		return nil
	case passing:
		inputs = inputs[:1]
	}
	for _, in := range slices.Backward(inputs) {
		fits := in.DType() == n.DType() && in.Shape().Size() == n.Shape().Size()
		if b := w.buffers[in]; fits && b.owned && w.uses[in] == 1 {
			return b
		}
	}
	return nil
}

// scratch is what the Go backend holds for n only while n runs: a product of half-width numbers in float32, and copies of
// the operands of a product over several batch axes that others read too.
func (w *walk) scratch(n *Node) (bytes int64) {
	if n.Type() != NodeTypeDotGeneral || !interpreted(n) {
		return 0
	}
	if n.DType() == dtypes.BFloat16 {
		bytes += w.room(shapes.Make(dtypes.Float32, n.Shape().Dimensions...))
	}
	for _, in := range w.inputs[n] {
		if in.Rank() > 3 && (w.uses[in] > 1 || !w.buffers[in].owned) {
			bytes += w.room(in.Shape())
		}
	}
	return bytes
}
