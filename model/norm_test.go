package model

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"gotransplant/model/safetensors"
)

// TestNorm: of tensors of every type, in one part and in several.
func TestNorm(t *testing.T) {
	tensors := finiteTensors(t, large(), all...)
	_, c := written(t, large(), tensors)
	for _, tensor := range tensors {
		var square float64
		for _, v := range decode(t, tensor) {
			square += v * v
		}
		got, err := c.Norm(t.Context(), tensor.Name)
		if want := math.Sqrt(square); err != nil || !(math.Abs(got-want) <= 1e-12*want) {
			t.Errorf("%s: got %v, %v, want %v", tensor.Name, got, err, want)
		}
	}
}

func TestNormRefuses(t *testing.T) {
	tensors := finiteTensors(t, tiny(), safetensors.F32)
	if err := safetensors.Encode(tensors[1].Data[4:8], safetensors.F32, []float32{float32(math.NaN())}); err != nil {
		t.Fatal(err)
	}
	_, c := written(t, tiny(), tensors)
	if _, err := c.Norm(t.Context(), tensors[1].Name); err == nil || !strings.Contains(err.Error(), tensors[1].Name+": values that are not finite") {
		t.Errorf("got %v, want the damaged tensor named", err)
	}
	if _, err := c.Norm(t.Context(), "absent"); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("got %v, want the absent tensor named", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Norm(ctx, tensors[0].Name); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the end of the context", err)
	}
}
