//go:build cgo

package interpreter

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/go-xla/pjrt"
)

// TestPlugin builds the plugin once and tries it with programs in StableHLO's own text.
func TestPlugin(t *testing.T) {
	path, err := Build(t.Context(), t.TempDir(), "interpreter")
	if errors.Is(err, ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	plugin, err := pjrt.GetPlugin(path)
	if err != nil {
		t.Fatal(err)
	}
	client := newClient(t, plugin)
	t.Run("refused", func(t *testing.T) { refused(t, client) })
	t.Run("computed", func(t *testing.T) { computed(t, client) })
	t.Run("refused when run", func(t *testing.T) { refusedWhenRun(t, client) })
	t.Run("attention", func(t *testing.T) { attention(t, client) })
	t.Run("donated", func(t *testing.T) { donated(t, client) })
	t.Run("unordered", func(t *testing.T) { unordered(t, plugin) })
	t.Run("dumped", func(t *testing.T) { dumped(t, plugin) })
	t.Run("limited", func(t *testing.T) { limited(t, plugin) })
	t.Run("idle", func(t *testing.T) { idle(t, plugin) })
}

func newClient(t *testing.T, plugin *pjrt.Plugin) *pjrt.Client {
	t.Helper()
	client, err := plugin.NewClient(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Destroy() })
	return client
}

// module is a program: parameters and result types of main, and the operations but the return of %r.
func module(parameters, results, body string) string {
	return "module @m {\n  func.func @main(" + parameters + ") -> " + results + " {\n" + body +
		"\n\"stablehlo.return\"(%r) : (" + results + ") -> ()\n}\n}\n"
}

func compile(client *pjrt.Client, text string) (*pjrt.LoadedExecutable, error) {
	return client.Compile().WithStableHLO([]byte(text)).Done()
}

