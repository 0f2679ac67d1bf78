package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteDir calls fill with a new temporary directory beside path and renames it to path, which must be [Vacant]. When
// fill or any later step fails the temporary directory is removed and path is left as it was. A symbolic link stays; what
// it points to is replaced.
func WriteDir(path string, fill func(dir string) error) (err error) {
	path = filepath.Clean(path)
	if err := Vacant(path); err != nil {
		return err
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	temporary, err := os.MkdirTemp(filepath.Dir(path), temporaryPrefix(path)+"*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", path, err), os.RemoveAll(temporary))
		}
	}()
	if err = fill(temporary); err != nil {
		return err
	}
	if err = os.Chmod(temporary, 0o755); err != nil { // MkdirTemp makes it 0700
		return err
	}
	if err = syncDir(temporary); err != nil {
		return err
	}
	// os.Rename replaces no directory, not even an empty one; os.Remove removes no other.
	if err = os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err = os.Rename(temporary, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// Vacant refuses a path at which anything but an empty directory stands, and the working directory: once it is replaced
// its processes, a shell above all, would be nowhere.
func Vacant(path string) error {
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("write %s: it is a symbolic link to a directory that is not there: make that first", path)
		}
		return nil
	case err != nil:
		return fmt.Errorf("write %s: %w", path, err)
	case len(entries) > 0:
		return fmt.Errorf("write %s: the directory is not empty, it holds %s: name another, or remove it first",
			path, entries[0].Name())
	}
	there, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if here, err := os.Stat("."); err == nil && os.SameFile(here, there) {
		return fmt.Errorf("write %s: it is the working directory, which cannot be replaced: name another", path)
	}
	return nil
}

// Makeable refuses a directory that could not be made, or in which no file could be. It tries that, in the nearest directory
// that there is, and leaves nothing: what a directory's mode allows, a read-only file system or /proc does not.
func Makeable(path string) error {
	at := filepath.Clean(path)
	info, err := os.Stat(at)
	for errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(at); err == nil {
			return fmt.Errorf("write %s: %s is a symbolic link to a directory that is not there: make that first", path, at)
		}
		at = filepath.Dir(at)
		info, err = os.Stat(at)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("write %s: %s is no directory: name another", path, at)
	}
	tried, err := os.MkdirTemp(at, ".tmp-*")
	if err != nil {
		return fmt.Errorf("write %s: nothing can be made in %s: %w", path, at, err)
	}
	return os.Remove(tried)
}
