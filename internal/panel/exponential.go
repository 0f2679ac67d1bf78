//go:build (amd64 && goexperiment.simd) || arm64

package panel

// e to the x is 2 to the n times e to the r, x = n ln 2 + r with |r| <= ln(2)/2. The first has ln 2 in two parts, the second
// is a polynomial p of degree 7 (Cephes, Moshier 1989).
const (
	ln2Upper, ln2Lower = 0.693359375, -2.12194440e-4

	exp2, exp3, exp4 = 5.0000001201e-1, 1.6666665459e-1, 4.1665795894e-2
	exp5, exp6, exp7 = 8.3334519073e-3, 1.3981999507e-3, 1.9875691500e-4
)

// Up to |n| = near, p times 2 to the n is a normal number, and n can be added to the exponent of p; from far on it is zero or
// infinite.
const near, far = 124, 400

// laneBits are the bits of a Sight in the order of the lanes.
var laneBits = [Lanes]int32{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768}
