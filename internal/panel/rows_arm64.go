package panel

func fromHalves([]float32, []uint16)                                      { panic(missing) }
func fromInt8([]float32, []byte, *[tileRows]float32)                      { panic(missing) }
func fromNibbles([]float32, []byte, *[16]float32, *[tileRows]float32)     { panic(missing) }
func (Coding) toHalfTile([]uint16, []byte, int, *[tileRows]float32)       { panic(missing) }
func row1x4Int8(int, *byte, int, *float32, *float32, *float32, int, bool) { panic(missing) }
func row1x4Nibbles(int, *byte, int, *float32, *float32, *float32, int, bool, *[16]float32) {
	panic(missing)
}
func row1x4(int, *float32, int, *float32, *float32, bool)              { panic(missing) }
func row1x1(int, *float32, int, *float32, *float32, bool)              { panic(missing) }
func row4x4(int, *float32, int, *float32, int, *float32, int, bool)    { panic(missing) }
func row4x1(int, *float32, int, *float32, int, *float32, int, bool)    { panic(missing) }
func row1x4Half(int, *uint16, int, *float32, *float32, bool)           { panic(missing) }
func row1x1Half(int, *uint16, int, *float32, *float32, bool)           { panic(missing) }
func row4x4Half(int, *uint16, int, *float32, int, *float32, int, bool) { panic(missing) }
func row4x1Half(int, *uint16, int, *float32, int, *float32, int, bool) { panic(missing) }
