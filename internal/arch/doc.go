// Package arch holds no code, only the test that keeps the layout of the repository: which package may import which,
// and what only commands may do.
package arch
