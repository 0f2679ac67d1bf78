package panel

// What these do is said in rows_amd64.go.

//go:noescape
func row1x4(k int, a *float32, aStride int, x, c *float32, add bool)

//go:noescape
func row1x1(k int, a *float32, aStride int, x, c *float32, add bool)

//go:noescape
func row4x4(k int, a *float32, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)

//go:noescape
func row4x1(k int, a *float32, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)

//go:noescape
func row1x4Half(k int, a *uint16, aStride int, x, c *float32, add bool)

//go:noescape
func row1x1Half(k int, a *uint16, aStride int, x, c *float32, add bool)

//go:noescape
func row4x4Half(k int, a *uint16, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)

//go:noescape
func row4x1Half(k int, a *uint16, aStride int, x *float32, xStride int, c *float32, cStride int, add bool)
