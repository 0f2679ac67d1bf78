// Package states holds hidden states in files: shards, which are safetensors or .npy files with the states of some rows,
// and an index, index.jsonl, with a line for every row that says which text it was and where its states are. A shard is
// whole or absent, and the index names no shard before it is there, so that a directory whose writer was killed is read
// like any other, and can be continued to the bytes of one that was not.
package states

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"gotransplant/model/npy"
	"gotransplant/model/safetensors"
)

// The files of a directory beside its shards.
const (
	ConfigFile = "config.json"
	IndexFile  = "index.jsonl"
)

// The formats of shards.
const (
	Safetensors = "safetensors" // one file a shard
	NPY         = "npy"         // one file a shard and tensor
)

// Formats are all of them.
func Formats() []string { return []string{Safetensors, NPY} }

// Tensor is a tensor that every shard has: [vectors of the shard, Shape...].
type Tensor struct {
	Name  string            `json:"name"`
	DType safetensors.DType `json:"dtype"`
	Shape []int             `json:"shape"` // of one vector
}

// bytes is the size of one vector.
func (t Tensor) bytes() int {
	n := t.DType.Bits() / 8
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Layout is how a directory is laid out. config.json holds its fields beside whatever else its program puts there.
type Layout struct {
	Format     string   `json:"format"`
	Tensors    []Tensor `json:"tensors"`
	ShardRows  int      `json:"shard-rows"`  // most rows in a shard
	ShardBytes int64    `json:"shard-bytes"` // most bytes in a shard, unless one row takes more
	Rows       int      `json:"rows"`        // there will be
	Vectors    int64    `json:"vectors"`     // of each tensor, in all rows
}

// RowBytes is what a row of so many vectors takes.
func (l Layout) RowBytes(vectors int) (total int64) {
	for _, t := range l.Tensors {
		total += int64(vectors) * int64(t.bytes())
	}
	return total
}

// Row is a line of the index. Tensor rows [Offset, Offset+Count) of File's shard are its states.
type Row struct {
	Row      int               `json:"row"`  // from 0
	ID       string            `json:"id"`   // the input's own
	Line     int               `json:"line"` // of the input
	Label    json.RawMessage   `json:"label,omitempty"`
	Shard    string            `json:"shard"` // a file of that name, or with npy the files shard.tensor.npy
	Offset   int               `json:"offset"`
	Count    int               `json:"count"`
	Position []int             `json:"positions"`          // the token of each vector; of a mean the first
	End      []int             `json:"ends,omitempty"`     // where some vector is a mean: the token behind each one's last
	Segments map[string][2]int `json:"segments,omitempty"` // tokens [from, to) of each named segment
	Tokens   []int32           `json:"tokens"`             // ids
	Spans    [][2]int          `json:"spans"`              // bytes [from, to) of text for each token
	Text     string            `json:"text"`
}

// shardName names the i-th shard, from 0.
func (l Layout) shardName(i int) string {
	if l.Format == NPY {
		return fmt.Sprintf("states-%05d", i)
	}
	return fmt.Sprintf("states-%05d.safetensors", i)
}

// npyName is the file of one tensor of a shard.
func npyName(shard, tensor string) string { return shard + "." + tensor + ".npy" }

// shard is an open shard: all tensors of the layout, each with the same number of vectors.
type shard struct {
	name    string
	tensors map[string]safetensors.Tensor
	close   []func() error
}

func (s *shard) Close() error {
	var first error
	for _, c := range s.close {
		if err := c(); err != nil && first == nil {
			first = err
		}
	}
	s.close = nil
	return first
}

// openShard opens a shard and checks that its tensors are the layout's.
func (l Layout) openShard(dir, name string) (_ *shard, err error) {
	s := &shard{name: name, tensors: make(map[string]safetensors.Tensor)}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if name == "" || filepath.Base(name) != name {
		return nil, fmt.Errorf("%q is no name of a shard", name)
	}
	path := filepath.Join(dir, name)
	if l.Format == Safetensors {
		f, err := safetensors.Open(path)
		if err != nil {
			return nil, err
		}
		s.close = append(s.close, f.Close)
		for _, t := range l.Tensors {
			s.tensors[t.Name], _ = f.Tensor(t.Name)
		}
	} else {
		for _, t := range l.Tensors {
			f, err := npy.Open(npyName(path, t.Name))
			if err != nil {
				return nil, err
			}
			s.close = append(s.close, f.Close)
			s.tensors[t.Name] = f.Tensor
		}
	}
	for _, want := range l.Tensors {
		got := s.tensors[want.Name]
		if got.DType != want.DType || len(got.Shape) == 0 || !slices.Equal(got.Shape[1:], want.Shape) {
			return nil, fmt.Errorf("%s: tensor %s is %s %v, want %s with vectors of %v", path, want.Name, got.DType, got.Shape,
				want.DType, want.Shape)
		}
		if n := s.vectors(l); got.Shape[0] != n {
			return nil, fmt.Errorf("%s: tensor %s has %d vectors, %s has %d", path, want.Name, got.Shape[0], l.Tensors[0].Name, n)
		}
	}
	return s, nil
}

// vectors is how many there are of each tensor.
func (s *shard) vectors(l Layout) int { return s.tensors[l.Tensors[0].Name].Shape[0] }

// readLayout reads config.json.
func readLayout(dir string) (l Layout, err error) {
	path := filepath.Join(dir, ConfigFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return l, fmt.Errorf("%s holds no states: %w", dir, err)
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return l, fmt.Errorf("%s: %w", path, err)
	}
	if err := l.check(); err != nil {
		return l, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

// check refuses what is no layout.
func (l Layout) check() error {
	switch {
	case !slices.Contains(Formats(), l.Format):
		return fmt.Errorf("format %q: there are safetensors and npy", l.Format)
	case len(l.Tensors) == 0:
		return fmt.Errorf("no tensors")
	case l.ShardRows < 1 || l.ShardBytes < 1:
		return fmt.Errorf("shards of at most %d rows and %d bytes: both must be at least 1", l.ShardRows, l.ShardBytes)
	}
	for _, t := range l.Tensors {
		if _, err := safetensors.ByteSize(t.DType, t.Shape); err != nil {
			return fmt.Errorf("tensor %s: %w", t.Name, err)
		}
	}
	return nil
}
