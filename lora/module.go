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
	DoRA  bool // the rows of the sum W + Scale B A are scaled to magnitudes
	// Magnitude is then the norm of all of these, which is that of the merged weight.
	Magnitude float64
	Idle      bool // A or B is all zero, without DoRA: it changes nothing
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
		one := Module{Layer: p.Layer, Proj: p.Proj, Rank: p.Shape[0], Scale: pair.scale, In: p.Shape[1],
			Out: pair.b.Shape[0], DoRA: pair.m != nil, Idle: pair.m == nil && (zero(pair.a.Value) || zero(pair.b.Value))}
		if one.DoRA {
			one.Magnitude = length(widened(pair.m.Value))
		}
		all = append(all, one)
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

func widened(values []float32) []float64 {
	wide := make([]float64, len(values))
	for i, v := range values {
		wide[i] = float64(v)
	}
	return wide
}

func zero(values []float32) bool {
	for _, v := range values {
		if v != 0 {
			return false
		}
	}
	return true
}
