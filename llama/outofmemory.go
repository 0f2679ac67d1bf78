package llama

import "strings"

// OutOfMemoryError says that the device had no room for the buffers of a call. What the call was given is as it was,
// and nothing it made is left, so the same may be tried again with fewer rows.
type OutOfMemoryError struct{ Err error }

// Error is one line: XLA's own text goes on with a list of buffers.
func (e *OutOfMemoryError) Error() string {
	first, _, _ := strings.Cut(e.Err.Error(), "\n")
	return "the device is out of memory: " + first
}

// Unwrap is the backend's own error.
func (e *OutOfMemoryError) Unwrap() error { return e.Err }

// asOutOfMemory turns an error whose text says so into an OutOfMemoryError: backends have no type for it. Plugins of
// XLA name the status or say it in words; go-xla v0.4.2 keeps its number.
func asOutOfMemory(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, sign := range []string{"RESOURCE_EXHAUSTED", "PJRT error (code=8)", "Out of memory"} {
		if strings.Contains(text, sign) {
			return &OutOfMemoryError{err}
		}
	}
	return err
}
