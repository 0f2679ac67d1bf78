package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"

	"gotransplant/cmd/internal/program"
	"gotransplant/lora"
	"gotransplant/model"
)

const showHead = `transplant-adapter show prints, for every weight that an adapter changes, how much is added to it: dW = scale B A. The
norms are the root of the sum of squares (Frobenius) and the largest stretch of a vector (spectral). The effective
rank is exp of the entropy of the squared singular values: 1 for one direction, r for r equally strong ones.

  transplant-adapter show runs/first/chooser
  transplant-adapter show runs/first/chooser --model path/to/llama-7b
`

// shown is what show says.
type shown struct {
	adapterFacts
	Weights []shownModule `json:"weights"`
	ByLayer []layerSum    `json:"by_layer"` // those that moved most first
}

// shownModule is one weight that an adapter changes.
type shownModule struct {
	Layer         int      `json:"layer"`
	Proj          string   `json:"projection"`
	Rank          int      `json:"rank"`
	Scale         float64  `json:"scale"`
	Frobenius     float64  `json:"frobenius_norm"`
	Spectral      float64  `json:"spectral_norm"`
	EffectiveRank float64  `json:"effective_rank"`
	Weight        *float64 `json:"weight_norm"`    // of the base; null without --model
	Relative      *float64 `json:"relative_norm"`  // frobenius_norm / weight_norm
	Magnitude     *float64 `json:"magnitude_norm"` // with DoRA: of the magnitudes, and so of the merged weight
}

// layerSum is one layer: the norm of all that is added in it, and that over the norm of the weights it is added to.
type layerSum struct {
	Layer     int      `json:"layer"`
	Frobenius float64  `json:"frobenius_norm"`
	Relative  *float64 `json:"relative_norm"`
}

func show(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var modelDir string
	var asJSON bool
	g := program.NewGroup("Flags")
	g.Flags.StringVar(&modelDir, "model", modelDir, "checkpoint `directory` of the base, or embedded: norms are also given relative to its weights, and shapes checked against it")
	g.Flags.BoolVar(&asJSON, "json", asJSON, "print one JSON object instead of text")
	given, err := parse(args, []string{"the adapter's directory"}, showHead, stdout, g)
	if err != nil {
		return err
	}
	dir := given[0]
	var base *model.Checkpoint
	var adapter *lora.Adapter
	if modelDir == "" {
		adapter, err = lora.Inspect(dir)
	} else {
		if base, err = openModel(modelDir); err != nil {
			return fmt.Errorf("--model: %w", err)
		}
		defer base.Close()
		adapter, err = lora.Open(dir, base.Config)
	}
	if err != nil {
		return err
	}
	s := shown{adapterFacts: factsOf(dir, adapter)}
	if s.Weights, err = measure(ctx, adapter, base, stderr); err != nil {
		return err
	}
	s.ByLayer = byLayer(s.Weights)
	if asJSON {
		return printJSON(stdout, s)
	}
	s.adapterFacts.print(stdout)
	return s.print(stdout)
}

// measure looks at all modules, several at a time. base may be nil.
func measure(ctx context.Context, a *lora.Adapter, base *model.Checkpoint, stderr io.Writer) ([]shownModule, error) {
	modules := a.Modules()
	all, errs := make([]shownModule, len(modules)), make([]error, len(modules))
	progress := program.NewProgress(stderr)
	defer progress.Clear()
	var mu sync.Mutex
	var group sync.WaitGroup
	next, done := 0, 0
	for range min(runtime.GOMAXPROCS(0), len(modules)) {
		group.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= len(modules) || ctx.Err() != nil {
					return
				}
				all[i], errs[i] = measureOne(ctx, a, modules[i], base)
				mu.Lock()
				done++
				progress.Update("show", done, len(modules))
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return all, errors.Join(append(errs, ctx.Err())...)
}

func measureOne(ctx context.Context, a *lora.Adapter, m lora.Module, base *model.Checkpoint) (shownModule, error) {
	s := a.Spectrum(m.Layer, m.Proj)
	one := shownModule{Layer: m.Layer, Proj: m.Proj, Rank: m.Rank, Scale: m.Scale, Frobenius: s.Frobenius(), Spectral: s.Spectral(),
		EffectiveRank: s.EffectiveRank()}
	if m.DoRA {
		one.Magnitude = &m.Magnitude
	}
	if base == nil {
		return one, nil
	}
	norm, err := base.Norm(ctx, m.Name()+".weight")
	one.Weight, one.Relative = &norm, share(one.Frobenius, norm)
	return one, err
}

// byLayer sums over the weights of each layer, the layers that moved most first: relative to their weights where these
// are known.
func byLayer(weights []shownModule) []layerSum {
	type squares struct{ delta, weight float64 }
	sums, layers := map[int]squares{}, []layerSum{}
	known := true
	for _, w := range weights {
		s := sums[w.Layer]
		s.delta += w.Frobenius * w.Frobenius
		if w.Weight != nil {
			s.weight += *w.Weight * *w.Weight
		} else {
			known = false
		}
		sums[w.Layer] = s
	}
	for layer, s := range sums {
		one := layerSum{Layer: layer, Frobenius: math.Sqrt(s.delta)}
		if known {
			one.Relative = share(math.Sqrt(s.delta), math.Sqrt(s.weight))
		}
		layers = append(layers, one)
	}
	slices.SortFunc(layers, func(a, b layerSum) int {
		byNorm := cmp.Compare(b.Frobenius, a.Frobenius)
		if a.Relative != nil && b.Relative != nil {
			byNorm = cmp.Compare(*b.Relative, *a.Relative)
		}
		return cmp.Or(byNorm, cmp.Compare(a.Layer, b.Layer))
	})
	return layers
}

func (s shown) print(w io.Writer) error {
	heading := []string{"layer", "projection", "rank", "scale", "Frobenius", "spectral", "effective rank"}
	relative := len(s.Weights) > 0 && s.Weights[0].Weight != nil
	if relative {
		heading = append(heading, "norm W", "norm dW / W")
	}
	if s.DoRA {
		heading = append(heading, "norm m")
	}
	rows := [][]string{heading}
	for _, m := range s.Weights {
		row := []string{fmt.Sprint(m.Layer), m.Proj, fmt.Sprint(m.Rank), number(m.Scale), number(m.Frobenius), number(m.Spectral), number(m.EffectiveRank)}
		if relative {
			row = append(row, optional(m.Weight), optional(m.Relative))
		}
		if s.DoRA {
			row = append(row, optional(m.Magnitude))
		}
		rows = append(rows, row)
	}
	if err := table(w, rows); err != nil {
		return err
	}
	var parts []string
	for _, l := range s.ByLayer {
		moved := number(l.Frobenius)
		if relative {
			moved = optional(l.Relative)
		}
		parts = append(parts, fmt.Sprintf("%d (%s)", l.Layer, moved))
	}
	what := "Frobenius norm"
	if relative {
		what = "norm dW / W"
	}
	_, err := fmt.Fprintf(w, "layers by %s, most moved first: %s\n", what, strings.Join(parts, ", "))
	return err
}
