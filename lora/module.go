package lora

// Module is a projection of one layer on which an adapter stands: it adds Scale B A to a weight [Out, In], with A
// [Rank, In] and B [Out, Rank].
type Module struct {
	Layer int
	Proj  string // one of [Projections]
	Rank  int
	Scale float64
	In    int
	Out   int
	Idle  bool // A or B is all zero: it changes nothing
}

// Name is the module's name inside the base model, such as model.layers.0.self_attn.q_proj.
func (m Module) Name() string { return target{m.Layer, m.Proj}.module() }

// Modules lists where the adapter stands, layer by layer in the order of [Projections].
func (a *Adapter) Modules() []Module {
	var all []Module
	for _, p := range a.params {
		if p.Kind != "A" {
			continue
		}
		pair := a.pairs[target{p.Layer, p.Proj}]
		all = append(all, Module{Layer: p.Layer, Proj: p.Proj, Rank: p.Shape[0], Scale: pair.scale, In: p.Shape[1],
			Out: pair.b.Shape[0], Idle: zero(pair.a.Value) || zero(pair.b.Value)})
	}
	return all
}

// Size is the number of values in all of the adapter's matrices.
func (a *Adapter) Size() (values int) {
	for _, p := range a.params {
		values += len(p.Value)
	}
	return values
}

func zero(values []float32) bool {
	for _, v := range values {
		if v != 0 {
			return false
		}
	}
	return true
}
