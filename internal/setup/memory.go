package setup

import (
	"fmt"
	"math"
	"sort"
	"strings"

	"gotransplant/llama"
	"gotransplant/transplant"
)

// The ways of --remat.
const (
	RematAuto = "auto" // full where none does not fit
	RematNone = "none" // training keeps what a block makes until its backward pass
	RematFull = "full" // training keeps each block's input and computes the block again
)

// Capacity is the memory that a run may take; Bytes is 0 where it is not known.
type Capacity struct {
	Bytes  int64
	Source string // who says so, or what could
}

// PlanMemory rehearses the longest micro-batch, settles --remat and how many run at a time, and tells in a line what the run
// needs. What does not fit is an error, but for fused attention in place, which is then left out. controls are those that an
// evaluation will score beside its first condition.
func (o *Session) PlanMemory(c Capacity, controls Controls) (line string, err error) {
	o.Capacity = c
	all := o.Pace.Workers
	o.Method.Remat = o.Training != nil && o.Remat == RematFull
	choose := o.Training != nil && o.Remat != RematFull && o.Remat != RematNone
	least := 1
	if choose {
		least = o.fewestThatKeep()
	}
	plan, err := o.withWorkers(all, least, controls)
	if err != nil {
		return "", err
	}
	why := ""
	if choose && !o.fits(plan, c) {
		o.Method.Remat, why = true, fmt.Sprintf(", keeping everything would take %s", gigabytes(o.total(plan)))
		if plan, err = o.withWorkers(all, 1, controls); err != nil {
			return "", err
		}
	}
	if !o.fits(plan, c) {
		return "", o.tooLarge(plan, c)
	}
	if o.Training != nil {
		o.Remat = RematNone
	}
	if o.Method.Remat {
		o.Remat, why = RematFull, ", with blocks computed again (--remat full)"+why
	}
	if n := o.Pace.Workers; n < all {
		why += fmt.Sprintf(", with %d and not %d micro-batches at a time (--workers)", n, all)
	}
	larger, packed := o.inPlace(plan, controls)
	return o.sentence(larger, c, why+packed), nil
}

// fewestThatKeep is the number of micro-batches at a time below which blocks are rather computed again than all kept. On panels a
// sweep spreads over cores that have none of their own, for 5 to 20 % more time where blocks computed again cost a third; on
// graphs most of it does not.
func (o *Session) fewestThatKeep() int {
	const cores = 8 // that a sweep is trusted to use as well
	if !o.Method.Engine.Panels() {
		return o.Pace.Workers
	}
	return (o.Pace.Workers + cores - 1) / cores
}

// withWorkers plans with as many micro-batches at a time as fit, between most and least, unless their number was asked for. Which
// it is changes no bit. If none fits, the plan is that of the fewest.
func (o *Session) withWorkers(most, least int, controls Controls) (plan transplant.Memory, err error) {
	if o.Workers > 0 {
		least = most
	}
	with := func(n int) (fits bool) {
		o.Pace.Workers = n
		if err == nil {
			plan, err = o.plan(controls)
		}
		return o.fits(plan, o.Capacity)
	}
	if with(most) || most == least {
		return plan, err
	}
	fewer := sort.Search(most-1-least, func(i int) bool { return with(most - 1 - i) })
	with(most - 1 - fewer) // not the last that was tried
	return plan, err
}

// inPlace is the plan of a run of which some micro-batches may have fused attention in place, given that without, of which it
// tells. Where it does not fit, the run has none.
func (o *Session) inPlace(packed transplant.Memory, controls Controls) (plan transplant.Memory, without string) {
	if !o.competes() {
		return packed, ""
	}
	fused := *o.Method
	fused.Attention = llama.FusedAttention
	plan, err := o.planOf(&fused, controls)
	switch {
	case err != nil: // the contest will say so
	case !o.fits(plan, o.Capacity):
		o.notInPlace = "in place it would take " + gigabytes(o.total(plan))
	case plan.Device() > packed.Device():
		o.Needs = plan
		return plan, fmt.Sprintf("; with attention fused in place, packed it is %s", gigabytes(o.total(packed)))
	}
	return packed, ""
}

