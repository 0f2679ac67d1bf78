//go:build goexperiment.simd && !linux

package panel

// permitted says that AMX is asked for on Linux alone.
func permitted() bool { return false }
