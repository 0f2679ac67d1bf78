package panel

// Available says that the kernels run: every processor of this kind has NEON.
func Available() bool { return true }

// Instructions names what the kernels are written in.
func Instructions() string { return "NEON" }

func gemm8x2(int, *float32, *float32, *float32, *float32, *float32, bool, *float32) { panic(missing) }
func gemm8x1(int, *float32, *float32, *float32, bool)                               { panic(missing) }
func scores16(int, *float32, *float32, *float32)                                    { panic(missing) }
func mix16(int, *int, *float32, *float32, int, *float32, int, bool)                 { panic(missing) }
func mix8(int, *int, *float32, *float32, int, *float32, int, bool)                  { panic(missing) }
func dot4x4(int, *float32, int, *float32, int, *float32, int)                       { panic(missing) }
func turn16(*float32, int, *float32, int, *[8][16]uint32)                           { panic(missing) }
func turnBlocks([]float32, int, int, []float32)                                     { panic(missing) }
func turnHalfBlocks([]uint16, int, int, []uint16)                                   { panic(missing) }
