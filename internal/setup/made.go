package setup

import (
	"gotransplant/llama"
	"gotransplant/transplant"

	"github.com/gomlx/compute"
)

// New is Open for weights and cases that come from no file; labels are the tokens that answer 1 and 2.
func New(s Settings, backend compute.Backend, w *llama.Weights, cases []transplant.Case, labels [2]int32) (*Session, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	o := &Session{Settings: s, Config: w.Config, Pace: s.pace(), Rows: &Rows{Cases: cases, Labels: labels}}
	o.MicroBatch = o.Pace.MicroBatch
	layers, err := s.layers(o.Config.NumHiddenLayers)
	if err != nil {
		return nil, err
	}
	arguer, chooser, err := s.adapters(o.Config)
	if err != nil {
		return nil, err
	}
	if o.Method, err = s.method(w); err != nil {
		return nil, err
	}
	o.Kernels = o.Method.Kernels()
	o.Method.Labels, o.Method.Layers = labels, layers
	o.planShapes()
	return o, o.assign(arguer, chooser)
}

// TrainerInOrder prepares training on all cases in their order, none held out.
func (o *Session) TrainerInOrder() (*transplant.Trainer, error) {
	t, err := transplant.NewTrainer(o.Method, o.TrainOptions(o.Pace), o.Cases, nil)
	if err != nil {
		return nil, err
	}
	order := make([]int, len(o.Cases))
	for i := range order {
		order[i] = i
	}
	t.Order = func(int) []int { return order }
	return t, nil
}
