//go:build !amd64 || !goexperiment.simd

package panel

func gain(_, _ []float32)                    { panic(missing) }
func addProducts(_, _, _ []float32)          { panic(missing) }
func difference(_, _ []float64, _ []float32) { panic(missing) }
