package transplant

import (
	"context"
	"sync"
)

// inOrder calls work for 0..n-1 on at most workers goroutines and hands the results to deliver in order, on the calling
// goroutine, so that sums over them do not depend on timing. At most 2*workers results wait. It stops at the first
// error, or when ctx is done, after the work under way has ended.
func inOrder[T any](ctx context.Context, n, workers int, work func(i int) (T, error), deliver func(i int, result T) error) error {
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
	indices := make(chan int)
	group.Go(func() {
		defer close(indices)
		for i := range n {
			select {
			case room <- struct{}{}:
			case <-ctx.Done():
				return
			}
			select {
			case indices <- i:
			case <-ctx.Done():
				return
			}
		}
	})
	for range workers {
		group.Go(func() {
			for i := range indices {
				result, err := work(i)
				results[i] <- done{result, err}
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

// groups cuts cases into consecutive micro-batches.
func groups(cases []Case, size int) [][]Case {
	var all [][]Case
	for len(cases) > 0 {
		n := min(size, len(cases))
		all = append(all, cases[:n])
		cases = cases[n:]
	}
	return all
}
