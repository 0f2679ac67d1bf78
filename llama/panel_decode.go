package llama

import (
	"cmp"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"gotransplant/internal/panel"

	"github.com/gomlx/compute/dtypes"
)

// panelDecoder computes the token of every row as a vector, and prompts as streams on panels. In both, every sum runs in
// the same order, one product after the other, and no row meets another: the bits of a row are those of a stream that
// computes all its tokens anew.
type panelDecoder struct {
	engine  *Engine
	overlay Overlay
	model   *panelModel
	rows    map[int][]panel.Cache // by layer
	size    int                   // rows that the buffers are for
	width   int                   // rows of the step under way

	x                        []float64  // [n, M] the residual stream
	normed, q, k, v, z, back panel.Rows // back is what goes into the residual stream
	gate, up, h              panel.Rows
	inner                    map[string]panel.Rows // [r] of an addition, by projection
	halves                   map[string][]uint16   // operands rounded to bfloat16, by projection or ""
	rounded                  map[string][]float32  // the same where products are in float32
	cos, sin                 panel.Rows            // [D/2]
	logits                   panel.Rows            // [V]
	scratch                  []panel.CacheScratch  // by worker
	tiles                    []panel.Scratch       // by worker
}

func newPanelDecoder(e *Engine, overlay Overlay) *panelDecoder {
	return &panelDecoder{engine: e, overlay: overlay, model: e.panels,
		rows: make(map[int][]panel.Cache), halves: make(map[string][]uint16), rounded: make(map[string][]float32),
		scratch: make([]panel.CacheScratch, runtime.GOMAXPROCS(0)), tiles: make([]panel.Scratch, runtime.GOMAXPROCS(0))}
}

func (d *panelDecoder) drop(row int) { delete(d.rows, row) }

func (d *panelDecoder) bytes() (total int64) {
	for _, caches := range d.rows {
		for i := range caches {
			total += int64(caches[i].Bytes())
		}
	}
	return total
}

// mostColumns is the number of tokens that a stream of prompts has at most, unless a single one is longer: more would not
// make products faster.
const mostColumns = 1024

// begin runs the prompts as streams of some rows of about equal length, edited ones alone, as many at a time as there are
// cores.
func (d *panelDecoder) begin(first int, prompts []Prompt) ([][]float32, error) {
	var plain [][]int32
	var plainAt []int
	var batches [][]int
	for i, p := range prompts {
		if p.Edit != nil {
			batches = append(batches, []int{i})
			continue
		}
		plain, plainAt = append(plain, p.Tokens), append(plainAt, i)
	}
	for _, batch := range batchPrompts(plain, runtime.GOMAXPROCS(0)) {
		for i := range batch {
			batch[i] = plainAt[batch[i]]
		}
		batches = append(batches, batch)
	}
	caches, logits := make([][]panel.Cache, len(prompts)), make([][]float32, len(prompts))
	errs := make([]error, len(batches))
	inParallel(len(batches), runtime.GOMAXPROCS(0), func(_, i int) { errs[i] = d.prompt(batches[i], prompts, caches, logits) })
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	for i, c := range caches {
		d.rows[first+i] = c
	}
	return logits, nil
}

// batchPrompts shares prompts out, by their indices: long ones first, similar lengths together.
func batchPrompts(prompts [][]int32, workers int) [][]int {
	order := make([]int, len(prompts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(prompts[b]), len(prompts[a])) })
	most := (len(prompts) + workers - 1) / workers
	var batches [][]int
	for len(order) > 0 {
		columns := panelsOf(len(prompts[order[0]])) * panel.Lanes
		n := min(len(order), most, max(1, mostColumns/columns))
		batches, order = append(batches, order[:n]), order[n:]
	}
	return batches
}

// prompt runs some of the prompts as one stream and keeps its keys and values.
func (d *panelDecoder) prompt(batch []int, prompts []Prompt, caches [][]panel.Cache, logits [][]float32) error {
	selected := make([][]int32, len(batch))
	for i, row := range batch {
		selected[i] = prompts[row].Tokens
	}
	edit := prompts[batch[0]].Edit
	seq, last := sideBySide(selected, len(selected[0]))
	s, err := d.engine.NewStream(seq, StreamOptions{Name: DecoderName, Overlay: d.overlay, Last: last, Keep: true,
		Insertion: edit.insertion(seq.Length, false)})
	if err != nil {
		return err
	}
	defer s.Close()
	c := d.engine.Weights.Config
	for layer := range c.NumHiddenLayers {
		moved, err := edit.states(layer)
		if err != nil {
			return err
		}
		if _, err := s.Forward(layer, moved, false); err != nil {
			return err
		}
		kept := &s.panels.layers[layer]
		edit.replace(kept)
		for i, row := range batch {
			cache := panel.Cache{Groups: c.NumKeyValueHeads, Dim: c.HeadDim}
			cache.AppendColumns(kept.k, kept.v, i*s.panels.own*panel.Lanes, len(selected[i]))
			caches[row] = append(caches[row], cache)
		}
		s.Release(layer)
	}
	all, err := s.Logits()
	if err != nil {
		return err
	}
	for i, row := range batch {
		logits[row] = all[i*c.VocabSize : (i+1)*c.VocabSize]
	}
	return nil
}

