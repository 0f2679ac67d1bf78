package llama

import (
	"fmt"
	"maps"
	"runtime"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// graphDecoder runs prompts one by one and steps of groups of rows. A kernel may sum in another order when a shape
// differs, so nothing but a row's own length may decide in which shapes it is computed: a group has groupRows places,
// filled or not, and all its rows have room for equally many keys, as many as their lengths ask for.
type graphDecoder struct {
	engine  *Engine
	overlay Overlay
	rows    map[int]*graphRow
	groups  []*graphGroup
}

// groupRows is the number of rows in a step. The Go backend's kernels take rows by three or by four, with others for a rest,
// which sum in another order.
const groupRows = 12

// graphGroup are the keys, rotated, and values of some rows, [groupRows, G, capacity, D] by layer in the compute dtype.
// What lies behind a row's last key is zero.
type graphGroup struct {
	capacity int
	rows     [groupRows]int // -1: nobody's
	layers   []KV
}

// graphRow says where a row's keys and values lie: in a group, or, in the beginning, [1, G, capacity, D] by themselves.
type graphRow struct {
	capacity int
	group    *graphGroup
	at       int
	alone    []KV
}

func newGraphDecoder(e *Engine, overlay Overlay) *graphDecoder {
	return &graphDecoder{engine: e, overlay: overlay, rows: make(map[int]*graphRow)}
}

// roomFor is the room made for n keys: powers of two, and the numbers halfway, so that there are few shapes.
func roomFor(n int) int {
	const least = 64
	for room := least; ; room *= 2 {
		switch {
		case n <= room:
			return room
		case n <= room+room/2:
			return room + room/2
		}
	}
}

// promptLength is the length that a prompt of n tokens is filled up to. Where graphs are built in no time, little.
func (d *graphDecoder) promptLength(n int) int {
	if d.interpreted() {
		return (n + 15) / 16 * 16
	}
	return roomFor(n)
}

func (d *graphDecoder) interpreted() bool { return d.engine.backend.String() == "go" }

func (d *graphDecoder) run(pass, key string, build func(in *inputs) []*graph.Node,
	args ...*tensors.Tensor) ([]*tensors.Tensor, error) {
	return d.engine.run(Work{DecoderName, pass}, key, build, args...)
}

func (d *graphDecoder) extras(layer int) map[string]Extra {
	if d.overlay == nil {
		return nil
	}
	return d.overlay[layer]
}

func (d *graphDecoder) begin(first int, prompts []Prompt) ([][]float32, error) {
	workers := 1
	if d.interpreted() {
		workers = runtime.GOMAXPROCS(0)
	}
	rows, logits, errs := make([]*graphRow, len(prompts)), make([][]float32, len(prompts)), make([]error, len(prompts))
	inParallel(len(prompts), workers, func(_, i int) { rows[i], logits[i], errs[i] = d.prompt(prompts[i]) })
	for i, err := range errs {
		if err != nil {
			for _, r := range rows {
				r.free()
			}
			return nil, fmt.Errorf("row %d: %w", first+i, err)
		}
	}
	for i, r := range rows {
		d.rows[first+i] = r
	}
	return logits, nil
}

// prompt runs a prompt as a stream and keeps its keys and values.
func (d *graphDecoder) prompt(p Prompt) (*graphRow, []float32, error) {
	ids := p.Tokens
	length := d.promptLength(len(ids))
	seq, last := sideBySide([][]int32{ids}, length)
	s, err := d.engine.NewStream(seq, StreamOptions{Name: DecoderName, Overlay: d.overlay, Last: last,
		Insertion: p.Edit.insertion(length, true)})
	if err != nil {
		return nil, nil, err
	}
	defer s.Close()
	valid, err := FromFloat32(d.engine.backend, ones(len(ids), length), 1, length, 1, 1)
	if err != nil {
		return nil, nil, err
	}
	defer free(valid)
	r := &graphRow{capacity: roomFor(length)}
	for layer := range d.engine.Weights.Config.NumHiddenLayers {
		kv, err := d.promptLayer(s, layer, p.Edit, valid, r.capacity)
		if err != nil {
			r.free()
			return nil, nil, err
		}
		r.alone = append(r.alone, kv)
	}
	logits, err := s.Logits()
	if err != nil {
		r.free()
	}
	return r, logits, err
}

// ones are n ones and zeros up to length.
func ones(n, length int) []float32 {
	all := make([]float32, length)
	for i := range n {
		all[i] = 1
	}
	return all
}

// promptLayer runs a layer and returns what is kept of its keys and values.
func (d *graphDecoder) promptLayer(s *Stream, layer int, edit *Edit, valid *tensors.Tensor, capacity int) (KV, error) {
	moved, err := edit.states(layer)
	if err != nil {
		return KV{}, err
	}
	kv, err := s.Forward(layer, moved, true)
	if err != nil {
		return KV{}, err
	}
	args := []*tensors.Tensor{kv.K, kv.V, s.cos, s.sin, valid}
	if moved != nil {
		args = append(args, moved.K, moved.V, s.place)
	}
	key := fmt.Sprintf("cache of %d, edited %t", capacity, moved != nil)
	out, err := d.run(KeysValuesPass, key, buildCache(capacity, moved != nil), args...)
	if err != nil {
		return KV{}, fmt.Errorf("layer %d: %w", layer, err)
	}
	s.Release(layer)
	return KV{K: out[0], V: out[1]}, nil
}

// buildCache turns keys, before rotation, and values [1, S, G, D], with moved ones in the places of some if edited, into
// what is kept of them, [1, G, capacity, D].
func buildCache(capacity int, edited bool) func(in *inputs) []*graph.Node {
	return func(in *inputs) []*graph.Node {
		k, v, cos, sin, valid := in.next(), in.next(), in.next(), in.next(), in.next()
		if edited {
			movedK, movedV, r := in.next(), in.next(), replacement{place: in.next()}
			k, v = r.merge(k, movedK), r.merge(v, movedV)
		}
		keep := func(x *graph.Node) *graph.Node {
			return grown(headsFirst(graph.Mul(x, graph.ConvertDType(valid, x.DType()))), capacity)
		}
		return []*graph.Node{keep(rotate(k, cos, sin)), keep(v)}
	}
}

// grown fills x [B, G, n, D] up with zeros to [B, G, capacity, D].
func grown(x *graph.Node, capacity int) *graph.Node {
	s := x.Shape().Clone()
	s.Dimensions[2] = capacity - s.Dimensions[2]
	if s.Dimensions[2] == 0 {
		return x
	}
	return graph.Concatenate([]*graph.Node{x, graph.Zeros(x.Graph(), s)}, 2)
}

func (d *graphDecoder) step(rows []int, tokens, positions []int32) ([][]float32, error) {
	if err := d.arrange(rows, positions); err != nil {
		return nil, err
	}
	token, position := make(map[int]int32), make(map[int]int32)
	for i, row := range rows {
		token[row], position[row] = tokens[i], positions[i]
	}
	found := make(map[int][]float32)
	for _, g := range d.groups {
		all, err := d.stepGroup(g, token, position)
		if err != nil {
			return nil, err
		}
		for at, row := range g.rows {
			found[row] = all[at]
		}
	}
	logits := make([][]float32, len(rows))
	for i, row := range rows {
		logits[i] = found[row]
	}
	return logits, nil
}

// stepGroup gives the logits [V] of each of the group's places. Nobody's places compute something of no interest.
func (d *graphDecoder) stepGroup(g *graphGroup, token, position map[int]int32) ([][]float32, error) {
	e := d.engine
	tokens, positions := make([]int32, groupRows), make([]int32, groupRows)
	for at, row := range g.rows {
		tokens[at], positions[at] = token[row], position[row] // zeros for nobody
	}
	small, err := e.upload(groupRows, tokens, positions)
	if err != nil {
		return nil, err
	}
	defer free(small...)
	prepared, err := d.run(Preparing, fmt.Sprintf("step prepared for %d", g.capacity), e.buildStepPrepare(g.capacity),
		append(small, e.Weights.tensors[embedName])...)
	if err != nil {
		return nil, err
	}
	x, prepared := prepared[0], prepared[1:]
	defer func() { free(append(prepared, x)...) }()
	for layer := range g.layers {
		extras, kv := d.extras(layer), &g.layers[layer]
		args := append([]*tensors.Tensor{x, kv.K, kv.V}, prepared...)
		out, err := d.run(StepPass, "step "+signature(extras), e.buildStep(extras), append(args, e.layerArgs(layer, extras)...)...)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", layer, err)
		}
		free(x, kv.K, kv.V)
		x, kv.K, kv.V = out[0], out[1], out[2]
	}
	_, head := e.Weights.head()
	out, err := d.run(ScorePass, "logits", e.buildLogits, x, e.Weights.tensors[finalNormName], head)
	if err != nil {
		return nil, err
	}
	defer free(out...)
	flat, err := tensors.CopyFlatData[float32](out[0])
	if err != nil {
		return nil, err
	}
	return slices.Collect(slices.Chunk(flat, e.Weights.Config.VocabSize)), nil
}

