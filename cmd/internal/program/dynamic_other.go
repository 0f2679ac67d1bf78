//go:build cgo && !linux

package program

import (
	"fmt"
	"runtime"
)

const cuDNN = "libcudnn.so.9"

// checkPlugin leaves everything to go-xla.
func checkPlugin(string) (version string, err error) { return "PJRT", nil }

type cudaSystem struct{}

func systemCUDA() cudaSystem { return cudaSystem{} }

func (cudaSystem) check(string) (string, error) {
	return "", fmt.Errorf("CUDA is there for Linux on x86-64 and arm64, this is %s", runtime.GOOS)
}

func found(string, string) string { return "" }
