package llama

import (
	"time"

	"gotransplant/internal/panel"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
)

// Panels says whether the engine computes with the kernels of internal/panel.
func (e *Engine) Panels() bool { return e.panels != nil }

// RoundsFactors says whether the engine is to compute in bfloat16 with kernels that have no products of it, so that it
// multiplies rounded factors in float32.
func (e *Engine) RoundsFactors() bool {
	return e.Panels() && e.Options.Compute == dtypes.BFloat16 && !panel.HalfAvailable()
}

// Upload puts float32 values on the engine's device.
func (e *Engine) Upload(values []float32, dims ...int) (*tensors.Tensor, error) {
	return FromFloat32(e.backend, values, dims...)
}

// NewLowRank packs factors a [rank, in] and b [out, rank], row-major, as the engine multiplies them.
func (e *Engine) NewLowRank(a, b []float32, rank int, scale float64) *LowRank {
	pack := packing(e.Options.Compute)
	return &LowRank{A: pack(rank, len(a)/rank, a), B: pack(len(b)/rank, rank, b), Scale: float32(scale)}
}

// Set replaces both factors. No stream may be running.
func (l *LowRank) Set(a, b []float32) {
	l.A.Set(a)
	l.B.Set(b)
}

// book does work, which keeps a processor busy, and notes the time it takes in the engine's ledger.
func (s *Stream) book(pass string, work func()) {
	s.engine.cores.Enter()
	defer s.engine.cores.Leave()
	start := time.Now()
	work()
	s.engine.clerk.called(Work{s.options.Name, pass}, time.Since(start))
}

// finals is the number of positions read after the last layer.
func (s *Stream) finals() int {
	if s.options.Last != nil {
		return s.rows
	}
	return s.rows * s.length
}

func (s *Stream) forwardPanels(layer int, moved *KV, export bool) (KV, error) {
	var in *panelKV
	if moved != nil {
		in = moved.panels
	}
	var out KV
	s.book(ForwardPass, func() { out.panels = s.panels.forward(layer, in, export) })
	return out, s.handPanels()
}

func (s *Stream) keysValuesPanels(layer int) (KV, error) {
	var out KV
	s.book(KeysValuesPass, func() { out.panels = s.panels.exportKeysValues(layer) })
	return out, nil
}

func (s *Stream) backwardPanels(layer int, dKV KV, toInput bool) (*tensors.Tensor, Gradients, error) {
	pass := BackwardPass
	if s.panels.layers[layer].keysValuesOnly {
		pass = BackwardKeysValues
	}
	var g Gradients
	s.book(pass, func() {
		var others othersGradient
		g.Values, others = s.panels.backward(layer, dKV.panels, toInput)
		g.Moved.panels, g.Prefix.panels = others.moved, others.prefix
	})
	return nil, g, nil
}

func (s *Stream) scorePanels(t Targets, gradient bool) (out Scores, err error) {
	s.book(ScorePass, func() { out = s.panels.score(t, gradient) })
	return out, nil
}

// logitsOf are the logits of columns, row-major.
func (s *panelStream) logitsOf(columns []int) []float32 {
	_, _, logits := s.logits(columns)
	all := make([]float32, len(columns)*logits.Rows)
	for i := range columns {
		logits.Column(i, all[i*logits.Rows:(i+1)*logits.Rows])
	}
	s.settle(nil)
	return all
}