// buildStepPrepare: tokens [B, 1] and positions [B, 1] int32 and the embedding table give the residual stream [B, 1, M],
// cos and sin [B, 1, D/2], the mask [B, 1, K] over K = capacity keys, and where the new key belongs among the keys
// [B*G*K], as [B*G, 1].
func (e *Engine) buildStepPrepare(capacity int) func(in *inputs) []*graph.Node {
	frequencies, groups := e.Weights.Config.InverseFrequencies(), e.Weights.Config.NumKeyValueHeads
	return func(in *inputs) []*graph.Node {
		tokens, position, table := in.next(), in.next(), in.next()
		g, rows := tokens.Graph(), tokens.Shape().Dim(0)
		x := graph.ConvertDType(graph.Gather(table, graph.InsertAxes(tokens, -1)), e.Options.Residual)
		cos, sin := rotaryTables(position, frequencies)
		keys := shapes.Make(dtypes.Int32, rows, capacity)
		own := places{position, graph.ZerosLike(position)}
		mask := sees(own, places{graph.Iota(g, keys, 1), graph.Zeros(g, keys)})
		head := graph.Iota(g, shapes.Make(dtypes.Int32, rows, groups), 1) // [B, G]
		row := graph.Iota(g, shapes.Make(dtypes.Int32, rows, groups), 0)
		at := graph.Add(graph.MulScalar(graph.Add(graph.MulScalar(row, groups), head), capacity), position)
		return []*graph.Node{x, cos, sin, mask, graph.Reshape(at, rows*groups, 1)} // [B*G, 1]
	}
}

