package transplant

import "gotransplant/llama"

// Overlay is what the role's adapter adds to the projections, for a stream or a decoder outside a method; nil for a nil
// Role.
func (r *Role) Overlay() llama.Overlay { return r.layers() }
