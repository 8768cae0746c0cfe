package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// function does the jobs of one handler: a fetcher that grabs, Concurrency goroutines that work, and a keeper that reports
// results and renews leases.
//
// The queue is shown GrabbedUntil as the proof of a lease, and renewing changes it; so all that shows it is done by the
// keeper, one after the other, with the latest value.
type function struct {
	w    *Worker
	name string
	h    Handler

	base    context.Context // of jobs and of what must be done after Run's context has ended
	todo    chan *held
	results chan result
	room    chan struct{} // capacity 1: fewer jobs are held than Prefetch

	mu   sync.Mutex // guards held and what the keeper changes of its values
	held map[ID]*held
}

// held is a job under lease.
type held struct {
	job    Job // as last renewed; changed by the keeper alone
	cancel context.CancelCauseFunc
	ctx    context.Context
}

// result is what became of a job.
type result struct {
	*held
	err      error
	returned bool // not begun: give it back
}

func newFunction(w *Worker, name string, h Handler) *function {
	return &function{
		w: w, name: name, h: h,
		todo: make(chan *held, h.Prefetch), results: make(chan result, h.Prefetch),
		room: make(chan struct{}, 1), held: make(map[ID]*held),
	}
}

// run returns when ctx has ended and nothing is held any more.
func (f *function) run(ctx context.Context) {
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	f.base = base
	var workers, keeper sync.WaitGroup
	for range f.h.Concurrency {
		workers.Go(func() { f.work(ctx) })
	}
	keeper.Go(f.keep)
	f.fetch(ctx)
	close(f.todo)
	stop := time.AfterFunc(f.w.opts.StopTimeout, func() { cancel(ErrStopping) })
	workers.Wait()
	stop.Stop()
	close(f.results)
	keeper.Wait()
}

// fetch grabs jobs while there is room, until ctx ends.
func (f *function) fetch(ctx context.Context) {
	ready, stop := f.w.queue.Notify()
	defer stop()
	for ctx.Err() == nil {
		full := false
		if n := f.free(); n > 0 {
			got, err := f.grab(ctx, n)
			if err != nil && ctx.Err() == nil {
				f.w.opts.Logger.Warn("job queue does not answer", "func", f.name, "err", err)
			}
			full = got == n
		} else {
			full = true
		}
		t := f.w.pollTimer()
		if full { // there may be more: go on as soon as there is room
			select {
			case <-f.room:
			case <-ctx.Done():
			}
		} else {
			select {
			case <-ready:
			case <-t.C:
			case <-ctx.Done():
			}
		}
		t.Stop()
	}
}

// free is how many more jobs may be held.
func (f *function) free() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.h.Prefetch - len(f.held)
}

func (f *function) grab(ctx context.Context, n int) (int, error) {
	// Not ctx: a grab that is cut off may have happened, and its jobs would be stuck until their leases end.
	grabbed, err := f.w.queue.Grab(context.WithoutCancel(ctx), GrabRequest{Funcs: []string{f.name}, N: n, Lease: f.h.Lease})
	if err != nil {
		return 0, err
	}
	for _, j := range grabbed {
		h := &held{job: j}
		h.ctx, h.cancel = context.WithCancelCause(f.base)
		f.mu.Lock()
		f.held[j.ID] = h
		f.mu.Unlock()
		f.todo <- h // has room for all that are held
	}
	return len(grabbed), nil
}

// work does jobs until there are no more; those that come after ctx has ended are given back.
func (f *function) work(ctx context.Context) {
	for h := range f.todo {
		r := result{held: h, returned: ctx.Err() != nil || h.ctx.Err() != nil}
		if !r.returned {
			f.mu.Lock()
			job := h.job // the handler's own, which the keeper does not change
			f.mu.Unlock()
			r.err = f.call(h.ctx, &job)
		}
		f.results <- r
	}
}

// call runs the handler.
func (f *function) call(ctx context.Context, job *Job) (err error) {
	defer func() {
		if v := recover(); v != nil {
			f.w.opts.Logger.Error("job handler panicked", "func", f.name, "job", job.ID, "err", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return f.h.Work(ctx, job)
}

// verdict says what to do about a job whose handler has returned.
func (f *function) verdict(job *Job, err error) (retryAfter time.Duration, cause error, giveUp bool) {
	var l later
	if errors.As(err, &l) {
		return time.Duration(l), nil, false
	}
	n := job.Failures + 1
	if IsPermanent(err) || f.h.MaxFailures > 0 && n >= f.h.MaxFailures {
		return 0, err, true
	}
	return f.h.Backoff(n), err, false
}