// buildStep: a block on one position x [B, 1, M] over the keys and values [B, G, K, D] before it, and these with its own.
func (e *Engine) buildStep(extras map[string]Extra) func(in *inputs) []*graph.Node {
	return func(in *inputs) []*graph.Node {
		x, keys, values := in.next(), in.next(), in.next()
		cos, sin, mask, at := in.next(), in.next(), in.next(), in.next()
		b := e.block(in, extras)
		b.forwardOnly = true
		q := rotate(b.queries(x), cos, sin) // [B, 1, H, D]
		k, v := b.keysValues(x)             // [B, 1, G, D]
		keys, values = placed(keys, rotate(k, cos, sin), at), placed(values, v, at)
		a := attention{mask: mask}
		qr := graph.Reshape(q, x.Shape().Dim(0), b.cfg.NumKeyValueHeads, -1, b.cfg.HeadDim) // [B, G, R, D]
		p := graph.ConvertDType(a.weights(qr, keys), values.DType())
		z := graph.Reshape(batchDot(p, values, 2), x.Shape().Dim(0), 1, -1) // [B, G, R, D] -> [B, 1, H*D]
		mid := addResidual(x, b.attentionOut(z))
		gate, up := b.gateUp(mid)
		return []*graph.Node{addResidual(mid, b.down(gate, up)), keys, values}
	}
}

// placed puts x [B, 1, G, D] into states [B, G, K, D] at the places [B*G, 1], which hold zeros.
func placed(states, x, at *graph.Node) *graph.Node {
	dims := states.Shape().Dimensions
	flat := graph.Reshape(states, -1, dims[3])                                                           // [B*G*K, D]
	return graph.Reshape(graph.ScatterSum(flat, at, graph.Reshape(x, -1, dims[3]), true, true), dims...) // x as [B*G, D]
}

func (e *Engine) buildLogits(in *inputs) []*graph.Node {
	return []*graph.Node{e.logits(in.next(), in.next(), in.next())}
}

// arrange puts all rows into groups anew when one has come or needs more room.
func (d *graphDecoder) arrange(rows []int, positions []int32) error {
	settled := true
	old := make(map[int]int) // capacity by row
	for i, row := range rows {
		r := d.rows[row]
		old[row] = r.capacity
		if r.capacity <= int(positions[i]) {
			r.capacity, settled = roomFor(int(positions[i])+1), false
		}
		settled = settled && r.group != nil
	}
	if settled {
		return nil
	}
	groups := d.plan()
	for layer := range d.engine.Weights.Config.NumHiddenLayers {
		if err := d.move(layer, groups, old); err != nil {
			for _, g := range groups {
				freeAll(g.layers)
			}
			return fmt.Errorf("layer %d: %w", layer, err)
		}
	}
	d.groups = groups
	for _, g := range groups {
		for at, row := range g.rows {
			if row >= 0 {
				*d.rows[row] = graphRow{capacity: g.capacity, group: g, at: at}
			}
		}
	}
	return nil
}

