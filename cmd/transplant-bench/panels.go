package main

import (
	"runtime"
	"sync"
	"time"

	"gotransplant/internal/panel"
)

// panelCeiling is ceiling for the kernels on panels: every core multiplies operands that stay in its caches.
func panelCeiling(dtype string) float64 {
	const out, in, panels, times = 1024, 512, 20, 40
	values := make([]float32, out*in)
	for i := range values {
		values[i] = float32(i%in) / in
	}
	x := panel.Matrix{Rows: in, Panels: panels, Data: make([]float32, in*panels*panel.Lanes)}
	copy(x.Data, values)
	weight, operand := panel.NewWeight(out, in, values), panel.Exact(x)
	if dtype == "bfloat16" {
		weight, operand = panel.NewRoundedWeight(out, in, values), panel.RoundedIn32(x, make([]float32, len(x.Data)))
		if panel.HalfAvailable() {
			operand = panel.Rounded(x, make([]uint16, panel.Halves(x)))
		}
	}
	cores := runtime.GOMAXPROCS(0)
	var best time.Duration
	for range 12 {
		start := time.Now()
		var group sync.WaitGroup
		for range cores {
			group.Go(func() {
				var s panel.Scratch
				y := panel.Matrix{Rows: out, Panels: panels, Data: make([]float32, out*panels*panel.Lanes)}
				for range times {
					weight.Multiply(&s, operand, y, false)
				}
			})
		}
		group.Wait()
		if took := time.Since(start); best == 0 || took < best {
			best = took
		}
	}
	return 2 * out * in * panels * panel.Lanes * times * float64(cores) / best.Seconds()
}
