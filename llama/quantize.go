package llama

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
)

// format is a way to keep the rows of a matrix [out, in] as codes and float32 scales [out, groups].
type format struct {
	kind   dtypes.DType     // of the codes: [out, codes(in)], one byte each
	codes  func(in int) int // a row
	groups func(in int) int // scales a row
	encode func(r row)      // values -> codes, scales
	decode func(r row)      // codes, scales -> values
}

// format is how a quantised matrix is kept.
func (s Storage) format() format {
	if s == NF4 {
		return nf4Format
	}
	return int8Format
}

// row is a row of the matrix, and what is kept of it.
type row struct {
	values []float32
	codes  []byte
	scales []float32
}

// int8Format keeps a row as whole numbers from -127 to 127 times one scale: its largest magnitude / 127.
var int8Format = format{
	kind:   dtypes.Int8,
	codes:  func(in int) int { return in },
	groups: func(int) int { return 1 },
	encode: func(r row) {
		largest := largestMagnitude(r.values)
		r.scales[0] = largest / 127
		inverse, codes := inverseOf(largest)*127, r.codes[:len(r.values)]
		for i := encodeInt8s(codes, r.values, inverse); i < len(codes); i++ {
			codes[i] = byte(int32(float32(r.values[i]*inverse)+128.5) - 128) // conversion cuts off, so it rounds what is positive
		}
	},
	decode: func(r row) {
		for i := decodeInt8s(r.values, r.codes, r.scales[0]); i < len(r.codes); i++ {
			r.values[i] = float32(int8(r.codes[i])) * r.scales[0]
		}
	},
}

// nf4Block is how many values of a row share a scale, the last block of a row being shorter where they do not divide it:
// it is filled up with zeros. Even, since a byte holds two codes.
const nf4Block = 64

// nf4Values are what the sixteen codes stand for, times the largest magnitude of their block.
var nf4Values = normalFloats()

// normalFloats are the values of 4-bit NormalFloat (Dettmers et al. 2023, arXiv 2305.14314): zero, eight quantiles of
// the normal distribution above it and seven below, evenly spaced in probability on either side up to a tail of
// (1/32 + 1/30) / 2, divided by the largest. The tail has the seven digits and each step the float32 rounding with which
// the table that everybody uses was made.
func normalFloats() (values [16]float32) {
	const edge = float32(0.9677083) // 1 - tail
	quantile := func(p float32) float32 { return float32(math.Sqrt2 * math.Erfinv(2*float64(p)-1)) }
	at := func(i, n int) float32 { // the i-th of n steps from edge to the median
		step := (0.5 - edge) / float32(n)
		if 2*i <= n {
			return edge + float32(step*float32(i))
		}
		return 0.5 - float32(step*float32(n-i))
	}
	for i := range 7 {
		values[i] = -quantile(at(i, 7)) / quantile(edge)
	}
	for i := range 8 {
		values[15-i] = quantile(at(i, 8)) / quantile(edge)
	}
	return values
}

// nf4Format keeps each block of a row as 4-bit codes times the block's largest magnitude. A byte holds two neighbours,
// the first in its lower half.
var nf4Format = format{
	kind:   dtypes.Uint8,
	codes:  func(in int) int { return chunks(in, nf4Block) * nf4Block / 2 },
	groups: func(in int) int { return chunks(in, nf4Block) },
	encode: func(r row) {
		for g := range r.scales {
			from := g * nf4Block
			block := r.values[from:min(len(r.values), from+nf4Block)]
			r.scales[g] = largestMagnitude(block)
			inverse, codes := inverseOf(r.scales[g]), r.codes[from/2:(from+nf4Block)/2]
			for i := encodeNibbles(codes, block, inverse) / 2; i < len(codes); i++ {
				codes[i] = nf4Zero | nf4Zero<<4 // behind the end of the row
				switch {
				case 2*i+1 < len(block):
					codes[i] = nf4Code(float32(block[2*i]*inverse)) | nf4Code(float32(block[2*i+1]*inverse))<<4
				case 2*i < len(block):
					codes[i] = nf4Code(float32(block[2*i]*inverse)) | nf4Zero<<4
				}
			}
		}
	},
	decode: func(r row) {
		for g, scale := range r.scales {
			from := g * nf4Block
			block, codes := r.values[from:min(len(r.values), from+nf4Block)], r.codes[from/2:]
			for i := decodeNibbles(block, codes, scale); i < len(block); i++ {
				block[i] = nf4Values[codes[i>>1]>>(4*(i&1))&15] * scale
			}
		}
	},
}

// nf4Zero is the code of zero.
const nf4Zero = 7

// nf4Code is the code nearest to v, from -1 to 1.
func nf4Code(v float32) byte {
	cell := &nf4Cells[int((v+1)*nf4CellsPerUnit)]
	return cell.code + byte(math.Float32bits(cell.border-v)>>31) // one more above the border, without a branch
}

// nf4Cells divide the values from -1 to 1 so finely that at most one border between codes lies in a cell: code is the
// one below the border.
const nf4CellsPerUnit = 32

var nf4Cells = func() (cells [2*nf4CellsPerUnit + 1]struct {
	code   byte
	border float32
}) {
	for i := range cells {
		start, code := float32(i)/nf4CellsPerUnit-1, 0
		border := func() float32 { return (nf4Values[code] + nf4Values[code+1]) / 2 }
		for code < 14 && border() < start {
			code++
		}
		cells[i].code, cells[i].border = byte(code), border()
	}
	return cells
}()

