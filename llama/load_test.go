package llama

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"gotransplant/internal/panel"
	"gotransplant/model"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
)

// written writes a checkpoint of random values in type d and returns its directory.
func written(t *testing.T, c model.Config, d safetensors.DType) string {
	t.Helper()
	dir, values := t.TempDir(), randomValues(c)
	var all []safetensors.Tensor
	for _, spec := range c.Specs(d) {
		one, err := safetensors.FromFloat32s(spec.Name, d, spec.Shape, values[spec.Name])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	if err := model.Write(dir, c, all); err != nil {
		t.Fatal(err)
	}
	return dir
}

// remote is the Go backend as if the host could not write to its memory.
type remote struct{ compute.Backend }

func (remote) HasSharedBuffers() bool { return false }

// loaded opens dir and puts its tensors on the device, as an engine of graphs does.
func loaded(t *testing.T, backend compute.Backend, dir string, as Storage) (*model.Checkpoint, *Weights) {
	t.Helper()
	c, err := model.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	w := Deferred(backend, c, as)
	if err := w.loadAll(); err != nil {
		t.Fatal(err)
	}
	return c, w
}

// rawBytes are the bytes of a tensor.
func rawBytes(t *testing.T, x *tensors.Tensor) (raw []byte) {
	t.Helper()
	if err := x.ConstBytes(func(data []byte) { raw = bytes.Clone(data) }); err != nil {
		t.Fatal(err)
	}
	return raw
}

// bigConfig has an embedding of more than one chunk of reading and of conversion.
func bigConfig() model.Config {
	c := smallConfig(false)
	c.VocabSize = readSize/2/c.HiddenSize + 1001
	return c
}

// TestLoadGivesTheBytesOfTheFile: also of tensors that are read in several parts, and on a device that the host cannot
// write to.
func TestLoadGivesTheBytesOfTheFile(t *testing.T) {
	dir := written(t, bigConfig(), safetensors.BF16)
	for name, backend := range map[string]compute.Backend{"shared": goBackend(t), "remote": remote{goBackend(t)}} {
		c, w := loaded(t, backend, dir, AsStored)
		for _, tensor := range c.Names() {
			if got := rawBytes(t, w.tensors[tensor]); !bytes.Equal(got, c.Tensor(tensor).Data) {
				t.Errorf("%s: %s differs from the file", name, tensor)
			}
		}
		if len(w.losses) != 0 {
			t.Errorf("%s: losses %v, want none", name, w.losses)
		}
	}
}

// TestLoadsAs: matrices come in the type asked for, norms as they are, and the losses are what was lost.
func TestLoadsAs(t *testing.T) {
	c := bigConfig()
	for _, stored := range []safetensors.DType{safetensors.F32, safetensors.BF16} {
		dir := written(t, c, stored)
		for _, as := range []Storage{BFloat16, Float32, Int8, NF4} {
			t.Run(fmt.Sprintf("%s as %s", stored, as), func(t *testing.T) {
				checkpoint, w := loaded(t, goBackend(t), dir, as)
				_, again := loaded(t, remote{goBackend(t)}, dir, as)
				losses := make(map[string]tensorLoss)
				for _, l := range w.losses {
					losses[l.name] = l
				}
				for _, name := range checkpoint.Names() {
					if !bytes.Equal(rawBytes(t, w.tensors[name]), rawBytes(t, again.tensors[name])) {
						t.Errorf("%s: other bytes by way of host memory", name)
					}
					want, err := checkpoint.Tensor(name).Float32s()
					if err != nil {
						t.Fatal(err)
					}
					kept, kind := w.read(t, name), w.tensors[name].DType()
					if wantKind := keptAs(name, stored, as); kind != wantKind {
						t.Errorf("%s is kept as %s, want %s", name, kind, wantKind)
					}
					worst, relative := 0.0, relativeDistance(kept, wide(want))
					for i, v := range want {
						worst = max(worst, math.Abs(float64(v)-float64(kept[i])))
					}
					l := losses[name]
					if math.Abs(l.relative()-relative) > 1e-7 || math.Abs(l.max-worst) > 1e-9 {
						t.Errorf("%s: loss %v, %v; want %v, %v", name, l.relative(), l.max, relative, worst)
					}
					limit := map[dtypes.DType]float64{dtypes.BFloat16: 0.003, dtypes.Float32: 0, dtypes.Int8: 0.01, dtypes.Uint8: 0.1}[kind]
					if relative > limit {
						t.Errorf("%s as %s: relative error %v, want at most %v", name, kind, relative, limit)
					}
				}
			})
		}
	}
}

func wide(values []float32) []float64 {
	w := make([]float64, len(values))
	for i, v := range values {
		w[i] = float64(v)
	}
	return w
}

// keptAs is the type in which a tensor should be.
func keptAs(name string, stored safetensors.DType, as Storage) dtypes.DType {
	original := kinds()[stored]
	matrix := !strings.Contains(name, "norm")
	projection := strings.Contains(name, "_proj")
	switch {
	case as == BFloat16 && matrix:
		return dtypes.BFloat16
	case as == Float32 && matrix:
		return dtypes.Float32
	case as == Int8 && projection:
		return dtypes.Int8
	case as == NF4 && projection:
		return dtypes.Uint8
	}
	return original
}

// read gives the float32 values that what is kept of a tensor stands for.
func (w *Weights) read(t *testing.T, name string) []float32 {
	t.Helper()
	x := w.tensors[name]
	raw := rawBytes(t, x)
	for d, kind := range kinds() {
		if kind == x.DType() {
			values := make([]float32, x.Size())
			if err := safetensors.Decode(values, d, raw); err != nil {
				t.Fatal(err)
			}
			return values
		}
	}
	f := formats()[w.storage.String()]
	scales := w.tensors[scalesOf(name)]
	factors := tensors.MustCopyFlatData[float32](scales)
	out, groups, width := x.Shape().Dim(0), scales.Shape().Dim(1), x.Shape().Dim(1)
	i := slices.IndexFunc(w.Config.Specs("F32"), func(s safetensors.Spec) bool { return s.Name == name })
	in := w.Config.Specs("F32")[i].Shape[1]
	values := make([]float32, out*in)
	for i := range out {
		f.decode(row{values[i*in:][:in], raw[i*width:][:width], factors[i*groups:][:groups]})
	}
	return values
}

// TestLoadRefuses: a weight that is no number cannot be scaled; the message says where it is, also where panels read the
// file.
func TestLoadRefuses(t *testing.T) {
	c := smallConfig(false)
	c.HeadDim = 8 // as panels need
	values := randomValues(c)
	name := partName(1, "up_proj")
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
		values[name][3*c.HiddenSize+1] = bad
		for _, as := range []Storage{Int8, NF4} {
			for _, panels := range []bool{false, true} {
				w := deferredValues(t, c, values, as)
				o := Options{Compute: dtypes.Float32, Residual: dtypes.Float64, Panels: panels}
				if panels && PanelsCan(w, o) != nil {
					continue
				}
				if _, err := NewEngine(w, o); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "row 3 ") {
					t.Errorf("%v as %s, panels=%t: got error %v, want one that names %s and its row 3", bad, as, panels, err, name)
				}
			}
		}
	}
}

