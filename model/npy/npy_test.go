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
	for _, c := range []struct {
		d     safetensors.DType
		shape []int
		data  string
	}{
		{safetensors.F32, []int{2, 1, 2}, "abcdefghijklmnop"},
		{safetensors.F16, nil, "ab"},
		{safetensors.F64, []int{0, 7}, ""},
	} {
		path := write(t, c.d, c.shape, c.data)
		f, err := Open(path)
		if err != nil {
			t.Errorf("%s %v: %v", c.d, c.shape, err)
			continue
		}
		if f.Name != path || f.DType != c.d || !slices.Equal(f.Shape, c.shape) || string(f.Data) != c.data {
			t.Errorf("got %q %s %v %q, want %q %s %v %q", f.Name, f.DType, f.Shape, f.Data, path, c.d, c.shape, c.data)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestHeaderOfEveryLength: whatever the shape, the elements begin at the next multiple of 64, behind a new line.
func TestHeaderOfEveryLength(t *testing.T) {
	for rank := 1; rank <= 30; rank++ {
		for _, last := range []int{1, 10, 100} { // one, two and three digits: every length comes up
			shape := append(make([]int, rank), last)
			got, err := header(safetensors.F32, shape)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.TrimRight(string(got), " \n")
			if spaces := len(got) - len(text) - 1; len(got)%64 != 0 || spaces < 0 || spaces > 63 || got[len(got)-1] != '\n' {
				t.Errorf("%v: %d bytes with %d spaces, want a multiple of 64 with fewer spaces, and a new line", shape, len(got), spaces)
			}
		}
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
	if err := Write(filepath.Join(t.TempDir(), "a.npy"), safetensors.F32, make([]int, 30_000), nil); err == nil || !strings.Contains(err.Error(), "does not fit") {
		t.Errorf("30000 dimensions: got %v, want an error that says does not fit", err)
	}
	whole, err := os.ReadFile(write(t, safetensors.F32, []int{2}, "abcdefgh"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, content, want string }{
		{"not npy", "PK\x03\x04", "not a .npy file"},
		{"magic alone", magic + "v", "not a .npy file"},
		{"version 2", strings.Replace(string(whole), "\x01\x00", "\x02\x00", 1), "not a .npy file of version 1.0"},
		{"cut header", string(whole[:40]), "cut short"},
		{"cut data", string(whole[:len(whole)-1]), "takes 8 bytes, but 7"},
		{"no dictionary", strings.Replace(string(whole), "{'descr'", "['descr'", 1), "want {'descr'"},
		{"type", strings.Replace(string(whole), "<f4", "<i4", 1), "want {'descr'"},
		{"order", strings.Replace(string(whole), "False", "True ", 1), "want {'descr'"},
		{"shape", strings.Replace(string(whole), "(2,)", "(x,)", 1), "want {'descr'"},
		{"negative shape", strings.Replace(string(whole), "(2,)", "(-2)", 1), "want {'descr'"},
		{"open shape", strings.Replace(string(whole), "(2,), }", "(2,     ", 1), "want {'descr'"},
		{"another key", strings.Replace(string(whole), "), }   ", "), 'a'}", 1), "want {'descr'"},
		{"countless elements", strings.Replace(string(whole), "(2,), }"+strings.Repeat(" ", 20), "(4611686018427387904, 4), }", 1), "can be counted"},
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
