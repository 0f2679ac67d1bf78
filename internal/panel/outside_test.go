package panel

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"testing"
)

// TestAlive: every exported method of Weight that touches its values begins by keeping the weight alive, since its memory goes back
// to the system when nobody holds it. What that is for is seldom seen: a collection would have to end while such a method runs for
// a caller that is done with the weight.
func TestAlive(t *testing.T) {
	without := []string{
		"Bytes", "Tiles", "TileBytes", // ask for sizes
		"Set", "MultiplyColumns", "MultiplyTransposedColumns", // leave the values to the others
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && ofWeight(f) && f.Name.IsExported() && !slices.Contains(without, f.Name.Name) {
				seen++
				if !beginsAlive(f) {
					t.Errorf("%s: %s does not begin with defer w.alive()", name, f.Name.Name)
				}
			}
		}
	}
	if seen < 9 {
		t.Errorf("%d methods seen, want those that set and multiply", seen)
	}
}

func ofWeight(f *ast.FuncDecl) bool {
	if f.Recv == nil {
		return false
	}
	pointer, ok := f.Recv.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	name, ok := pointer.X.(*ast.Ident)
	return ok && name.Name == "Weight"
}

func beginsAlive(f *ast.FuncDecl) bool {
	first, ok := f.Body.List[0].(*ast.DeferStmt)
	if !ok {
		return false
	}
	call, ok := first.Call.Fun.(*ast.SelectorExpr)
	return ok && call.Sel.Name == "alive"
}
