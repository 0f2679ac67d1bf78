//go:build !linux

package safetensors

// forget does nothing where the standard library has no call for it: the system drops pages when it needs the room.
func forget([]byte) error { return nil }
