package setup

import (
	"context"
	"fmt"
	"io"
	"time"

	"gotransplant/internal/spelling"
	"gotransplant/transplant"
)

// Compile builds what a run with buckets will call, and tells on w how much that was; an evaluation's controls have rows of their own. Without buckets executables are built when they are first
// called, and on panels there are none.
func (o *Session) Compile(ctx context.Context, w io.Writer, controls Controls) error {
	if o.Method.Buckets == nil || o.Method.Engine.Panels() {
		return nil
	}
	start, before := time.Now(), o.Method.Engine.Ledger()
	if err := o.compile(ctx, controls); err != nil {
		return err
	}
	done := o.Method.Engine.Ledger().Since(before)
	_, err := fmt.Fprintf(w, "compile  %s, of %s for %s, in %.1f s (%.1f s one after the other)\n",
		spelling.Count(done.Compilations, "executable"), spelling.Count(done.Kinds, "kind"),
		spelling.Count(len(o.Method.Buckets), "shape"), time.Since(start).Seconds(), done.CompileSeconds)
	return err
}

func (o *Session) compile(ctx context.Context, controls Controls) error {
	if o.Training != nil {
		return o.Method.Compile(ctx, o.Cases, o.Pace.MicroBatch, transplant.Sweeps{Score: true, Train: true})
	}
	scored, err := o.Scored()
	if err != nil {
		return err
	}
	for _, condition := range o.conditions(controls) {
		method, cases, _, err := o.ready(condition, scored)
		if err == nil {
			err = method.Compile(ctx, cases, o.Pace.MicroBatch, transplant.Sweeps{Score: true})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
