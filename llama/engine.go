package llama

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"gotransplant/internal/guard"
	"gotransplant/internal/panel"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Options of an engine. The zero value is not usable: Compute and Residual must be set.
type Options struct {
	Compute   dtypes.DType // Float32 or BFloat16: projections, feed-forward, attention products
	Residual  dtypes.DType // Float64 or Float32: the stream between blocks
	TrainBase bool         // backward passes also differentiate the base weights
	// Panels computes with this program's own kernels instead of graphs; see PanelsCan. The weights of the blocks leave
	// their tensors for it.
	Panels bool
}

// Engine compiles one executable per kind of block and shape and runs them over the layers. It may be used by many
// goroutines; the executables, and the weights they take as arguments, are shared.
type Engine struct {
	Weights *Weights
	Options Options
	backend compute.Backend

	clerk     *clerk
	rehearsal *Rehearsal // nil: calls are really run
	compiles  *Engine    // nil, or the engine whose executables a rehearsal compiles

	panels *panelModel // nil: graphs compute
	memory panelMemory
	cores  *panel.Cores

	mu    sync.Mutex
	execs map[string]*graph.Exec
}

// NewEngine returns an engine over weights that are on the backend's device already, or, if they were Deferred, that it
// reads.
func NewEngine(w *Weights, o Options) (*Engine, error) {
	if o.Compute != dtypes.Float32 && o.Compute != dtypes.BFloat16 {
		return nil, fmt.Errorf("compute dtype %s: want Float32 or BFloat16", o.Compute)
	}
	if o.Residual != dtypes.Float64 && o.Residual != dtypes.Float32 {
		return nil, fmt.Errorf("residual dtype %s: want Float64 or Float32", o.Residual)
	}
	if o.TrainBase && w.storage.quantized() {
		return nil, fmt.Errorf("weights kept as %s cannot be trained: keep them as float32 or bfloat16", w.storage)
	}
	e := &Engine{Weights: w, Options: o, backend: w.backend, clerk: newClerk(), execs: make(map[string]*graph.Exec)}
	if o.Panels {
		err := PanelsCan(w, o)
		if err == nil {
			e.cores = panel.NewCores(runtime.GOMAXPROCS(0))
			e.panels, err = w.panels(o.Compute)
		}
		if err != nil {
			return nil, fmt.Errorf("kernels on panels: %w", err)
		}
		return e, nil
	}
	return e, w.loadAll()
}

// Overlay is what a stream adds to the projections of the base: one map from projection to Extra per layer.
type Overlay []map[string]Extra

// Extra changes the output of one projection. Apply builds the new output from the input x [N, in] and the base's output
// y [N, out]; the gradient with respect to Values is what a backward pass returns. Extras with equal Signature must build
// equal graphs: layers that agree in it share their executables.
type Extra struct {
	Signature string
	Values    []*tensors.Tensor
	Fixed     []*tensors.Tensor // handed to Apply behind Values; they have no gradient
	Apply     func(x, y *graph.Node, values []*graph.Node) *graph.Node
	// Back, if not nil, stands in for Apply in a backward pass that has kept what Apply made, output [N, out], in float32
	// or the compute dtype. With it the gradient of a factor of the output can be told without y, which is then not
	// computed again.
	Back func(x, y, output *graph.Node, values []*graph.Node) *graph.Node
	// LowRank says the same to an engine that computes on panels, which needs neither Values nor Apply.
	LowRank *LowRank
}

// signature names the graphs that the extras of a layer build.
func signature(extras map[string]Extra) string {
	var parts []string
	for _, proj := range Projections() {
		if e, ok := extras[proj]; ok {
			parts = append(parts, proj+"="+e.Signature)
		}
	}
	return strings.Join(parts, ",")
}

// layerArgs are the arguments every block executable ends with: the weights by part, then the extras by projection.
func (e *Engine) layerArgs(layer int, extras map[string]Extra) []*tensors.Tensor {
	var args []*tensors.Tensor
	for _, part := range blockParts {
		args = append(args, e.Weights.part(layer, part)...)
	}
	for _, proj := range Projections() {
		args = append(append(args, extras[proj].Values...), extras[proj].Fixed...)
	}
	return args
}

// block reads those arguments back inside a graph.
func (e *Engine) block(in *inputs, extras map[string]Extra) *block {
	b := &block{
		cfg: e.Weights.Config, compute: e.Options.Compute, storage: e.Weights.storage,
		weights: make(map[string]*graph.Node), scales: make(map[string]*graph.Node),
		extras: make(map[string]extra), uses: make(map[string][]use), trainBase: e.Options.TrainBase,
	}
	for _, part := range blockParts {
		b.weights[part] = in.next()
		if b.storage.quantized() && slices.Contains(Projections(), part) {
			b.scales[part] = in.next()
		}
	}
	for _, proj := range Projections() {
		if x, ok := extras[proj]; ok {
			b.extras[proj] = extra{x.Apply, x.Back, in.take(len(x.Values)), in.take(len(x.Fixed))}
		}
	}
	return b
}

// inputs hands out the parameters of a graph in the order in which they were passed.
type inputs struct{ nodes []*graph.Node }

func (in *inputs) next() *graph.Node { return in.take(1)[0] }

func (in *inputs) take(n int) []*graph.Node {
	taken := in.nodes[:n:n]
	in.nodes = in.nodes[n:]
	return taken
}

// optional is next where the argument was passed, and nil otherwise.
func (in *inputs) optional(passed bool) *graph.Node {
	if !passed {
		return nil
	}
	return in.next()
}

// run calls the executable named key, building it first if need be; equal keys must come with equal build functions.
// Work is under what the call is booked.
func (e *Engine) run(work Work, key string, build func(in *inputs) []*graph.Node, args ...*tensors.Tensor) ([]*tensors.Tensor, error) {
	if e.compiles != nil {
		if err := e.compiles.compile(key, build, args); err != nil {
			return nil, err
		}
	}
	if e.rehearsal != nil {
		return e.rehearsal.run(work, key, build, args)
	}
	exec, err := e.exec(key, build)
	if err != nil {
		return nil, err
	}
	var out []*tensors.Tensor
	err = guard.Do(key, func() (err error) {
		anys := make([]any, len(args))
		argShapes := make([]shapes.Shape, len(args))
		for i, a := range args {
			anys[i], argShapes[i] = a, a.Shape()
		}
		start := time.Now()
		g, err := exec.Compile(argShapes...) // finds it made, but for the first call with these shapes
		if err != nil {
			return err
		}
		e.clerk.compiled(g, time.Since(start))
		start = time.Now()
		out, err = exec.Call(anys...)
		e.clerk.called(work, time.Since(start))
		return err
	})
	return out, asOutOfMemory(err)
}

func (e *Engine) exec(key string, build func(in *inputs) []*graph.Node) (*graph.Exec, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if exec, ok := e.execs[key]; ok {
		return exec, nil
	}
	var exec *graph.Exec
	err := guard.Do(key, func() (err error) {
		exec, err = graph.NewExec(e.backend, func(nodes []*graph.Node) []*graph.Node { return build(&inputs{nodes}) })
		return err
	})
	if err != nil {
		return nil, err
	}
	exec.SetMaxCache(-1) // one graph per length bucket; the caller bounds their number
	e.execs[key] = exec
	return exec, nil
}

// free gives the buffers of tensors back to the device; nil entries are skipped.
func free(ts ...*tensors.Tensor) {
	for _, t := range ts {
		if t != nil {
			t.MustFinalizeAll()
		}
	}
}
