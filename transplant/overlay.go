package transplant

import "gotransplant/llama"

// Overlay is what the role adds to a base's projections, for streams outside of a Method; nil for the bare base.
func (r *Role) Overlay() llama.Overlay { return r.layers() }

// DeviceBytes is the memory that the role's matrices take on the engine's device.
func (r *Role) DeviceBytes() int64 {
	if r == nil {
		return 0
	}
	return r.deviceBytes(r.engine)
}
