package llama

import (
	"time"

	"gotransplant/internal/guard"

	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Compiling returns an engine over the same weights whose calls compile e's executables for their arguments' shapes and
// run nothing. Streams on it may be used at the same time: GoMLX compiles outside its locks.
func (e *Engine) Compiling() *Engine {
	c, _ := e.Rehearse()
	c.compiles = e
	return c
}

// compile builds the executable named key for arguments of these shapes, unless that has been done.
func (e *Engine) compile(key string, build func(in *inputs) []*graph.Node, args []*tensors.Tensor) error {
	exec, err := e.exec(key, build)
	if err != nil {
		return err
	}
	return asOutOfMemory(guard.Do(key, func() error { // it takes memory of the device to try kernels in
		argShapes := make([]shapes.Shape, len(args))
		for i, a := range args {
			argShapes[i] = a.Shape()
		}
		start := time.Now()
		g, err := exec.Compile(argShapes...)
		if err == nil {
			e.clerk.compiled(g, time.Since(start))
		}
		return err
	}))
}
