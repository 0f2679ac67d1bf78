package data

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotransplant/model/tokenizer"
)

// sharedDir finds ../shared beside the repository, or $TRANSPLANT_SHARED, and skips the test without it.
func sharedDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("TRANSPLANT_SHARED")
	for root := "."; dir == ""; root = filepath.Join(root, "..") {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			dir = filepath.Join(root, "..", "shared")
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "golden")); err != nil {
		t.Skipf("skipped: the shared reference files are not at %s", dir)
	}
	return dir
}

func mustReadRows(t *testing.T, path string) []Row {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := ReadCSV(f, path)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// wantError fails unless err names every one of the parts.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("got error %q, want it to contain %q", err, p)
		}
	}
}

// realEncoder adapts a tokenizer.
type realEncoder struct{ *tokenizer.Tokenizer }

func (e realEncoder) Encode(text string, ordinary []Span, first bool) []int32 {
	ranges := make([]tokenizer.Range, len(ordinary))
	for i, s := range ordinary {
		ranges[i] = tokenizer.Range(s)
	}
	encode := e.Tokenizer.EncodeNext
	if first {
		encode = e.Tokenizer.Encode
	}
	var ids []int32
	for _, token := range encode(text, ranges) {
		ids = append(ids, token.ID)
	}
	return ids
}