// deferredValues are float32 values in a checkpoint that is still to be read.
func deferredValues(t *testing.T, c model.Config, values map[string][]float32, as Storage) *Weights {
	t.Helper()
	var stored []safetensors.Tensor
	for _, spec := range c.Specs(safetensors.F32) {
		tensor, err := safetensors.FromFloat32s(spec.Name, spec.DType, spec.Shape, values[spec.Name])
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, tensor)
	}
	dir := t.TempDir()
	if err := model.Write(dir, c, stored); err != nil {
		t.Fatal(err)
	}
	checkpoint, err := model.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { checkpoint.Close() })
	return Deferred(goBackend(t), checkpoint, as)
}

// TestInChunks: each piece is worked on once, and the first error comes back.
func TestInChunks(t *testing.T) {
	const n = 1003
	done := make([]int32, n)
	const offset = 27
	count := func() func(from, to int) error {
		return func(from, to int) error {
			if (offset+from)%10 != 0 && from != 0 {
				t.Errorf("a piece begins at %d", from)
			}
			for i := from; i < to; i++ {
				atomic.AddInt32(&done[i], 1)
			}
			return nil
		}
	}
	if err := inChunks(n, 10, offset, count); err != nil {
		t.Fatal(err)
	}
	for i, times := range done {
		if times != 1 {
			t.Fatalf("%d was worked on %d times, want once", i, times)
		}
	}
	broken := errors.New("broken")
	err := inChunks(n, 10, 0, func() func(from, to int) error {
		return func(from, _ int) error {
			if from >= 500 {
				return fmt.Errorf("piece %d: %w", from, broken)
			}
			return nil
		}
	})
	if err == nil || err.Error() != "piece 500: broken" {
		t.Errorf("got error %v, want that of piece 500", err)
	}
	if err := inChunks(0, 10, 0, count); err != nil {
		t.Errorf("nothing to do: got error %v", err)
	}
}

// TestParseStorage: every storage is read from the word it prints.
func TestParseStorage(t *testing.T) {
	for s := AsStored; s <= NF4; s++ {
		if got, err := ParseStorage(s.String()); err != nil || got != s {
			t.Errorf("%s: got %v (%v), want %v", s, got, err, s)
		}
	}
	if _, err := ParseStorage("int4"); err == nil || !strings.Contains(err.Error(), "int4") || !strings.Contains(err.Error(), "nf4") {
		t.Errorf("got error %v, want one that names int4 and what there is", err)
	}
}

