package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "gotransplant"

// source is one parsed Go file, whatever its build tags; go list would show only those of this build.
type source struct {
	name    string // slash-separated, from the root of the repository
	dir     string
	test    bool
	file    *ast.File
	fset    *token.FileSet
	imports []string
}

// root is the directory of go.mod above the test.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		t.Fatal("no go.mod above the test")
	}
}

// sources parses every Go file of the repository outside testdata and hidden directories.
func sources(t *testing.T) []source {
	t.Helper()
	top := os.DirFS(root(t))
	var all []source
	err := fs.WalkDir(top, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") || name == "runs"):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		text, err := fs.ReadFile(top, name)
		if err != nil {
			return err
		}
		s, err := parse(name, text)
		all = append(all, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("found %d Go files, want the whole repository", len(all))
	}
	return all
}

func parse(name string, text []byte) (source, error) {
	s := source{name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), fset: token.NewFileSet()}
	var err error
	if s.file, err = parser.ParseFile(s.fset, name, text, parser.SkipObjectResolution|parser.ParseComments); err != nil {
		return s, err
	}
	for _, i := range s.file.Imports {
		importPath, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return s, err
		}
		s.imports = append(s.imports, importPath)
	}
	return s, nil
}

// leaves are the internal packages that anyone may import; they import none of ours but each other.
func leaves() []string {
	return []string{"internal/atomicfile", "internal/figure", "internal/guard", "internal/interpreter", "internal/matmul",
		"internal/panel", "internal/spelling", "internal/strictjson", "internal/tiny"}
}

// library is the import table of docs/architecture.md: what a package and those below it may import besides leaves.
func library() map[string][]string {
	return map[string][]string{
		"data":              {},
		"model":             {},
		"llama":             {"model"},
		"lora":              {"model"},
		"transplant":        {"data", "model", "llama", "lora"},
		"internal/chat":     {"model"},
		"internal/generate": {"model", "llama"},
		"internal/pages":    {},
		"internal/setup":    {"data", "model", "llama", "lora", "transplant"},
		"internal/standin":  {"model"},
		"internal/states":   {"model"},
		"internal/extract":  {"data", "model", "llama", "lora", "transplant", "internal/setup", "internal/states"},
	}
}

// below says whether dir is pkg or lies under it.
func below(dir, pkg string) bool { return dir == pkg || strings.HasPrefix(dir, pkg+"/") }

// mayImport says whether the package in directory from may import ours in directory to.
func mayImport(from, to string) bool {
	if slices.Contains(leaves(), to) {
		return true
	}
	for pkg, allowed := range library() {
		if below(from, pkg) {
			return below(to, pkg) || slices.ContainsFunc(allowed, func(a string) bool { return below(to, a) })
		}
	}
	switch {
	case below(from, "experiment"):
		study := strings.Join(strings.Split(from, "/")[:2], "/")
		core := []string{"data", "model", "llama", "lora", "transplant"}
		return below(to, study) || slices.ContainsFunc(core, func(a string) bool { return below(to, a) })
	case below(to, "experiment"):
		return slices.Contains(studyCommands(), from)
	case below(from, "cmd"):
		return !below(to, "cmd") && !below(to, "scripts") || below(to, "cmd/internal") ||
			to == "scripts/bench" // the text of a script, embedded
	case below(from, "scripts"): // programs for developers
		return !below(to, "cmd") && !below(to, "scripts")
	}
	return false
}

// studyCommands are those of experiment/wordproblem, which go when it goes.
func studyCommands() []string { return []string{"cmd/transplant-datagen", "cmd/transplant-pretrain"} }

// testsMayImport are imports that only tests need: a real tokenizer where the package itself takes an interface.
func testsMayImport(from, to string) bool {
	return from == "data" && to == "model/tokenizer"
}

