//go:build !amd64 || !goexperiment.simd

package panel

// amx and dots say that no product is AMX's or AVX512_BF16's.
const amx, dots = false, false

const missing = "panel: this build has no such kernel; ask Available or HalfAvailable"

func toHalves([]uint16, []float32)                                              { panic(missing) }
func half8x2(int, *uint16, *uint16, *uint16, *float32, *float32, bool, *uint16) { panic(missing) }
func half8x3(int, *uint16, *uint16, int, *float32, int, bool, *uint16)          { panic(missing) }
func half8x1(int, *uint16, *uint16, *float32, bool)                             { panic(missing) }
func scores16Half(int, *uint16, *uint16, *float32)                              { panic(missing) }
func mix16Half(int, *int, *uint16, *uint16, int, *float32, int, bool)           { panic(missing) }
func roundRows([]uint16, []float32)                                             { panic(missing) }
func row1x4Dot(int, *uint16, int, *uint16, *float32, bool)                      { panic(missing) }
func row1x1Dot(int, *uint16, int, *uint16, *float32, bool)                      { panic(missing) }
func row4x4Dot(int, *uint16, int, *uint16, int, *float32, int, bool)            { panic(missing) }
func row4x1Dot(int, *uint16, int, *uint16, int, *float32, int, bool)            { panic(missing) }
func linesTimes(*tileConfig, int, int, *uint16, int, *uint16, int, *float32, int, bool, *uint16, int, int, int) {
	panic(missing)
}
func rowsTimes(*tileConfig, int, *uint16, int, int, *uint16, int, *float32, int, bool) {
	panic(missing)
}
func lines8(int, *uint16, *uint16, int)                                      { panic(missing) }
func dotScores(*tileConfig, int, *int, int, *uint16, int, *uint16, *float32) { panic(missing) }
func dotMix(*tileConfig, int, *int, *uint16, *uint16, *float32, bool)        { panic(missing) }
func dotSpread(*tileConfig, int, *int, *uint16, *uint16, *float32, int)      { panic(missing) }
func lines32(int, *uint16, int, *uint16)                                     { panic(missing) }