// refused: a program that breaks a rule of StableHLO is not compiled, and the error says which.
func refused(t *testing.T, client *pjrt.Client) {
	const x = "%x: tensor<2x3xf32>"
	unary := func(op, attributes, result string) string {
		return module(x, result, fmt.Sprintf("%%r = %q(%%x) %s : (tensor<2x3xf32>) -> %s", "stablehlo."+op, attributes, result))
	}
	binary := func(op, attributes, y, result string) string {
		return module(x+", %y: "+y, result,
			fmt.Sprintf("%%r = %q(%%x, %%y) %s : (tensor<2x3xf32>, %s) -> %s", "stablehlo."+op, attributes, y, result))
	}
	dot := func(lhs, rhs string) string {
		return "{ dot_dimension_numbers = #stablehlo.dot<lhs_batching_dimensions = [], rhs_batching_dimensions = [], " +
			"lhs_contracting_dimensions = [" + lhs + "], rhs_contracting_dimensions = [" + rhs + "]>, " +
			"precision_config = [#stablehlo<precision DEFAULT>, #stablehlo<precision DEFAULT>] }"
	}
	sum := func(result string) string {
		return module(x+", %z: tensor<f32>", "tensor<2xf32>", "%r = \"stablehlo.reduce\"(%x, %z) ({ ^body(%a: tensor<f32>, %b: tensor<f32>) :\n"+
			"%s = \"stablehlo.compare\"(%a, %b) { compare_type = #stablehlo<comparison_type FLOAT>, comparison_direction = #stablehlo<comparison_direction LT> } : (tensor<f32>, tensor<f32>) -> tensor<i1>\n"+
			"\"stablehlo.return\"("+result+") : (tensor<"+map[string]string{"%s": "i1", "%a": "f32"}[result]+">) -> () }) { dimensions = array<i64: 1> } : (tensor<2x3xf32>, tensor<f32>) -> tensor<2xf32>")
	}
	constant := func(value, kind string) string {
		return module("", kind, `%r = "stablehlo.constant"() { value = dense<`+value+`> : `+kind+` } : () -> `+kind)
	}
	cases := []struct{ name, program, want string }{
		{"unknown operation", unary("fft", "", "tensor<2x3xf32>"), "fft: the operation is not known"},
		{"unknown attribute", unary("abs", "{ speed = 3 : i64 }", "tensor<2x3xf32>"), "speed is not known"},
		{"promotion", binary("add", "", "tensor<2x3xbf16>", "tensor<2x3xf32>"), "one type"},
		{"implicit broadcast", binary("add", "", "tensor<3xf32>", "tensor<2x3xf32>"), "one type"},
		{"integer exponential", module("%x: tensor<2xi32>", "tensor<2xi32>", `%r = "stablehlo.exponential"(%x) : (tensor<2xi32>) -> tensor<2xi32>`), "element type"},
		{"wrong signature", module(x, "tensor<2x3xf32>", `%r = "stablehlo.abs"(%x) : (tensor<3x2xf32>) -> tensor<3x2xf32>`), "other types than its signature"},
		{"wrong return", strings.Replace(unary("abs", "", "tensor<2x3xf32>"), "-> tensor<2x3xf32> {", "-> tensor<3xf32> {", 1), "declares"},
		{"used before", module(x, "tensor<2x3xf32>", `%r = "stablehlo.abs"(%w) : (tensor<2x3xf32>) -> tensor<2x3xf32>`), "%w is used before"},
		{"twice", module(x, "tensor<2x3xf32>", `%x = "stablehlo.abs"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>`), "%x is defined twice"},
		{"broadcast", unary("broadcast_in_dim", "{ broadcast_dimensions = array<i64: 0, 1> }", "tensor<4x3xf32>"), "neither 1 nor"},
		{"broadcast to one", unary("broadcast_in_dim", "{ broadcast_dimensions = array<i64: 1, 1> }", "tensor<2x3xf32>"), "[1, 1] is wrong"},
		{"reshape", unary("reshape", "", "tensor<2x4xf32>"), "number of elements"},
		{"transpose", unary("transpose", "{ permutation = array<i64: 1, 0> }", "tensor<2x3xf32>"), "must be tensor<3x2xf32>"},
		{"slice", unary("slice", "{ start_indices = array<i64: 0, 0>, limit_indices = array<i64: 2, 4>, strides = array<i64: 1, 1> }", "tensor<2x4xf32>"), "out of bounds"},
		{"concatenate", binary("concatenate", "{ dimension = 0 : i64 }", "tensor<2x4xf32>", "tensor<4x3xf32>"), "differ beside"},
		{"contraction", binary("dot_general", dot("1", "1"), "tensor<4x5xf32>", "tensor<2x4xf32>"), "contracting dimensions differ"},
		{"product's shape", binary("dot_general", dot("1", "0"), "tensor<3x5xf32>", "tensor<5x2xf32>"), "must be tensor<2x5xf32>"},
		{"product's types", binary("dot_general", dot("1", "0"), "tensor<3x5xbf16>", "tensor<2x5xf32>"), "one element type"},
		{"comparison", binary("compare", "{ compare_type = #stablehlo<comparison_type SIGNED>, comparison_direction = #stablehlo<comparison_direction LT> }", "tensor<2x3xf32>", "tensor<2x3xi1>"), "SIGNED does not fit"},
		{"reduce's region", sum("%s"), "returns other types"},
		{"float without a point", constant("1e-06", "tensor<f32>"), "1e-06"},
		{"negative unsigned", constant("-1", "tensor<ui8>"), "-1"},
		{"too few elements", constant("[1, 2]", "tensor<3xi32>"), "no ','"},
	}
	for _, c := range cases {
		_, err := compile(client, c.program)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want %q in it", c.name, err, c.want)
		}
	}
	if _, err := compile(client, sum("%a")); err != nil {
		t.Errorf("the region that is right: %v", err)
	}
}

// call compiles and runs a program whose result is of type T.
func call[T float32 | int32](t *testing.T, client *pjrt.Client, text string, args ...*pjrt.Buffer) ([]T, error) {
	t.Helper()
	exec, err := compile(client, text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	defer exec.Destroy()
	out, err := exec.Execute(args...).Done()
	if err != nil {
		return nil, err
	}
	defer out[0].Destroy()
	values, _, err := pjrt.BufferToArray[T](out[0])
	return values, err
}

func upload[T float32 | int32](t *testing.T, client *pjrt.Client, values []T, dims ...int) *pjrt.Buffer {
	t.Helper()
	b, err := pjrt.ArrayToBuffer(client, values, dims...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Destroy() })
	return b
}

const gatherRows = `"stablehlo.gather"(%x, %i) { dimension_numbers = #stablehlo.gather<offset_dims = [1], collapsed_slice_dims = [0], operand_batching_dims = [], start_indices_batching_dims = [], start_index_map = [0], index_vector_dim = 1>, slice_sizes = array<i64: 1, 2>, indices_are_sorted = SORTED } : (tensor<3x2xf32>, tensor<2x1xi32>) -> tensor<2x2xf32>`

