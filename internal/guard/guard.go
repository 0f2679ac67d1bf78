// Package guard turns the panics of graph building and execution into errors. It holds the only recover of the program:
// GoMLX's Exec recovers panics whose value is an error, but lets panic("text") through.
package guard

import (
	"fmt"
	"runtime/debug"
)

// Do runs fn and returns its error, or an error made of the value it panicked with; op says what was being done. A Go
// runtime error (an index out of range, say) is a defect of the program and keeps its stack in the message.
func Do(op string, fn func() error) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case interface{ RuntimeError() }:
			err = fmt.Errorf("%s: %v\n%s", op, p, debug.Stack())
		case error:
			err = fmt.Errorf("%s: %w", op, p)
		default:
			err = fmt.Errorf("%s: %v", op, p)
		}
	}()
	return fn()
}