// sideBySide are prompts as sequences, filled up to length with padding, and each one's last token.
func sideBySide(prompts [][]int32, length int) (seq Sequences, last []int32) {
	n := len(prompts) * length
	seq = Sequences{Rows: len(prompts), Length: length,
		Token: make([]int32, n), Position: make([]int32, n), Branch: make([]int32, n)}
	for i, prompt := range prompts {
		copy(seq.Token[i*length:], prompt)
		for at := range length {
			seq.Position[i*length+at] = int32(at)
			if at >= len(prompt) {
				seq.Branch[i*length+at] = -1
			}
		}
		last = append(last, int32(i*length+len(prompt)-1))
	}
	return seq, last
}

// room makes buffers for n rows.
func (d *panelDecoder) room(n int) {
	d.width = n
	if n <= d.size {
		return
	}
	c := d.engine.Weights.Config
	rows := func(size int) panel.Rows { return panel.NewRows(n, size) }
	d.size, d.x, d.inner = n, make([]float64, n*c.HiddenSize), make(map[string]panel.Rows)
	d.normed, d.back, d.logits = rows(c.HiddenSize), rows(c.HiddenSize), rows(c.VocabSize)
	d.q, d.z = rows(c.NumAttentionHeads*c.HeadDim), rows(c.NumAttentionHeads*c.HeadDim)
	d.k, d.v = rows(c.NumKeyValueHeads*c.HeadDim), rows(c.NumKeyValueHeads*c.HeadDim)
	d.gate, d.up, d.h = rows(c.IntermediateSize), rows(c.IntermediateSize), rows(c.IntermediateSize)
	d.cos, d.sin = rows(c.HeadDim/2), rows(c.HeadDim/2)
}

// stream is row i of the residual stream.
func (d *panelDecoder) stream(i int) []float64 {
	width := d.engine.Weights.Config.HiddenSize
	return d.x[i*width : (i+1)*width]
}

func (d *panelDecoder) step(rows []int, tokens, positions []int32) ([][]float32, error) {
	d.room(len(rows))
	d.embed(tokens, positions)
	for layer := range d.model.layers {
		d.attentionHalf(layer, rows)
		d.feedHalf(layer)
	}
	d.norm(d.model.finalNorm)
	d.multiply(product{d.model.head, d.operand("", d.normed), d.logits, false})
	logits := make([][]float32, len(rows))
	for i := range logits {
		logits[i] = d.logits.Row(i)
	}
	return logits, nil
}

// embed begins the residual streams and the rotary tables.
func (d *panelDecoder) embed(tokens, positions []int32) {
	for i, id := range tokens {
		row := d.back.Row(i)
		d.model.embedding.Row(int(id), row)
		for j, v := range row {
			d.stream(i)[j] = float64(v)
		}
		cos, sin := d.cos.Row(i), d.sin.Row(i)
		for j, f := range d.model.frequencies {
			angle := float64(positions[i]) * f
			cos[j], sin[j] = float32(math.Cos(angle)), float32(math.Sin(angle))
		}
	}
}

// attentionHalf adds a layer's attention to the residual streams.
func (d *panelDecoder) attentionHalf(layer int, rows []int) {
	c := d.engine.Weights.Config
	d.norm(d.model.layers[layer].attention)
	d.project(layer, d.normed, projection{"q_proj", d.q}, projection{"k_proj", d.k}, projection{"v_proj", d.v})
	caches := make([]*panel.Cache, len(rows))
	seen := 0
	for i, row := range rows {
		panel.RotateRow(d.q.Row(i), d.cos.Row(i), d.sin.Row(i), c.HeadDim)
		panel.RotateRow(d.k.Row(i), d.cos.Row(i), d.sin.Row(i), c.HeadDim)
		caches[i] = &d.rows[row][layer]
		caches[i].Append(d.k.Row(i), d.v.Row(i))
		seen += caches[i].Count
	}
	scale := float32(1 / math.Sqrt(float64(c.HeadDim)))
	groups := c.NumKeyValueHeads
	inParallel(len(rows)*groups, d.workers(2*seen*c.NumAttentionHeads*c.HeadDim), func(worker, task int) {
		i, g := task/groups, task%groups
		caches[i].Attend(&d.scratch[worker], d.q.Row(i), d.z.Row(i), g, c.NumAttentionHeads/groups, scale)
	})
	d.project(layer, d.z, projection{"o_proj", d.back})
	d.addBack()
}

// feedHalf adds a layer's feed-forward to the residual streams.
func (d *panelDecoder) feedHalf(layer int) {
	d.norm(d.model.layers[layer].feed)
	d.project(layer, d.normed, projection{"gate_proj", d.gate}, projection{"up_proj", d.up})
	panel.SwiGLURows(d.gate.First(d.width), d.up.First(d.width), d.h.First(d.width))
	d.project(layer, d.h, projection{"down_proj", d.back})
	d.addBack()
}

