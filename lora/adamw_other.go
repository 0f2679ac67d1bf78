//go:build !amd64 || !goexperiment.simd

package lora

// What adamw_amd64.go does for the first elements is done here for none.

var vectors = false

func (e elements) stepFirst(_, _, _, _ []float32) (done int) { return 0 }