// plan is planOf the session's method; Needs keeps it.
func (o *Session) plan(controls Controls) (needs transplant.Memory, err error) {
	o.Needs, err = o.planOf(o.Method, controls)
	return o.Needs, err
}

// planOf is the larger of the plans of all that a method will run.
func (o *Session) planOf(m *transplant.Method, controls Controls) (needs transplant.Memory, err error) {
	pace, together := o.Pace, len(o.Cases)
	if o.Training != nil {
		together = min(together, o.BatchSize)
	}
	pace.Workers = min(pace.Workers, max(1, (together+pace.MicroBatch-1)/pace.MicroBatch)) // no more than there is work for
	plan, err := m.Memory(o.Cases, pace, o.Training != nil)
	if err != nil || !controls.NoTransplant || o.NoTransplant {
		return plan, err
	}
	reads := *m
	reads.NoTransplant = true
	other, err := reads.Memory(o.Cases, pace, false)
	if other.Device() > plan.Device() {
		plan = other
	}
	return plan, err
}

// onHost says that the device's memory is the program's own.
func (o *Session) onHost() bool { return strings.HasPrefix(o.Backend, "go") }

// total is what is asked of the capacity.
func (o *Session) total(m transplant.Memory) int64 {
	if o.onHost() {
		return m.Device() + m.Host
	}
	return m.Device()
}

func (o *Session) fits(m transplant.Memory, c Capacity) bool {
	return c.Bytes == 0 || o.total(m) <= c.Bytes
}

// items are the parts of a plan in words.
func (o *Session) items(m transplant.Memory) string {
	var parts []string
	add := func(name string, bytes int64) {
		if bytes > 0 {
			parts = append(parts, name+" "+gigabytes(bytes))
		}
	}
	add("weights", m.Weights)
	add("kept activations", m.Kept)
	add("moved states", m.Moved)
	add("masks and tables", m.Tables)
	add("workspace", m.Workspace)
	add("adapters", m.Adapters)
	if o.onHost() {
		add("optimizer and gradients", m.Host)
	}
	return strings.Join(parts, ", ")
}

// sentence is the plan in a line.
func (o *Session) sentence(m transplant.Memory, c Capacity, why string) string {
	fits := fmt.Sprintf("of %s: fits", gigabytes(c.Bytes))
	if c.Bytes == 0 {
		fits = "of an unknown amount: " + c.Source
	}
	text := fmt.Sprintf("memory   %s parameters, %s: %s = %s %s%s\n", rounded(float64(parameters(o.Config))), o.DType, o.items(m), gigabytes(o.total(m)), fits, why)
	if !o.onHost() && m.Host > 0 {
		text += fmt.Sprintf("memory   optimizer and gradients %s of the program's own\n", gigabytes(m.Host))
	}
	return text
}

// tooLarge names what takes the memory and what takes less.
func (o *Session) tooLarge(m transplant.Memory, c Capacity) error {
	var advice []string
	if o.Training != nil && !o.Method.Remat {
		advice = append(advice, "--remat full")
	}
	if o.Pace.MicroBatch > 1 {
		advice = append(advice, fmt.Sprintf("--micro-batch less than %d", o.Pace.MicroBatch))
	}
	if o.Pace.Workers > 1 { // asked for
		advice = append(advice, fmt.Sprintf("--workers less than %d", o.Pace.Workers))
	}
	advice = append(advice, "--max-tokens with --skip-long to leave out the longest rows", "--weights bfloat16, int8 or nf4")
	return fmt.Errorf("the run needs %s, of %s (%s): %s; try %s", gigabytes(o.total(m)), gigabytes(c.Bytes), c.Source,
		o.items(m), strings.Join(advice, ", "))
}

// rounded is a number of parameters as people say it.
func rounded(n float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "B"}, {1e6, "M"}, {1e3, "K"}} {
		if n >= unit.size {
			return fmt.Sprintf("%.3g%s", n/unit.size, unit.name)
		}
	}
	return fmt.Sprint(math.Round(n))
}

// gigabytes is a size in GB of 10^9 bytes, or in MB where it is small.
func gigabytes(bytes int64) string {
	switch {
	case bytes < 1e7:
		return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
	case bytes < 1e9:
		return fmt.Sprintf("%.0f MB", float64(bytes)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(bytes)/1e9)
}
