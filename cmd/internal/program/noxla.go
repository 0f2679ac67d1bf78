//go:build !cgo

package program

const hasXLA = false

func forbidDownloads() {}
