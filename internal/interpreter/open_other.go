//go:build !cgo

package interpreter

import (
	"errors"

	"github.com/gomlx/compute"
)

// Open needs cgo.
func Open(string) (compute.Backend, error) {
	return nil, errors.New("interpreter: this build has no cgo, and so no backend that loads plugins")
}
