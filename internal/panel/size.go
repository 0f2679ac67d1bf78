package panel

// WeightBytes is what Bytes says of a weight [out, in] kept as bfloat16 (half) or as float32, without a transposed copy.
func WeightBytes(out, in int, half bool) int64 {
	if half {
		return 2 * int64(tileCount(out)) * tileRows * int64(pairs(in)) * 2
	}
	return 4 * int64(tileCount(out)) * tileRows * int64(in)
}
