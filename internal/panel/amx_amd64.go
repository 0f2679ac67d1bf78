//go:build goexperiment.simd

package panel

import "golang.org/x/sys/cpu"

// amx says that products in bfloat16 are AMX's (Intel, from Sapphire Rapids on), which multiply some twenty times as fast as the
// dot products of the same processors' AVX-512 do.
var amx = avx512 && cpu.X86.HasAVX512BF16 && cpu.X86.HasAMXTile && cpu.X86.HasAMXBF16 && permitted() // codes are rounded in AVX512_BF16

// linesTimes is c = A b for up to 32 rows of A in one or two blocks of 16, [k][blocks][16][32], and panels of b, [k][16][16][2] and
// bStride elements apart: c [rows][16], cStride apart. With add the products are added to c. The configuration has the sums of the
// two blocks in registers 0 to 3, first and second in turn, the blocks in 4 and 5 and panels in 6 and 7.
//
// What will be wanted soon begins at next and in three more places, nextStride elements apart each; after run lines of 64 bytes of each
// it goes on jump bytes further.
//
//go:noescape
func linesTimes(config *tileConfig, k, blocks int, a *uint16, panels int, b *uint16, bStride int, c *float32, cStride int, add bool, next *uint16, nextStride, run, jump int)

// rowsTimes is c = x Aᵀ for rows x [32k], xStride elements apart, and tiles of A [k][16][8][2], aStride apart: c [8 tiles], cStride
// apart. With add the products are added to c. The configuration has the sums of four tiles in registers 0 to 3, rows in 4 and tiles in
// 5 to 7.
//
//go:noescape
func rowsTimes(config *tileConfig, k int, a *uint16, aStride, tiles int, x *uint16, xStride int, c *float32, cStride int, add bool)

// lines8 writes the rows of a tile [n][16][8][2] one by one: [8][32], n times, toStride elements apart.
//
//go:noescape
func lines8(n int, tile, to *uint16, toStride int)

// dotScores is c = A b for n panels of 16 keys each, whose rows [32 depth] begin offsets[i] elements behind a and lie aStride apart, and b
// [depth][16][16][2]: c [n][16][16]. The configuration has registers 0 to 2 full.
//
//go:noescape
func dotScores(config *tileConfig, n int, offsets *int, depth int, a *uint16, aStride int, b *uint16, c *float32)

// dotMix is c = Σ A b over n panels of 16 keys each, for 32 features, whose rows [16] begin offsets[i] elements behind a, and b
// [n][8][16][2]: c [32][16]. With add the products are added to c. The configuration has sums in registers 0 and 1, features in 4 and 6
// and b in 5.
//
//go:noescape
func dotMix(config *tileConfig, n int, offsets *int, a, b *uint16, c *float32, add bool)

// dotSpread is c += a b for n panels a [n][16][16] and two blocks b [2][8][16][2]: c [16][32] from offsets[i] on, rows cStride apart. The
// configuration has sums in registers 0 and 1, a in 2 and b in 6 and 7.
//
//go:noescape
func dotSpread(config *tileConfig, n int, offsets *int, a, b *uint16, c *float32, cStride int)

// lines32 writes 32 columns of tiles of 8 rows, [16][8][2] each and stride elements apart, as rows: [32][32], n times, of four tiles each.
//
//go:noescape
func lines32(n int, tiles *uint16, stride int, to *uint16)

// fours are the elements of two pairs of columns [2][8][2] as they lie column by column: a table of lines32.
//
//lint:ignore U1000 assembly reads it
var fours = func() (lanes [32]uint16) {
	for i := range lanes {
		lanes[i] = uint16(i/16*16 + i%8*2 + i/8%2)
	}
	return lanes
}()

// neighbours are the lanes of two pairs of 8 rows each as they lie with the pairs of a row side by side: a table of lines8.
//
//lint:ignore U1000 assembly reads it
var neighbours = func() (lanes [16]uint32) {
	for r := range uint32(tileRows) {
		lanes[2*r], lanes[2*r+1] = r, tileRows+r
	}
	return lanes
}()

// dots says that AVX512_BF16 multiplies bfloat16 faster than AVX-512 multiplies float32. On Intel's processors its dot products take
// twice as long.
var dots = avx512 && cpu.X86.HasAVX512BF16 && !intel()

// intel says whether the processor is Intel's.
func intel() bool {
	b, c, d := vendor()
	return b == 0x756e6547 && d == 0x49656e69 && c == 0x6c65746e // GenuineIntel
}

// vendor is the processor's maker, in the order of CPUID's registers EBX, ECX and EDX.
func vendor() (b, c, d uint32)
