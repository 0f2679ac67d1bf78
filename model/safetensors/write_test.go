package safetensors

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// The expected bytes follow from the reference writer's rules: compact JSON, header padded to a multiple of eight with
// spaces, falling dtype rank, then names.
func TestWriteBytes(t *testing.T) {
	six, err := FromFloat32s("attn.0", F32, []int{1, 2, 3}, []float32{0, 1, 2, 3, 4, 5})
	if err != nil {
		t.Fatal(err)
	}
	const sixData = "\x00\x00\x00\x00\x00\x00\x80\x3f\x00\x00\x00\x40\x00\x00\x40\x40\x00\x00\x80\x40\x00\x00\xa0\x40"
	renamed := six
	renamed.Name, renamed.Shape = "attn0", []int{1, 1, 2, 3}
	cases := []struct {
		name    string
		tensors []Tensor
		meta    map[string]string
		want    string
	}{
		{"nothing", nil, nil, "\x08\x00\x00\x00\x00\x00\x00\x00{}      "},
		{"fits without padding", []Tensor{six}, nil, "\x40\x00\x00\x00\x00\x00\x00\x00" +
			`{"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}}` + sixData},
		{"padded", []Tensor{renamed}, nil, "\x48\x00\x00\x00\x00\x00\x00\x00" +
			`{"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}}       ` + sixData},
		{"no elements", []Tensor{{"n", "U8", []int{0}, nil}}, nil, "\x38\x00\x00\x00\x00\x00\x00\x00" +
			`{"n":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}   `},
		{"scalar", []Tensor{{"s", "U8", nil, []byte{7}}}, nil, "\x38\x00\x00\x00\x00\x00\x00\x00" +
			`{"s":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}    ` + "\x07"},
		{"metadata sorted, HTML not escaped", nil, map[string]string{"b": "<&>", "a": "\"\\\n"},
			"\x30\x00\x00\x00\x00\x00\x00\x00" + `{"__metadata__":{"a":"\"\\\n","b":"<&>"}}       `},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x")
			if err := Write(path, c.tensors, c.meta); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestWriteReadsBack(t *testing.T) {
	tensors := []Tensor{
		{"b", "U8", []int{3}, []byte{1, 2, 3}},
		{"\u00e9\"\\\u2028<", BF16, []int{1, 2}, []byte{4, 5, 6, 7}},
		{"a", "U8", []int{0}, []byte{}},
		{"h", F16, []int{1}, []byte{8, 9}},
		{"w", "I64", []int{}, []byte{1, 2, 3, 4, 5, 6, 7, 8}},
		{"f", F32, []int{1}, []byte{1, 2, 3, 4}},
	}
	meta := map[string]string{"format": "pt", "k": "\u00e4"}
	first, second := filepath.Join(t.TempDir(), "x"), filepath.Join(t.TempDir(), "y")
	if err := Write(first, tensors, meta); err != nil {
		t.Fatal(err)
	}
	f, err := Open(first)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if want := []string{"w", "f", tensors[1].Name, "h", "a", "b"}; !slices.Equal(f.Names(), want) {
		t.Errorf("got order %q, want %q", f.Names(), want)
	}
	for _, want := range tensors {
		if got, _ := f.Tensor(want.Name); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if !maps.Equal(f.Metadata(), meta) {
		t.Errorf("got %v, want %v", f.Metadata(), meta)
	}
	slices.Reverse(tensors)
	if err := Write(second, tensors, meta); err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(first)
	if b, _ := os.ReadFile(second); !bytes.Equal(a, b) {
		t.Error("the bytes depend on the order in which the tensors are given")
	}
}

func TestWriteRefuses(t *testing.T) {
	var large []Tensor // each can be counted alone
	for _, name := range strings.Split("abcdefghi", "") {
		large = append(large, Tensor{Name: name, DType: "U8", Shape: []int{math.MaxInt / 8}})
	}
	cases := []struct {
		name    string
		tensors []Tensor
		meta    map[string]string
		want    string
	}{
		{"data too short", []Tensor{{"a", "U8", []int{2}, []byte{1}}}, nil,
			`tensor "a": U8 of shape [2] takes 2 bytes, got 1`},
		{"data too long", []Tensor{{"a", "U8", []int{2}, []byte{1, 2, 3}}}, nil, "takes 2 bytes, got 3"},
		{"name twice", []Tensor{{"a", "U8", nil, []byte{1}}, {"a", "I8", nil, []byte{1}}}, nil, `"a" is given twice`},
		{"name reserved", []Tensor{{"__metadata__", "U8", nil, []byte{1}}}, nil, "cannot hold"},
		{"name not UTF-8", []Tensor{{"\xff", "U8", nil, []byte{1}}}, nil, "cannot hold"},
		{"unknown type", []Tensor{{"a", "X", nil, nil}}, nil, `dtype "X"`},
		{"negative dimension", []Tensor{{"a", "U8", []int{-1}, nil}}, nil, "negative"},
		{"total overflows", large, nil, "longer than can be counted"},
		{"metadata key not UTF-8", nil, map[string]string{"\xff": "a"}, "not UTF-8"},
		{"metadata not UTF-8", nil, map[string]string{"a": "\xff"}, "not UTF-8"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x")
			if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			err := Write(path, c.tensors, c.meta)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want an error with the path and %q", err, c.want)
			}
			if got, _ := os.ReadFile(path); string(got) != "old" {
				t.Errorf("the old file became %q", got)
			}
		})
	}
}

func TestWriteFrom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	specs := []Spec{{"b", "U8", []int{4}}, {"a", "U8", []int{2}}, {"c", F32, []int{1}}}
	var calls []int
	err := WriteFrom(path, specs, nil, func(i int, w io.Writer) error {
		calls = append(calls, i)
		size, _ := ByteSize(specs[i].DType, specs[i].Shape)
		for range size { // in small pieces, as a stream comes
			if _, err := w.Write([]byte{byte(10 + i)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || !slices.Equal(calls, []int{2, 1, 0}) {
		t.Fatalf("got %v and calls %v, want calls 2 1 0", err, calls)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, _ := f.Tensor("b"); !bytes.Equal(b.Data, []byte{10, 10, 10, 10}) {
		t.Errorf("got % x, want 0a 0a 0a 0a", b.Data)
	}
	broken := errors.New("no source")
	err = WriteFrom(path, specs, nil, func(int, io.Writer) error { return broken })
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), `"c"`) {
		t.Errorf("got %v, want %v with the tensor's name", err, broken)
	}
}
