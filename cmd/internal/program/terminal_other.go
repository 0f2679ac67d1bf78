//go:build !linux && !darwin

package program

import "os"

// columns is a width that terminals have, 0 if f is none.
func columns(f *os.File) int {
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return 0
	}
	return defaultColumns
}
