//go:build (!amd64 || !goexperiment.simd) && !arm64

package panel

// Available says that this build has no kernels: they are written for arm64 and, partly through simd/archsimd, for amd64.
// Whoever asks first never gets to the functions below.
func Available() bool { return false }

// Instructions names none.
func Instructions(bool) string { return "" }

func ask(_ *float32) {}

// threes and twos say that there are no gemm8x3 and half8x3, and no scores16x2 and mix8x2 here.
const threes, twos = false, false

func gemm8x2(int, *float32, *float32, *float32, *float32, *float32, bool, *float32) { panic(missing) }
func gemm8x3(int, *float32, *float32, int, *float32, int, bool, *float32)           { panic(missing) }
func scores16x2(int, *float32, *float32, *float32, *float32, *float32)              { panic(missing) }
func mix8x2(int, *int, *float32, *float32, *float32, int, *float32, *float32, int)  { panic(missing) }
func gemm8x1(int, *float32, *float32, *float32, bool)                               { panic(missing) }
func scores16(int, *float32, *float32, *float32)                                    { panic(missing) }
func mix16(int, *int, *float32, *float32, int, *float32, int)                       { panic(missing) }
func mix8(int, *int, *float32, *float32, int, *float32, int)                        { panic(missing) }
func dot4x4(int, *float32, int, *float32, int, *float32, int)                       { panic(missing) }
func turn16(*float32, int, *float32, int, *[8][16]uint32)                           { panic(missing) }
func normalize([]float64, []float32, float64, []float32, []float64)                 { panic(missing) }
func normalizeGradient(_, _ []float32, _, _, _ []float64)                           { panic(missing) }
func addWide([]float64, []float32)                                                  { panic(missing) }
func roundTo(_, _ []float32)                                                        { panic(missing) }
func narrowTo([]float32, []float64)                                                 { panic(missing) }
func rotate(_, _, _ []float32, _ bool)                                              { panic(missing) }
func swiglu(_, _, _ []float32)                                                      { panic(missing) }
func swigluGradient(_, _, _ []float32)                                              { panic(missing) }
func softmax([]float32, []*[Lanes]uint16, float32, []float32, []float32)            { panic(missing) }
func softmaxGradient(_, _ []float32, _ []*[Lanes]uint16, _ float32, _, _ []float32) { panic(missing) }
func scaleRows(_, _ []float32)                                                      { panic(missing) }
func addTo(_, _ []float32)                                                          { panic(missing) }
func scaleBy([]float32, float32)                                                    { panic(missing) }
func turnBlocks([]float32, int, int, []float32)                                     { panic(missing) }
func fromHalves([]float32, []uint16)                                                { panic(missing) }
func turnHalfBlocks([]uint16, int, int, []uint16)                                   { panic(missing) }
func fromInt8([]float32, []byte, *[tileRows]float32)                                { panic(missing) }
func fromNibbles([]float32, []byte, *[16]float32, *[tileRows]float32)               { panic(missing) }
func (Coding) toHalfTile([]uint16, []byte, int, *[tileRows]float32)                 { panic(missing) }
func row1x4Int8(int, *byte, int, *float32, *float32, *float32, int, bool)           { panic(missing) }
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
func exponentials([]float32, float32, float32)                         { panic(missing) }
func largest([]float32) float32                                        { panic(missing) }
func gain(_, _ []float32)                                              { panic(missing) }
func addProducts(_, _, _ []float32)                                    { panic(missing) }
func difference(_, _ []float64, _ []float32)                           { panic(missing) }
