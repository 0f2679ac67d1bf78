package setup

import (
	"gotransplant/llama"
	"gotransplant/transplant"

	"github.com/gomlx/compute"
)

// New is Open for weights and cases that come from no file: the method with the settings' adapters, and no rows.
func New(s Settings, backend compute.Backend, w *llama.Weights, labels [2]int32) (*Session, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	o := &Session{Settings: s, Config: w.Config, Pace: s.pace()}
	o.MicroBatch, o.Buckets = o.Pace.MicroBatch, s.buckets()
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
	o.Method.Labels, o.Method.Layers = labels, layers
	return o, o.assign(arguer, chooser)
}

// TrainerOn prepares training on cases in their order.
func (o *Session) TrainerOn(cases []transplant.Case) (*transplant.Trainer, error) {
	o.Method.Buckets = o.Method.PlanBuckets(cases, o.Buckets)
	t, err := transplant.NewTrainer(o.Method, o.TrainOptions(o.Pace), cases, nil)
	if err != nil {
		return nil, err
	}
	order := make([]int, len(cases))
	for i := range order {
		order[i] = i
	}
	t.Order = func(int) []int { return order }
	return t, nil
}
