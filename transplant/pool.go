package transplant

import (
	"context"
	"sync"
)

// inOrder does work for 0..n-1 on at most workers goroutines and hands the results to deliver in order, on the calling
// goroutine, so that sums over them do not depend on timing. What work i needs is prepared beforehand, on a goroutine of
// its own, while the work before is under way: at most one preparation waits, and at most 2*workers results. It stops at
// the first error, or when ctx is done, after the work under way has ended; discard gets a preparation that no work
// will use, and otherwise it is work's.
func inOrder[P, T any](ctx context.Context, n, workers int, prepare func(i int) (P, error), discard func(p P),
	work func(i int, p P) (T, error), deliver func(i int, result T) error) error {
	type done struct {
		result T
		err    error
	}
	ctx, cancel := context.WithCancelCause(ctx)
	results := make([]chan done, n)
	for i := range results {
		results[i] = make(chan done, 1)
	}
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel(nil)
	room := make(chan struct{}, 2*workers)
	pieces := make(chan piece[P]) // without a buffer: one waits at most
	group.Go(func() {
		if i, err := ahead(ctx, n, room, pieces, prepare, discard); err != nil {
			results[i] <- done{err: err}
		}
	})
	for range workers {
		group.Go(func() {
			for p := range pieces {
				result, err := work(p.i, p.prepared)
				results[p.i] <- done{result, err}
			}
		})
	}
	for i := range n {
		select {
		case d := <-results[i]:
			if d.err != nil {
				return d.err
			}
			if err := deliver(i, d.result); err != nil {
				return err
			}
			<-room
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// piece is work i with what was prepared for it.
type piece[P any] struct {
	i        int
	prepared P
}

// ahead prepares work 0..n-1 one after the other, each when there is room, and closes pieces at the end. It stops when
// ctx is done, and at the first error, which it returns with its number.
func ahead[P any](ctx context.Context, n int, room chan<- struct{}, pieces chan<- piece[P],
	prepare func(i int) (P, error), discard func(p P)) (int, error) {
	defer close(pieces)
	for i := range n {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return i, nil
		}
		p, err := prepare(i)
		if err != nil {
			return i, err
		}
		select {
		case pieces <- piece[P]{i, p}:
		case <-ctx.Done():
			discard(p)
			return i, nil
		}
	}
	return n, nil
}
