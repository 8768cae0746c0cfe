package gearman

import (
	"cmp"
	"context"
	"iter"
	"sync"
)

// MapOptions are the choices of [Map]. The zero value is usable.
type MapOptions struct {
	Parallel int      // jobs at a time; default 64
	Priority Priority // of all jobs
	Unique   bool     // equal inputs are done once
}

// Map runs a function over inputs, many at a time, and yields the results in the order of the inputs, each with its own error. At most
// twice Parallel inputs are taken ahead of the results that were yielded, so that inputs may be endless. When the loop is
// left or ctx ends, what has not been sent is not sent any more; Map returns when what it has started has ended.
func Map(ctx context.Context, c *Client, fn string, inputs iter.Seq[[]byte], opts MapOptions) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var callers sync.WaitGroup
		defer callers.Wait()
		defer cancel()

		type result struct {
			out []byte
			err error
		}
		parallel := cmp.Or(max(0, opts.Parallel), 64)
		running := make(chan struct{}, parallel)
		order := make(chan chan result, parallel)
		callers.Go(func() {
			defer close(order)
			for in := range inputs {
				one := make(chan result, 1)
				select {
				case running <- struct{}{}:
				case <-ctx.Done():
					return
				}
				callers.Go(func() {
					job := Job{Func: fn, Arg: in, Priority: opts.Priority}
					if opts.Unique {
						job.Unique = "-"
					}
					out, err := c.Do(ctx, job)
					<-running
					one <- result{out, err}
				})
				select {
				case order <- one:
				case <-ctx.Done():
					return
				}
			}
		})
		for one := range order {
			r := <-one
			if !yield(r.out, r.err) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(nil, err)
		}
	}
}
