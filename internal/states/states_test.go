package states

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotransplant/model/safetensors"
)

// layout has two tensors, and shards of at most three rows.
func layout(format string) Layout {
	return Layout{Format: format, ShardRows: 3, ShardBytes: 1 << 20, Rows: 8, Tensors: []Tensor{
		{"resid.0", safetensors.F64, []int{2}}, {"k.0", safetensors.F32, []int{1, 3}}}}
}

// made is the i-th row: i%3 vectors.
func made(t *testing.T, i int) (Row, [][]byte) {
	t.Helper()
	n := i % 3
	wide, narrow := make([]float64, 2*n), make([]float32, 3*n)
	for j := range wide {
		wide[j] = float64(i) + float64(j)/7
	}
	for j := range narrow {
		narrow[j] = float32(i) - float32(j)/3
	}
	row := Row{ID: fmt.Sprintf("<%d>", i), Line: i + 1, Count: n, Position: make([]int, n), Tokens: []int32{1, 2}, Spans: [][2]int{{0, 1}, {1, 2}},
		Text: "a\n&", Label: json.RawMessage(`{"a":1}`), Segments: map[string][2]int{"s": {0, 1}}}
	data := make([][]byte, 2)
	var err error
	if data[0], err = Append(nil, safetensors.F64, wide); err != nil {
		t.Fatal(err)
	}
	if data[1], err = Append(nil, safetensors.F32, narrow); err != nil {
		t.Fatal(err)
	}
	return row, data
}

// fill adds the rows up to n.
func fill(t *testing.T, w *Writer, n int) {
	t.Helper()
	for i := w.Rows(); i < n; i++ {
		row, data := made(t, i)
		if err := w.Add(row, data); err != nil {
			t.Fatal(err)
		}
	}
}

