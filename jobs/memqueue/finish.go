package memqueue

import (
	"context"
	"time"

	"wheelhouse/jobs"
)

// mine returns the entry of a job if whoever shows j still holds it.
func (q *Queue) mine(j *jobs.Job) *entry {
	e := q.jobs[j.ID]
	if e == nil || e.GrabbedUntil.IsZero() || !e.GrabbedUntil.Equal(j.GrabbedUntil) {
		return nil
	}
	return e
}

// Renew is as in [jobs.Queue].
func (q *Queue) Renew(ctx context.Context, list []jobs.Job, lease time.Duration) ([]jobs.Job, error) {
	if err := (&jobs.GrabRequest{Lease: lease}).Validate(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	until := q.now().Add(lease)
	var kept []jobs.Job
	for _, j := range list {
		e := q.mine(&j)
		if e == nil {
			continue
		}
		f := q.funcs[e.Func]
		f.unplace(e)
		e.GrabbedUntil, e.Progress = until, j.Progress
		e.Progress.Note = jobs.Text(e.Progress.Note)
		f.run(e)
		j.GrabbedUntil = until
		kept = append(kept, j)
	}
	return kept, nil
}

// Finish is as in [jobs.Queue].
func (q *Queue) Finish(ctx context.Context, results []jobs.Result) error {
	for i := range results {
		if err := results[i].Validate(); err != nil {
			return err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	wake := false
	for i := range results {
		if e := q.mine(&results[i].Job); e != nil {
			q.finish(e, &results[i], now)
			f := q.funcs[e.Func]
			// A job that is ready again, or room for one that a limit holds back.
			wake = wake || e.place == ready || f.waiting > 0 && (f.control.MaxRunning > 0 || f.control.MaxRunningPerKey > 0)
		}
	}
	if wake {
		q.notify.Wake()
	}
	return nil
}

func (q *Queue) finish(e *entry, r *jobs.Result, now time.Time) {
	if r.Verdict == jobs.Dead || r.Verdict == jobs.Retry {
		e.fail(r.Cause, now)
	}
	switch r.Verdict {
	case jobs.Done:
		if e.again {
			q.renewed(e, now)
		} else {
			q.retire(e, jobs.StateDone, 0, now)
		}
		q.insert(r.Replace, now)
	case jobs.Dead:
		status := r.Status
		if status < 1 || status > 65535 {
			status = 1
		}
		if e.again {
			q.renewed(e, now)
		} else {
			q.retire(e, jobs.StateDead, status, now)
		}
	default:
		q.release(e, now.Add(min(r.After, jobs.MaxLease)), now)
	}
}

// fail records a failure.
func (e *entry) fail(cause string, now time.Time) {
	e.Failures++
	if len(e.errors) == jobs.MaxErrors {
		e.errors = append(e.errors[:0], e.errors[1:]...)
	}
	e.errors = append(e.errors, jobs.Failure{Time: now, Message: jobs.Text(cause)})
}

// release ends a lease: the job waits again.
func (q *Queue) release(e *entry, runAfter, now time.Time) {
	f := q.funcs[e.Func]
	f.unplace(e)
	e.again, e.GrabbedUntil, e.RunAfter = false, time.Time{}, runAfter
	f.wait(e, now)
}

// renewed is release of a job that was inserted again while it ran: what was is not held against it.
func (q *Queue) renewed(e *entry, now time.Time) {
	e.Failures, e.errors, e.InsertTime, e.Progress = 0, nil, now, jobs.Progress{}
	q.release(e, now, now)
}

// retire takes a job out and keeps a record of it, as long as its function's Control says.
func (q *Queue) retire(e *entry, state jobs.State, status int, now time.Time) {
	f := q.funcs[e.Func]
	keep := f.control.KeepDone
	if state != jobs.StateDone {
		if keep = f.control.KeepDead; keep == 0 {
			keep = keepDead
		}
	}
	q.remove(e, now)
	if keep > 0 {
		r := &record{entry: e, state: state, status: status, finished: now, deleteAt: now.Add(keep)}
		e.GrabbedUntil = time.Time{}
		q.records[e.ID] = r
		q.expiry.push(r)
		f.records[state]++
	}
}
