package lora

import (
	"math"
	"slices"
	"testing"
)

// filled is an adapter on all projections of smallConfig with values everywhere.
func filled(t *testing.T, rank int, seed uint64) *Adapter {
	t.Helper()
	a := mustNew(t, Options{Rank: rank, Alpha: 3, Targets: Targets{Regex: allLinear}}, smallConfig(), seed)
	for i, p := range a.Params() {
		for j := range p.Value {
			p.Value[j] = float32(math.Sin(float64(7*i+3*j) + float64(seed)))
		}
	}
	return a
}

// dense is scale B A of a projection [out, in], row-major.
func dense(a *Adapter, layer int, proj string) []float64 {
	pa, pb, _ := a.Pair(layer, proj)
	out, rank, in := pb.Shape[0], pa.Shape[0], pa.Shape[1]
	w := make([]float64, out*in)
	for o := range out {
		for i := range in {
			for k := range rank {
				w[o*in+i] += a.Scale(layer, proj) * float64(pb.Value[o*rank+k]) * float64(pa.Value[k*in+i])
			}
		}
	}
	return w
}

// TestChangeInParts: rows that come in parts are the same rows, in every projection, and other tensors stay.
func TestChangeInParts(t *testing.T) {
	a := filled(t, 2, 1)
	for _, m := range a.Modules() {
		change := a.Change(m.Name() + ".weight")
		if change == nil {
			t.Fatalf("%s: no change", m.Name())
		}
		update := dense(a, m.Layer, m.Proj)
		rows := make([]float64, m.Out*m.In)
		for i := range rows {
			rows[i] = float64(i)
		}
		for first := 0; first < m.Out; first += 3 {
			if err := change(rows[first*m.In:min(first+3, m.Out)*m.In], first); err != nil {
				t.Fatal(err)
			}
		}
		for i, got := range rows {
			if want := float64(i) + update[i]; !(math.Abs(got-want) <= 1e-13*math.Abs(want)) {
				t.Fatalf("%s: value %d: got %v, want %v", m.Name(), i, got, want)
			}
		}
		if err := change(rows[:2*m.In], m.Out-1); err == nil {
			t.Errorf("%s: a row behind the last is changed", m.Name())
		}
		if err := change(rows[:m.In+1], 0); err == nil {
			t.Errorf("%s: a row and a value are changed", m.Name())
		}
	}
	for _, name := range []string{"model.norm.weight", "model.layers.1.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj"} {
		if a.Change(name) != nil {
			t.Errorf("%s would be changed", name)
		}
	}
}

// TestModules: where an adapter stands, and where it changes nothing.
func TestModules(t *testing.T) {
	c := smallConfig()
	c.NumHiddenLayers = 2
	a := mustNew(t, Options{Rank: 2, Alpha: 4, Targets: Targets{Names: []string{"k_proj", "down_proj"}}}, c, 1)
	_, b, _ := a.Pair(1, "k_proj")
	b.Value[3] = 1
	want := []Module{
		{Layer: 0, Proj: "k_proj", Rank: 2, Scale: 2, In: 8, Out: 4, Idle: true},
		{Layer: 0, Proj: "down_proj", Rank: 2, Scale: 2, In: 12, Out: 8, Idle: true},
		{Layer: 1, Proj: "k_proj", Rank: 2, Scale: 2, In: 8, Out: 4},
		{Layer: 1, Proj: "down_proj", Rank: 2, Scale: 2, In: 12, Out: 8, Idle: true},
	}
	if got := a.Modules(); !slices.Equal(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got, want := a.Size(), 2*(2*8+4*2+2*12+8*2); got != want {
		t.Errorf("got %d values, want %d", got, want)
	}
	pa, _, _ := a.Pair(1, "k_proj")
	clear(pa.Value)
	if !a.Modules()[2].Idle {
		t.Error("with A zero a module is not idle")
	}
}
