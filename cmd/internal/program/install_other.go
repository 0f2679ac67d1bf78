//go:build cgo && !(linux && amd64)

package program

import "errors"

func installCUDA() error { return errors.New("CUDA's plugin can be installed on Linux on x86-64 only") }
