package torchbin

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ramp is what the script that made the fixtures calls so: the values start/4, (start+1)/4, ...
func ramp(n, start int) []float32 {
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(start+i) / 4
	}
	return values
}

func TestBothFormats(t *testing.T) {
	cases := []struct {
		name  string
		dtype string
		shape []int
		want  []float32
	}{
		{"f64", "F64", []int{2, 3}, ramp(6, -5)},
		{"f32", "F32", []int{2, 3}, ramp(6, -5)},
		{"f16", "F16", []int{2, 3}, ramp(6, -5)},
		{"bf16", "BF16", []int{2, 3}, ramp(6, -5)},
		{"transposed", "F32", []int{3, 2}, []float32{-1.25, -0.5, -1, -0.25, -0.75, 0}},
		{"row", "F32", []int{3}, []float32{-0.5, -0.25, 0}},
		{"column", "F32", []int{2}, []float32{-1, -0.25}},
		{"scalar", "F32", []int{}, []float32{0}},
		{"empty", "F32", []int{0, 3}, []float32{}},
		{"parameter", "F32", []int{2, 2}, ramp(4, -5)},
	}
	for _, file := range []string{"zip.bin", "legacy.bin"} {
		f, err := Open(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, c := range cases {
			got, ok := f.Tensor(c.name)
			if !ok || string(got.DType) != c.dtype || !slices.Equal(got.Shape, c.shape) || got.Name != c.name {
				t.Errorf("%s: %s: got %q %s %v, want %s %v", file, c.name, got.Name, got.DType, got.Shape, c.dtype, c.shape)
				continue
			}
			if values, err := got.Float32s(); err != nil || !slices.Equal(values, c.want) {
				t.Errorf("%s: %s: got %v, %v, want %v", file, c.name, values, err, c.want)
			}
		}
		if names := f.Names(); len(names) != 13 || names[0] != "f64" || names[12] != "bf16 bits" {
			t.Errorf("%s: got names %q, want 13 in the order of the state dict", file, names)
		}
	}
}

func TestStoredBytesAreKept(t *testing.T) {
	cases := []struct {
		name string
		want []uint16
	}{
		{"f16 bits", []uint16{0x7E01, 0x7C01, 0xFC00, 0x8000, 0x0001}},
		{"bf16 bits", []uint16{0x7FC1, 0x7F81, 0xFF80, 0x8000, 0x0001}},
	}
	for _, file := range []string{"zip.bin", "legacy.bin"} {
		f, err := Open(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cases {
			var want []byte
			for _, u := range c.want {
				want = binary.LittleEndian.AppendUint16(want, u)
			}
			if got, _ := f.Tensor(c.name); !bytes.Equal(got.Data, want) {
				t.Errorf("%s: %s: got % x, want % x", file, c.name, got.Data, want)
			}
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	}
}

func TestFilesThatAreNoStateDict(t *testing.T) {
	cases := []struct{ file, want string }{
		{"expanded.bin", `tensor "expanded": shape [3 2] repeats the 2 elements`},
		{"module.bin", "torch.nn.modules.linear.Linear, which no state dict"},
		{"nested.bin", `"state_dict" is a *types.Dict, want a tensor`},
		{"absent.bin", "no such file"},
	}
	for _, c := range cases {
		t.Run(c.file, func(t *testing.T) {
			_, err := Open(filepath.Join("testdata", c.file))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.file) {
				t.Errorf("got %v, want an error with %q and the file's name", err, c.want)
			}
		})
	}
}

// archive makes a zip file of stored records, name and content in turn.
func archive(t *testing.T, method uint16, records ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := 0; i < len(records); i += 2 {
		f, err := w.CreateHeader(&zip.FileHeader{Name: records[i], Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(records[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestDataLiesInTheFile: elements that lie row-major in their storage are not copied, whatever the stride of a dimension of
// one says; others are gathered in order.
func TestDataLiesInTheFile(t *testing.T) {
	cases := []struct {
		name          string
		offset        int
		shape, stride []int
		want          string
		copied        bool
	}{
		{"vector", 1, []int{3}, []int{1}, "bcd", false},
		{"matrix", 0, []int{2, 3}, []int{3, 1}, "abcdef", false},
		{"cube", 0, []int{2, 2, 2}, []int{4, 2, 1}, "abcdefgh", false},
		{"dimension of one", 2, []int{2, 1, 2}, []int{2, 7, 1}, "cdef", false},
		{"scalar", 7, nil, nil, "h", false},
		{"every second", 1, []int{3}, []int{2}, "bdf", true},
		{"transposed", 0, []int{2, 3}, []int{1, 2}, "acebdf", true},
		{"rows with a gap", 0, []int{2, 3}, []int{5, 1}, "abcfgh", true},
		{"repeated", 0, []int{2, 2}, []int{0, 1}, "abab", true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			data := []byte("abcdefgh")
			v := view{&storage{"U8", len(data), data}, c.offset, c.shape, c.stride}
			got, err := v.bytes()
			if err != nil || string(got) != c.want {
				t.Fatalf("got %q, %v, want %q", got, err, c.want)
			}
			if copied := &got[0] != &data[c.offset]; copied != c.copied || !copied && cap(got) != len(got) {
				t.Errorf("copied: got %t, want %t; room to append %d, want none", copied, c.copied, cap(got)-len(got))
			}
		})
	}
}

// The text pickle opcodes below spell {"w": rebuild(storage, offset, (2,), (stride,))} with a storage of 3 floats.
func statePickle(offset, stride string) string {
	return "(S'w'\n" + "ctorch._utils\n_rebuild_tensor_v2\n" +
		"((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI3\ntQI" + offset + "\n(I2\nt(I" + stride + "\nttRd."
}

func TestBadArchives(t *testing.T) {
	const twelve, float = "123412341234", "ctorch\nFloatStorage\n"
	bomb := "\x8d" + string(binary.LittleEndian.AppendUint64(nil, 1<<40)) + "."
	cases := []struct {
		name    string
		records []string
		want    string // "" when the file is good
	}{
		{"good", []string{"a/data.pkl", statePickle("1", "1"), "a/data/0", twelve}, ""},
		{"little endian said", []string{"a/data.pkl", statePickle("0", "2"), "a/data/0", twelve, "a/byteorder", "little"},
			""},
		{"big endian", []string{"a/data.pkl", statePickle("0", "1"), "a/data/0", twelve, "a/byteorder", "big"}, "byte order"},
		{"no pickle", []string{"a/other", ""}, "without data.pkl"},
		{"TorchScript", []string{"a/data.pkl", "N.", "a/constants.pkl", "N."}, "TorchScript"},
		{"record twice", []string{"a/data.pkl", "N.", "a/data.pkl", "N."}, "twice"},
		{"no storage", []string{"a/data.pkl", statePickle("1", "1")}, `no record for storage "0"`},
		{"short storage", []string{"a/data.pkl", statePickle("1", "1"), "a/data/0", "1234"}, "take 12 bytes, got 4"},
		{"offset too large", []string{"a/data.pkl", statePickle("2", "1"), "a/data/0", twelve}, "outside the storage"},
		{"offset negative", []string{"a/data.pkl", statePickle("-1", "1"), "a/data/0", twelve}, "outside the storage"},
		{"stride too large", []string{"a/data.pkl", statePickle("0", "3"), "a/data/0", twelve}, "outside the storage"},
		{"strides too large together", []string{"a/data.pkl",
			strings.NewReplacer("(I2\nt", "(I2\nI2\nt", "(I1\nt", "(I2\nI1\nt").Replace(statePickle("0", "1")), "a/data/0", twelve},
			"outside the storage"},
		{"stride overflows", []string{"a/data.pkl", statePickle("0", "4611686018427387904"), "a/data/0", twelve},
			"outside the storage"},
		{"stride negative", []string{"a/data.pkl", statePickle("2", "-1"), "a/data/0", twelve}, "outside the storage"},
		{"offset no number", []string{"a/data.pkl", strings.Replace(statePickle("1", "1"), "I1\n", "N", 1), "a/data/0",
			twelve},
			"rebuilt from *torchbin.storage, <nil>"},
		{"not a dict", []string{"a/data.pkl", "N."}, "state dict of tensors is wanted"},
		{"key no string", []string{"a/data.pkl", "(I1\nNd."}, "key of type int"},
		{"odd dict", []string{"a/data.pkl", "(S'w'\nd."}, "run the pickle"},
		{"claims a terabyte", []string{"a/data.pkl", bomb}, "does not end"},
		{"cut pickle", []string{"a/data.pkl", "(S'w'\n"}, "does not end"},
		{"id too short", []string{"a/data.pkl", "(S'storage'\ntQ."}, "want the tuple of a storage"},
		{"id of something else", []string{"a/data.pkl", "(S'module'\nNNNNtQ."}, "want the tuple of a storage"},
		{"id without type", []string{"a/data.pkl", "(S'storage'\nNS'0'\nS'cpu'\nI3\ntQ."}, "its type, key and size"},
		{"size negative", []string{"a/data.pkl", "(S'storage'\n" + float + "S'0'\nS'cpu'\nI-3\ntQ."}, "negative dimension"},
		{"part of a storage", []string{"a/data.pkl", "(S'storage'\n" + float + "S'0'\nS'cpu'\nI3\nI1\ntQ."},
			"part of another one"},
		{"storage of two sizes", []string{"a/data.pkl", "(S'storage'\n" + float + "S'0'\nS'cpu'\nI3\ntQ" +
			"(S'storage'\n" + float + "S'0'\nS'cpu'\nI2\ntQ.", "a/data/0", twelve}, "3 elements of F32 in one place and 2"},
		{"tensor of nothing", []string{"a/data.pkl", "ctorch._utils\n_rebuild_tensor\n(tR."}, "rebuilt from 0 arguments"},
		{"parameter of nothing", []string{"a/data.pkl", "ctorch._utils\n_rebuild_parameter\n(tR."}, "no tensor"},
		{"parameter of None", []string{"a/data.pkl", "ctorch._utils\n_rebuild_parameter\n(NtR."}, "no tensor"},
		{"shape of None", []string{"a/data.pkl", strings.Replace(statePickle("0", "1"), "(I2\nt", "(Nt", 1), "a/data/0",
			twelve},
			"a tensor is rebuilt from"},
		{"shape no tuple", []string{"a/data.pkl", strings.NewReplacer("(I2\nt", "N", "(I1\nt", "(t").Replace(statePickle("0", "1")),
			"a/data/0", twelve}, "a tensor is rebuilt from"},
		{"strides no tuple", []string{"a/data.pkl", strings.NewReplacer("(I2\nt", "(t", "(I1\nt", "N").Replace(statePickle("0", "1")),
			"a/data/0", twelve}, "a tensor is rebuilt from"},
		{"tensor of no storage", []string{"a/data.pkl", "ctorch._utils\n_rebuild_tensor\n(NI0\n(t(ttR."}, "rebuilt from <nil>"},
		{"id without key", []string{"a/data.pkl", "(S'storage'\n" + float + "NS'cpu'\nI3\ntQ."}, "its type, key and size"},
		{"id without size", []string{"a/data.pkl", "(S'storage'\n" + float + "S'0'\nS'cpu'\nNtQ."}, "its type, key and size"},
		{"storage of two types", []string{"a/data.pkl", "(S'storage'\n" + float + "S'0'\nS'cpu'\nI3\ntQ" +
			"(S'storage'\nctorch\nIntStorage\nS'0'\nS'cpu'\nI3\ntQ.", "a/data/0", twelve}, "3 elements of F32 in one place and 3 of I32"},
		{"shape and strides differ", []string{"a/data.pkl", strings.Replace(statePickle("0", "1"), "(I2\nt", "(t", 1),
			"a/data/0", twelve}, "a tensor is rebuilt from"},
		{"long pickle", []string{"a/data.pkl", strings.Repeat("N", maxPickle+1)}, "more than the 4194304"},
		{"id no storage", []string{"a/data.pkl", "S'x'\nQ."}, "want the tuple of a storage"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f, err := Parse("x.bin", archive(t, zip.Store, c.records...))
			if c.want == "" {
				if err != nil || len(f.Names()) != 1 {
					t.Fatalf("got %v, want one tensor", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "x.bin: ") {
				t.Errorf("got %v, want an error of x.bin with %q", err, c.want)
			}
		})
	}
	compressed := archive(t, zip.Deflate, "a/data.pkl", statePickle("1", "1"), "a/data/0", twelve)
	if _, err := Parse("x.bin", compressed); err == nil || !strings.Contains(err.Error(), "compressed") {
		t.Errorf("compressed storage: got %v, want it refused", err)
	}
}

func TestDamagedArchives(t *testing.T) {
	good := archive(t, zip.Store, "a/data.pkl", statePickle("1", "1"), "a/data/0", "123412341234")
	flipped := bytes.Replace(good, []byte("S'w'"), []byte("S'v'"), 1)
	if _, err := Parse("x.bin", flipped); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("got %v, want a changed pickle found by its checksum", err)
	}
	// The length of the extra field, in the local header, says where the data begin.
	header := bytes.LastIndex(good, []byte("PK\x03\x04"))
	for _, extra := range []int{len(good) - header - 30 - len("a/data/0") - 11, 0xFFFF} {
		moved := slices.Clone(good)
		binary.LittleEndian.PutUint16(moved[header+28:], uint16(extra))
		if _, err := Parse("x.bin", moved); err == nil || !strings.Contains(err.Error(), "a/data/0: lies outside the file") {
			t.Errorf("extra field of %d bytes: got %v, want the storage found outside the file", extra, err)
		}
	}
	if _, err := Parse("x.bin", good[:len(good)-1]); err == nil || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("got %v, want a cut archive refused", err)
	}
}

func TestStorageTypes(t *testing.T) {
	for class, want := range map[string]string{
		"Double": "F64", "Float": "F32", "Half": "F16", "BFloat16": "BF16", "Long": "I64", "Int": "I32", "Short": "I16",
		"Char": "I8", "Byte": "U8", "Bool": "BOOL",
	} {
		text := strings.Replace(statePickle("1", "1"), "FloatStorage", class+"Storage", 1)
		width := map[byte]int{'8': 1, 'L': 1, '6': 2, '2': 4, '4': 8}[want[len(want)-1]]
		data := strings.Repeat("a", width) + strings.Repeat("b", width) + strings.Repeat("c", width)
		f, err := Parse("x.bin", archive(t, zip.Store, "a/data.pkl", text, "a/data/0", data))
		if err != nil {
			t.Errorf("%s: %v", class, err)
			continue
		}
		if got, _ := f.Tensor("w"); string(got.DType) != want || string(got.Data) != data[width:] {
			t.Errorf("%s: got %s %q, want %s %q", class, got.DType, got.Data, want, data[width:])
		}
	}
}

// TestEqualKeys: the last is the one, as in Python.
func TestEqualKeys(t *testing.T) {
	value := strings.TrimSuffix(strings.TrimPrefix(statePickle("1", "1"), "(S'w'\n"), "d.")
	first := strings.Replace(value, "QI1\n", "QI0\n", 1)
	text := "(S'w'\n" + first + "S'v'\n" + value + "S'w'\n" + value + "d."
	f, err := Parse("x.bin", archive(t, zip.Store, "a/data.pkl", text, "a/data/0", "aaaabbbbcccc"))
	if err != nil {
		t.Fatal(err)
	}
	names := f.Names()
	slices.Sort(names)
	if w, _ := f.Tensor("w"); !slices.Equal(names, []string{"v", "w"}) || string(w.Data) != "bbbbcccc" {
		t.Errorf("got %q and w %q, want v and w once, and w bbbbcccc", names, w.Data)
	}
}

func TestMaliciousPickleRunsNothing(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	for _, class := range []string{"os\nsystem", "posix\nsystem", "builtins\neval", "__builtin__\nexec", "torch\nload"} {
		text := "c" + class + "\n(S'touch " + mark + "'\ntR."
		for name, content := range map[string][]byte{
			"zip": archive(t, zip.Store, "a/data.pkl", text), "older format": []byte(text),
		} {
			_, err := Parse("x.bin", content)
			if want := strings.Replace(class, "\n", ".", 1); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want an error with %s", name, err, want)
			}
		}
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the pickle's command was run")
	}
}

func TestBadLegacyFiles(t *testing.T) {
	good, err := os.ReadFile("testdata/legacy.bin")
	if err != nil {
		t.Fatal(err)
	}
	swap := func(from, to string) []byte { return bytes.Replace(good, []byte(from), []byte(to), 1) }
	cases := []struct {
		name    string
		content []byte
		want    string
	}{
		{"empty", nil, "not a PyTorch file"},
		{"text", []byte("version https://git-lfs\n"), "x.bin: not a PyTorch file: "},
		{"another pickle", []byte("N."), "starts with another pickle"},
		{"protocol", swap("M\xe9\x03.", "M\xe8\x03."), "protocol 1000"},
		{"big endian", swap("little_endianq\x02\x88", "little_endianq\x02\x89"), "big-endian"},
		{"cut in the pickles", good[:200], "x.bin: its pickle does not end"},
		{"cut in the data", good[:len(good)-1], "cut short"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Parse("x.bin", c.content); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

// legacy makes a file of the older format out of text pickles.
func legacy(state, keys, data string) []byte {
	const magic = "L119547037146038801333356L\n." // 0x1950a86a20f9469cfc6c
	return []byte(magic + "I1001\n." + "(d." + state + keys + data)
}

func TestLegacyStorages(t *testing.T) {
	const key, three, twelve = "(lS'0'\na.", "\x03\x00\x00\x00\x00\x00\x00\x00", "123412341234"
	state := statePickle("1", "1")
	cases := []struct {
		name    string
		content []byte
		want    string // "" when the file is good
	}{
		{"good", legacy(state, key, three+twelve), ""},
		{"unused storage", legacy("(d.", key, three+twelve), `storage "0" belongs to no tensor`},
		{"storage not listed", legacy(state, "(l.", ""), `storage "0" is not in the file`},
		{"another size", legacy(state, key, "\x04"+three[1:]+twelve), "holds 4 elements, but the state dict says 3"},
		{"cut size", legacy(state, key, three[:7]), "7 bytes are left, want 20"},
		{"cut data", legacy(state, key, three+twelve[:11]), "19 bytes are left, want 20"},
		{"keys no list", legacy(state, "N.", three+twelve), "list of storages is a <nil>"},
		{"id no storage", legacy("NQ.", key, ""), "want the tuple of a storage"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f, err := Parse("x.bin", c.content)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want an error with %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if w, _ := f.Tensor("w"); string(w.Data) != twelve[4:] || !slices.Equal(w.Shape, []int{2}) {
				t.Errorf("got %v %q, want [2] %q", w.Shape, w.Data, twelve[4:])
			}
		})
	}
}

func TestMeasure(t *testing.T) {
	cases := []struct {
		name string
		text string
		want int // 0 when the pickle does not end
	}{
		{"nothing follows", "N.", 2}, {"something follows", "N.N.", 2},
		{"one byte", "K..", 3}, {"two bytes", "M...", 4}, {"four bytes", "J.....", 6}, {"eight bytes", "G.........", 10},
		{"line", "I.\n.", 4}, {"two lines", "c.\n.\n.", 6}, {"string of 1", "U\x02...", 5}, {"string of 4",
			"X\x01\x00\x00\x00..", 7},
		{"empty lines", "c\n\n.", 4}, {"empty string", "U\x00.", 3}, {"cut byte", "K", 0},
		{"string of 8", "\x8d\x01\x00\x00\x00\x00\x00\x00\x00..", 11}, {"frame", "\x95\x02\x00\x00\x00\x00\x00\x00\x00N.",
			11},
		{"empty", "", 0}, {"no end", "NN", 0}, {"cut number", "J...", 0}, {"cut line", "I.", 0}, {"cut second line",
			"c.\n.", 0},
		{"cut string", "U\x03..", 0}, {"cut length", "X\x01\x00", 0}, {"cut frame",
			"\x95\x03\x00\x00\x00\x00\x00\x00\x00N.", 0},
		{"length of all ones", "\x8e" + strings.Repeat("\xff", 8) + ".", 0},
	}
	for _, c := range cases {
		got, err := measure(slices.Clip([]byte(c.text)))
		if got != c.want || (err == nil) != (c.want > 0) {
			t.Errorf("%s: %q: got %d, %v, want %d", c.name, c.text, got, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"zip.bin", "legacy.bin", "expanded.bin", "module.bin"} {
		content, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Add([]byte(statePickle("0", "1")))
	f.Fuzz(func(t *testing.T, content []byte) {
		file, err := Parse("x.bin", content)
		if err != nil {
			return
		}
		for _, name := range file.Names() {
			tensor, _ := file.Tensor(name)
			if elements := len(tensor.Data) * 8 / tensor.DType.Bits(); elements != product(tensor.Shape) {
				t.Errorf("%q: shape %v, but %d elements", name, tensor.Shape, elements)
			}
		}
	})
}

func product(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}
