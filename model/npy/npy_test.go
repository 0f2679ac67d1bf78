package npy

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotransplant/model/safetensors"
)

func write(t *testing.T, d safetensors.DType, shape []int, data string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.npy")
	err := Write(path, d, shape, func(w io.Writer) error { _, err := io.WriteString(w, data); return err })
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestBytes: the files are laid out as the format says.
func TestBytes(t *testing.T) {
	for _, c := range []struct {
		name, header string
		d            safetensors.DType
		shape        []int
		size         int
	}{
		{"matrix", "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }", safetensors.F64, []int{2, 3}, 48},
		{"vector", "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", safetensors.F32, []int{3}, 12},
		{"scalar", "{'descr': '<f2', 'fortran_order': False, 'shape': (), }", safetensors.F16, nil, 2},
		{"empty", "{'descr': '<f2', 'fortran_order': False, 'shape': (0, 4, 5), }", safetensors.F16, []int{0, 4, 5}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := strings.Repeat("x", c.size)
			got, err := os.ReadFile(write(t, c.d, c.shape, data))
			if err != nil {
				t.Fatal(err)
			}
			// spaces up to a multiple of 64, and a new line: 118 = 128 - 10
			want := "\x93NUMPY\x01\x00\x76\x00" + c.header + strings.Repeat(" ", 117-len(c.header)) + "\n" + data
			if string(got) != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

func TestRoundTrip(t *testing.T) {
	f, err := Open(write(t, safetensors.F32, []int{2, 1, 2}, "abcdefghijklmnop"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.DType != safetensors.F32 || !slices.Equal(f.Shape, []int{2, 1, 2}) || string(f.Data) != "abcdefghijklmnop" {
		t.Errorf("got %s %v %q", f.DType, f.Shape, f.Data)
	}
}

// TestNumpyReads asks numpy itself, where it is installed.
func TestNumpyReads(t *testing.T) {
	if err := exec.Command("python3", "-c", "import numpy").Run(); err != nil {
		t.Skip("skipped: python3 with numpy is not installed; TestBytes holds the layout")
	}
	path := write(t, safetensors.F64, []int{1, 2}, "\x00\x00\x00\x00\x00\x00\xf8\x3f\x00\x00\x00\x00\x00\x00\x00\xc0")
	out, err := exec.Command("python3", "-c", "import numpy, sys; a = numpy.load(sys.argv[1]); print(a.dtype, a.tolist())", path).CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != "float64 [[1.5, -2.0]]" {
		t.Errorf("numpy reads %q, %v; want float64 [[1.5, -2.0]]", got, err)
	}
}

func TestRefuses(t *testing.T) {
	if err := Write(filepath.Join(t.TempDir(), "a.npy"), safetensors.BF16, []int{1}, nil); err == nil || !strings.Contains(err.Error(), "BF16") {
		t.Errorf("bfloat16: got %v, want an error that names it", err)
	}
	whole, err := os.ReadFile(write(t, safetensors.F32, []int{2}, "abcdefgh"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, content, want string }{
		{"not npy", "PK\x03\x04", "not a .npy file"},
		{"version 2", strings.Replace(string(whole), "\x01\x00", "\x02\x00", 1), "not a .npy file of version 1.0"},
		{"cut header", string(whole[:40]), "cut short"},
		{"cut data", string(whole[:len(whole)-1]), "takes 8 bytes, but 7"},
		{"type", strings.Replace(string(whole), "<f4", "<i4", 1), "header"},
		{"order", strings.Replace(string(whole), "False", "True ", 1), "header"},
		{"shape", strings.Replace(string(whole), "(2,)", "(x,)", 1), "header"},
	} {
		path := filepath.Join(t.TempDir(), "b.npy")
		if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
			t.Fatal(err)
		}
		if f, err := Open(path); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, %v; want an error with %q", c.name, f, err, c.want)
		}
	}
}
