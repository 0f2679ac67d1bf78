package main

import (
	"context"
	"fmt"
	"io"
	"math"

	"gotransplant/cmd/internal/program"
	"gotransplant/lora"
)

const diffHead = `transplant-adapter diff compares what two adapters of one base add to its weights, dW = scale B A: the cosine of the
angle between the two dW of each weight, taken as vectors, and the norm of their difference over that of the first.
Which A and B make a dW does not matter. Where only one adapter stands, the other adds nothing.

  transplant-adapter diff runs/first/chooser runs/second/chooser
`

// compared is what diff says.
type compared struct {
	First   adapterFacts      `json:"first"`
	Second  adapterFacts      `json:"second"`
	Config  []lora.Difference `json:"config_differences"`
	Weights []comparedModule  `json:"weights"` // that both change
	Only    [2][]string       `json:"only_in"` // the first, the second
	All     likeness          `json:"all"`     // all weights as one vector, those in one adapter only included
}

// comparedModule is one weight that both adapters change.
type comparedModule struct {
	Layer int    `json:"layer"`
	Proj  string `json:"projection"`
	likeness
	// Magnitudes is |m - m'| / |m| where both have DoRA's magnitudes.
	Magnitudes *float64 `json:"magnitude_distance"`
}

// likeness is how alike two dW are. Norms are Frobenius norms.
type likeness struct {
	Cosine   *float64 `json:"cosine"`            // null where one of the two adds nothing
	Relative *float64 `json:"relative_distance"` // |first - second| / |first|; null where the first adds nothing
	First    float64  `json:"first_norm"`
	Second   float64  `json:"second_norm"`
}

func diff(_ context.Context, args []string, stdout, _ io.Writer) error {
	var asJSON bool
	g := program.NewGroup("Flags")
	g.Flags.BoolVar(&asJSON, "json", asJSON, "print one JSON object instead of text")
	given, err := parse(args, []string{"the first adapter's directory", "the second adapter's directory"}, diffHead, stdout, g)
	if err != nil {
		return err
	}
	first, err := lora.Inspect(given[0])
	if err != nil {
		return err
	}
	second, err := lora.Inspect(given[1])
	if err != nil {
		return err
	}
	if err := lora.Comparable(first, second); err != nil {
		return err
	}
	c := compare(factsOf(given[0], first), factsOf(given[1], second))
	if c.Config, err = lora.ConfigDifferences(first.Config(), second.Config()); err != nil {
		return err
	}
	if asJSON {
		return printJSON(stdout, c)
	}
	return c.print(stdout)
}

// compare fills in all but the configs.
func compare(first, second adapterFacts) compared {
	c := compared{First: first, Second: second, Weights: []comparedModule{}, Only: [2][]string{{}, {}}}
	var all lora.Comparison
	for _, m := range first.adapter.Modules() {
		one, both := lora.Compare(first.adapter, second.adapter, m.Layer, m.Proj)
		if !both {
			c.Only[0] = append(c.Only[0], m.Name())
			norm := first.adapter.Spectrum(m.Layer, m.Proj).Frobenius()
			one = lora.Comparison{First: norm, Distance: norm}
		} else {
			c.Weights = append(c.Weights, comparedModule{m.Layer, m.Proj, likenessOf(one),
				lora.MagnitudeDistance(first.adapter, second.adapter, m.Layer, m.Proj)})
		}
		all.Add(one)
	}
	for _, m := range second.adapter.Modules() {
		if _, _, both := first.adapter.Pair(m.Layer, m.Proj); !both {
			c.Only[1] = append(c.Only[1], m.Name())
			norm := second.adapter.Spectrum(m.Layer, m.Proj).Frobenius()
			all.Add(lora.Comparison{Second: norm, Distance: norm})
		}
	}
	c.All = likenessOf(all)
	return c
}

func likenessOf(c lora.Comparison) likeness {
	m := likeness{First: c.First, Second: c.Second}
	if cosine, ok := c.Cosine(); ok {
		m.Cosine = &cosine
	}
	if relative, ok := c.Relative(); ok {
		m.Relative = &relative
	}
	return m
}

func (c compared) print(w io.Writer) error {
	c.First.print(w)
	c.Second.print(w)
	if len(c.Config) == 0 {
		fmt.Fprintln(w, "config   the same")
	}
	for _, d := range c.Config {
		fmt.Fprintf(w, "config   %s: %s in the first, %s in the second\n", d.Key, d.First, d.Second)
	}
	rows := [][]string{{"layer", "projection", "cosine", "distance", "norm of first", "norm of second"}}
	magnitudes := c.First.DoRA && c.Second.DoRA
	if magnitudes {
		rows[0] = append(rows[0], "distance of m")
	}
	line := func(layer, proj string, m comparedModule) []string {
		cells := []string{layer, proj, exact(m.Cosine), optional(m.Relative), number(m.First), number(m.Second)}
		if magnitudes {
			cells = append(cells, optional(m.Magnitudes))
		}
		return cells
	}
	for _, m := range c.Weights {
		rows = append(rows, line(fmt.Sprint(m.Layer), m.Proj, m))
	}
	if err := table(w, append(rows, line("all", "", comparedModule{likeness: c.All}))); err != nil {
		return err
	}
	for i, which := range []string{"first", "second"} {
		for _, name := range c.Only[i] {
			fmt.Fprintf(w, "only in the %s: %s\n", which, name)
		}
	}
	return nil
}

// exact prints a cosine with as many digits as tell it from 1, up to eight.
func exact(v *float64) string {
	if v == nil {
		return optional(v)
	}
	if below := 1 - math.Abs(*v); below < 1e-3 && below > 1e-8 {
		return fmt.Sprintf("%.8f", *v)
	}
	return number(*v)
}
