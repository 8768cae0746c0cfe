// Package memqueue is a queue of jobs in memory, for tests and examples, and for work that may be lost with the process.
package memqueue

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"wheelhouse/jobs"
)

// Queue holds jobs in memory. Safe for concurrent use.
type Queue struct {
	now    func() time.Time
	notify jobs.Notifier

	mu     sync.Mutex // guards what follows
	lastID jobs.ID
	jobs   map[jobs.ID]*entry
	failed map[string]int64
}

// entry is a job, and whether it was inserted again while it ran.
type entry struct {
	jobs.Job
	again bool
}

var _ jobs.Queue = (*Queue)(nil)

// New returns an empty queue. now is its clock; nil is time.Now.
func New(now func() time.Time) *Queue {
	if now == nil {
		now = time.Now
	}
	return &Queue{now: now, jobs: make(map[jobs.ID]*entry), failed: make(map[string]int64)}
}

// Notify is as in [jobs.Queue].
func (q *Queue) Notify() (<-chan struct{}, func()) { return q.notify.Notify() }

// Insert is as in [jobs.Queue].
func (q *Queue) Insert(ctx context.Context, list []jobs.Job) ([]jobs.ID, error) {
	for i := range list {
		if err := list[i].Validate(); err != nil {
			return nil, err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	ids := make([]jobs.ID, len(list))
	for i, j := range list {
		if old := q.find(j.Func, j.Unique); old != nil {
			old.again = old.again || old.GrabbedUntil.After(now)
			continue
		}
		q.lastID++
		j.ID, j.InsertTime, j.GrabbedUntil, j.Failures = q.lastID, now, time.Time{}, 0
		if j.RunAfter.IsZero() {
			j.RunAfter = now
		}
		j.Arg = slices.Clone(j.Arg)
		q.jobs[j.ID] = &entry{Job: j}
		ids[i] = j.ID
	}
	q.notify.Wake()
	return ids, nil
}

// find returns the job that one with this key folds into, or nil.
func (q *Queue) find(name, unique string) *entry {
	if unique == "" {
		return nil
	}
	for _, e := range q.jobs {
		if e.Func == name && e.Unique == unique {
			return e
		}
	}
	return nil
}

// Grab is as in [jobs.Queue].
func (q *Queue) Grab(ctx context.Context, funcs []string, n int, lease time.Duration) ([]jobs.Job, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	var ready []*entry
	for _, e := range q.jobs {
		if slices.Contains(funcs, e.Func) && !e.RunAfter.After(now) && !e.GrabbedUntil.After(now) {
			ready = append(ready, e)
		}
	}
	slices.SortFunc(ready, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.RunAfter.Compare(b.RunAfter), cmp.Compare(a.ID, b.ID))
	})
	var got []jobs.Job
	for _, e := range ready[:min(n, len(ready))] {
		e.GrabbedUntil = now.Add(lease)
		j := e.Job
		j.Arg = slices.Clone(e.Arg)
		got = append(got, j)
	}
	return got, nil
}

// mine returns the entry of a job if whoever shows j still holds it.
func (q *Queue) mine(j jobs.Job) *entry {
	e := q.jobs[j.ID]
	if e == nil || !e.GrabbedUntil.Equal(j.GrabbedUntil) {
		return nil
	}
	return e
}

// Renew is as in [jobs.Queue].
func (q *Queue) Renew(ctx context.Context, list []jobs.Job, lease time.Duration) ([]jobs.Job, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	until := q.now().Add(lease)
	var kept []jobs.Job
	for _, j := range list {
		if e := q.mine(j); e != nil {
			e.GrabbedUntil = until
			j.GrabbedUntil = until
			kept = append(kept, j)
		}
	}
	return kept, nil
}

// Complete is as in [jobs.Queue].
func (q *Queue) Complete(ctx context.Context, list []jobs.Job) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	for _, j := range list {
		e := q.mine(j)
		switch {
		case e == nil:
		case e.again:
			e.again, e.GrabbedUntil, e.InsertTime, e.RunAfter, e.Failures = false, time.Time{}, now, now, 0
			q.notify.Wake()
		default:
			delete(q.jobs, j.ID)
		}
	}
	return nil
}

// Retry is as in [jobs.Queue].
func (q *Queue) Retry(ctx context.Context, j jobs.Job, after time.Duration, cause error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.mine(j)
	if e == nil {
		return nil
	}
	e.again, e.GrabbedUntil, e.RunAfter = false, time.Time{}, q.now().Add(after)
	if cause != nil {
		e.Failures++
	}
	if after <= 0 {
		q.notify.Wake()
	}
	return nil
}

// Fail is as in [jobs.Queue].
func (q *Queue) Fail(ctx context.Context, j jobs.Job, cause error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.mine(j)
	if e == nil {
		return nil
	}
	q.failed[j.Func]++
	if e.again {
		e.again, e.GrabbedUntil, e.RunAfter, e.Failures = false, time.Time{}, q.now(), 0
		q.notify.Wake()
		return nil
	}
	delete(q.jobs, j.ID)
	return nil
}

// Stats is as in [jobs.Queue].
func (q *Queue) Stats(ctx context.Context) ([]jobs.FuncStats, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	all := make(map[string]*jobs.FuncStats)
	of := func(name string) *jobs.FuncStats {
		if all[name] == nil {
			all[name] = &jobs.FuncStats{Func: name}
		}
		return all[name]
	}
	for name, n := range q.failed {
		of(name).Failed = n
	}
	for _, e := range q.jobs {
		s := of(e.Func)
		switch {
		case e.GrabbedUntil.After(now):
			s.Running++
		case e.RunAfter.After(now):
			s.Delayed++
		default:
			s.Ready++
		}
	}
	list := make([]jobs.FuncStats, 0, len(all))
	for _, s := range all {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b jobs.FuncStats) int { return cmp.Compare(a.Func, b.Func) })
	return list, nil
}
