package jobs

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	// reportTimeout is how long it is tried to record a result. After that the job is left to its lease, and done again.
	reportTimeout = 30 * time.Second
	// reportMost is the most results in one call.
	reportMost = 1000
	// newsEvery is how often what jobs report of their progress is recorded.
	newsEvery = time.Second
	// renewEvery is how often leases of running jobs are renewed, at least: a cancelled job ends then.
	renewEvery = 5 * time.Second
	// maxDoubts is how many ends a lease may have.
	maxDoubts = 8
)

// keep reports results and renews leases until all who work have gone and all results are in.
func (f *function) keep() {
	renew := time.NewTicker(min(renewEvery, f.h.Lease/3))
	defer renew.Stop()
	var pending []outcome
	var again, news <-chan time.Time
	tries := 0
	report := func() {
		pending = f.report(f.collect(pending), tries)
		f.reported(len(pending))
		again = nil
		if len(pending) > 0 {
			again = time.After(jitter(min(5*time.Second, 100*time.Millisecond<<min(tries, 10)), 0.2))
			tries++
		} else {
			tries = 0
		}
	}
	ended := f.ended
	for {
		select {
		case <-f.results:
			if again == nil { // while the queue does not take results, more of them will not do better
				report()
			}
		case <-again:
			report()
		case <-f.news:
			if news == nil {
				news = time.After(newsEvery)
			}
		case <-news:
			news = nil
			f.renew(func(h *held) bool { return h.report })
		case <-renew.C:
			f.renew(f.needsRenewal)
		case <-ended:
			ended = nil
			report()
		}
		if ended == nil && again == nil && f.idle() {
			return
		}
	}
}

func (f *function) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.finished) == 0
}

// collect adds what is to be told about the tasks that were finished.
func (f *function) collect(pending []outcome) []outcome {
	pending = f.gone(pending)
	for i := range pending {
		if pending[i].failed != nil {
			f.failure(&pending[i])
		}
	}
	return pending
}

// gone takes in the tasks that were finished, and forgets the jobs of which nothing is to be told.
func (f *function) gone(pending []outcome) []outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.finished {
		pending = f.outcomes(t, pending)
		f.load--
	}
	clear(f.finished)
	f.finished = f.finished[:0]
	kept := pending[:0]
	for _, o := range pending {
		if o.result.Verdict == 0 || o.held.lost {
			f.release(o.held)
		} else {
			kept = append(kept, o)
		}
	}
	clear(pending[len(kept):])
	f.pending = len(kept)
	return kept
}

// reported notes how many results have not been recorded, and calls for jobs if there is room for a batch of them.
func (f *function) reported(pending int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending = pending
	if f.backlog && f.room() > 0 {
		signal(f.w.room)
	}
}

// release forgets a job. f.mu must be held.
func (f *function) release(h *held) {
	delete(f.held, h.key())
	h.job, h.given, h.maybe = Job{}, Job{}, nil // others of the same grab keep it in memory
}

// report tells the queue what became of jobs, and returns what it could not tell. After some tries each is told alone, so
// that one that the queue does not like does not hold up the others.
func (f *function) report(list []outcome, tries int) (failed []outcome) {
	most := reportMost
	if tries > 2 {
		most = 1
	}
	for len(list) > 0 {
		n := min(most, len(list))
		if err := f.reportSome(list[:n]); err != nil {
			if most > 1 || errors.Is(err, context.DeadlineExceeded) {
				n = len(list) // the others would fare no better
			}
			failed = append(failed, f.unreported(list[:n], err)...)
		}
		list = list[n:]
	}
	return failed
}

func (f *function) reportSome(list []outcome) error {
	results := make([]Result, 0, len(list))
	for _, o := range list {
		r := o.result
		r.Job = o.held.job
		results = append(results, r)
		for _, r.Job.GrabbedUntil = range o.held.maybe {
			results = append(results, r)
		}
	}
	ctx, cancel := f.callContext()
	defer cancel()
	if err := f.w.queue.Finish(ctx, results); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range list {
		f.release(o.held)
	}
	return nil
}

// callContext bounds one call of the keeper's, so that one that hangs does not cost all leases.
func (f *function) callContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(f.base), min(reportTimeout, f.h.Lease/2))
}

// unreported gives up those that have been tried for too long, and returns the others.
func (f *function) unreported(list []outcome, err error) (again []outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for _, o := range list {
		if o.since.IsZero() {
			o.since = now
		}
		if now.Sub(o.since) < reportTimeout {
			again = append(again, o)
			continue
		}
		f.stats.Unrecorded++
		f.w.opts.Logger.Warn("job result not recorded; the job will be done again", "func", f.name, "job", o.held.job.ID, "err", err)
		f.release(o.held)
	}
	return again
}

// needsRenewal picks running jobs, and others after a third of their leases. f.mu must be held.
func (f *function) needsRenewal(h *held) bool {
	return h.task != nil || time.Since(h.renewed) >= f.h.Lease/3-renewEvery/2
}

// renew extends the leases of jobs that are held. Those that are lost are ended.
func (f *function) renew(pick func(h *held) bool) {
	f.mu.Lock()
	var list []Job
	for _, h := range f.held {
		if !h.lost && pick(h) {
			j := h.job
			j.Progress = h.news
			list = append(list, j)
			for _, j.GrabbedUntil = range h.maybe {
				list = append(list, j)
			}
			h.report = false
		}
	}
	f.mu.Unlock()
	if len(list) == 0 {
		return
	}
	ctx, cancel := f.callContext()
	defer cancel()
	kept, err := f.w.queue.Renew(ctx, list, f.h.Lease)
	if err != nil {
		f.w.opts.Logger.Warn("job leases not renewed", "func", f.name, "err", err)
		f.doubt(kept)
		return // tried again at the next tick
	}
	f.mark(list, kept)
}

// doubt notes what leases may be now. Those that have run out may be others': they are not ours again by chance.
func (f *function) doubt(maybe []Job) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range maybe {
		h := f.held[jobKey{maybe[i].Queue, maybe[i].ID}]
		if h == nil || time.Since(h.renewed) >= f.h.Lease {
			continue
		}
		if len(h.maybe) == maxDoubts { // the first ones and the last ones are the likeliest
			h.maybe = slices.Delete(h.maybe, maxDoubts/2, maxDoubts/2+1)
		}
		h.maybe = append(h.maybe, maybe[i].GrabbedUntil)
	}
}

// mark notes which of the jobs are still this worker's.
func (f *function) mark(list, kept []Job) {
	mine := make(map[jobKey]*Job, len(kept))
	for i := range kept {
		mine[jobKey{kept[i].Queue, kept[i].ID}] = &kept[i]
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for i := range list {
		h := f.held[jobKey{list[i].Queue, list[i].ID}]
		if h == nil {
			continue
		}
		if j := mine[h.key()]; j != nil {
			h.job.GrabbedUntil, h.renewed, h.maybe = j.GrabbedUntil, now, nil
			continue
		}
		h.lost = true
		if h.task != nil && h.task.cancel != nil {
			h.task.lose()
		}
	}
}
