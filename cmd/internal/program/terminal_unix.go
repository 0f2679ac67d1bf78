//go:build linux || darwin

package program

import (
	"os"

	"golang.org/x/sys/unix"
)

// columns is the width of the terminal that f is, 0 if it is none.
func columns(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	if size.Col == 0 { // a terminal that was never told its size
		return defaultColumns
	}
	return int(size.Col)
}
