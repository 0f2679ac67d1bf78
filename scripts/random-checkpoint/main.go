// Random-checkpoint writes a LLaMA checkpoint of a named shape with random bfloat16 weights, for measuring memory and
// time where real weights are not to be had:
//
//	go run ./scripts/random-checkpoint --shape 7b --tokenizer llama-tokenizer --out /tmp/random-7b
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"gotransplant/internal/atomicfile"
	"gotransplant/model"
	"gotransplant/model/safetensors"

	"github.com/spf13/pflag"
)

// shapes are published LLaMA sizes, and a small one for trying the script.
func shapes() map[string]model.Config {
	return map[string]model.Config{
		"tiny": {VocabSize: 512, HiddenSize: 64, IntermediateSize: 172, NumHiddenLayers: 2, NumAttentionHeads: 4, NumKeyValueHeads: 4},
		"42m":  {VocabSize: 32000, HiddenSize: 512, IntermediateSize: 1376, NumHiddenLayers: 8, NumAttentionHeads: 8, NumKeyValueHeads: 8},
		"7b":   {VocabSize: 32000, HiddenSize: 4096, IntermediateSize: 11008, NumHiddenLayers: 32, NumAttentionHeads: 32, NumKeyValueHeads: 32},
		"8b":   {VocabSize: 128256, HiddenSize: 4096, IntermediateSize: 14336, NumHiddenLayers: 32, NumAttentionHeads: 32, NumKeyValueHeads: 8, RopeTheta: 500000},
	}
}

func main() {
	shape := pflag.String("shape", "tiny", "`name` of the shape: tiny, 42m, 7b or 8b")
	out := pflag.String("out", "", "`directory` to write")
	tokenizer := pflag.String("tokenizer", "", "`directory` whose tokenizer.json or tokenizer.model is copied")
	seed := pflag.Uint64("seed", 1, "seed, a whole `number`")
	pflag.Parse()
	if err := write(*shape, *out, *tokenizer, *seed); err != nil {
		fmt.Fprintf(os.Stderr, "random-checkpoint: %v\n", err)
		os.Exit(1)
	}
}

func write(shape, out, tokenizer string, seed uint64) error {
	c, ok := shapes()[shape]
	if !ok {
		return fmt.Errorf("--shape %s: there are tiny, 42m, 7b and 8b", shape)
	}
	if out == "" {
		return fmt.Errorf("--out: name a directory")
	}
	c.HeadDim = c.HiddenSize / c.NumAttentionHeads
	c.MaxPositionEmbeddings, c.RMSNormEps = 2048, 1e-5
	c.BOSTokenID, c.EOSTokenIDs = 1, []int{2}
	if c.RopeTheta == 0 {
		c.RopeTheta = 10000
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	if err := model.WriteConfig(out, c, safetensors.BF16); err != nil {
		return err
	}
	if tokenizer != "" {
		if err := copyTokenizer(tokenizer, out); err != nil {
			return err
		}
	}
	specs := c.Specs(safetensors.BF16)
	return safetensors.WriteFrom(filepath.Join(out, "model.safetensors"), specs, nil, func(i int, w io.Writer) error {
		return fill(w, specs[i], seed+uint64(i))
	})
}

// fill writes a tensor: ones for a norm, else a normal distribution of variance 1/columns, drawn from a table of 64 Ki
// values, which is as good as any for timing and fast enough for seven billion.
func fill(w io.Writer, spec safetensors.Spec, seed uint64) error {
	size, columns := 1, spec.Shape[len(spec.Shape)-1]
	for _, d := range spec.Shape {
		size *= d
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	table := make([]uint16, 1<<16)
	for i := range table {
		v := rng.NormFloat64() / math.Sqrt(float64(columns))
		if strings.Contains(spec.Name, "norm") {
			v = 1
		}
		table[i] = uint16(math.Float32bits(float32(v)) >> 16)
	}
	b := bufio.NewWriterSize(w, 1<<20)
	var four [8]byte
	for size > 0 {
		bits := rng.Uint64()
		for i := range 4 {
			binary.LittleEndian.PutUint16(four[2*i:], table[bits>>(16*i)&0xffff])
		}
		n := min(4, size)
		if _, err := b.Write(four[:2*n]); err != nil {
			return err
		}
		size -= n
	}
	return b.Flush()
}

func copyTokenizer(from, to string) error {
	for _, name := range []string{"tokenizer.json", "tokenizer.model", "tokenizer_config.json"} {
		content, err := os.ReadFile(filepath.Join(from, name))
		if os.IsNotExist(err) {
			continue
		}
		if err == nil {
			err = atomicfile.WriteBytes(filepath.Join(to, name), content)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