// plan makes groups of rows with equally much room.
func (d *graphDecoder) plan() (groups []*graphGroup) {
	open := make(map[int]*graphGroup) // not yet full, by capacity
	filled := make(map[*graphGroup]int)
	for _, row := range slices.Sorted(maps.Keys(d.rows)) {
		size := d.rows[row].capacity
		g := open[size]
		if g == nil {
			g = &graphGroup{capacity: size}
			for at := range g.rows {
				g.rows[at] = -1
			}
			open[size], groups = g, append(groups, g)
		}
		g.rows[filled[g]] = row
		if filled[g]++; filled[g] == groupRows {
			delete(open, size)
		}
	}
	return groups
}

// move brings a layer's keys and values to the new groups. old is how much room rows had.
func (d *graphDecoder) move(layer int, groups []*graphGroup, old map[int]int) error {
	alone := make(map[int]KV)
	defer func() {
		for _, kv := range alone {
			free(kv.K, kv.V)
		}
	}()
	for _, g := range d.groups {
		if err := d.split(g, layer, alone); err != nil {
			return err
		}
	}
	for row, r := range d.rows {
		if r.group == nil {
			alone[row], r.alone[layer] = r.alone[layer], KV{}
		}
	}
	for row, kv := range alone {
		r := d.rows[row]
		if r.capacity == old[row] {
			continue
		}
		out, err := d.run(Preparing, fmt.Sprintf("grown to %d", r.capacity), func(in *inputs) []*graph.Node {
			return []*graph.Node{grown(in.next(), r.capacity), grown(in.next(), r.capacity)}
		}, kv.K, kv.V)
		if err != nil {
			return err
		}
		free(kv.K, kv.V)
		alone[row] = KV{K: out[0], V: out[1]}
	}
	for _, g := range groups {
		if err := d.join(g, alone); err != nil {
			return err
		}
	}
	return nil
}

// split takes a group's rows apart.
func (d *graphDecoder) split(g *graphGroup, layer int, alone map[int]KV) error {
	kv := g.layers[layer]
	out, err := d.run(Preparing, "rows apart", func(in *inputs) (rows []*graph.Node) {
		for _, x := range in.take(2) {
			for at := range groupRows {
				rows = append(rows, graph.SliceAxis(x, 0, graph.AxisElem(at))) // [1, G, K, D]
			}
		}
		return rows
	}, kv.K, kv.V)
	if err != nil {
		return err
	}
	for at, row := range g.rows {
		one := KV{K: out[at], V: out[groupRows+at]}
		if row >= 0 {
			alone[row] = one
		} else {
			free(one.K, one.V)
		}
	}
	g.layers[layer] = KV{}
	free(kv.K, kv.V)
	return nil
}

// join adds a layer of rows to a group. Whoever is first also fills the places that are nobody's.
func (d *graphDecoder) join(g *graphGroup, alone map[int]KV) error {
	var keys, values []*tensors.Tensor
	for _, row := range g.rows {
		if row < 0 {
			row = g.rows[0]
		}
		keys, values = append(keys, alone[row].K), append(values, alone[row].V)
	}
	out, err := d.run(Preparing, "rows together", func(in *inputs) []*graph.Node {
		return []*graph.Node{graph.Concatenate(in.take(groupRows), 0), graph.Concatenate(in.take(groupRows), 0)}
	}, append(keys, values...)...)
	if err != nil {
		return err
	}
	g.layers = append(g.layers, KV{K: out[0], V: out[1]})
	return nil
}

func (d *graphDecoder) drop(row int) {
	r := d.rows[row]
	delete(d.rows, row)
	r.free()
	g := r.group
	if g == nil {
		return
	}
	g.rows[r.at] = -1
	if slices.Max(g.rows[:]) < 0 {
		freeAll(g.layers)
		d.groups = slices.DeleteFunc(d.groups, func(other *graphGroup) bool { return other == g })
	}
}

// free gives up what a row holds by itself.
func (r *graphRow) free() {
	if r != nil {
		freeAll(r.alone)
		r.alone = nil
	}
}

func freeAll(layers []KV) {
	for _, kv := range layers {
		free(kv.K, kv.V)
	}
}

func (d *graphDecoder) bytes() (total int64) {
	add := func(layers []KV) {
		for _, kv := range layers {
			if kv.K != nil {
				total += int64(kv.K.Shape().ByteSize() + kv.V.Shape().ByteSize())
			}
		}
	}
	for _, g := range d.groups {
		add(g.layers)
	}
	for _, r := range d.rows {
		add(r.alone)
	}
	return total
}