// largestMagnitude is not a number where one of the values is not.
func largestMagnitude(values []float32) float32 {
	done, bits := largestBits(values)
	largest := math.Float32frombits(bits)
	for _, v := range values[done:] {
		largest = larger(largest, v)
	}
	return largest
}

// inverseOf is 1/x, or 0 where that is too large a number: what is to be multiplied by it is then next to nothing.
func inverseOf(x float32) float32 {
	if inverse := 1 / x; inverse <= math.MaxFloat32/127 {
		return inverse
	}
	return 0
}

// quantize stores a matrix in a format: its codes under its name, its scales beside them.
func (l *loader) quantize(c content, f format) error {
	if len(c.shape) != 2 {
		return fmt.Errorf("shape %v, want a matrix", c.shape)
	}
	out, in := c.shape[0], c.shape[1]
	width, groups := f.codes(in), f.groups(in)
	scales := make([]float32, out*groups)
	err := l.fill(c.name, shapes.Make(f.kind, out, width), func(codes []byte) error {
		return l.weights.quantize(c, f, func(first int, some []byte, theirs []float32) {
			copy(codes[first*width:], some)
			copy(scales[first*groups:], theirs)
		})
	})
	if err != nil {
		return err
	}
	t, err := FromFloat32(l.weights.backend, scales, out, groups)
	if err != nil {
		return err
	}
	l.weights.hold(scalesOf(c.name), t)
	return nil
}

// quantize reads a matrix, hands the codes and scales of its rows to put, a multiple of 8 rows at a time, and notes what
// they lost. put is called for different rows at once.
func (w *Weights) quantize(c content, f format, put func(first int, codes []byte, scales []float32)) error {
	out, in, size := c.shape[0], c.shape[1], c.dtype.Bits()/8
	width, groups, rows := f.codes(in), f.groups(in), max(8, valueCount/max(1, in)/8*8)
	losses := make([]loss, chunks(out, rows))
	err := inChunks(out, rows, 0, func() func(from, to int) error {
		raw, values, back := make([]byte, rows*in*size), make([]float32, in), make([]float32, in)
		codes, scales := make([]byte, rows*width), make([]float32, rows*groups)
		return func(from, to int) error {
			n := to - from
			if err := c.read(raw[:n*in*size], from*in*size); err != nil {
				return err
			}
			c.forget(from*in*size, to*in*size)
			for i := range n {
				if err := c.decode(values, raw[i*in*size:][:in*size]); err != nil {
					return err
				}
				if m := largestMagnitude(values); m-m != 0 {
					return fmt.Errorf("row %d holds a value that is not finite, which %s cannot keep", from+i, w.storage)
				}
				r := row{values, codes[i*width:][:width], scales[i*groups:][:groups]}
				f.encode(r)
				f.decode(row{back, r.codes, r.scales})
				losses[from/rows].add(values, back)
			}
			put(from, codes[:n*width], scales[:n*groups])
			return nil
		}
	})
	if err == nil {
		w.note(c.name, losses)
	}
	return err
}

// scalesOf is the name of the scales of a quantised tensor.
func scalesOf(name string) string { return name + ".scales" }

// int8Matrix reads codes [out, in] and scales [out, 1]: the codes as numbers of the compute dtype, which holds them
// exactly, and the scale of each row [out]. The rows of a product are scaled instead of those of the matrix, which is
// less work and rounds less.
func int8Matrix(codes, scales *Node, compute dtypes.DType) (w, scale *Node) {
	return ConvertDType(codes, compute), Reshape(scales, -1)
}

// nf4Matrix reads codes [out, bytes] and scales [out, groups]: the matrix [out, in].
func nf4Matrix(codes, scales *Node, in int, compute dtypes.DType) *Node {
	values := Reshape(nf4Lookup(codes), -1, nf4Block)             // [out*groups, block]
	values = Mul(values, widen(Reshape(scales, -1, 1), nf4Block)) // [out*groups, block]
	w := Reshape(values, codes.Shape().Dim(0), -1)                // [out, groups*block]
	if w.Shape().Dim(1) > in {
		w = SliceAxis(w, 1, AxisRange(0, in))
	}
	return ConvertDType(w, compute)
}

// nf4Lookup looks up what codes [out, bytes] stand for: float32 values [out*bytes, 2].
func nf4Lookup(codes *Node) *Node {
	places := InsertAxes(Reshape(codes, -1), -1) // [out*bytes, 1]
	if interpreted(codes) {
		return lookupJoined(places)
	}
	return lookupPairs(places)
}

// lookupPairs takes rows of a table of the pairs that bytes stand for.
func lookupPairs(places *Node) *Node {
	return Gather(Reshape(Const(places.Graph(), nf4Pairs()), 256, 2), places)
}

// lookupJoined takes pairs as single numbers of twice the width: the Go backend copies element by element, so this takes
// two thirds of the time.
func lookupJoined(places *Node) *Node {
	pairs := nf4Pairs()
	joined := make([]uint64, 256)
	for i := range joined {
		joined[i] = binary.NativeEndian.Uint64(dtypes.UnsafeByteSliceFromAny(pairs[2*i : 2*i+2]))
	}
	return Bitcast(Gather(Const(places.Graph(), joined), places), dtypes.Float32)
}

// nf4Pairs are the two values of each byte, the lower half's first.
func nf4Pairs() []float32 {
	var pairs []float32
	for i := range 256 {
		pairs = append(pairs, nf4Values[i&15], nf4Values[i>>4])
	}
	return pairs
}
