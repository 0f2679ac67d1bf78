package safetensors

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"
)

// Mapped is the content of a file, memory-mapped and read-only where the system can. It serves the other checkpoint
// formats as well. Without a file, as for bytes that were in memory all along, it may be made by hand.
type Mapped struct {
	Content []byte
	name    string
	file    *os.File // nil where Content was read
	passing bool     // most of it was not in the system's cache, and should not be afterwards
	unmap   func() error
}

// Map maps the regular file at path.
func Map(path string) (_ *Mapped, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	m := &Mapped{name: path, file: f}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	size := int(info.Size())
	if int64(size) != info.Size() {
		return nil, fmt.Errorf("%s: %d bytes are more than this machine can address", path, info.Size())
	}
	if size == 0 { // an empty mapping is an error of its own
		return m, nil
	}
	if m.Content, m.unmap, err = mapFile(f, size); err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	m.passing = !cached(m.Content)
	return m, nil
}

// Offset is where part lies in Content, and whether it does, not being empty.
func (m *Mapped) Offset(part []byte) (int, bool) {
	if len(part) == 0 || len(m.Content) == 0 {
		return 0, false
	}
	from := uintptr(unsafe.Pointer(unsafe.SliceData(part)))
	content := uintptr(unsafe.Pointer(unsafe.SliceData(m.Content)))
	return int(from - content), from >= content && from-content <= uintptr(len(m.Content)-len(part))
}

// Copy copies part, which Content holds, to dst, which is as long. It reads the file where there is one: that spares a
// page fault for every few pages, leaves nothing of the mapping in this process's memory, and a file that was cut short
// meanwhile is an error and not the end of the process. Several goroutines may copy at the same time.
func (m *Mapped) Copy(dst, part []byte) error {
	at, ok := m.Offset(part)
	if !ok || len(dst) != len(part) {
		return fmt.Errorf("%s: %d bytes to copy to %d are no part of the file", m.name, len(part), len(dst))
	}
	if m.file == nil {
		copy(dst, part)
		return nil
	}
	n, err := m.file.ReadAt(dst, int64(at))
	if errors.Is(err, io.EOF) && n < len(dst) {
		return fmt.Errorf("%s: only %d of the %d bytes at %d are still there: %s", m.name, n, len(dst), at, damaged)
	}
	if n < len(dst) {
		return err // names the file
	}
	return nil
}

// Forget says that part, which Content holds, has been copied: if the file was not in the system's cache when it was
// mapped, part need not stay there. It would be a second copy in memory, and room for it takes longer to find than the
// bytes to read.
func (m *Mapped) Forget(part []byte) {
	if at, ok := m.Offset(part); ok && m.passing {
		uncache(m.file, at, len(part))
	}
}

// Close gives the mapping back; no part of Content may be used afterwards.
func (m *Mapped) Close() error {
	m.Forget(m.Content) // what was read ahead of or beside the parts
	var errs []error
	if m.unmap != nil {
		if err := m.unmap(); err != nil {
			errs = append(errs, fmt.Errorf("unmap %s: %w", m.name, err))
		}
	}
	if m.file != nil {
		errs = append(errs, m.file.Close())
	}
	*m = Mapped{name: m.name}
	return errors.Join(errs...)
}
