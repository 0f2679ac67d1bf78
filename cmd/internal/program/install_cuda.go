//go:build cgo && linux && amd64

package program

import (
	"errors"
	"path/filepath"

	"github.com/gomlx/go-xla/installer"
)

// installCUDA downloads JAX's newest plugin for CUDA 13 with NVIDIA's libraries.
func installCUDA() error {
	if !installer.HasNvidiaGPU() { // go-xla would do nothing, and not say so
		return errors.New("no NVIDIA GPU: there is no /dev/nvidia*, and nvidia-smi does not run")
	}
	dir, err := installer.DefaultHomeLibPath()
	if err != nil {
		return err
	}
	return installer.CudaAutoInstall(filepath.Join(dir, "go-xla"), true, installer.Quiet)
}
