package program

import (
	"fmt"
	"os"
	"path/filepath"

	"gotransplant/internal/atomicfile"
)

// CheckOut refuses, before anything long is done, an --out directory that cannot be made or that holds one of the files to
// be written.
func CheckOut(dir string, files ...string) error {
	for _, name := range files {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("--out: %s is there already: name another directory, or remove it first", path)
		}
	}
	if err := atomicfile.Makeable(dir); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	return nil
}
