package safetensors

import (
	"bytes"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// build makes a file of header and as many data bytes, counting up from 0.
func build(header string, data int) []byte {
	content := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	for i := range data {
		content = append(content, byte(i))
	}
	return content
}

func TestParse(t *testing.T) {
	cases := []struct {
		name   string
		header string
		data   int
		names  []string
		meta   map[string]string
	}{
		{"nothing", `{}`, 0, nil, nil},
		{"metadata alone", `{"__metadata__":{"a":"b","c":""}}`, 0, nil, map[string]string{"a": "b", "c": ""}},
		{"empty metadata", `{"__metadata__":{}}`, 0, nil, map[string]string{}},
		{"one tensor", `{"a":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]}}`, 16, []string{"a"}, nil},
		{"padded with spaces", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}      `, 1, []string{"a"}, nil},
		{"spaces inside", "{ \"a\" :\t{\"shape\": [ 1 ],\n \"data_offsets\": [0, 1], \"dtype\": \"U8\"} }", 1,
			[]string{"a"}, nil},
		{"scalar", `{"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}`, 8, []string{"a"}, nil},
		{"no elements", `{"a":{"dtype":"I32","shape":[2,0],"data_offsets":[0,0]}}`, 0, []string{"a"}, nil},
		{"listed out of order", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[2,3]},` +
			`"b":{"dtype":"I16","shape":[1],"data_offsets":[0,2]}}`, 3, []string{"b", "a"}, nil},
		{"no elements between others", `{"c":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},` +
			`"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},` +
			`"b":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}}`, 2, []string{"a", "b", "c"}, nil},
		{"name in escapes", `{"\u0061\ud83d\ude00\\u":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}`, 1,
			[]string{"a\U0001F600\\u"}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f, err := Parse("x", build(c.header, c.data))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(f.Names(), c.names) || !maps.Equal(f.Metadata(), c.meta) {
				t.Errorf("got %q, %v, want %q, %v", f.Names(), f.Metadata(), c.names, c.meta)
			}
			next := 0
			for _, name := range f.Names() {
				tensor, ok := f.Tensor(name)
				if !ok || tensor.Name != name {
					t.Errorf("Tensor(%q): got %q, %t", name, tensor.Name, ok)
				}
				for _, b := range tensor.Data {
					if int(b) != next {
						t.Fatalf("%q: got data byte %d, want %d", name, b, next)
					}
					next++
				}
			}
			if next != c.data {
				t.Errorf("the tensors hold %d bytes, want %d", next, c.data)
			}
		})
	}
}

