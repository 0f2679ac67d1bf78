package program

import (
	"fmt"
	"io"

	"gotransplant/internal/setup"
	"gotransplant/llama"

	"github.com/gomlx/compute"
)

// tryFused finds out whether fused attention works where a run may choose it. Where it does not, a run that asks for it fails, and any
// other is told why on w and does without.
func tryFused(s setup.Settings, backend compute.Backend, w io.Writer) (works bool, err error) {
	if !s.MayFuse() {
		return true, nil
	}
	err = llama.TryFused(backend)
	if err == nil {
		return true, nil
	}
	err = explainFused(s.Backend, err)
	if s.Attention == llama.FusedAttention.String() {
		return false, fmt.Errorf("--attention %s: %w", s.Attention, err)
	}
	fmt.Fprintf(w, "note     fused attention does not work on this device, and packed attention is computed instead: %v\n", err)
	return false, nil
}
