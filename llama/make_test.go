package llama

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"gotransplant/internal/panel"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute/dtypes"
)

// TestDeferMade: weights are made when an engine asks for them, every tensor once and in order, on graphs and with the same
// numbers on panels.
func TestDeferMade(t *testing.T) {
	c := bigConfig()
	c.HeadDim = 8 // as panels need
	values := randomValues(c)
	var asked []int
	made := func(i int, s safetensors.Spec) ([]byte, error) {
		asked = append(asked, i)
		tensor, err := safetensors.FromFloat32s(s.Name, s.DType, s.Shape, values[s.Name])
		return tensor.Data, err
	}
	engine := func(as Storage, panels bool) *Engine {
		asked = nil
		w, err := DeferMade(goBackend(t), c, safetensors.F32, as, made)
		if err != nil || asked != nil {
			t.Fatalf("%s: %d tensors made before they were asked for, error %v", as, len(asked), err)
		}
		e, err := NewEngine(w, Options{Compute: dtypes.Float32, Residual: dtypes.Float64, Panels: panels})
		if err != nil {
			t.Fatal(err)
		}
		if len(asked) != len(c.Specs(safetensors.F32)) || !slices.IsSorted(asked) {
			t.Errorf("%s, panels=%t: tensors %d were made, want each of %d once", as, panels, asked, len(c.Specs(safetensors.F32)))
		}
		return e
	}
	for _, as := range []Storage{AsStored, Int8, NF4} {
		graphs := engine(as, false)
		if panel.Available() {
			samePanels(t, as.String(), engine(as, true), graphs.Weights)
		}
	}
}

// TestDeferMadeRefuses: what cannot be made, or is of the wrong size, is named.
func TestDeferMadeRefuses(t *testing.T) {
	c := smallConfig(false)
	sentinel := errors.New("no more random numbers")
	for _, kind := range []struct {
		data []byte
		err  error
		want string
	}{{nil, sentinel, sentinel.Error()}, {make([]byte, 3), nil, "3 bytes were made for shape"}} {
		w, err := DeferMade(goBackend(t), c, safetensors.F32, AsStored, func(int, safetensors.Spec) ([]byte, error) {
			return kind.data, kind.err
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = NewEngine(w, Options{Compute: dtypes.Float32, Residual: dtypes.Float64})
		first := c.Specs(safetensors.F32)[0].Name
		if err == nil || !strings.Contains(err.Error(), kind.want) || !strings.Contains(err.Error(), first) {
			t.Errorf("got error %v, want one that names %s and says %q", err, first, kind.want)
		}
	}
	c.NumHiddenLayers = 0
	if _, err := DeferMade(goBackend(t), c, safetensors.F32, AsStored, nil); err == nil {
		t.Error("a config without layers is taken")
	}
}
