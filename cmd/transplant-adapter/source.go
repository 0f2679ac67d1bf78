package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"gotransplant/internal/atomicfile"
	"gotransplant/internal/tiny"
	"gotransplant/model"
	"gotransplant/model/safetensors"
	"gotransplant/model/tokenizer"

	"github.com/spf13/pflag"
)

// embedded is what the embedded model is called.
const embedded = "embedded"

// openModel opens a checkpoint directory, or the embedded model where none is named.
func openModel(dir string) (*model.Checkpoint, error) {
	if dir == "" || dir == embedded {
		return model.OpenFS(tiny.Files, tiny.Model)
	}
	return model.Open(dir)
}

func openTokenizer(dir string) (*tokenizer.Tokenizer, error) {
	if dir == "" || dir == embedded {
		return tokenizer.OpenFS(tiny.Files, tiny.Model)
	}
	return tokenizer.Open(dir)
}

// modelName is what a checkpoint is called in the output.
func modelName(dir string) string {
	if dir == "" {
		return embedded
	}
	return dir
}

// output are the flags of how a checkpoint is written.
type output struct {
	model, out string
	dtype      string
	shardSize  size
	dryRun     bool
	asJSON     bool
}

// stored is the word for leaving every tensor in its type.
const stored = "stored"

// bind gives the flags their places.
func (o *output) bind(f *pflag.FlagSet) {
	o.dtype, o.shardSize = stored, model.DefaultShardSize
	f.StringVar(&o.model, "model", o.model, "Hugging Face checkpoint `directory` (none: the embedded model)")
	f.StringVar(&o.out, "out", o.out, "`directory` to write, which must be new or empty")
	f.StringVar(&o.dtype, "dtype", o.dtype, "`type` of the weights written: stored (as they are), float32, bfloat16, float16, float64")
	f.Var(&o.shardSize, "shard-size", "most `bytes` of tensors in a file: a number with kB, MB, GB, KiB, MiB, GiB or nothing behind it")
	f.BoolVar(&o.dryRun, "dry-run", o.dryRun, "print what would be written and stop")
	f.BoolVar(&o.asJSON, "json", o.asJSON, "print one JSON object instead of text")
}

// rewriting is what they ask of package model.
func (o *output) rewriting() (model.Rewriting, error) {
	r := model.Rewriting{ShardSize: int64(o.shardSize)}
	if o.out == "" {
		return r, fmt.Errorf("--out is missing: name the directory to write")
	}
	if o.dtype == stored {
		return r, nil
	}
	var err error
	if r.DType, err = model.ParseDType(o.dtype); err != nil {
		return r, fmt.Errorf("--dtype %w, and stored", err)
	}
	return r, nil
}

// checkOut refuses, before anything is opened, a directory that could not be written in the end: it is made beside itself.
func (o *output) checkOut() error {
	err := atomicfile.Vacant(o.out)
	if err == nil {
		err = atomicfile.Makeable(filepath.Dir(filepath.Clean(o.out)))
	}
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	return nil
}

// size is a number of bytes as a flag.
type size int64

// units of a size, the largest decimal ones first, since those print it.
var units = [...]struct {
	name  string
	bytes int64
}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"KB", 1e3}, {"B", 1}}

// Set reads a positive number with a unit.
func (s *size) Set(text string) error {
	number, bytes := strings.TrimSpace(text), int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, bytes = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if most := 9e18 / float64(bytes); err != nil || !(n*float64(bytes) >= 1) || n > most {
		return fmt.Errorf("want a number of bytes such as 5GB, 500MB or 2GiB")
	}
	*s = size(n * float64(bytes))
	return nil
}

// String is the shortest form.
func (s *size) String() string {
	for _, u := range units[:3] {
		if int64(*s) >= u.bytes && int64(*s)%u.bytes == 0 {
			return fmt.Sprintf("%d%s", int64(*s)/u.bytes, u.name)
		}
	}
	return fmt.Sprint(int64(*s))
}

// Type is what help texts call it.
func (s *size) Type() string { return "bytes" }

// types lists the types of the tensors of shards, each with how many tensors have it.
func types(shards []model.Shard) string {
	counts := map[safetensors.DType]int{}
	for _, s := range shards {
		for _, t := range s.Tensors {
			counts[t.DType]++
		}
	}
	var parts []string
	for _, d := range []safetensors.DType{safetensors.BF16, safetensors.F16, safetensors.F32, safetensors.F64} {
		if counts[d] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[d], model.DTypeName(d)))
		}
	}
	return strings.Join(parts, ", ")
}
