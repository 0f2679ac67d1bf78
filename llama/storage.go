package llama

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"gotransplant/internal/spelling"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute/dtypes"
)

// Storage is how the matrices of a model are kept on the device.
type Storage int

// AsStored keeps every tensor as the checkpoint has it. BFloat16 and Float32 convert projections, embedding and output
// matrix; Int8 and NF4 (see quantize.go) the projections of the blocks alone. Norms are always as stored.
const (
	AsStored Storage = iota
	BFloat16
	Float32
	Int8
	NF4
)

// storageNames are the words for them, in order.
var storageNames = [...]string{"checkpoint", "bfloat16", "float32", "int8", "nf4"}

// ParseStorage reads one of the words checkpoint, bfloat16, float32, int8 and nf4.
func ParseStorage(word string) (Storage, error) {
	if i := slices.Index(storageNames[:], word); i >= 0 {
		return Storage(i), nil
	}
	return 0, fmt.Errorf("weights %s", spelling.Unknown(word, storageNames[:]...))
}

func (s Storage) String() string { return storageNames[s] }

// quantized says that the projections are kept as codes and scales.
func (s Storage) quantized() bool { return s == Int8 || s == NF4 }

// of is how the tensor of that name is kept.
func (s Storage) of(name string) Storage {
	switch {
	case isProjection(name), !s.quantized() && (name == embedName || name == headName):
		return s
	}
	return AsStored
}

// isProjection says that name is that of a block's linear map.
func isProjection(name string) bool { return strings.HasSuffix(name, "_proj.weight") }

// tensorLoss is how far what is kept of a tensor is from what the checkpoint has.
type tensorLoss struct {
	name string
	loss
}

// loss is that of a part of a tensor: the sums of the squares of what is stored and of its differences from what is kept, and
// the largest difference.
type loss struct{ squares, differences, max float64 }

func (l *loss) add(stored, kept []float32) {
	const stretch = 512 // float32 has the digits for a sum of an eighth of it
	for len(stored) > 0 {
		n := min(stretch, len(stored))
		var sums laneSums
		sums.add(stored[:n], kept)
		for lane, squares := range sums.squares {
			l.merge(loss{float64(squares), float64(sums.differences[lane]), float64(math.Float32frombits(sums.worst[lane]))})
		}
		stored, kept = stored[n:], kept[n:]
	}
}

// laneSums are sums over every eighth value, and the bits of the largest of them.
type laneSums struct {
	squares, differences [8]float32
	worst                [8]uint32
}

func (s *laneSums) add(stored, kept []float32) {
	for i := s.addFirst(stored, kept); i < len(stored); i++ {
		v, lane := stored[i], i%8
		d := v - kept[i] // nearly or quite exact: the two are close
		s.squares[lane] += float32(v * v)
		s.differences[lane] += float32(d * d)
		s.worst[lane] = max(s.worst[lane], math.Float32bits(d)&0x7FFFFFFF)
	}
}

// larger is the larger of a, which is not negative, and the magnitude of b, which wins if it is no number. Numbers of one
// sign are in the order of their bits, and comparing these is three times faster.
func larger(a, b float32) float32 {
	return math.Float32frombits(max(math.Float32bits(a), math.Float32bits(b)&0x7FFFFFFF))
}

func (l *loss) merge(other loss) {
	l.squares, l.differences, l.max = l.squares+other.squares, l.differences+other.differences, max(l.max, other.max)
}

// relative is |kept - stored| / |stored|, as vectors; 0 where both are zero.
func (l loss) relative() float64 {
	if l.differences == 0 {
		return 0
	}
	return math.Sqrt(l.differences / l.squares)
}

// note keeps the books on a tensor whose parts lost so much.
func (w *Weights) note(name string, parts []loss) {
	sum := tensorLoss{name: name}
	for _, p := range parts {
		sum.merge(p)
	}
	w.losses = append(w.losses, sum)
}

// Bytes is the size of all tensors as they were put on the device.
func (w *Weights) Bytes() int64 { return w.bytes }

// Describe says in a line how the weights are kept, how large they are, and what that cost in precision.
func (w *Weights) Describe() string {
	text := fmt.Sprintf("%s: %s", w.kept(), gigabytes(w.Bytes()))
	var all loss
	var worst tensorLoss
	for _, l := range w.losses {
		all.merge(l.loss)
		if l.relative() > worst.relative() {
			worst = l
		}
	}
	if worst.relative() == 0 {
		return text
	}
	return fmt.Sprintf("%s, relative error %.2g (worst %.2g, %s)", text, all.relative(), worst.relative(), worst.name)
}

// kept names the storage.
func (w *Weights) kept() string {
	switch w.storage {
	case Int8:
		return "int8 per channel"
	case NF4:
		return fmt.Sprintf("nf4 per block of %d", nf4Block)
	case AsStored:
		return strings.Join(slices.Sorted(maps.Keys(w.dtypes)), " and ") + " as in the checkpoint"
	}
	return w.storage.String()
}

// gigabytes is a size in the unit that suits it.
func gigabytes(bytes int64) string {
	if bytes < 1e8 {
		return fmt.Sprintf("%.2g MB", float64(bytes)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(bytes)/1e9)
}

// kinds are the types in which checkpoints hold weights.
func kinds() map[safetensors.DType]dtypes.DType {
	return map[safetensors.DType]dtypes.DType{
		safetensors.F64: dtypes.Float64, safetensors.F32: dtypes.Float32,
		safetensors.F16: dtypes.Float16, safetensors.BF16: dtypes.BFloat16,
	}
}
