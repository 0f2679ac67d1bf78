package setup

import (
	"fmt"

	"gotransplant/llama"
	"gotransplant/transplant"
)

// forcesAttention says that one way to compute attention was asked for.
func (s Settings) forcesAttention() bool { return s.Attention != llama.AutoAttention.String() }

// checkAttention refuses a way that the engine has not got.
func (s Settings) checkAttention(m *transplant.Method) error {
	if s.forcesAttention() && m.Engine.Panels() {
		return fmt.Errorf("--attention %s is done by graphs: with --kernels %s leave it at auto", s.Attention, transplant.Panels)
	}
	if reason := m.Engine.NotFused(); m.Attention == llama.FusedAttention && reason != "" {
		return fmt.Errorf("--attention %s: %s", s.Attention, reason)
	}
	return nil
}

// Compete has micro-batches run with fused attention as well as without before one is chosen, where the device has such a
// kernel, PlanMemory found room for it and nothing was asked for. report is told each decision.
func (o *Session) Compete(report func(line string)) {
	if o.competes() {
		o.Method.Contest = transplant.NewContest(report)
	}
}

func (o *Session) competes() bool { return !o.forcesAttention() && o.notFused() == "" }

// notFused says why no micro-batch has fused attention.
func (o *Session) notFused() string {
	if reason := o.Method.Engine.NotFused(); reason != "" {
		return reason
	}
	return o.notInPlace
}

// MayFuse says that some micro-batches may have fused attention, as far as settings alone tell.
func (s Settings) MayFuse() bool {
	return s.DType == "bfloat16" && (!s.forcesAttention() || s.Attention == llama.FusedAttention.String())
}

// LeaveOutFused has no micro-batch run with fused attention, for a reason that Describe gives, before memory is planned.
func (o *Session) LeaveOutFused(why string) { o.notInPlace = why }

// describeAttention is one line: how attention is computed and why not fused.
func (o *Session) describeAttention() string {
	e := o.Method.Engine
	switch {
	case e.Panels():
		return ""
	case o.forcesAttention():
		return fmt.Sprintf("attention %s\n", o.Attention)
	case o.competes():
		return "attention fused in place or packed, by the cost of a micro-batch: of the largest shape, and of smaller ones where fused won\n"
	}
	return fmt.Sprintf("attention plain, from %d tokens on blockwise; not fused: %s\n", e.BlockwiseFrom(), o.notFused())
}