func create(t *testing.T, dir string, l Layout) *Writer {
	t.Helper()
	w, err := Create(dir, l, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// finish writes everything that is missing.
func finish(t *testing.T, w *Writer) {
	t.Helper()
	fill(t, w, 8)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// content is every file of a directory.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all[filepath.Base(path)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func compare(t *testing.T, name string, got, want map[string]string) {
	t.Helper()
	for file := range want {
		if got[file] != want[file] {
			t.Errorf("%s: %s has %d bytes that differ from the %d wanted", name, file, len(got[file]), len(want[file]))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d files, want %d", name, len(got), len(want))
	}
}

// TestRoundTrip: what is read is what was written, in shards of the size asked for.
func TestRoundTrip(t *testing.T) {
	for _, c := range []struct {
		format string
		rows   int // in a shard
	}{{Safetensors, 3}, {NPY, 3}, {Safetensors, 1}, {NPY, 1}} {
		t.Run(fmt.Sprint(c.format, c.rows), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "out")
			l := layout(c.format)
			l.ShardRows = c.rows
			w := create(t, dir, l)
			finish(t, w)
			if got, want := w.Bytes(), int64(7*(2*8+3*4)); got != want || w.Rows() != 8 {
				t.Errorf("the writer says %d bytes and %d rows, want %d and 8", got, w.Rows(), want)
			}
			if index := content(t, dir)[IndexFile]; !strings.Contains(index, `"id":"<7>"`) || !strings.Contains(index, `"text":"a\n&"`) {
				t.Errorf("the index has no <7> and & as they are: %q", index)
			}
			s, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			n := 0
			for row, err := range s.Rows() {
				if err != nil {
					t.Fatal(err)
				}
				want, data := made(t, n)
				if row.ID != want.ID || row.Row != n || row.Text != want.Text || string(row.Label) != `{"a":1}` || row.Segments["s"] != [2]int{0, 1} {
					t.Errorf("row %d: got %+v, want %+v", n, row, want)
				}
				if shard := fmt.Sprintf("states-%05d", n/c.rows); !strings.HasPrefix(row.Shard, shard) {
					t.Errorf("row %d is in %s, want %s", n, row.Shard, shard)
				}
				for i, tensor := range s.Tensors {
					got, err := s.Tensor(row, tensor.Name)
					if err != nil {
						t.Fatal(err)
					}
					if shape := append([]int{want.Count}, tensor.Shape...); !bytes.Equal(got.Data, data[i]) || !slices.Equal(got.Shape, shape) {
						t.Errorf("row %d, %s: got %v of shape %v, want %v of %v", n, tensor.Name, got.Data, got.Shape, data[i], shape)
					}
				}
				narrow, err := s.Float64s(row, "k.0")
				if err != nil || len(narrow) != 3*want.Count || want.Count > 0 && narrow[1] != float64(float32(n)-float32(1)/3) {
					t.Errorf("row %d: k.0 is %v, %v", n, narrow, err)
				}
				wide, err := s.Float64s(row, "resid.0")
				if err != nil || len(wide) != 2*want.Count || want.Count > 0 && wide[1] != float64(n)+1.0/7 {
					t.Errorf("row %d: resid.0 is %v, %v", n, wide, err)
				}
				n++
			}
			if n != 8 {
				t.Errorf("%d rows, want 8", n)
			}
		})
	}
}

// TestResumeFromAnywhere: a directory cut off at any moment of writing is readable and is continued to the same bytes.
func TestResumeFromAnywhere(t *testing.T) {
	for _, format := range Formats() {
		t.Run(format, func(t *testing.T) {
			whole := filepath.Join(t.TempDir(), "whole")
			finish(t, create(t, whole, layout(format)))
			want := content(t, whole)
			index := want[IndexFile]
			for _, c := range []struct {
				name   string
				damage func(dir string) error
				stay   int // rows that need not be computed again
			}{
				{"nothing", func(dir string) error { return nil }, 8},
				{"before the index", func(dir string) error { return os.Remove(filepath.Join(dir, IndexFile)) }, 0},
				{"in a line of the index", func(dir string) error { return os.Truncate(filepath.Join(dir, IndexFile), int64(len(index)-7)) }, 6},
				{"between two lines of a shard", func(dir string) error {
					return os.Truncate(filepath.Join(dir, IndexFile), int64(strings.LastIndex(index[:len(index)-1], "\n")+1))
				}, 6},
				{"a shard lost", func(dir string) error { return os.Remove(fileOf(t, dir, "states-00001")) }, 3},
				{"a shard damaged", func(dir string) error { return os.Truncate(fileOf(t, dir, "states-00002"), 100) }, 6},
				{"a line damaged", func(dir string) error {
					text := []byte(index)
					text[strings.Index(index, "\n")+1] = 'x'
					return os.WriteFile(filepath.Join(dir, IndexFile), text, 0o644)
				}, 0},
				{"the first line lost", func(dir string) error { return rewriteIndex(dir, func(lines []string) []string { return lines[1:] }) }, 0},
				{"a line lost", func(dir string) error {
					return rewriteIndex(dir, func(lines []string) []string { return slices.Delete(lines, 4, 5) })
				}, 3},
				{"a line twice", func(dir string) error {
					return rewriteIndex(dir, func(lines []string) []string { return slices.Insert(lines, 4, lines[3]) })
				}, 3},
				{"a shard of another name", func(dir string) error {
					return rewriteIndex(dir, func(lines []string) []string {
						for i := range 3 {
							lines[i] = strings.Replace(lines[i], "states-00000", "states-00001", 1)
						}
						return lines
					})
				}, 0},
				{"temporary files", func(dir string) error {
					return errors.Join(os.WriteFile(filepath.Join(dir, ".states-00002.safetensors.tmp-123"), nil, 0o644),
						os.WriteFile(filepath.Join(dir, ".skipped.jsonl.tmp-123"), nil, 0o644))
				}, 8},
			} {
				dir := filepath.Join(t.TempDir(), "cut [1]")
				if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
					t.Fatal(err)
				}
				if err := c.damage(dir); err != nil {
					t.Fatal(err)
				}
				w, err := Reopen(dir)
				if err != nil {
					t.Fatal(err)
				}
				left := content(t, dir)[IndexFile]
				if w.Rows() != c.stay || c.name != "a shard of another name" && !strings.HasPrefix(index, left) || strings.Count(left, "\n") != c.stay {
					t.Errorf("%s: %d rows and %q stay, want %d rows and their lines", c.name, w.Rows(), left, c.stay)
				}
				finish(t, w)
				compare(t, c.name, content(t, dir), want)
			}
		})
	}
}

