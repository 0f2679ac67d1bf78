package extract

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"gotransplant/internal/setup"
	"gotransplant/internal/spelling"
	"gotransplant/internal/states"
	"gotransplant/llama"
	"gotransplant/transplant"

	"github.com/gomlx/compute"
)

// Extraction is a model, an input and a choice of states.
type Extraction struct {
	options Options
	reading *setup.Reading
	input   *input
	sites   []llama.SiteInfo
	layers  []bool
	layout  states.Layout // without the counts of rows and vectors
	tensor  map[key]int   // places in it
}

// key names a tensor.
type key struct {
	site  llama.Site
	layer int
}

// Open opens everything the options name but the weights. stdin is read if it is the input, until ctx is done.
func Open(ctx context.Context, o Options, stdin io.Reader) (x *Extraction, err error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	x = &Extraction{options: o, tensor: make(map[key]int)}
	if x.reading, err = setup.OpenReading(o.Settings, o.Adapter, o.Transplant); err != nil {
		return nil, err
	}
	x.sites, err = parseSites(o.Sites)
	if err == nil {
		if x.layers, err = setup.ParseLayers(o.Layers, x.reading.Config.NumHiddenLayers); err != nil {
			err = fmt.Errorf("--layers %s: %w", o.Layers, err)
		}
	}
	if err == nil {
		x.input, err = newInput(ctx, o, x.reading, stdin)
	}
	if err != nil {
		x.reading.Close()
		return nil, err
	}
	x.layOut()
	return x, nil
}

// Close gives back what the input holds.
func (x *Extraction) Close() error { return x.input.close() }

// Load puts the model on the backend's device.
func (x *Extraction) Load(backend compute.Backend) error { return x.reading.Load(backend) }

// Kernels says what computes, after Load.
func (x *Extraction) Kernels() string { return x.reading.Kernels }

// workers is how many texts are computed at a time: on the Go backend one a core, each by itself; a device runs one.
func (x *Extraction) workers() int {
	switch {
	case x.options.Workers > 0:
		return x.options.Workers
	case x.reading.OnHost():
		return runtime.GOMAXPROCS(0)
	}
	return 1
}

// Describe tells in a line what reads.
func (x *Extraction) Describe() string {
	name := x.options.Model
	if name == "" {
		name = "embedded"
	}
	if x.options.Adapter != "" {
		name += " with " + x.options.Adapter
	}
	if x.options.Transplant {
		name += ", states of the arguer"
		if x.options.ArguerAdapter != "" {
			name += " with " + x.options.ArguerAdapter
		}
		name += " moved in"
	}
	c := x.reading.Config
	return fmt.Sprintf("model    %s: %s, hidden %d, %s (%d for keys and values), vocabulary %d; compute %s, residual %s, backend %s on %s\n",
		name, spelling.Count(c.NumHiddenLayers, "layer"), c.HiddenSize, spelling.Count(c.NumAttentionHeads, "head"), c.NumKeyValueHeads,
		c.VocabSize, x.options.DType, x.options.Residual, x.options.Backend, transplant.Computing(x.Kernels(), x.options.DType))
}
