package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"gotransplant/transplant"

	"github.com/spf13/pflag"
)

// Context is done at the first Ctrl-C or SIGTERM, so that work can stop where nothing is lost; a second one ends the
// program at once.
func Context() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop()
	}()
	return ctx
}

// Status is the exit status for what a program ended with, which it tells: 0, 130 where Context was done first, or 1. What
// wraps transplant.ErrInterrupted says itself how to go on.
func Status(name string, err error, stderr io.Writer) int {
	switch {
	case err == nil || errors.Is(err, pflag.ErrHelp):
		return 0
	case errors.Is(err, transplant.ErrInterrupted):
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return 130
	case errors.Is(err, context.Canceled):
		fmt.Fprintf(stderr, "%s: interrupted\n", name)
		return 130
	}
	fmt.Fprintf(stderr, "%s: %v\n", name, err)
	return 1
}
