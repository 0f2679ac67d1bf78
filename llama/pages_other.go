//go:build !linux

package llama

// hugePages does nothing where the standard library has no call for it.
func hugePages([]byte) {}