// norm is the RMSNorm of the residual streams.
func (d *panelDecoder) norm(gain []float32) {
	for i := range d.width {
		panel.NormalizeRow(d.stream(i), gain, d.engine.Weights.Config.RMSNormEps, d.normed.Row(i))
	}
}

func (d *panelDecoder) addBack() {
	for i := range d.width {
		x := d.stream(i)
		for j, v := range d.back.Row(i) {
			x[j] += float64(v)
		}
	}
}

// projection is one of a layer's, by name, and where its outcome goes.
type projection struct {
	name string
	y    panel.Rows
}

// product is y = W x, or y += W x with add.
type product struct {
	w   *panel.Weight
	x   panel.RowOperand
	y   panel.Rows
	add bool
}

// project runs projections of x with what the overlay adds to them.
func (d *panelDecoder) project(layer int, x panel.Rows, all ...projection) {
	operand := d.operand("", x)
	products, added := make([]product, 0, 2*len(all)), []product(nil)
	for _, p := range all {
		products = append(products, product{d.model.layers[layer].projections[p.name], operand, p.y, false})
		if e := d.extra(layer, p.name); e != nil {
			products = append(products, product{e.A, operand, d.innerOf(p.name, e), false})
		}
	}
	d.multiply(products...)
	for _, p := range all {
		if e := d.extra(layer, p.name); e != nil {
			inner := d.inner[p.name]
			panel.ScaleRows(inner.First(d.width), e.Scale)
			added = append(added, product{e.B, d.operand(p.name, inner), p.y, true})
		}
	}
	d.multiply(added...)
	for _, p := range all {
		if e := d.extra(layer, p.name); e != nil && e.Gain != nil {
			panel.GainRows(p.y.First(d.width), e.Gain.quotient)
		}
	}
}

// operand is x as the engine multiplies it; those in use at a time have different names.
func (d *panelDecoder) operand(name string, x panel.Rows) panel.RowOperand {
	if d.engine.Options.Compute != dtypes.BFloat16 {
		return panel.ExactRows(x)
	}
	if !panel.HalfAvailable() {
		if len(d.rounded[name]) < len(x.Data) {
			d.rounded[name] = make([]float32, len(x.Data))
		}
		return panel.RoundedRowsIn32(x.First(d.width), d.rounded[name])
	}
	if len(d.halves[name]) < len(x.Data) {
		d.halves[name] = make([]uint16, len(x.Data))
	}
	return panel.RoundedRows(x.First(d.width), d.halves[name])
}

func (d *panelDecoder) extra(layer int, proj string) *LowRank {
	if d.overlay == nil {
		return nil
	}
	return d.overlay[layer][proj].LowRank
}

// innerOf is room for A x: [r].
func (d *panelDecoder) innerOf(proj string, e *LowRank) panel.Rows {
	rows, ok := d.inner[proj]
	if !ok || rows.Size != e.A.Out {
		rows = panel.NewRows(d.size, e.A.Out)
		d.inner[proj] = rows
	}
	return rows
}

// share is the part of a weight, in bytes, that a worker takes at a time: while it stays in the first caches, all rows
// pass it by.
const share = 64 << 10

// multiply runs products that do not depend on each other, their tiles shared out over the cores.
func (d *panelDecoder) multiply(products ...product) {
	type part struct{ product, from, to int }
	var parts []part
	work := 0
	for i, p := range products {
		tiles := p.w.Tiles()
		each := max(4, share/p.w.TileBytes()/4*4)
		for from := 0; from < tiles; from += each {
			parts = append(parts, part{i, from, min(from+each, tiles)})
		}
		work += p.w.In * p.w.Out * d.width
	}
	inParallel(len(parts), d.workers(work), func(worker, i int) {
		p := products[parts[i].product]
		p.w.MultiplyRows(&d.tiles[worker], p.x, p.y.First(d.width), p.add, parts[i].from, parts[i].to)
	})
}

// worthSharing is the number of multiplications from which on a second core is worth waking: some 100 microseconds, since
// on a virtual machine waking it takes tens.
const worthSharing = 1 << 20

func (d *panelDecoder) workers(multiplications int) int {
	if multiplications < worthSharing {
		return 1
	}
	return len(d.scratch)
}

// inParallel does work for the tasks 0 to n-1 on up to that many goroutines, of which the caller's is worker 0.
func inParallel(n, workers int, work func(worker, task int)) {
	if workers = min(workers, n); workers <= 1 {
		for task := range n {
			work(0, task)
		}
		return
	}
	var next atomic.Int64
	run := func(worker int) {
		for task := int(next.Add(1)) - 1; task < n; task = int(next.Add(1)) - 1 {
			work(worker, task)
		}
	}
	var group sync.WaitGroup
	for worker := 1; worker < workers; worker++ {
		group.Go(func() { run(worker) })
	}
	run(0)
	group.Wait()
}
