package lora

import (
	"fmt"

	"gotransplant/model"
)

// merger adds an adapter to rows of one projection's weight; it is the only place where that is done.
type merger struct {
	module string
	pair   pair
	a      []float64 // [r, in]
}

// newMerger widens A once for all rows.
func (p pair) newMerger(module string) merger {
	return merger{module, p, widened(p.a.Value)}
}

// rows turns rows [n, in] of the base weight W [out, in], the first of which is its row first, into those of
// W + scale B A, in place, with DoRA scaled to their magnitudes; products are summed in float64, and nothing is rounded to
// a shorter type. It is a [model.RowChange].
func (m merger) rows(rows []float64, first int) error {
	in, rank := m.pair.a.Shape[1], m.pair.a.Shape[0]
	if len(rows)%in != 0 || first < 0 || first+len(rows)/in > m.pair.b.Shape[0] {
		return fmt.Errorf("merge %s: %d values from row %d on, want rows of [%d, %d]",
			m.module, len(rows), first, m.pair.b.Shape[0], in)
	}
	sum := make([]float64, in)
	for r := 0; r*in < len(rows); r++ {
		clear(sum)
		for k, b := range m.pair.b.Value[(first+r)*rank : (first+r+1)*rank] {
			factor := float64(b)
			for i, a := range m.a[k*in : (k+1)*in] {
				sum[i] += float64(factor * a) // rounded, or some processors would give other bits
			}
		}
		row := rows[r*in : (r+1)*in]
		for i, s := range sum {
			row[i] += float64(m.pair.scale * s)
		}
		if err := m.pair.toMagnitude(row, first+r); err != nil {
			return fmt.Errorf("merge %s: %w", m.module, err)
		}
	}
	return nil
}

// Change is a [model.Rewriting]'s: what merging does to a checkpoint's tensor of the given name, nil where the adapter
// does not stand.
func (a *Adapter) Change(tensor string) model.RowChange {
	for t, p := range a.pairs {
		if t.module()+".weight" == tensor {
			return p.newMerger(t.module()).rows
		}
	}
	return nil
}

// Merge returns weight + scale * B * A for one projection, in which weight is its base weight [out, in], row-major; the
// products are summed in float64. With DoRA its rows are scaled to the magnitudes. Without an adapter at the projection
// it returns a copy of weight.
func (a *Adapter) Merge(layer int, proj string, weight []float32) ([]float32, error) {
	merged := append([]float32(nil), weight...)
	t := target{layer, proj}
	p, ok := a.pairs[t]
	if !ok {
		return merged, nil
	}
	if out, in := p.b.Shape[0], p.a.Shape[1]; len(weight) != out*in {
		return nil, fmt.Errorf("merge %s: the weight has %d values, want [%d, %d]", t.module(), len(weight), out, in)
	}
	wide := widened(weight)
	if err := p.newMerger(t.module()).rows(wide, 0); err != nil {
		return nil, err
	}
	for i, v := range wide {
		merged[i] = float32(v)
	}
	return merged, nil
}