// TestDescribe: the storage, the size, and the error with the tensor that lost most.
func TestDescribe(t *testing.T) {
	c := smallConfig(false)
	c.HeadDim = 8 // which an engine that takes the tensors over needs
	dir := written(t, c, safetensors.BF16)
	_, w := loaded(t, goBackend(t), dir, AsStored)
	matrices := 2*19*12 + 2*(2*12*32+2*12*16+3*12*20)
	size := 2 * (matrices + 2*2*12 + 12)
	if got := w.Bytes(); got != int64(size) {
		t.Errorf("%d bytes, want %d", got, size)
	}
	if got, want := w.Describe(), fmt.Sprintf("bfloat16 as in the checkpoint: %.2g MB", float64(size)/1e6); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	described := w.Describe()
	o := Options{Compute: dtypes.Float32, Residual: dtypes.Float64}
	o.Panels = PanelsCan(w, o) == nil
	if _, err := NewEngine(w, o); err != nil { // which takes the tensors over, where it can
		t.Fatal(err)
	}
	if got := w.Describe(); got != described {
		t.Errorf("got %q once an engine has the weights, want %q", got, described)
	}
	_, w = loaded(t, goBackend(t), dir, Int8)
	worst := slices.MaxFunc(w.losses, func(a, b tensorLoss) int { return cmp.Compare(a.relative(), b.relative()) })
	for _, want := range []string{"int8 per channel: ", "relative error 0.00", fmt.Sprintf("(worst %.2g, %s)", worst.relative(), worst.name)} {
		if !strings.Contains(w.Describe(), want) {
			t.Errorf("got %q, want it to contain %q", w.Describe(), want)
		}
	}
}

// TestDeferred: panels that an engine reads from the files hold the numbers of tensors on graphs, for every type that
// checkpoints have and matrices of several chunks.
func TestDeferred(t *testing.T) {
	config := bigConfig()
	config.HeadDim = 8 // as panels need
	for _, stored := range []safetensors.DType{safetensors.F16, safetensors.BF16, safetensors.F32, safetensors.F64} {
		dir := written(t, config, stored)
		for _, as := range []Storage{AsStored, BFloat16, Float32, Int8, NF4} {
			c, graphs := loaded(t, goBackend(t), dir, as)
			want := len(c.Names())
			if as.quantized() {
				want += len(Projections()) * config.NumHiddenLayers // their scales
			}
			if len(graphs.tensors) != want {
				t.Errorf("%s as %s: %d tensors on graphs, want %d", stored, as, len(graphs.tensors), want)
			}
			for _, compute := range []dtypes.DType{dtypes.Float32, dtypes.BFloat16} {
				if panel.Available() {
					name := fmt.Sprintf("%s as %s, computed in %s", stored, as, compute)
					samePanels(t, name, packed(t, Deferred(goBackend(t), c, as), compute), graphs)
				}
			}
		}
	}
}

// packed is an engine on panels.
func packed(t *testing.T, w *Weights, compute dtypes.DType) *Engine {
	t.Helper()
	e, err := NewEngine(w, Options{Compute: compute, Residual: dtypes.Float64, Panels: true})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// samePanels fails unless an engine's panels hold the numbers that tensors stand for, rounded where it computes in bfloat16.
func samePanels(t *testing.T, name string, e *Engine, tensors *Weights) {
	t.Helper()
	sameMatrix := func(part string, w *panel.Weight) {
		want := tensors.read(t, part)
		if e.Options.Compute == dtypes.BFloat16 {
			want = roundedToBF16(t, want)
		}
		if len(want) != w.Out*w.In {
			t.Fatalf("%s: %s is %d x %d, want %d values", name, part, w.Out, w.In, len(want))
		}
		row := make([]float32, w.In)
		for o := range w.Out {
			if w.Row(o, row); !slices.Equal(row, want[o*w.In:][:w.In]) {
				t.Fatalf("%s: row %d of %s is %v, want %v", name, o, part, row, want[o*w.In:][:w.In])
			}
		}
	}
	sameNorm := func(part string, got []float32) {
		if want := tensors.read(t, part); !slices.Equal(got, want) {
			t.Errorf("%s: %s is %v, want %v", name, part, got, want)
		}
	}
	sameMatrix(embedName, e.panels.embedding)
	sameMatrix(headName, e.panels.head)
	sameNorm(finalNormName, e.panels.finalNorm)
	for layer, b := range e.panels.layers {
		for _, proj := range Projections() {
			sameMatrix(partName(layer, proj), b.projections[proj])
		}
		sameNorm(partName(layer, "input_layernorm"), b.attention)
		sameNorm(partName(layer, "post_attention_layernorm"), b.feed)
	}
	w := e.Weights
	if w.Bytes() != tensors.Bytes() || w.Describe() != tensors.Describe() || len(w.tensors)+len(w.pending) != 0 {
		t.Errorf("%s: %d bytes described as %q, %d tensors left and %d to be read; want %d, %q and none", name, w.Bytes(), w.Describe(),
			len(w.tensors), len(w.pending), tensors.Bytes(), tensors.Describe())
	}
}

// roundedToBF16 are values as bfloat16 holds them.
func roundedToBF16(t *testing.T, values []float32) []float32 {
	t.Helper()
	raw, rounded := make([]byte, 2*len(values)), make([]float32, len(values))
	if err := errors.Join(safetensors.Encode(raw, safetensors.BF16, values), safetensors.Decode(rounded, safetensors.BF16, raw)); err != nil {
		t.Fatal(err)
	}
	return rounded
}