// rewriteIndex changes the lines of an index.
func rewriteIndex(dir string, change func(lines []string) []string) error {
	path := filepath.Join(dir, IndexFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := change(slices.Collect(strings.Lines(string(text))))
	return os.WriteFile(path, []byte(strings.Join(lines, "")), 0o644)
}

// fileOf is a file of a shard.
func fileOf(t *testing.T, dir, shard string) string {
	t.Helper()
	files, err := fs.Glob(os.DirFS(dir), shard+"*")
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no file of %s: %v", dir, shard, err)
	}
	return filepath.Join(dir, files[0])
}

// TestStoppedAnywhere: stopping after any row and continuing gives the same bytes; what was finished is readable.
func TestStoppedAnywhere(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "whole")
	finish(t, create(t, whole, layout(Safetensors)))
	for stop := range 8 {
		dir := filepath.Join(t.TempDir(), "stopped")
		w := create(t, dir, layout(Safetensors))
		fill(t, w, stop)
		w.Close()
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for row, err := range s.Rows() {
			if err == nil {
				_, err = s.Tensor(row, "k.0")
			}
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		s.Close()
		if want := max(0, stop-1) / 3 * 3; n != want {
			t.Errorf("stopped after %d rows: %d are readable, want %d", stop, n, want)
		}
		if w, err = Reopen(dir); err != nil {
			t.Fatal(err)
		}
		finish(t, w)
		compare(t, fmt.Sprintf("stopped after %d rows", stop), content(t, dir), content(t, whole))
	}
}

// TestShardBytes: a shard holds no more bytes than asked for, unless one row does.
func TestShardBytes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	l := layout(Safetensors)
	l.ShardRows, l.ShardBytes = 100, 84 // three vectors of 28 bytes
	finish(t, create(t, dir, l))
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var got []string
	for row, err := range s.Rows() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s+%d", strings.TrimSuffix(strings.TrimPrefix(row.Shard, "states-"), ".safetensors"), row.Offset))
	}
	// rows have 0 1 2 0 1 2 0 1 vectors
	if want := "00000+0 00000+0 00000+1 00000+3 00001+0 00001+1 00001+3 00002+0"; strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, " "), want)
	}
}

// TestShardBeforeIndex: the index does not name a shard that could not be written.
func TestShardBeforeIndex(t *testing.T) {
	for _, format := range Formats() {
		dir := filepath.Join(t.TempDir(), "out")
		w := create(t, dir, layout(format))
		fill(t, w, 3)
		name := layout(format).shardName(0)
		if format == NPY {
			name = npyName(name, "k.0") // the second tensor
		}
		if err := os.MkdirAll(filepath.Join(dir, name, "in the way"), 0o755); err != nil {
			t.Fatal(err)
		}
		row, data := made(t, 3)
		if err := w.Add(row, data); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want the next shard's first row refused with %s", format, err, name)
		}
		if err := w.Flush(); err == nil || !strings.Contains(err.Error(), name) || w.Rows() != 0 || w.Bytes() != 0 {
			t.Errorf("%s: got %v, %d rows and %d bytes; want an error with %s, and none", format, err, w.Rows(), w.Bytes(), name)
		}
		if got := content(t, dir)[IndexFile]; got != "" {
			t.Errorf("%s: the index says %q, want nothing", format, got)
		}
	}
}

func TestRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	w := create(t, dir, layout(Safetensors))
	row, data := made(t, 1)
	if err := w.Add(row, [][]byte{data[0], data[0]}); err == nil || !strings.Contains(err.Error(), "k.0") {
		t.Errorf("too many bytes: got %v, want an error that names k.0", err)
	}
	if _, err := Reopen(dir); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a directory that is being written: got %v, want a refusal", err)
	}
	row.Label = json.RawMessage("{")
	if err := w.Add(row, data); err == nil || !strings.Contains(err.Error(), "row <1>: ") {
		t.Errorf("a label that is not JSON: got %v, want an error that names the row", err)
	}
	w.Close()
	if _, err := Create(dir, nil, layout(Safetensors)); err == nil || !strings.Contains(err.Error(), "--resume") {
		t.Errorf("used directory: got %v, want one that says --resume", err)
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty directory: got %v, want not exist", err)
	}
	finish(t, func() *Writer {
		w, err := Reopen(dir)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}())
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range []struct {
		name, tensor, want string
		row                Row
	}{
		{"no such tensor", "q.0", "no tensor q.0", Row{Shard: "states-00000.safetensors"}},
		{"path", "k.0", "no name of a shard", Row{Shard: "../states-00000.safetensors"}},
		{"before the shard", "k.0", "has the vectors -1 to 1", Row{Shard: "states-00000.safetensors", Offset: -1, Count: 2}},
		{"fewer than none", "k.0", "has the vectors 2 to 1", Row{Shard: "states-00000.safetensors", Offset: 2, Count: -1}},
		{"more than can be counted", "k.0", "which has 3", Row{Shard: "states-00000.safetensors", Offset: math.MaxInt, Count: 1}},
		{"beyond the shard", "k.0", "which has 3", Row{Shard: "states-00000.safetensors", Offset: 2, Count: 2}},
	} {
		if _, err := s.Tensor(c.row, c.tensor); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	if err := CheckUnused(filepath.Join(dir, "none")); err != nil {
		t.Errorf("a directory that is not there: got %v, want it taken", err)
	}
	if err := CheckUnused(filepath.Join(dir, IndexFile)); err == nil {
		t.Error("a file is taken for a directory")
	}
}

// TestLayoutRefuses: a layout that cannot be is neither written nor read.
func TestLayoutRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(l *Layout)
		want   string // "" if it is taken
	}{
		{"smallest", func(l *Layout) { l.ShardRows, l.ShardBytes = 1, 1 }, ""},
		{"format", func(l *Layout) { l.Format = "csv" }, `format "csv"`},
		{"no tensors", func(l *Layout) { l.Tensors = nil }, "no tensors"},
		{"no rows", func(l *Layout) { l.ShardRows = 0 }, "at most 0 rows"},
		{"no bytes", func(l *Layout) { l.ShardBytes = 0 }, "and 0 bytes"},
		{"type", func(l *Layout) { l.Tensors[1].DType = "F31" }, `tensor k.0: dtype "F31"`},
		{"shape", func(l *Layout) { l.Tensors[1].Shape = []int{-1} }, "tensor k.0: shape [-1]"},
	} {
		dir := t.TempDir()
		l := layout(Safetensors)
		c.change(&l)
		w, err := Create(filepath.Join(dir, "new"), l, l)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: create: got %v, want an error with %q", c.name, err, c.want)
		}
		if w != nil {
			w.Close()
		}
		text, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, ConfigFile)
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); (err == nil) != (c.want == "") || err != nil && !(strings.Contains(err.Error(), c.want) && strings.HasPrefix(err.Error(), path)) {
			t.Errorf("%s: open: got %v, want an error of %s with %q", c.name, err, path, c.want)
		}
		if err := os.WriteFile(path, text[1:], 0o644); err != nil {
			t.Fatal(err)
		}
		for _, open := range []func(string) error{
			func(dir string) error { _, err := Open(dir); return err },
			func(dir string) error { _, err := Reopen(dir); return err },
		} {
			if err := open(dir); err == nil || !strings.HasPrefix(err.Error(), path) {
				t.Errorf("%s: damaged config.json: got %v, want an error of %s", c.name, err, path)
			}
		}
	}
}

