package llama

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"gotransplant/model"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
)

// longConfig is one block with little besides attention: four heads of 64.
func longConfig() model.Config {
	return model.Config{VocabSize: 64, HiddenSize: 256, IntermediateSize: 256, NumHiddenLayers: 1, NumAttentionHeads: 4,
		NumKeyValueHeads: 4, HeadDim: 64, MaxPositionEmbeddings: 1 << 17, RMSNormEps: 1e-5, RopeTheta: 10000}
}

func longEngine(t testing.TB) *Engine {
	t.Helper()
	c := longConfig()
	r := rand.New(rand.NewPCG(7, 8))
	w, err := NewWeights(goBackend(t), c, func(_ string, shape []int) []float32 {
		n := 1
		for _, d := range shape {
			n *= d
		}
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(r.NormFloat64() * 0.05)
		}
		return values
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := NewEngine(w, Options{Compute: dtypes.Float32, Residual: dtypes.Float64})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// longPass runs a row of length tokens forward and back through the block and frees everything.
func longPass(t testing.TB, e *Engine, length int, attention Attention) {
	t.Helper()
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	seq := Sequences{Rows: 1, Length: length, Token: make([]int32, length), Position: make([]int32, length),
		Branch: make([]int32, length)}
	for i := range length {
		seq.Token[i], seq.Position[i] = int32(i*7%64), int32(i)
	}
	s, err := e.NewStream(seq, StreamOptions{Keep: true, Attention: attention})
	fatal(err)
	defer s.Close()
	_, err = s.Forward(0, nil, false)
	fatal(err)
	dy, err := onDevice(e, make([]float64, length*e.Weights.Config.HiddenSize), 1, length, e.Weights.Config.HiddenSize)
	fatal(err)
	dx, _, err := s.Backward(0, dy, KV{}, true)
	fatal(err)
	free(dx)
}

// onDevice puts a residual stream on the device.
func onDevice(e *Engine, values []float64, dims ...int) (*tensors.Tensor, error) {
	return fromFlat(e.backend, dtypes.Float64, values, dims...)
}

// TestBlockwiseMemoryIsLinear: twice the tokens take twice the memory, where plain attention takes four times as much, in the Go
// backend's order of operations and as it is planned for a device that fuses them.
func TestBlockwiseMemoryIsLinear(t *testing.T) {
	outline, err := Outline(Planned{"xla:cuda", goBackend(t)}, longConfig(), AsStored, func(string) safetensors.DType { return safetensors.F32 })
	if err != nil {
		t.Fatal(err)
	}
	fusing, err := NewEngine(outline, Options{Compute: dtypes.Float32, Residual: dtypes.Float64})
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]*Engine{"go": longEngine(t), "planned for CUDA": fusing} {
		peak := func(length int, attention Attention) float64 {
			quiet, books := e.Rehearse()
			longPass(t, quiet, length, attention)
			p := books.Peak()
			return float64(p.Bytes())
		}
		for length := 1024; length < 8192; length *= 2 {
			one, two := peak(length, BlockwiseAttention), peak(2*length, BlockwiseAttention)
			if growth := two / one; !(growth <= 2.2) {
				t.Errorf("%s: blockwise, from %d tokens to twice as many: memory grows %.2f times, from %.0f to %.0f MB, want at most 2.2",
					name, length, growth, one/1e6, two/1e6)
			}
		}
		if growth := peak(4096, PlainAttention) / peak(2048, PlainAttention); !(growth >= 3) {
			t.Errorf("%s: plain, from 2048 tokens to twice as many: memory grows %.2f times, so this test measures nothing", name, growth)
		}
	}
}

// BenchmarkAttention is a training pass through one block of four heads of 64: seconds, processor seconds, the largest heap
// seen with a collection after the other, what a rehearsal says of it, and the seconds that building the graphs took.
func BenchmarkAttention(b *testing.B) {
	for _, length := range []int{256, 320, 384, 448, 512, 1024, 2048, 4096, 16384} {
		for _, attention := range []Attention{PlainAttention, BlockwiseAttention} {
			if attention == PlainAttention && length > 4096 {
				continue // 4 GB for the scores alone
			}
			b.Run(fmt.Sprintf("%d tokens %s", length, attention), func(b *testing.B) {
				e := longEngine(b)
				quiet, books := e.Rehearse()
				begun := time.Now()
				longPass(b, quiet, length, attention)
				building := time.Since(begun)
				peak := largestHeap(func() { longPass(b, e, length, attention) })
				used := processorSeconds()
				for b.Loop() {
					longPass(b, e, length, attention)
				}
				p := books.Peak()
				b.ReportMetric((processorSeconds()-used)/float64(b.N), "cpu-s/op")
				b.ReportMetric(float64(p.Bytes())/1e6, "plan-MB")
				b.ReportMetric(float64(peak)/1e6, "peak-MB")
				b.ReportMetric(building.Seconds(), "build-s")
			})
		}
	}
}

// processorSeconds is the time that all cores together spent in this process, without the garbage collector's.
func processorSeconds() float64 {
	runtime.GC() // brings the figure up to date
	sample := []metrics.Sample{{Name: "/cpu/classes/user:cpu-seconds"}}
	metrics.Read(sample)
	return sample[0].Value.Float64()
}

// largestHeap is the most that work keeps alive beyond what was alive before.
func largestHeap(work func()) (peak int64) {
	live := func() int64 {
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		runtime.GC()
		metrics.Read(sample)
		return int64(sample[0].Value.Uint64())
	}
	live()
	before := live() // the Go backend's pools are empty after two collections
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				peak = max(peak, live()-before)
			}
		}
	})
	work()
	close(done)
	watch.Wait()
	return peak
}