// TestMayImport: the table above says what it is meant to say.
func TestMayImport(t *testing.T) {
	cases := []struct {
		from, to string
		want     bool
	}{
		{"data", "internal/atomicfile", true},
		{"data", "model", false},
		{"model", "model/tokenizer", true},
		{"model/torchbin", "model/safetensors", true},
		{"model", "data", false},
		{"llama", "model/safetensors", true},
		{"llama", "lora", false},
		{"lora", "llama", false},
		{"transplant", "data", true},
		{"transplant", "internal/setup", false},
		{"transplant", "experiment/wordproblem", false},
		{"experiment/wordproblem", "transplant", true},
		{"experiment/wordproblem", "experiment/other", false},
		{"experiment/wordproblem", "internal/setup", false},
		{"internal/setup", "transplant", true},
		{"internal/setup", "experiment/wordproblem", false},
		{"internal/setup", "cmd/internal/program", false},
		{"internal/figure", "internal/atomicfile", true},
		{"internal/figure", "transplant", false},
		{"internal/spelling", "data", false},
		{"internal/pages", "cmd/internal/program", false},
		{"cmd/transplant-datagen", "experiment/wordproblem", true},
		{"cmd/transplant-train", "experiment/wordproblem", false},
		{"cmd/internal/program", "experiment/wordproblem", false},
		{"scripts/bench", "experiment/wordproblem", false},
		{"cmd/transplant-train", "cmd/internal/program", true},
		{"cmd/transplant-train", "cmd/transplant-eval", false},
		{"cmd/transplant-train", "scripts/random-checkpoint", false},
		{"cmd/transplant-bench", "scripts/bench", true},
		{"internal/chat", "model/tokenizer", true},
		{"internal/chat", "llama", false},
		{"internal/generate", "llama", true},
		{"internal/generate", "transplant", false},
		{"llama", "internal/chat", false},
		{"internal/standin", "model/safetensors", true},
		{"internal/states", "model/npy", true},
		{"internal/states", "llama", false},
		{"internal/extract", "internal/states", true},
		{"internal/setup", "internal/extract", false},
		{"internal/standin", "llama", false},
		{"llama", "internal/standin", false},
		{"scripts/random-checkpoint", "internal/standin", true},
		{"scripts/random-checkpoint", "model/safetensors", true},
		{"scripts/random-checkpoint", "cmd/internal/program", false},
		{"modelling", "model", false},
	}
	for _, c := range cases {
		t.Run(c.from+" imports "+c.to, func(t *testing.T) {
			if got := mayImport(c.from, c.to); got != c.want {
				t.Errorf("mayImport(%q, %q) = %t, want %t", c.from, c.to, got, c.want)
			}
		})
	}
}

// TestImportTable: nobody imports what the table does not give them.
func TestImportTable(t *testing.T) {
	for _, s := range sources(t) {
		for _, i := range s.imports {
			to, ours := strings.CutPrefix(i, module+"/")
			if ours && !mayImport(s.dir, to) && !(s.test && testsMayImport(s.dir, to)) {
				t.Errorf("%s imports %s: docs/architecture.md does not allow that", s.name, i)
			}
		}
	}
}

// offences lists what in a file only commands, or only package guard, may do.
func offences(s source) []string {
	var found []string
	command := below(s.dir, "cmd") || below(s.dir, "scripts")
	if !command {
		for _, i := range s.imports {
			if i == "flag" && !s.test || i == "github.com/spf13/pflag" { // tests have -update
				found = append(found, "imports "+i)
			}
		}
	}
	say := func(n ast.Node, what string) {
		found = append(found, fmt.Sprintf("line %d: %s", s.fset.Position(n.Pos()).Line, what))
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if name := selected(n); !command && commandsOnly(name, s.test) {
				say(n, name)
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "recover" && s.dir != "internal/guard" {
				say(n, "recover")
			}
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				say(n, "func init")
			}
		}
		return true
	})
	return found
}

// selected is "os.Exit" for that expression.
func selected(n *ast.SelectorExpr) string {
	if x, ok := n.X.(*ast.Ident); ok {
		return x.Name + "." + n.Sel.Name
	}
	return ""
}

