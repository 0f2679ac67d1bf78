package states

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"gotransplant/internal/atomicfile"
	"gotransplant/model/npy"
	"gotransplant/model/safetensors"
)

// Writer fills a directory. It holds one shard in memory.
type Writer struct {
	dir    string
	layout Layout
	index  *os.File

	shards int // written
	rows   int // in them
	size   int64

	lines   bytes.Buffer // of the shard under way
	pending int          // rows in it
	vectors int
	data    [][]byte // by tensor
}

// CheckUnused refuses a directory that holds states already, or is left of one that did: rows of another model would pass
// for rows that are there.
func CheckUnused(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	rest := ""
	for _, e := range entries {
		switch name := e.Name(); {
		case name == ConfigFile:
			return fmt.Errorf("%s already holds an extraction: continue it with --resume %s, or name another directory", dir, dir)
		case name == IndexFile:
			info, err := e.Info()
			if err != nil {
				return err
			}
			if info.Size() > 0 { // an empty one is that of a writer that was killed before config.json was there
				rest = name
			}
		case matches(name, "states-*.safetensors", "states-*.npy"):
			rest = name
		}
	}
	if rest != "" {
		return fmt.Errorf("%s holds %s of an extraction without its %s: name another directory, or remove what is left", dir, rest, ConfigFile)
	}
	return nil
}

// matches says whether a file's name is one of the patterns.
func matches(name string, patterns ...string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		is, _ := filepath.Match(pattern, name) // the patterns are well formed
		return is
	})
}

// Create makes a directory with config as its config.json, whose members must include those of l. Until the writer is
// closed no other process writes to the directory.
func Create(dir string, config any, l Layout) (*Writer, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	text, err := configText(config)
	if err != nil {
		return nil, err
	}
	w := &Writer{dir: dir, layout: l, data: make([][]byte, len(l.Tensors))}
	if err := w.own(); err != nil {
		return nil, err
	}
	err = CheckUnused(dir) // with the lock: another process may have been here a moment ago
	if err == nil {
		err = atomicfile.WriteBytes(filepath.Join(dir, ConfigFile), text)
	}
	if err == nil {
		err = removeLeftovers(dir)
	}
	if err != nil {
		w.index.Close()
		return nil, err
	}
	return w, nil
}

// Rewrite replaces config.json in a directory that a Writer of this process has open.
func Rewrite(dir string, config any) error {
	text, err := configText(config)
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(dir, ConfigFile), text)
}

func configText(config any) ([]byte, error) {
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ConfigFile, err)
	}
	return append(text, '\n'), nil
}

// own opens the index and keeps other processes from writing to the directory.
func (w *Writer) own() (err error) {
	if w.index, err = os.OpenFile(filepath.Join(w.dir, IndexFile), os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return err
	}
	if err := atomicfile.Lock(w.index); err != nil {
		w.index.Close()
		return fmt.Errorf("%s is being written by another process: %w", w.dir, err)
	}
	return nil
}

// Reopen continues a directory behind its last whole shard: what the index says beyond it is cut off, and temporary files
// are removed.
func Reopen(dir string) (*Writer, error) {
	l, err := readLayout(dir)
	if err != nil {
		return nil, err
	}
	w := &Writer{dir: dir, layout: l, data: make([][]byte, len(l.Tensors))}
	if err := w.own(); err != nil {
		return nil, err
	}
	if err := errors.Join(removeLeftovers(dir), w.findEnd()); err != nil {
		w.index.Close()
		return nil, err
	}
	return w, nil
}

