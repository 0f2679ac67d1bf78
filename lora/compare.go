package lora

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Comparison is of what two adapters add to one projection, ΔA and ΔB [out, in], in Frobenius norms.
type Comparison struct {
	First, Second float64 // |ΔA| and |ΔB|
	Inner         float64 // sum of the products of their entries
	Distance      float64 // |ΔA - ΔB|
}

// Cosine is that of the angle between the two; ok is false where one of them is zero and there is no angle.
func (c Comparison) Cosine() (cosine float64, ok bool) {
	if c.First == 0 || c.Second == 0 {
		return 0, false
	}
	return max(-1, min(1, c.Inner/c.First/c.Second)), true
}

// Relative is the distance over the norm of the first; ok is false where that is zero.
func (c Comparison) Relative() (distance float64, ok bool) {
	if c.First == 0 {
		return 0, false
	}
	return c.Distance / c.First, true
}

// Add makes c the comparison of both projections' entries together, as one vector.
func (c *Comparison) Add(d Comparison) {
	c.First, c.Second = math.Hypot(c.First, d.First), math.Hypot(c.Second, d.Second)
	c.Inner, c.Distance = c.Inner+d.Inner, math.Hypot(c.Distance, d.Distance)
}

// Compare computes it for one projection on which both adapters stand, from QR factorisations of both adapters' columns
// side by side: in those bases the two are matrices of a few times the rank. ok is false where one does not stand.
func Compare(first, second *Adapter, layer int, proj string) (c Comparison, ok bool) {
	p, isFirst := first.pairs[target{layer, proj}]
	q, isSecond := second.pairs[target{layer, proj}]
	if !isFirst || !isSecond {
		return c, false
	}
	rb := triangle(append(p.columnsOfB(), q.columnsOfB()...))
	ra := triangle(append(p.columnsOfA(), q.columnsOfA()...))
	rank := p.a.Shape[0]
	mine, other := core(rb[:rank], ra[:rank], p.scale), core(rb[rank:], ra[rank:], q.scale)
	difference := make([]float64, 0, len(mine)*len(mine[0]))
	var one, two []float64
	for j := range mine {
		c.Inner += dot(mine[j], other[j])
		one, two = append(one, mine[j]...), append(two, other[j]...)
		for i, v := range mine[j] {
			difference = append(difference, v-other[j][i])
		}
	}
	c.First, c.Second, c.Distance = length(one), length(two), length(difference)
	return c, true
}

// MagnitudeDistance is |m - m'| / |m| for the magnitudes m of the first and m' of the second adapter at one projection; nil
// unless both have them and m is not zero.
func MagnitudeDistance(first, second *Adapter, layer int, proj string) *float64 {
	m, isFirst := first.Magnitude(layer, proj)
	other, isSecond := second.Magnitude(layer, proj)
	if !isFirst || !isSecond || zero(m.Value) {
		return nil
	}
	difference := widened(m.Value)
	for o, v := range other.Value {
		difference[o] -= float64(v)
	}
	d := length(difference) / length(widened(m.Value))
	return &d
}

// Comparable refuses adapters of two different bases and lists every projection whose shape says so.
func Comparable(first, second *Adapter) error {
	shapes := map[target][2]int{}
	for _, m := range first.Modules() {
		shapes[target{m.Layer, m.Proj}] = [2]int{m.Out, m.In}
	}
	var problems []string
	for _, m := range second.Modules() {
		if shape, both := shapes[target{m.Layer, m.Proj}]; both && shape != [2]int{m.Out, m.In} {
			problems = append(problems, fmt.Sprintf("%s: [%d, %d] in the first, [%d, %d] in the second",
				m.Name(), shape[0], shape[1], m.Out, m.In))
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("the two adapters are for bases of different shapes:\n  %s", strings.Join(problems, "\n  "))
	}
	return nil
}

// Difference is a key of adapter_config.json that two adapters do not agree in, with both values as JSON.
type Difference struct {
	Key    string          `json:"key"`
	First  json.RawMessage `json:"first"`
	Second json.RawMessage `json:"second"`
}

// ConfigDifferences lists the keys in which two configs differ, sorted.
func ConfigDifferences(first, second Config) ([]Difference, error) {
	members := func(c Config) (all map[string]json.RawMessage, err error) {
		text, err := json.Marshal(c)
		if err == nil {
			err = json.Unmarshal(text, &all)
		}
		return all, err
	}
	a, err := members(first)
	if err != nil {
		return nil, err
	}
	b, err := members(second)
	if err != nil {
		return nil, err
	}
	all := []Difference{}
	for _, key := range slices.Sorted(maps.Keys(a)) { // both have the same keys
		if !bytes.Equal(a[key], b[key]) {
			all = append(all, Difference{key, a[key], b[key]})
		}
	}
	return all, nil
}
