package states

import (
	"fmt"
	"math"
	"slices"

	"gotransplant/model/safetensors"
)

// Append appends values to dst as type d, F64, F32, F16 or BF16, rounded once to the nearest, ties to even. A value that
// is not finite, or would not be in d, is an error with its number.
func Append[T float32 | float64](dst []byte, d safetensors.DType, values []T) ([]byte, error) {
	width := d.Bits() / 8
	from, to := len(dst), len(dst)+len(values)*width
	dst = slices.Grow(dst, to-from)[:to]
	var wide [512]float64
	for done := 0; done < len(values); {
		n := min(len(wide), len(values)-done)
		for i, v := range values[done : done+n] {
			wide[i] = float64(v)
		}
		out := dst[from+done*width:][:n*width]
		if err := safetensors.Encode64(out, d, wide[:n]); err != nil {
			return nil, err
		}
		if bad := safetensors.NotFinite(d, out); bad >= 0 {
			return nil, refusal(done+bad, wide[bad], d)
		}
		done += n
	}
	return dst, nil
}

// refusal says why a value cannot be stored.
func refusal(i int, v float64, d safetensors.DType) error {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Errorf("value %d is %v: the model or the adapter is damaged, or its numbers are too large to compute with", i, v)
	}
	return fmt.Errorf("value %d is %v, which %s cannot hold as a finite number: see --store", i, v, d)
}