// TestShardRefuses: a shard whose tensors are not the layout's is not read, and not taken for whole.
func TestShardRefuses(t *testing.T) {
	wide := safetensors.Tensor{Name: "resid.0", DType: safetensors.F64, Shape: []int{3, 2}, Data: make([]byte, 48)}
	narrow := safetensors.Tensor{Name: "k.0", DType: safetensors.F32, Shape: []int{3, 1, 3}, Data: make([]byte, 36)}
	for _, c := range []struct {
		name   string
		second func(k safetensors.Tensor) safetensors.Tensor
		want   string // "" if it is taken
	}{
		{"good", func(k safetensors.Tensor) safetensors.Tensor { return k }, ""},
		{"another name", func(k safetensors.Tensor) safetensors.Tensor { k.Name = "v.0"; return k }, "tensor k.0 is  []"},
		{"another type", func(k safetensors.Tensor) safetensors.Tensor { k.DType = "I32"; return k }, "tensor k.0 is I32 [3 1 3]"},
		{"another shape", func(k safetensors.Tensor) safetensors.Tensor { k.Shape = []int{3, 3, 1}; return k }, "is F32 [3 3 1], want F32 with vectors of [1 3]"},
		{"no vectors at all", func(k safetensors.Tensor) safetensors.Tensor { k.Shape, k.Data = nil, k.Data[:4]; return k }, "is F32 []"},
		{"fewer vectors", func(k safetensors.Tensor) safetensors.Tensor { k.Shape, k.Data = []int{2, 1, 3}, k.Data[:24]; return k },
			"tensor k.0 has 2 vectors, resid.0 has 3"},
	} {
		dir := filepath.Join(t.TempDir(), "out")
		finish(t, create(t, dir, layout(Safetensors)))
		file := fileOf(t, dir, "states-00000")
		if err := safetensors.Write(file, []safetensors.Tensor{wide, c.second(narrow)}, nil); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Float64s(Row{Shard: filepath.Base(file), Count: 1}, "resid.0")
		if (err == nil) != (c.want == "") || err != nil && !(strings.Contains(err.Error(), c.want) && strings.HasPrefix(err.Error(), file)) {
			t.Errorf("%s: got %v, want an error of %s with %q", c.name, err, file, c.want)
		}
		s.Close()
		w, err := Reopen(dir)
		if err != nil {
			t.Fatal(err)
		}
		if whole := w.Rows() == 8; whole != (c.want == "") {
			t.Errorf("%s: %d rows stay", c.name, w.Rows())
		}
		w.Close()
	}
}

// TestIndexRefuses: a line that is damaged ends the reading of the index with its number, and so does an index that is not there.
func TestIndexRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	finish(t, create(t, dir, layout(Safetensors)))
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	read := func() (rows int, last error) {
		for _, err := range s.Rows() {
			if last = err; err == nil {
				rows++
			}
		}
		return rows, last
	}
	path := filepath.Join(dir, IndexFile)
	if err := rewriteIndex(dir, func(lines []string) []string { lines[2] = lines[2][1:]; return lines }); err != nil {
		t.Fatal(err)
	}
	if rows, err := read(); rows != 2 || err == nil || !strings.HasPrefix(err.Error(), path+": line 3: ") {
		t.Errorf("a damaged line: got %d rows and %v, want 2 and an error of %s: line 3", rows, err, path)
	}
	for range s.Rows() {
		break // a reader that has seen enough gets nothing more
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if rows, err := read(); rows != 0 || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no index: got %d rows and %v, want an error", rows, err)
	}
}

