package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"gotransplant/internal/spelling"
	"gotransplant/lora"
)

// adapterFacts are what there is to say of an adapter as a whole.
type adapterFacts struct {
	Dir         string    `json:"directory"`
	Base        string    `json:"base_model"` // as adapter_config.json names it
	Rank        int       `json:"rank"`
	Alpha       float64   `json:"alpha"`
	RSLoRA      bool      `json:"rslora"`
	DoRA        bool      `json:"dora"`
	Scales      []float64 `json:"scales"` // of all modules; one, unless there are patterns
	Projections []string  `json:"projections"`
	Layers      int       `json:"layers"` // in which it stands
	Modules     int       `json:"modules"`
	Idle        int       `json:"idle_modules"` // that change nothing, A or B being zero
	Parameters  int       `json:"parameters"`
	adapter     *lora.Adapter
}

func factsOf(dir string, a *lora.Adapter) adapterFacts {
	c := a.Config()
	f := adapterFacts{Dir: dir, Base: c.BaseModel, Rank: c.Rank, Alpha: c.Alpha, RSLoRA: c.RSLoRA, DoRA: c.DoRA, Parameters: a.Size(),
		Scales: []float64{}, adapter: a}
	layers, projections := map[int]bool{}, map[string]bool{}
	for _, m := range a.Modules() {
		f.Modules++
		layers[m.Layer], projections[m.Proj] = true, true
		if m.Idle {
			f.Idle++
		}
		if !slices.Contains(f.Scales, m.Scale) {
			f.Scales = append(f.Scales, m.Scale)
		}
	}
	f.Layers = len(layers)
	for _, proj := range lora.Projections() {
		if projections[proj] {
			f.Projections = append(f.Projections, proj)
		}
	}
	return f
}

// print tells them in a line or two.
func (f adapterFacts) print(w io.Writer) {
	alpha := fmt.Sprintf("alpha %v", f.Alpha)
	if f.RSLoRA {
		alpha += " with rsLoRA"
	}
	base := f.Base
	if base == "" {
		base = "a base without a name"
	}
	var scales []string
	for _, scale := range f.Scales {
		scales = append(scales, number(scale))
	}
	fmt.Fprintf(w, "adapter  %s: rank %d, %s, scale %s; %s on %s in %s; %d parameters; made for %s\n", f.Dir, f.Rank, alpha,
		strings.Join(scales, ", "), spelling.Count(f.Modules, "weight"), strings.Join(f.Projections, ", "),
		spelling.Count(f.Layers, "layer"), f.Parameters, base)
	if f.Idle == f.Modules {
		fmt.Fprintln(w, "note     it changes nothing: A or B is zero everywhere, as in an adapter that was never trained")
	} else if f.DoRA {
		fmt.Fprintln(w, "note     DoRA: a weight becomes W + dW with its rows scaled to magnitudes m; figures of dW are of scale B A alone")
	} else if f.Idle > 0 {
		fmt.Fprintf(w, "note     %d of the %d weights are not changed: A or B is zero there\n", f.Idle, f.Modules)
	}
}
