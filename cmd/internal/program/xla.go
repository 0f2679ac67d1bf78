//go:build cgo

package program

import (
	"github.com/gomlx/go-xla/compute/xla" // the backend "xla"
)

const hasXLA = true

// forbidDownloads keeps go-xla from fetching plugins on its own.
func forbidDownloads() { xla.EnableAutoInstall(false) }
