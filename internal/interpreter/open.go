//go:build cgo

package interpreter

import (
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/go-xla/compute/xla"
)

// Open opens a plugin of Build without the checks that the programs make before.
func Open(plugin string) (compute.Backend, error) {
	xla.EnableAutoInstall(false)
	backend, err := xla.New(plugin + ",tf32=false")
	if err != nil {
		return nil, fmt.Errorf("interpreter %s: %w", plugin, err)
	}
	return backend, nil
}