const scatterRows = `"stablehlo.scatter"(%x, %i, %u) ({ ^add(%a: tensor<f32>, %b: tensor<f32>) :
  %s = "stablehlo.add"(%a, %b) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  "stablehlo.return"(%s) : (tensor<f32>) -> ()
}) { scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [1], inserted_window_dims = [0], input_batching_dims = [], scatter_indices_batching_dims = [], scatter_dims_to_operand_dims = [0], index_vector_dim = 1>, indices_are_sorted = false, unique_indices = UNIQUE } : (tensor<3x2xf32>, tensor<2x1xi32>, tensor<2x2xf32>) -> tensor<3x2xf32>`

// computed: what each kind of operation gives, by hand.
func computed(t *testing.T, client *pjrt.Client) {
	x := upload(t, client, []float32{1, 2, 3, 4, 5, 6}, 3, 2)
	i := upload(t, client, []int32{2, 0}, 2, 1)
	u := upload(t, client, []float32{10, 20, 30, 40}, 2, 2)
	dot := func(kind, result string) string {
		return fmt.Sprintf(`%%b = "stablehlo.convert"(%%x) : (tensor<3x2xf32>) -> tensor<3x2x%[1]s>
%%p = "stablehlo.dot_general"(%%b, %%b) { dot_dimension_numbers = #stablehlo.dot<lhs_batching_dimensions = [0], rhs_batching_dimensions = [0], lhs_contracting_dimensions = [1], rhs_contracting_dimensions = [1]>, precision_config = [#stablehlo<precision HIGHEST>, #stablehlo<precision HIGHEST>] } : (tensor<3x2x%[1]s>, tensor<3x2x%[1]s>) -> tensor<3x%[2]s>
%%r = "stablehlo.convert"(%%p) : (tensor<3x%[2]s>) -> tensor<3xf32>`, kind, result)
	}
	cases := []struct {
		name, parameters, results, body string
		args                            []*pjrt.Buffer
		want                            []float32
	}{
		{"transpose", "%x: tensor<3x2xf32>", "tensor<2x3xf32>", `%r = "stablehlo.transpose"(%x) { permutation = array<i64: 1, 0> } : (tensor<3x2xf32>) -> tensor<2x3xf32>`,
			[]*pjrt.Buffer{x}, []float32{1, 3, 5, 2, 4, 6}},
		{"slice", "%x: tensor<3x2xf32>", "tensor<2x1xf32>", `%r = "stablehlo.slice"(%x) { start_indices = array<i64: 0, 1>, limit_indices = array<i64: 3, 2>, strides = array<i64: 2, 1> } : (tensor<3x2xf32>) -> tensor<2x1xf32>`,
			[]*pjrt.Buffer{x}, []float32{2, 6}},
		{"concatenate", "%x: tensor<3x2xf32>", "tensor<3x4xf32>", `%r = "stablehlo.concatenate"(%x, %x) { dimension = 1 : i64 } : (tensor<3x2xf32>, tensor<3x2xf32>) -> tensor<3x4xf32>`,
			[]*pjrt.Buffer{x}, []float32{1, 2, 1, 2, 3, 4, 3, 4, 5, 6, 5, 6}},
		{"gather", "%x: tensor<3x2xf32>, %i: tensor<2x1xi32>", "tensor<2x2xf32>", "%r = " + strings.Replace(gatherRows, "SORTED", "false", 1),
			[]*pjrt.Buffer{x, i}, []float32{5, 6, 1, 2}},
		{"scatter", "%x: tensor<3x2xf32>, %i: tensor<2x1xi32>, %u: tensor<2x2xf32>", "tensor<3x2xf32>", "%r = " + strings.Replace(scatterRows, "UNIQUE", "true", 1),
			[]*pjrt.Buffer{x, i, u}, []float32{31, 42, 3, 4, 15, 26}},
		{"product", "%x: tensor<3x2xf32>", "tensor<3xf32>", dot("bf16", "f32"), []*pjrt.Buffer{x}, []float32{5, 25, 61}},
		{"product rounded", "%x: tensor<3x2xf32>", "tensor<3xf32>", dot("bf16", "bf16"),
			[]*pjrt.Buffer{upload(t, client, []float32{16, 1, 16, 1.75, 0, 0.5}, 3, 2)}, []float32{256, 260, 0.25}}, // 257 is a tie, 259.0625 is not
		{"not a number", "%x: tensor<3x2xf32>", "tensor<3x2xf32>", `%r = "stablehlo.maximum"(%x, %x) : (tensor<3x2xf32>, tensor<3x2xf32>) -> tensor<3x2xf32>`,
			[]*pjrt.Buffer{upload(t, client, []float32{float32(math.NaN()), 1, 2, 3, 4, 5}, 3, 2)}, []float32{float32(math.NaN()), 1, 2, 3, 4, 5}},
		{"bits", "", "tensor<2xf32>", `%r = "stablehlo.constant"() { value = dense<[0xff800000, -1.5e+00]> : tensor<2xf32> } : () -> tensor<2xf32>`,
			nil, []float32{float32(math.Inf(-1)), -1.5}},
		{"half", "%x: tensor<3xf32>", "tensor<3xf32>", `%h = "stablehlo.convert"(%x) : (tensor<3xf32>) -> tensor<3xf16>
%r = "stablehlo.convert"(%h) : (tensor<3xf16>) -> tensor<3xf32>`, []*pjrt.Buffer{upload(t, client, []float32{2049, 65520, 1e-8}, 3)}, []float32{2048, float32(math.Inf(1)), 0}},
	}
	for _, c := range cases {
		got, err := call[float32](t, client, module(c.parameters, c.results, c.body), c.args...)
		same := func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b }
		if err != nil || !slices.EqualFunc(got, c.want, same) {
			t.Errorf("%s: got %v, error %v; want %v", c.name, got, err, c.want)
		}
	}
}

