package interpreter

import (
	"fmt"
	"strings"

	"github.com/gomlx/compute"
)

// Counts are the plugin's books.
type Counts struct {
	Buffers         int   // that are held between calls
	Bytes           int64 // of them
	Peak            int64 // the most that Bytes has been
	TemporariesPeak int64 // the most bytes in buffers and in what calls made on the way, nothing being fused
	Programs        int   // compiled
	Calls           int
	Reads           int // buffers copied to the host
	Unordered       int // elements that scatters summed up of three numbers or more: a GPU takes them in any order
}

// CountsOf reads the books of a backend, which the plugin tells in place of its device's description.
func CountsOf(backend compute.Backend) (c Counts, err error) {
	text := backend.DeviceDescription(0)
	_, books, found := strings.Cut(text, "interpreter of StableHLO, ")
	if !found {
		return c, fmt.Errorf("the backend is not the interpreter: its device is %q", text)
	}
	_, err = fmt.Sscanf(books, "buffers %d bytes %d peak %d peak-with-temporaries %d programs %d calls %d reads %d unordered %d", &c.Buffers, &c.Bytes,
		&c.Peak, &c.TemporariesPeak, &c.Programs, &c.Calls, &c.Reads, &c.Unordered)
	if err != nil {
		return c, fmt.Errorf("the interpreter's books %q: %w", text, err)
	}
	return c, nil
}
