package llama

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"gotransplant/model"
	"gotransplant/model/safetensors"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"
)

// Deferred are a checkpoint's weights on the backend's first device, with the matrices kept in the way as says. Nothing is
// read yet: NewEngine reads the tensors, to where it wants them. Until then c is to stay open.
func Deferred(backend compute.Backend, c *model.Checkpoint, as Storage) *Weights {
	w := newWeights(backend, c.Config)
	w.storage = as
	names := c.Names()
	slices.SortStableFunc(names, func(a, b string) int {
		fileA, offsetA := c.Place(a)
		fileB, offsetB := c.Place(b)
		return cmp.Or(cmp.Compare(fileA, fileB), cmp.Compare(offsetA, offsetB))
	})
	for _, name := range names {
		t := c.Tensor(name)
		_, offset := c.Place(name)
		w.pending = append(w.pending, content{name, t.DType, t.Shape, offset,
			func(dst []byte, from int) error { return c.ReadAt(name, dst, from) },
			func(from, to int) { c.Forget(name, from, to) }})
	}
	return w
}

// loadAll puts every tensor that is still to be read on the device.
func (w *Weights) loadAll() error {
	l := &loader{weights: w}
	for _, c := range w.pending {
		if err := l.put(c); err != nil {
			return fmt.Errorf("load %s: %w", c.name, err)
		}
	}
	w.pending = nil
	return nil
}

// content is a tensor that can be read in parts, by several goroutines.
type content struct {
	name   string
	dtype  safetensors.DType
	shape  []int
	offset int                              // of its first byte in a file
	read   func(dst []byte, from int) error // fills dst with its bytes from the from-th on
	forget func(from, to int)               // these bytes will not be read again
}

// loader puts tensors on the device one after the other.
type loader struct {
	weights *Weights
	staging []byte // the last tensor on its way to a device that the host cannot write to
}

func newLoader(backend compute.Backend, c model.Config, as Storage) *loader {
	l := &loader{weights: newWeights(backend, c)}
	l.weights.storage = as
	return l
}

// put stores a tensor in the way that the weights' storage has for it.
func (l *loader) put(c content) error {
	kind, ok := kinds()[c.dtype]
	if !ok {
		return fmt.Errorf("dtype %s, want F64, F32, F16 or BF16", c.dtype)
	}
	switch as := l.weights.storage.of(c.name); {
	case as.quantized():
		return l.quantize(c, as.format())
	case as == BFloat16 && c.dtype != safetensors.BF16:
		return l.convert(c, safetensors.BF16)
	case as == Float32 && c.dtype != safetensors.F32:
		return l.convert(c, safetensors.F32)
	}
	shape := shapes.Make(kind, c.shape...)
	return l.fill(c.name, shape, func(bytes []byte) error {
		return inChunks(len(bytes), readSize, c.offset, func() func(from, to int) error {
			return func(from, to int) error {
				err := c.read(bytes[from:to], from)
				c.forget(from, to)
				return err
			}
		})
	})
}

// fill makes a tensor of write's bytes, under a name of its own. Where the host can write to the device's memory, as on
// the Go backend, write does just that, and there is no second copy.
func (l *loader) fill(name string, shape shapes.Shape, write func(bytes []byte) error) error {
	backend := l.weights.backend
	if o, ok := backend.(outlined); ok {
		return o.draw(l.weights, name, shape)
	}
	var t *tensors.Tensor
	if backend.HasSharedBuffers() {
		buffer, flat, err := backend.NewSharedBuffer(0, shape)
		if err != nil {
			return err
		}
		if err := write(dtypes.UnsafeByteSliceFromAny(flat)); err != nil {
			return err
		}
		if t, err = tensors.FromBuffer(buffer); err != nil {
			return err
		}
	} else {
		size := int(shape.ByteSize())
		if cap(l.staging) < size {
			l.staging = make([]byte, size)
		}
		if err := write(l.staging[:size]); err != nil {
			return err
		}
		var err error
		if t, err = tensors.FromRaw(backend, 0, shape, l.staging[:size]); err != nil {
			return err
		}
	}
	l.weights.hold(name, t)
	return nil
}

// convert stores a tensor as type d, BF16 or F32.
func (l *loader) convert(c content, d safetensors.DType) error {
	shape := shapes.Make(kinds()[d], c.shape...)
	size, width, wide := shape.Size(), d.Bits()/8, c.dtype.Bits()/8
	losses := make([]loss, chunks(size, valueCount))
	err := l.fill(c.name, shape, func(bytes []byte) error {
		defer c.forget(0, size*wide)
		return inChunks(size, valueCount, 0, func() func(from, to int) error {
			raw, values, back := make([]byte, valueCount*wide), make([]float32, valueCount), make([]float32, valueCount)
			return func(from, to int) error {
				n := to - from
				if err := c.values(values[:n], raw[:n*wide], from); err != nil {
					return err
				}
				stored := bytes[from*width : to*width]
				if err := safetensors.Encode(stored, d, values[:n]); err != nil || d == safetensors.F32 {
					return err // nothing is lost, unless the values were float64, and that is no loss to speak of
				}
				if err := safetensors.Decode(back[:n], d, stored); err != nil {
					return err
				}
				losses[from/valueCount].add(values[:n], back[:n])
				return nil
			}
		})
	})
	l.weights.note(c.name, losses)
	return err
}

// values reads len(dst) of the tensor's elements, the first of which is the from-th, by way of raw.
func (c content) values(dst []float32, raw []byte, from int) error {
	if err := c.read(raw, from*c.dtype.Bits()/8); err != nil {
		return err
	}
	return c.decode(dst, raw)
}

// decode converts elements of the tensor, as a file has them.
func (c content) decode(dst []float32, raw []byte) error {
	done := 0
	if c.dtype == safetensors.BF16 {
		done = widenBF16(dst, raw)
	}
	return safetensors.Decode(dst[done:], c.dtype, raw[done*c.dtype.Bits()/8:])
}

// Chunks of work on a tensor: long enough that the disk reads on without a pause, and, where they are read to be worked on,
// short enough that several fit into a processor's cache.
const (
	readSize   = 4 << 20   // bytes
	packSize   = 256 << 10 // bytes
	valueCount = 1 << 18
)

// chunks is how many pieces of size make up n.
func chunks(n, size int) int { return (n + size - 1) / size }

// inChunks cuts [0, n) where offset plus the index is a multiple of size and has worker's functions work on the pieces,
// two for each core, so that cores are busy while others wait for the disk. Each goroutine calls worker once. The first
// piece's error is returned.
func inChunks(n, size, offset int, worker func() func(from, to int) error) error {
	offset %= size
	count := chunks(n+offset, size)
	errs := make([]error, count)
	next := make(chan int, count)
	for i := range count {
		next <- i
	}
	close(next)
	var group sync.WaitGroup
	for range min(count, 2*runtime.GOMAXPROCS(0)) {
		group.Go(func() {
			work := worker()
			for i := range next {
				if errs[i] = work(max(0, i*size-offset), min(n, (i+1)*size-offset)); errs[i] != nil {
					return
				}
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
