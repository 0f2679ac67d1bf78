package states

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"

	"gotransplant/model/safetensors"
)

// Set is an open directory of states. It belongs to one goroutine.
type Set struct {
	Layout
	dir  string
	open *shard // the one read last, or nil
}

// Open opens a directory, finished or not.
func Open(dir string) (*Set, error) {
	l, err := readLayout(dir)
	if err != nil {
		return nil, err
	}
	return &Set{Layout: l, dir: dir}, nil
}

// entry is a line of the index.
type entry struct {
	Row
	end int64 // of the line, in bytes from the beginning of the file
}

// scanIndex reads the lines of an index. A last line without an end is one that was being written, and is left out.
func scanIndex(r io.Reader) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		lines := bufio.NewReaderSize(r, 1<<16)
		var e entry
		for n := 1; ; n++ {
			line, err := lines.ReadBytes('\n')
			if errors.Is(err, io.EOF) {
				return
			}
			e = entry{end: e.end + int64(len(line))}
			if err == nil {
				err = json.Unmarshal(line, &e.Row)
			}
			if err != nil {
				yield(e, fmt.Errorf("line %d: %w", n, err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Rows reads the index, one line at a time; it ends at the first error.
func (s *Set) Rows() iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		path := filepath.Join(s.dir, IndexFile)
		f, err := os.Open(path)
		if err != nil {
			yield(Row{}, err)
			return
		}
		defer f.Close()
		for e, err := range scanIndex(f) {
			if err != nil {
				err = fmt.Errorf("%s: %w", path, err)
			}
			if !yield(e.Row, err) {
				return
			}
		}
	}
}

// Tensor is a row's part of a tensor, [row.Count, ...]. Its Data lies in the mapped file and dies when a row of another
// shard is read.
func (s *Set) Tensor(row Row, name string) (safetensors.Tensor, error) {
	if s.open == nil || s.open.name != row.Shard {
		next, err := s.openShard(s.dir, row.Shard)
		if err != nil {
			return safetensors.Tensor{}, err
		}
		if err := s.Close(); err != nil {
			return safetensors.Tensor{}, errors.Join(err, next.Close())
		}
		s.open = next
	}
	t, ok := s.open.tensors[name]
	if !ok {
		return t, fmt.Errorf("%s: there is no tensor %s", s.dir, name)
	}
	if row.Offset < 0 || row.Count < 0 || row.Offset > t.Shape[0]-row.Count {
		return t, fmt.Errorf("%s: row %s has the vectors %d to %d of %s, which has %d", row.Shard, row.ID, row.Offset,
			row.Offset+row.Count, name, t.Shape[0])
	}
	size := 0
	if t.Shape[0] > 0 {
		size = len(t.Data) / t.Shape[0]
	}
	t.Data = t.Data[row.Offset*size : (row.Offset+row.Count)*size]
	t.Shape = append([]int{row.Count}, t.Shape[1:]...)
	return t, nil
}

// Float64s are the values of a row's part of a tensor, row-major, whatever they are stored as.
func (s *Set) Float64s(row Row, name string) ([]float64, error) {
	t, err := s.Tensor(row, name)
	if err != nil {
		return nil, err
	}
	values := make([]float64, 8*len(t.Data)/t.DType.Bits())
	return values, safetensors.Decode64(values, t.DType, t.Data)
}

// Close gives the shard read last back.
func (s *Set) Close() error {
	if s.open == nil {
		return nil
	}
	open := s.open
	s.open = nil
	return open.Close()
}
