package setup

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"time"
)

// Compile builds what a run with buckets will call, as many executables at a time as there are cores, and tells on w how
// much that was. Without buckets executables are built when they are first called, and on panels there are none.
func (o *Session) Compile(ctx context.Context, w io.Writer) error {
	if o.Method.Buckets == nil || o.Method.Engine.Panels() {
		return nil
	}
	start, before := time.Now(), o.Method.Engine.Ledger()
	if err := o.Method.Compile(ctx, o.Cases, o.Pace, o.Training != nil, runtime.GOMAXPROCS(0)); err != nil {
		return err
	}
	done := o.Method.Engine.Ledger().Since(before)
	_, err := fmt.Fprintf(w, "compile  %d executables, of %d kinds for %d shapes, in %.1f s (%.1f s one after the other)\n",
		done.Compilations, done.Kinds, len(o.Method.Buckets), time.Since(start).Seconds(), done.CompileSeconds)
	return err
}
