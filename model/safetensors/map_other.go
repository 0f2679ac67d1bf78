//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package safetensors

import (
	"io"
	"os"
)

// mapFile reads size bytes of f, on systems whose mapping calls the standard library does not offer.
func mapFile(f *os.File, size int) (content []byte, release func() error, err error) {
	content = make([]byte, size)
	if _, err := io.ReadFull(f, content); err != nil {
		return nil, nil, err
	}
	return content, func() error { return nil }, nil
}
