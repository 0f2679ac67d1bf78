//go:build !cgo

package program

import (
	"errors"
	"io"

	"github.com/gomlx/compute"
)

var errNoXLA = errors.New("this program was built without cgo, which XLA needs: rebuild it with CGO_ENABLED=1 and a " +
	"C compiler")

func openXLA(string, io.Writer) (compute.Backend, error) { return nil, errNoXLA }

func installPlugin(string) error { return errNoXLA }

func explainFused(_ string, err error) error { return err }