// removeLeftovers deletes the temporary files of a killed writer, and of who writes files of the same kinds beside it.
func removeLeftovers(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !matches(e.Name(), ".states-*.tmp-*", ".*.json.tmp-*", ".*.jsonl.tmp-*") {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// findEnd goes through the index as far as its shards are whole and cuts it there.
func (w *Writer) findEnd() error {
	var end int64
	var last entry
	rows := 0
	keep := func() bool { // everything up to last, if its shard is whole and all its lines were there
		if last.Shard != w.layout.shardName(w.shards) || !w.whole(last.Row) {
			return false
		}
		end, w.rows, w.shards = last.end, rows, w.shards+1
		return true
	}
	for e, err := range scanIndex(w.index) {
		if err != nil || e.Row.Row != rows || rows > 0 && e.Shard != last.Shard && !keep() {
			break
		}
		last = e
		rows++
	}
	keep()
	if err := w.index.Truncate(end); err != nil {
		return err
	}
	_, err := w.index.Seek(end, io.SeekStart)
	return err
}

// whole says that a row is the last one of a shard that is there.
func (w *Writer) whole(last Row) bool {
	s, err := w.layout.openShard(w.dir, last.Shard)
	if err != nil {
		return false
	}
	defer s.Close()
	return s.vectors(w.layout) == last.Offset+last.Count
}

// Rows is how many rows there are in whole shards.
func (w *Writer) Rows() int { return w.rows }

// Bytes is how many bytes of states this writer has put into whole shards.
func (w *Writer) Bytes() int64 { return w.size }

// Add adds the next row: its number, shard and offset are filled in. data holds, for each tensor of the layout, its Count
// vectors; it is copied. A shard that the row does not fit into is written first.
func (w *Writer) Add(row Row, data [][]byte) error {
	held := w.layout.RowBytes(w.vectors)
	if w.pending == w.layout.ShardRows || held+w.layout.RowBytes(row.Count) > w.layout.ShardBytes {
		if err := w.Flush(); err != nil {
			return err
		}
	}
	for i, t := range w.layout.Tensors {
		if len(data[i]) != row.Count*t.bytes() {
			return fmt.Errorf("row %s: %d bytes for %d vectors of %s, want %d", row.ID, len(data[i]), row.Count, t.Name, row.Count*t.bytes())
		}
		w.data[i] = append(w.data[i], data[i]...)
	}
	row.Row, row.Shard, row.Offset = w.rows+w.pending, w.layout.shardName(w.shards), w.vectors
	encoder := json.NewEncoder(&w.lines)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(row); err != nil {
		return fmt.Errorf("row %s: %w", row.ID, err)
	}
	w.pending++
	w.vectors += row.Count
	return nil
}

// Flush writes the shard under way, if it has any rows, and then their lines of the index.
func (w *Writer) Flush() error {
	if w.pending == 0 {
		return nil
	}
	if err := w.writeShard(filepath.Join(w.dir, w.layout.shardName(w.shards))); err != nil {
		return err
	}
	if _, err := w.index.Write(w.lines.Bytes()); err != nil {
		return err
	}
	if err := w.index.Sync(); err != nil {
		return err
	}
	w.shards++
	w.rows += w.pending
	w.size += w.layout.RowBytes(w.vectors)
	w.pending, w.vectors = 0, 0
	w.lines.Reset()
	for i := range w.data {
		w.data[i] = w.data[i][:0]
	}
	return nil
}

func (w *Writer) writeShard(path string) error {
	specs := make([]safetensors.Spec, len(w.layout.Tensors))
	for i, t := range w.layout.Tensors {
		specs[i] = safetensors.Spec{Name: t.Name, DType: t.DType, Shape: append([]int{w.vectors}, t.Shape...)}
	}
	fill := func(i int, to io.Writer) error {
		_, err := to.Write(w.data[i])
		return err
	}
	if w.layout.Format == Safetensors {
		return safetensors.WriteFrom(path, specs, nil, fill)
	}
	for i, spec := range specs {
		err := npy.Write(npyName(path, spec.Name), spec.DType, spec.Shape, func(to io.Writer) error { return fill(i, to) })
		if err != nil {
			return err
		}
	}
	return nil
}

// Close ends writing; the shard under way, unless it was flushed, is dropped.
func (w *Writer) Close() error { return w.index.Close() }