// TestCreateRefusesWhatIsLeft: rows that another writer left are not taken for those of a new one.
func TestCreateRefusesWhatIsLeft(t *testing.T) {
	for _, format := range Formats() {
		for name, c := range map[string]struct {
			remove, want string // files to remove by pattern; "" as an error: none
		}{
			"config.json lost":                {ConfigFile, "without its config.json"},
			"config.json and the index lost":  {"*.json*", "states-00002"},
			"only config.json":                {"[is]*", "--resume"},
			"only the index":                  {"[cs]*", "holds index.jsonl"},
			"other files, and an empty index": {"*", ""},
		} {
			dir := filepath.Join(t.TempDir(), "out")
			finish(t, create(t, dir, layout(format)))
			files, err := filepath.Glob(filepath.Join(dir, c.remove))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			}
			if c.want == "" {
				for _, file := range []string{IndexFile, "notes", ".states-00000.safetensors.tmp-1"} {
					if err := os.WriteFile(filepath.Join(dir, file), nil, 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			l := layout(format)
			w, err := Create(dir, l, l)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s, %s: got %v, want an error with %q", format, name, err, c.want)
			}
			if w != nil {
				w.Close()
				if got := content(t, dir); len(got) != 3 {
					t.Errorf("%s, %s: %d files, want notes, the index and config.json", format, name, len(got))
				}
			}
		}
	}
}

// TestAppendRoundsOnce: to every type, values are rounded to the nearest at once, with ties to even, from float64 too.
func TestAppendRoundsOnce(t *testing.T) {
	for _, c := range []struct {
		d      safetensors.DType
		finite int // bit patterns of positive finite numbers
	}{{safetensors.F16, 0x7C00}, {safetensors.BF16, 0x7F80}} {
		decode := func(bits int) float64 {
			var out [1]float32
			if err := safetensors.Decode(out[:], c.d, []byte{byte(bits), byte(bits >> 8)}); err != nil {
				t.Fatal(err)
			}
			return float64(out[0])
		}
		for bits := range c.finite - 1 {
			low, high := decode(bits), decode(bits+1)
			middle := (low + high) / 2 // exact in float64
			even := bits
			if bits%2 == 1 {
				even++
			}
			values := []float64{low, math.Nextafter(middle, low), middle, math.Nextafter(middle, high), -middle}
			got, err := Append(nil, c.d, values)
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []int{bits, bits, even, bits + 1, even | 0x8000} {
				if g := int(got[2*i]) | int(got[2*i+1])<<8; g != want {
					t.Fatalf("%s of %v: got %#x, want %#x", c.d, values[i], g, want)
				}
			}
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	for _, c := range []struct {
		d     safetensors.DType
		value float64
		ok    bool
	}{
		{safetensors.F16, 65504, true}, {safetensors.F16, 65519.99, true}, {safetensors.F16, 65520, false}, {safetensors.F16, -1e300, false},
		{safetensors.BF16, 65520, true}, {safetensors.BF16, 3.4e38, false}, {safetensors.F32, 3.4e38, true}, {safetensors.F32, 1e39, false},
		{safetensors.F64, 1e300, true}, {safetensors.F64, math.NaN(), false}, {safetensors.F64, math.Inf(-1), false},
		{safetensors.F32, math.NaN(), false}, {safetensors.F16, math.NaN(), false}, {"I8", 1, false},
	} {
		want := "finite number: see --store"
		if c.d == "I8" {
			want = "cannot be stored as I8"
		} else if math.IsNaN(c.value) || math.IsInf(c.value, 0) {
			want = "is damaged"
		}
		for at, values := range [][]float64{{c.value, 1}, {1, c.value}} {
			_, err := Append([]byte("x"), c.d, values)
			if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%v as %s: got %v, want an error: %t, with %q", c.value, c.d, err, !c.ok, want)
			}
			if err != nil && c.d != "I8" && !strings.Contains(err.Error(), fmt.Sprintf("value %d is", at)) {
				t.Errorf("%v as %s: %v does not say which value", c.value, c.d, err)
			}
		}
	}
}