// unordered: sums of three numbers, in a scatter, are counted, and those of two are not.
func unordered(t *testing.T, plugin *pjrt.Plugin) {
	client := newClient(t, plugin)
	add := module("%x: tensor<3x2xf32>, %i: tensor<2x1xi32>, %u: tensor<2x2xf32>", "tensor<3x2xf32>", "%r = "+strings.Replace(scatterRows, "UNIQUE", "false", 1))
	x := upload(t, client, []float32{1, 0, 1, 1, 1, 1}, 3, 2)
	i := upload(t, client, []int32{0, 0}, 2, 1)
	u := upload(t, client, []float32{10, 20, 30, 40}, 2, 2)
	if got, err := call[float32](t, client, add, x, i, u); err != nil || got[0] != 41 || got[1] != 60 {
		t.Errorf("got %v, error %v; want 41 and 60 in front", got, err)
	}
	description, err := client.AddressableDevices()[0].GetDescription()
	if err != nil || !strings.HasSuffix(description.DebugString(), "unordered 1") {
		t.Errorf("the books are %q, error %v; want one sum of three", description.DebugString(), err)
	}
}

// refusedWhenRun: what XLA would forgive, or leave to chance.
func refusedWhenRun(t *testing.T, client *pjrt.Client) {
	x := upload(t, client, []float32{1, 2, 3, 4, 5, 6}, 3, 2)
	u := upload(t, client, []float32{10, 20, 30, 40}, 2, 2)
	rows := func(sorted string) string {
		return module("%x: tensor<3x2xf32>, %i: tensor<2x1xi32>", "tensor<2x2xf32>", "%r = "+strings.Replace(gatherRows, "SORTED", sorted, 1))
	}
	add := module("%x: tensor<3x2xf32>, %i: tensor<2x1xi32>, %u: tensor<2x2xf32>", "tensor<3x2xf32>", "%r = "+strings.Replace(scatterRows, "UNIQUE", "true", 1))
	at := func(a, b int32) *pjrt.Buffer { return upload(t, client, []int32{a, b}, 2, 1) }
	cases := []struct {
		name, program string
		args          []*pjrt.Buffer
		want          string
	}{
		{"out of bounds", rows("false"), []*pjrt.Buffer{x, at(0, 3)}, "index 3 is out of bounds"},
		{"not sorted", rows("true"), []*pjrt.Buffer{x, at(2, 0)}, "not sorted"},
		{"not unique", add, []*pjrt.Buffer{x, at(1, 1), u}, "not unique"},
		{"too few arguments", rows("false"), []*pjrt.Buffer{x}, "takes 2 arguments, got 1"},
		{"another shape", rows("false"), []*pjrt.Buffer{u, at(0, 1)}, "argument 0 is tensor<2x2xf32>, want tensor<3x2xf32>"},
	}
	for _, c := range cases {
		if _, err := call[float32](t, client, c.program, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want %q in it", c.name, err, c.want)
		}
	}
}

