package panel

import (
	"fmt"
	"testing"
)

// BenchmarkMultiply measures products of one core, a weight [512, 1376] with as many panels as are named.
func BenchmarkMultiply(b *testing.B) {
	if !Available() {
		b.Skip("no kernels for this processor, or built without GOEXPERIMENT=simd")
	}
	const out, in = 512, 1376
	for _, half := range []bool{false, true} {
		if half && !HalfAvailable() {
			continue
		}
		for _, panels := range []int{1, 2, 3, 11, 14, 15, 24} {
			b.Run(fmt.Sprintf("half=%t/panels=%d", half, panels), func(b *testing.B) {
				w := NewZeros(out, in, half)
				x, y := Matrix{in, panels, make([]float32, in*panels*Lanes)}, Matrix{out, panels, make([]float32, out*panels*Lanes)}
				operand := Exact(x)
				if half {
					operand = Rounded(x, make([]uint16, Halves(x)))
				}
				var s Scratch
				for b.Loop() {
					w.Multiply(&s, operand, y, false)
				}
				flop := 2 * float64(out*in*panels*Lanes) * float64(b.N)
				b.ReportMetric(flop/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}
