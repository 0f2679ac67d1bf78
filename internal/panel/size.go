package panel

// WeightBytes is what Bytes says of a weight [out, in] kept as bfloat16 (half) or as float32, without a transposed copy.
func WeightBytes(out, in int, half bool) int64 {
	if half {
		return 2 * int64(tileCount(out)) * tileRows * int64(pairs(in)) * 2
	}
	return 4 * int64(tileCount(out)) * tileRows * int64(in)
}

// Bytes is the same of a weight kept as codes.
func (c Coding) Bytes(out, in int) int64 {
	return int64(tileCount(out)) * tileRows * (int64(c.width(in)) + 4*int64(c.blocks(in)))
}
