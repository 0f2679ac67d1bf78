package transplant

import (
	"fmt"
	"slices"

	"gotransplant/llama"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

// Memory is what a run needs at its worst moment, in bytes. All but Host is the device's.
type Memory struct {
	Weights   int64 // as they are stored
	Adapters  int64 // their copies on the device
	Kept      int64 // residual streams and what training keeps of every layer for the way back
	Moved     int64 // keys and values on their way from the arguer to the chooser
	Tables    int64 // masks, rotary tables, indices
	Workspace int64 // of the executables at work: attention scores, feed-forward, logits, gradients
	Host      int64 // adapters, their moments, sums and gradients
}

// Device is the sum of what the device holds.
func (m Memory) Device() int64 {
	return m.Weights + m.Adapters + m.Kept + m.Moved + m.Tables + m.Workspace
}

// Memory plans a run over cases, with gradients or without: the longest micro-batch that could be made of them is
// rehearsed. Nothing is run.
func (m *Method) Memory(cases []Case, pace Pace, train bool) (Memory, error) {
	var before, sweep, prepared llama.Peak
	var moved int64
	for _, g := range m.longest(cases, pace.MicroBatch) {
		shared, begun, peak, err := m.rehearse(g, train)
		if err != nil {
			return Memory{}, fmt.Errorf("memory plan: %w", err)
		}
		if peak.Bytes() > sweep.Bytes() {
			before, sweep, prepared = shared, peak, begun
			moved = min(m.movedBytes(g, train), peak.Held[llama.ForwardPass])
		}
	}
	plan := Memory{Weights: m.Engine.WeightBytes(), Adapters: m.Arguer.DeviceBytes()}
	if m.Chooser != m.Arguer {
		plan.Adapters += m.Chooser.DeviceBytes()
	}
	plan.add(before, 1)
	plan.add(sweep, int64(pace.Workers))
	plan.add(prepared, 1) // one micro-batch is made ready while the others run
	plan.Kept -= int64(pace.Workers) * moved
	plan.Moved += int64(pace.Workers) * moved
	if train {
		plan.Host = m.hostBytes(pace.Workers)
		plan.Workspace += int64(1+pace.Workers) * m.returnedBytes() // the sums, and of sweeps that wait while others run
		if !m.Engine.GradientsOnHost() {
			plan.Workspace += m.summedBytes(pace.Workers)
		}
	}
	return plan, nil
}

// add adds what a number of sweeps hold.
func (m *Memory) add(p llama.Peak, sweeps int64) {
	for pass, bytes := range p.Held {
		switch pass {
		case llama.Preparing:
			m.Tables += sweeps * bytes
		case llama.KeysValuesPass:
			m.Moved += sweeps * bytes
		case llama.Embedding, llama.ForwardPass:
			m.Kept += sweeps * bytes
		default: // gradients under way
			m.Workspace += sweeps * bytes
		}
	}
	m.Workspace += sweeps * p.Workspace
}

// rehearse goes through a micro-batch and returns what the prefixes hold, and what is held beside them when the micro-batch
// has begun and at its worst moment.
func (m *Method) rehearse(g group, train bool) (before, begun, peak llama.Peak, err error) {
	if m.Engine.Panels() {
		begun, peak = m.rehearsePanels(g, train)
		return m.prefixOnPanels(train), begun, peak, nil
	}
	quiet := *m
	var books *llama.Rehearsal
	quiet.Engine, books = m.Engine.Rehearse()
	with, err := quiet.share(train)
	if err != nil {
		return before, begun, peak, err
	}
	defer with.shared.close()
	before = books.Now()
	p, err := with.begin(g, train)
	if err != nil {
		return before, begun, peak, err
	}
	begun = books.Now().Beside(before)
	if train {
		_, err = p.fit(1)
	} else {
		_, err = p.evaluate()
	}
	return before, begun, books.Peak().Beside(before), err
}

// longest are micro-batches of which one is the largest that can be made of the cases: single rows are those that are the
// longest in each respect; several rows may be as long as the longest in every respect at once.
func (m *Method) longest(cases []Case, rows int) []group {
	var extremes [3]Case
	var most, all Shape
	for _, c := range cases {
		need := m.need(c)
		all = all.join(need)
		for i := range extremes {
			if n := *need.number(i); extremes[i].Choose == nil || n > *most.number(i) {
				extremes[i], *most.number(i) = c, n
			}
		}
	}
	if m.Buckets == nil { // else micro-batches are filled up
		rows = min(rows, len(cases))
	}
	if rows > 1 {
		chosen := make([]Case, rows)
		for i := range chosen {
			chosen[i] = extremes[i%len(extremes)]
		}
		return []group{{cases: chosen, shape: m.Buckets.shape(all), rows: rows}}
	}
	var groups []group
	for _, c := range extremes {
		groups = append(groups, m.group([]Case{c}, nil, 1))
	}
	return groups
}

// movedBytes are the keys and values that forward passes hand over: training holds those of all layers, an evaluation
// those of one.
func (m *Method) movedBytes(g group, train bool) int64 {
	c, handed := m.Engine.Weights.Config, 0
	last, _ := m.span()
	for layer := range max(last, 0) {
		if m.transplants(layer) {
			handed++
		}
	}
	if !train {
		handed = min(handed, 1)
	}
	if m.Engine.Panels() {
		n := m.Engine.PanelNeeds(llama.PanelShape{Rows: g.rows, Length: 1, MovedIn: g.shape.Moved, MovedOut: g.shape.Moved})
		return int64(handed) * (n.Moved + n.Rotated)
	}
	states := shapes.Make(m.Engine.Options.Compute, g.rows, g.shape.Moved, c.NumKeyValueHeads, c.HeadDim)
	return 2 * int64(handed) * m.Engine.Room(states)
}

// returnedBytes are those of what a sweep says about the states of the prefixes, which are summed.
func (m *Method) returnedBytes() int64 {
	c, states := m.Engine.Weights.Config, 0
	if last, _ := m.span(); m.TrainsArguer() {
		states += last * upTo(openingStep, len(m.Prefix.Arguer))
	}
	states += m.layers() * upTo(openingStep, len(m.Prefix.Chooser))
	return m.Engine.Room(shapes.Make(dtypes.Float32, 2, states, c.NumKeyValueHeads, c.HeadDim))
}

// DeviceBytes is the memory that the role's matrices take on the engine's device.
func (r *Role) DeviceBytes() (total int64) {
	if r == nil {
		return 0
	}
	for _, extras := range r.overlay {
		for _, extra := range extras {
			if extra.LowRank != nil {
				total += extra.LowRank.Bytes()
			}
			for _, t := range slices.Concat(extra.Values, extra.Fixed) {
				total += r.engine.Room(t.Shape())
			}
		}
	}
	return total
}

// summedBytes are those of the adapters' gradients on a device: their sums, one layer's anew, and the gradients of as many
// sweeps as may wait for their turn.
func (m *Method) summedBytes(waiting int) (total int64) {
	for _, r := range m.trained() {
		byLayer := make(map[int]int)
		for _, p := range r.Adapter.Params() {
			byLayer[p.Layer] += len(p.Value)
			total += int64(waiting) * m.Engine.Room(shapes.Make(dtypes.Float32, p.Shape[:]...))
		}
		anew := int64(0)
		for _, n := range byLayer {
			sum := m.Engine.Room(shapes.Make(dtypes.Float64, n))
			total, anew = total+sum, max(anew, sum)
		}
		total += anew
	}
	return total
}

// hostBytes are what training holds of the adapters in the program's own memory: of each number the value, the gradient
// and two moments in float32; where gradients are added on the host also a sum in float64, and the gradients of as many
// sweeps as may wait for their turn.
func (m *Method) hostBytes(workers int) int64 {
	each := 4 * 4
	if m.Engine.GradientsOnHost() {
		each += 8 + 2*workers*4
	}
	numbers := 0
	for _, r := range m.trained() {
		for _, p := range r.Adapter.Params() {
			numbers += len(p.Value)
		}
	}
	return int64(numbers * each)
}

// trained are the roles that get gradients, each once.
func (m *Method) trained() (all []*Role) {
	if m.TrainsArguer() && m.Arguer != m.Chooser {
		all = append(all, m.Arguer)
	}
	if m.Chooser != nil {
		all = append(all, m.Chooser)
	}
	return all
}
