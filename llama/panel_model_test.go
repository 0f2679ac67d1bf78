package llama

import (
	"math"
	"testing"

	"gotransplant/model"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute/dtypes"
)

// storedLogits are the logits of a small model whose tensors are stored as d; their values are exact in every type.
func storedLogits(t *testing.T, c model.Config, d safetensors.DType, panels bool) []float64 {
	t.Helper()
	var stored []safetensors.Tensor
	for i, spec := range c.Specs(d) {
		size, err := safetensors.ByteSize(safetensors.F32, spec.Shape)
		if err != nil {
			t.Fatal(err)
		}
		values := make([]float32, size/4)
		for j := range values {
			values[j] = float32(math.Round(64*math.Sin(float64(i*i+j)))) / 128
		}
		tensor, err := safetensors.FromFloat32s(spec.Name, d, spec.Shape, values)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, tensor)
	}
	dir := t.TempDir()
	if err := model.Write(dir, c, stored); err != nil {
		t.Fatal(err)
	}
	e := openEngine(t, dir, Options{Compute: dtypes.Float32, Residual: dtypes.Float64, Panels: panels})
	s, err := e.NewStream(trunk([]int32{1, 7, 39, 3, 3, 12}), StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for layer := range c.NumHiddenLayers {
		if _, err := s.Forward(layer, nil, false); err != nil {
			t.Fatal(err)
		}
	}
	out, err := s.Logits()
	if err != nil {
		t.Fatal(err)
	}
	wide := make([]float64, len(out))
	for i, v := range out {
		wide[i] = float64(v)
	}
	return wide
}

func storedConfig() model.Config {
	return model.Config{VocabSize: 40, HiddenSize: 32, IntermediateSize: 48, NumHiddenLayers: 2, NumAttentionHeads: 4,
		NumKeyValueHeads: 2, HeadDim: 8, MaxPositionEmbeddings: 64, RMSNormEps: 1e-5, RopeTheta: 10000, BOSTokenID: 1}
}

// TestStoredTypes: a checkpoint of any of the stored types gives the same logits as its values in float32, computed on
// graphs and on panels.
func TestStoredTypes(t *testing.T) {
	c := storedConfig()
	for name, panels := range map[string]bool{"graphs": false, "panels": true} {
		t.Run(name, func(t *testing.T) {
			if panels {
				w := &Weights{Config: c, backend: goBackend(t)}
				if err := PanelsCan(w, Options{Compute: dtypes.Float32, Residual: dtypes.Float64}); err != nil {
					t.Skip("panels: ", err)
				}
			}
			want := storedLogits(t, c, safetensors.F32, panels)
			for _, d := range []safetensors.DType{safetensors.F16, safetensors.BF16, safetensors.F64} {
				near(t, string(d), storedLogits(t, c, d, panels), want, 1e-5)
			}
		})
	}
}
