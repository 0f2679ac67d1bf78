//go:build !goexperiment.simd && amd64

package program

// slowBuild is said at start: without the experiment the Go backend's matrix products are about 20 times slower.
const slowBuild = "built without GOEXPERIMENT=simd: the go backend runs at about 5 % of its speed; rebuild with it set"
