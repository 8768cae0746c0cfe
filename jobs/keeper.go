package jobs

import (
	"context"
	"errors"
	"time"
)

// reportTimeout bounds one call of the queue that reports a result.
const reportTimeout = 30 * time.Second

// keep reports results and renews leases until all results are in.
func (f *function) keep() {
	renew := time.NewTicker(f.h.Lease / 3)
	defer renew.Stop()
	for {
		select {
		case r, ok := <-f.results:
			if !ok {
				return
			}
			f.report(f.gather(r))
		case <-renew.C:
			f.renew()
		}
	}
}

// gather collects the results that are there already, so that they share one call.
func (f *function) gather(r result) []result {
	list := []result{r}
	for len(list) < f.h.Prefetch {
		select {
		case r, ok := <-f.results:
			if !ok {
				return list
			}
			list = append(list, r)
		default:
			return list
		}
	}
	return list
}

// report tells the queue what became of jobs. What it cannot tell is left to the lease: the job is done again then.
func (f *function) report(list []result) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.base), reportTimeout)
	defer cancel()
	var done []Result
	for _, r := range list {
		switch {
		case errors.Is(context.Cause(r.ctx), ErrLost): // somebody else's now
		case r.returned, errors.Is(r.err, ErrStopping), r.err != nil && errors.Is(context.Cause(r.ctx), ErrStopping):
			f.check("return", r, f.w.queue.Finish(ctx, []Result{{Job: r.job, Verdict: Returned}}))
		case r.err == nil:
			done = append(done, Result{Job: r.job, Verdict: Done})
		default:
			f.failed(ctx, r)
		}
	}
	if len(done) > 0 {
		f.check("complete", list[0], f.w.queue.Finish(ctx, done))
	}
	f.release(list)
}

func (f *function) failed(ctx context.Context, r result) {
	after, cause, giveUp := f.verdict(&r.job, r.err)
	if !giveUp {
		f.check("retry", r, f.w.queue.Finish(ctx, []Result{retryResult(r.job, after, cause)}))
		return
	}
	f.w.opts.Logger.Error("job failed for good", "func", f.name, "job", r.job.ID, "failures", r.job.Failures+1, "err", cause)
	f.check("fail", r, f.w.queue.Finish(ctx, []Result{{Job: r.job, Verdict: Dead, Cause: Message(cause)}}))
}

func (f *function) check(op string, r result, err error) {
	if err != nil {
		f.w.opts.Logger.Warn("job result not recorded; the job will be done again", "func", f.name, "job", r.job.ID, "op", op, "err", err)
	}
}

// release forgets jobs and makes room.
func (f *function) release(list []result) {
	f.mu.Lock()
	for _, r := range list {
		delete(f.held, r.job.ID)
		r.cancel(nil)
	}
	f.mu.Unlock()
	select {
	case f.room <- struct{}{}:
	default:
	}
}

// renew extends the leases of all jobs that are held. Those that are lost are ended.
func (f *function) renew() {
	f.mu.Lock()
	jobs := make([]Job, 0, len(f.held))
	for _, h := range f.held {
		jobs = append(jobs, h.job)
	}
	f.mu.Unlock()
	if len(jobs) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.base), f.h.Lease/3)
	defer cancel()
	kept, err := f.w.queue.Renew(ctx, jobs, f.h.Lease)
	if err != nil {
		f.w.opts.Logger.Warn("job leases not renewed", "func", f.name, "err", err)
		return // tried again after another third of the lease
	}
	mine := make(map[ID]Job, len(kept))
	for _, j := range kept {
		mine[j.ID] = j
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, old := range jobs {
		h, ok := f.held[old.ID]
		if !ok {
			continue
		}
		if j, ok := mine[old.ID]; ok {
			h.job.GrabbedUntil = j.GrabbedUntil
		} else {
			h.cancel(ErrLost)
		}
	}
}

func retryResult(j Job, after time.Duration, cause error) Result {
	if cause == nil {
		return Result{Job: j, Verdict: Returned, After: after}
	}
	return Result{Job: j, Verdict: Retry, After: after, Cause: Message(cause)}
}