// commandsOnly says whether only commands may use a name. Tests may ask the environment where the shared inputs are.
func commandsOnly(name string, test bool) bool {
	switch name {
	case "os.Exit", "os.Args":
		return true
	case "os.Getenv", "os.LookupEnv", "os.Environ":
		return !test
	}
	return strings.HasPrefix(name, "log.Fatal") || strings.HasPrefix(name, "log.Panic")
}

// TestOffences: the search finds what it looks for.
func TestOffences(t *testing.T) {
	cases := []struct {
		name, file, body string
		want             int
	}{
		{"exit in a library", "llama/a.go", "func f() { os.Exit(1) }", 1},
		{"exit in a command", "cmd/x/main.go", "func f() { os.Exit(1) }", 0},
		{"environment in a library", "model/a.go", `var x = os.Getenv("X")`, 1},
		{"environment in a test", "model/a_test.go", `var x = os.Getenv("X")`, 0},
		{"arguments in a test", "model/a_test.go", `var x = os.Args`, 1},
		{"fatal log", "data/a.go", `func f() { log.Fatalf("x") }`, 1},
		{"recover", "cmd/x/main.go", "func f() { defer func() { recover() }() }", 1},
		{"recover in guard", "internal/guard/a.go", "func f() { defer func() { recover() }() }", 0},
		{"recover in a comment", "data/a.go", "// recover() and os.Exit(1)", 0},
		{"init", "data/a.go", "func init() {}", 1},
		{"flag in a test", "model/a_test.go", `import "flag"`, 0},
		{"flag in a library", "model/a.go", `import "flag"`, 1},
		{"pflag in a library", "internal/setup/a.go", `import "github.com/spf13/pflag"`, 1},
		{"pflag in a command", "cmd/internal/program/a.go", `import "github.com/spf13/pflag"`, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, err := parse(c.file, []byte("package p\n"+c.body))
			if err != nil {
				t.Fatal(err)
			}
			if got := offences(s); len(got) != c.want {
				t.Errorf("offences in %q: got %q, want %d", c.body, got, c.want)
			}
		})
	}
}

// TestCommandsOnly: flags, environment, exit and recover are where they belong, and nothing registers itself.
func TestCommandsOnly(t *testing.T) {
	for _, s := range sources(t) {
		for _, o := range offences(s) {
			t.Errorf("%s: %s: this belongs in cmd or scripts (recover in internal/guard; func init nowhere)", s.name, o)
		}
	}
}

// TestNames: no package is a drawer for odds and ends, and llama knows nothing of adapters, not even by name.
func TestNames(t *testing.T) {
	for _, s := range sources(t) {
		name := strings.TrimSuffix(s.file.Name.Name, "_test")
		switch name {
		case "util", "utils", "common", "helper", "helpers", "misc", "shared", "types", "base":
			t.Errorf("%s: a package named %s says nothing about what is in it", s.name, name)
		}
		if below(s.dir, "llama") && !s.test && mentions(t, s.name, "lora") {
			t.Errorf("%s mentions LoRA: package llama takes overlays and knows no adapter", s.name)
		}
	}
}

func mentions(t *testing.T, name, word string) bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(strings.ToLower(string(text)), word)
}

// TestLayout: Go packages stand in the directories that docs/architecture.md names, and each says what it is for.
func TestLayout(t *testing.T) {
	top := []string{"cmd", "data", "experiment", "internal", "llama", "lora", "model", "scripts", "transplant"}
	documented := make(map[string]bool)
	for _, s := range sources(t) {
		if first, _, _ := strings.Cut(s.name, "/"); !slices.Contains(top, first) {
			t.Errorf("%s: Go files stand in %v only", s.name, top)
		}
		if !s.test {
			documented[s.dir] = documented[s.dir] || s.file.Doc != nil
		}
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s: no file has a package comment", dir)
		}
	}
}