// badFiles are headers, each with one thing wrong, and words the error must have.
var badFiles = []struct {
	name   string
	header string
	data   int
	want   string
}{
	{"no header", ``, 0, "start with '{'"},
	{"leading space", ` {}`, 0, "start with '{'"},
	{"array", `[]`, 0, "start with '{'"},
	{"cut JSON", `{"a`, 0, "not JSON"},
	{"second value", `{}{}`, 0, "not JSON"},
	{"zero bytes as padding", "{}\x00\x00", 0, "not JSON"},
	{"trailing comma", `{"__metadata__":{},}`, 0, "not JSON"},
	{"not UTF-8", "{\"a\xff\":{}}", 0, "byte 3 is not UTF-8"},
	{"half a surrogate pair", `{"\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1, "surrogate"},
	{"second half alone", `{"\udc00":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1, "surrogate"},
	{"tensor twice", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},` +
		`"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1, `key "a" stands twice`},
	{"tensor twice by an escape", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},` +
		`"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1, `key "a" stands twice`},
	{"dtype twice", `{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1,
		`key "a"."dtype" stands twice`},
	{"metadata key twice", `{"__metadata__":{"k":"1","k":"2"}}`, 0, `key "__metadata__"."k" stands twice`},
	{"metadata number", `{"__metadata__":{"k":1}}`, 0, `"k": want a string`},
	{"metadata nested", `{"__metadata__":{"k":{}}}`, 0, `"k": want a string`},
	{"metadata null", `{"__metadata__":null}`, 0, "want an object"},
	{"tensor null", `{"a":null}`, 0, `tensor "a": want an object`},
	{"no dtype", `{"a":{"shape":[1],"data_offsets":[0,1]}}`, 1, `tensor "a": dtype is missing`},
	{"no shape", `{"a":{"dtype":"U8","data_offsets":[0,1]}}`, 1, `tensor "a": shape is missing`},
	{"no offsets", `{"a":{"dtype":"U8","shape":[1]}}`, 1, `tensor "a": data_offsets is missing`},
	{"capital key", `{"a":{"Dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1, "dtype is missing"},
	{"another key", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}`, 1, "keys other than"},
	{"dtype number", `{"a":{"dtype":1,"shape":[1],"data_offsets":[0,1]}}`, 1, "dtype: want a string"},
	{"dtype unknown", `{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,1]}}`, 1, `dtype "F31"`},
	{"dtype in small letters", `{"a":{"dtype":"u8","shape":[1],"data_offsets":[0,1]}}`, 1, `dtype "u8"`},
	{"shape null", `{"a":{"dtype":"U8","shape":null,"data_offsets":[0,1]}}`, 1, "shape: want an array"},
	{"shape number", `{"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}}`, 1, "shape: want an array"},
	{"dimension string", `{"a":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}}`, 1, "shape: item 0"},
	{"dimension null", `{"a":{"dtype":"U8","shape":[null],"data_offsets":[0,1]}}`, 1, "shape: item 0"},
	{"dimension fraction", `{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}`, 1, "shape: item 0"},
	{"dimension exponent", `{"a":{"dtype":"U8","shape":[1,1e0],"data_offsets":[0,1]}}`, 1, "shape: item 1"},
	{"dimension negative", `{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}`, 1, "shape: item 0"},
	{"dimension minus zero", `{"a":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}`, 0, "shape: item 0"},
	{"dimension too large", `{"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,1]}}`, 1,
		"shape: item 0"},
	{"elements overflow", `{"a":{"dtype":"U8","shape":[9223372036854775807,4],"data_offsets":[0,1]}}`, 1,
		"can be counted"},
	{"elements wrap to few", `{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0,
		"can be counted"},
	{"bytes overflow", `{"a":{"dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,0]}}`, 0, "can be counted"},
	{"half a byte", `{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}`, 2, "whole byte"},
	{"offsets swapped", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}`, 1, "start <= end"},
	{"one offset", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[1]}}`, 1, "start <= end"},
	{"three offsets", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}}`, 1, "start <= end"},
	{"offset negative", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}`, 1, "data_offsets: item 0"},
	{"offset too large", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,9223372036854775808]}}`, 1,
		"data_offsets: item 1"},
	{"length too small", `{"a":{"dtype":"I32","shape":[2,2],"data_offsets":[0,4]}}`, 4, "takes 16 bytes"},
	{"length too large", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,2]}}`, 2, "takes 1 bytes"},
	{"gap at the start", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2, "1 unused bytes behind the header"},
	{"gap in the middle", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},` +
		`"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, 3, `tensor "b": its bytes start at 2, leaving 1 unused`},
	{"bytes left over", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 2, "1 bytes follow"},
	{"bytes without tensor", `{}`, 5, "5 bytes follow"},
	{"same bytes twice", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},` +
		`"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1, `tensor "b": its bytes start at 0 and overlap`},
	{"overlap", `{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},` +
		`"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3, `tensor "b": its bytes start at 1 and overlap`},
	{"cut data", `{"a":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]}}`, 14,
		`tensor "a": its bytes end at 16, but only 14`},
}

func TestParseRefuses(t *testing.T) {
	for _, c := range badFiles {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("dir/x.safetensors", build(c.header, c.data))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "dir/x.safetensors: ") {
				t.Errorf("got %v, want an error of dir/x.safetensors with %q", err, c.want)
			}
		})
	}
}

func TestParseRefusesLengths(t *testing.T) {
	length := func(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }
	cases := []struct {
		name    string
		content []byte
		want    string
	}{
		{"empty file", nil, "0 bytes cannot be"},
		{"seven bytes", make([]byte, 7), "7 bytes cannot be"},
		{"length alone", length(2), "claims 2 bytes, but only 0"},
		{"one byte short", append(length(3), "{}"...), "claims 3 bytes, but only 2"},
		{"at the limit", append(length(100_000_000), "{}"...), "claims 100000000 bytes, but only 2"},
		{"just over the limit", append(length(100_000_001), "{}"...), "the format allows 100000000"},
		{"all ones", append(length(1<<64-1), "{}"...), "the format allows"},
		{"wraps with the prefix", append(length(1<<64-8), "{}"...), "the format allows"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Parse("x", c.content); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestByteSizeOfEveryType(t *testing.T) {
	want := map[DType]int{
		"BOOL": 24, "F4": 12, "F6_E2M3": 18, "F6_E3M2": 18, "U8": 24, "I8": 24, "F8_E5M2": 24, "F8_E4M3": 24, "F8_E8M0": 24,
		"F8_E4M3FNUZ": 24, "F8_E5M2FNUZ": 24, "I16": 48, "U16": 48, "F16": 48, "BF16": 48, "I32": 96, "U32": 96, "F32": 96,
		"C64": 192, "F64": 192, "I64": 192, "U64": 192,
	}
	for d, size := range want {
		if got, err := ByteSize(d, []int{4, 6}); got != size || err != nil {
			t.Errorf("24 elements of %s: got %d, %v, want %d bytes", d, got, err, size)
		}
	}
	if len(dtypes) != len(want) {
		t.Errorf("%d types are known, and %d are tested", len(dtypes), len(want))
	}
	for _, shape := range [][]int{{2, -1}, {0, -1}} {
		if _, err := ByteSize(F32, shape); err == nil || !strings.Contains(err.Error(), "negative") {
			t.Errorf("%v: got %v, want an error that says negative", shape, err)
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.safetensors")
	if err := os.WriteFile(path, build(`{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}`, 3), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if a, _ := f.Tensor("a"); !bytes.Equal(a.Data, []byte{0, 1, 2}) || cap(a.Data) != 3 {
		t.Errorf("got % x of capacity %d, want 00 01 02 and no room to append", a.Data, cap(a.Data))
	}
	if _, ok := f.Tensor("b"); ok {
		t.Error("a tensor that is not there is found")
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "absent"): "no such file", dir: "not a regular file", empty: "0 bytes cannot be",
	} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("Open(%s): got %v, want an error with the path and %q", path, err, want)
		}
	}
}

// TestMappedCopy: only a part of the content is copied, and what another program has cut off meanwhile is an error.
func TestMappedCopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := Map(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	made := &Mapped{Content: []byte("0123456789")} // without a file
	around := []byte("x0123456789x")
	inside := &Mapped{Content: around[1:11]}
	cases := []struct {
		name string
		m    *Mapped
		part []byte
		room int
		want string // "" if it is refused
	}{
		{"all", m, m.Content, 10, "0123456789"},
		{"middle", m, m.Content[3:5], 2, "34"},
		{"end", m, m.Content[9:], 1, "9"},
		{"made by hand", made, made.Content[3:5], 2, "34"},
		{"too little room", m, m.Content[3:5], 1, ""},
		{"too much room", m, m.Content[3:5], 3, ""},
		{"empty", m, m.Content[:0], 0, ""},
		{"of another file", m, made.Content, 10, ""},
		{"of nothing", &Mapped{}, made.Content, 10, ""},
		{"before", inside, around[:2], 2, ""},
		{"beyond", inside, around[10:], 2, ""},
	}
	for _, c := range cases {
		dst := make([]byte, c.room)
		err := c.m.Copy(dst, c.part)
		if c.want == "" && (err == nil || !strings.Contains(err.Error(), "no part of the file")) {
			t.Errorf("%s: got %v, want it refused", c.name, err)
		}
		if c.want != "" && (err != nil || string(dst) != c.want) {
			t.Errorf("%s: got %q, %v, want %q", c.name, dst, err, c.want)
		}
	}
	if err := os.Truncate(path, 6); err != nil {
		t.Fatal(err)
	}
	err = m.Copy(make([]byte, 4), m.Content[4:8])
	if want := "only 2 of the 4 bytes at 4 are still there"; err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
		t.Errorf("a file cut short: got %v, want an error with the path and %q", err, want)
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := m.Copy(make([]byte, 4), around[:4]); err == nil {
		t.Error("a closed file is copied from")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(build(`{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},`+
		`"b":{"dtype":"F32","shape":[],"data_offsets":[12,16]}}   `, 16))
	for _, c := range badFiles {
		f.Add(build(c.header, c.data))
	}
	f.Add(binary.LittleEndian.AppendUint64(nil, 1<<64-1))
	f.Fuzz(func(t *testing.T, content []byte) {
		file, err := Parse("x", content)
		if err != nil {
			return
		}
		total := 0
		for _, name := range file.Names() {
			tensor, ok := file.Tensor(name)
			size, err := ByteSize(tensor.DType, tensor.Shape)
			if !ok || err != nil || size != len(tensor.Data) {
				t.Fatalf("tensor %q: %t, %v, %d bytes, want %d", name, ok, err, len(tensor.Data), size)
			}
			total += size
			if _, err := tensor.Float32s(); err != nil && slices.Contains([]DType{F64, F32, F16, BF16}, tensor.DType) {
				t.Error(err)
			}
		}
		if header := int(binary.LittleEndian.Uint64(content)); 8+header+total != len(content) {
			t.Errorf("header of %d and data of %d bytes do not make the file of %d", header, total, len(content))
		}
	})
}
