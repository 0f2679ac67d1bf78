package standin

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"

	"gotransplant/model/safetensors"
)

// chunkSize is the number of values drawn from one random stream: fixed, so that the values do not depend on the cores.
const chunkSize = 1 << 20

// Fill makes the values of a tensor [out, in] or [in] of dtype F32 or BF16, row-major and little-endian: ones for a
// norm, else a normal distribution of variance 1/in, drawn from a table of 64 Ki values, which is as good as any for
// timing and fast enough for seven billion. The same spec and seed give the same bytes.
func Fill(spec safetensors.Spec, seed uint64) ([]byte, error) {
	if spec.DType != safetensors.F32 && spec.DType != safetensors.BF16 || len(spec.Shape) == 0 {
		return nil, fmt.Errorf("random weights %s: dtype %s and shape %v, want F32 or BF16 and at least one axis",
			spec.Name, spec.DType, spec.Shape)
	}
	size, err := safetensors.ByteSize(spec.DType, spec.Shape)
	if err != nil {
		return nil, fmt.Errorf("random weights %s: %w", spec.Name, err)
	}
	table := newTable(spec, seed)
	content, width := make([]byte, size), spec.DType.Bits()/8
	chunks := make(chan int)
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for i := range chunks {
				from := i * chunkSize * width
				draw(content[from:min(from+chunkSize*width, size)], width, table, rand.NewPCG(seed, uint64(i)+2))
			}
		})
	}
	for i := 0; i*chunkSize*width < size; i++ {
		chunks <- i
	}
	close(chunks)
	group.Wait()
	return content, nil
}

// newTable holds the bits of the float32 values to draw from, rounded towards zero to what a bfloat16 can hold.
func newTable(spec safetensors.Spec, seed uint64) []uint32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	scale := 1 / math.Sqrt(float64(spec.Shape[len(spec.Shape)-1]))
	table := make([]uint32, 1<<16)
	for i := range table {
		v := rng.NormFloat64() * scale
		if strings.Contains(spec.Name, "norm") {
			v = 1
		}
		table[i] = math.Float32bits(float32(v)) &^ 0xffff
	}
	return table
}

// draw fills content with values of width bytes, four from each random number.
func draw(content []byte, width int, table []uint32, source *rand.PCG) {
	var bits uint64
	for i := 0; i*width < len(content); i++ {
		if i%4 == 0 {
			bits = source.Uint64()
		}
		value := table[bits&0xffff]
		bits >>= 16
		if width == 2 {
			binary.LittleEndian.PutUint16(content[2*i:], uint16(value>>16))
		} else {
			binary.LittleEndian.PutUint32(content[4*i:], value)
		}
	}
}
