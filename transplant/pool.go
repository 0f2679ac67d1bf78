package transplant

import (
	"context"
	"sync"
)

// stages are what is done for piece i of some work, one after the other.
type stages[P, T any] struct {
	prepare func(i int) (P, error)      // what work needs
	discard func(p P)                   // gets a preparation that work will not; nil: it holds nothing
	work    func(i int, p P) (T, error) // p is work's; with an error the result holds nothing
	drop    func(result T)              // gets a result that deliver will not; nil: it holds nothing
	deliver func(i int, result T) error // result is deliver's
}

// done is what work left.
type done[T any] struct {
	result T
	err    error
}

// inOrder does work for 0..n-1 on at most workers goroutines and hands the results to deliver in order, on the calling
// goroutine, so that sums over them do not depend on timing. What work i needs is prepared beforehand, on a goroutine of
// its own, while the work before is under way: at most one preparation waits, and at most 2*workers results. It stops at
// the first error, or when ctx is done, after the work under way has ended.
func inOrder[P, T any](ctx context.Context, n, workers int, s stages[P, T]) error {
	ctx, cancel := context.WithCancelCause(ctx)
	results := make([]chan done[T], n)
	for i := range results {
		results[i] = make(chan done[T], 1)
	}
	defer s.dropAll(results)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel(nil)
	room := make(chan struct{}, 2*workers)
	pieces := make(chan piece[P]) // without a buffer: one waits at most
	group.Go(func() {
		if i, err := s.ahead(ctx, n, room, pieces); err != nil {
			results[i] <- done[T]{err: err}
		}
	})
	for range workers {
		group.Go(func() {
			for p := range pieces {
				result, err := s.work(p.i, p.prepared)
				results[p.i] <- done[T]{result, err}
			}
		})
	}
	for i := range n {
		select {
		case d := <-results[i]:
			if d.err != nil {
				return d.err
			}
			if err := s.deliver(i, d.result); err != nil {
				return err
			}
			<-room
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// dropAll drops the results that wait, once no more can come.
func (s stages[P, T]) dropAll(results []chan done[T]) {
	for _, r := range results {
		select {
		case d := <-r:
			if d.err == nil && s.drop != nil {
				s.drop(d.result)
			}
		default:
		}
	}
}

// piece is work i with what was prepared for it.
type piece[P any] struct {
	i        int
	prepared P
}

// ahead prepares work 0..n-1 one after the other, each when there is room, and closes pieces at the end. It stops when
// ctx is done, and at the first error, which it returns with its number.
func (s stages[P, T]) ahead(ctx context.Context, n int, room chan<- struct{}, pieces chan<- piece[P]) (int, error) {
	defer close(pieces)
	for i := range n {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return i, nil
		}
		p, err := s.prepare(i)
		if err != nil {
			return i, err
		}
		select {
		case pieces <- piece[P]{i, p}:
		case <-ctx.Done():
			if s.discard != nil {
				s.discard(p)
			}
			return i, nil
		}
	}
	return n, nil
}
