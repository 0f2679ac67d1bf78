//go:build !amd64 || !goexperiment.simd

package llama

// What quantize_amd64.go does for the first values of a row is done here for none.

var vectors = false

func widenBF16([]float32, []byte) (done int)              { return 0 }
func largestBits([]float32) (done int, bits uint32)       { return 0, 0 }
func encodeInt8s([]byte, []float32, float32) (done int)   { return 0 }
func decodeInt8s([]float32, []byte, float32) (done int)   { return 0 }
func encodeNibbles([]byte, []float32, float32) (done int) { return 0 }
func decodeNibbles([]float32, []byte, float32) (done int) { return 0 }
func (s *laneSums) addFirst(_, _ []float32) (done int)    { return 0 }