// attention: a call whose configuration does not fit its operands is refused. That one that fits is right, the package
// transplant tests with what go-xla writes.
func attention(t *testing.T, client *pjrt.Client) {
	call := func(target string) string {
		q := "tensor<1x4x2x8xbf16>"
		return module("%q: "+q, "tensor<1x2x4x8xbf16>", `%r, %l, %w = "stablehlo.custom_call"(%q, %q, %q) { api_version = 2 : i32, backend_config = "{\"a\": 1}", call_target_name = "`+target+`",
operand_layouts = [dense<[3, 2, 1, 0]> : tensor<4xindex>, dense<[3, 2, 1, 0]> : tensor<4xindex>, dense<[3, 2, 1, 0]> : tensor<4xindex>],
result_layouts = [dense<[3, 1, 2, 0]> : tensor<4xindex>, dense<[2, 1, 0]> : tensor<3xindex>, dense<0> : tensor<1xindex>] } : (`+q+", "+q+", "+q+`) -> (tensor<1x2x4x8xbf16>, tensor<1x2x4xf32>, tensor<0xui8>)`)
	}
	for target, want := range map[string]string{"__cudnn$convForward": "__cudnn$convForward is not known", "__cudnn$fmhaSoftmax": "backend_config lacks"} {
		if _, err := compile(client, call(target)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q in it", target, err, want)
		}
	}
}

// donated: a buffer that was given away is gone.
func donated(t *testing.T, client *pjrt.Client) {
	exec, err := compile(client, module("%x: tensor<2xf32>, %y: tensor<2xf32>", "tensor<2xf32>",
		`%r = "stablehlo.add"(%x, %y) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>`))
	if err != nil {
		t.Fatal(err)
	}
	x, y := upload(t, client, []float32{1, 2}, 2), upload(t, client, []float32{3, 4}, 2)
	if _, err := exec.Execute(x, x).Donate(0).Done(); err == nil || !strings.Contains(err.Error(), "passed twice") {
		t.Errorf("donated and passed twice: got error %v", err)
	}
	out, err := exec.Execute(x, y).Donate(0).Done()
	if err != nil {
		t.Fatal(err)
	}
	defer out[0].Destroy()
	if _, err := exec.Execute(x, y).Done(); err == nil || !strings.Contains(err.Error(), "no buffer") {
		t.Errorf("passed after it was donated: got error %v", err)
	}
}

// dumped: every program is written down, with a line of what it asks for.
func dumped(t *testing.T, plugin *pjrt.Plugin) {
	dir := t.TempDir()
	t.Setenv("INTERPRETER_DUMP", dir)
	text := module("%x: tensor<2x3xf32>", "tensor<3x2xf64>", `%d = "stablehlo.abs"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>
%w = "stablehlo.convert"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf64>
%r = "stablehlo.transpose"(%w) { permutation = array<i64: 1, 0> } : (tensor<2x3xf64>) -> tensor<3x2xf64>`)
	if _, err := compile(newClient(t, plugin), text); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "0001-m.mlir"))
	if err != nil || string(got) != text {
		t.Errorf("got program %q, error %v", got, err)
	}
	want := fmt.Sprintf("0001 name=m text=%d ops=2 dead=1 in=24 out=48 convert.argument.f32>f64=48 convert.f32>f64=48 transpose=48\n", len(text))
	if line, err := os.ReadFile(filepath.Join(dir, "programs.txt")); err != nil || string(line) != want {
		t.Errorf("got %q, error %v; want %q", line, err, want)
	}
}

// limited: memory beyond the limit is refused in the words of a device.
func limited(t *testing.T, plugin *pjrt.Plugin) {
	t.Setenv("INTERPRETER_MEMORY", "1000")
	client := newClient(t, plugin)
	upload(t, client, make([]float32, 200), 200)
	if _, err := pjrt.ArrayToBuffer(client, make([]float32, 51), 51); err == nil || !strings.Contains(err.Error(), "RESOURCE_EXHAUSTED") {
		t.Errorf("got error %v, want RESOURCE_EXHAUSTED in it", err)
	}
	upload(t, client, make([]float32, 50), 50)
}

// idle: after the calls that are asked for, programs are checked, counted and not run.
func idle(t *testing.T, plugin *pjrt.Plugin) {
	t.Setenv("INTERPRETER_RUNS", "1")
	client := newClient(t, plugin)
	program, err := compile(client, module("%x: tensor<2xf32>", "tensor<2xf32>", `%r = "stablehlo.add"(%x, %x) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>`))
	if err != nil {
		t.Fatal(err)
	}
	x := upload(t, client, []float32{1, 2}, 2)
	for call, want := range [][]float32{{2, 4}, {0, 0}} {
		out, err := program.Execute(x).Done()
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := pjrt.BufferToArray[float32](out[0])
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("call %d: got %v, error %v; want %v", call+1, got, err, want)
		}
	}
}
