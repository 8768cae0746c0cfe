// Package memqueue is a complete queue of jobs in memory, for tests and examples, and for work that may be lost with the
// process.
package memqueue

import (
	"context"
	"slices"
	"sync"
	"time"

	"wheelhouse/jobs"
)

// keepDead is how long dead and cancelled jobs are kept where their Control does not say.
const keepDead = 7 * 24 * time.Hour

// Queue holds jobs in memory. Safe for concurrent use.
type Queue struct {
	now    func() time.Time
	notify jobs.Notifier

	mu        sync.Mutex // guards what follows
	lastID    jobs.ID
	jobs      map[jobs.ID]*entry
	unique    map[uniqueKey]*entry
	funcs     map[string]*function
	records   map[jobs.ID]*record
	expiry    heap[*record] // by deleteAt
	periodics map[string]*periodic
}

type uniqueKey struct{ fn, key string }

var _ jobs.Backend = (*Queue)(nil)

// New returns an empty queue. now is its clock; nil is time.Now.
func New(now func() time.Time) *Queue {
	if now == nil {
		now = time.Now
	}
	return &Queue{
		now: now, jobs: make(map[jobs.ID]*entry), unique: make(map[uniqueKey]*entry), funcs: make(map[string]*function),
		records: make(map[jobs.ID]*record), periodics: make(map[string]*periodic),
		expiry: heap[*record]{
			less: func(a, b *record) bool { return a.deleteAt.Before(b.deleteAt) }, pos: func(r *record) *int { return &r.pos },
		},
	}
}

// Notify is as in [jobs.Queue].
func (q *Queue) Notify() (<-chan struct{}, func()) { return q.notify.Notify() }

// function returns a function, made if it is not there.
func (q *Queue) function(name string) *function {
	f := q.funcs[name]
	if f == nil {
		f = newFunction(name)
		q.funcs[name] = f
	}
	return f
}

// Insert is as in [jobs.Queue].
func (q *Queue) Insert(ctx context.Context, list []jobs.Job) ([]jobs.ID, error) {
	for i := range list {
		if err := list[i].Validate(); err != nil {
			return nil, err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.insert(list, q.now()), nil
}

func (q *Queue) insert(list []jobs.Job, now time.Time) []jobs.ID {
	ids := make([]jobs.ID, len(list))
	wake := false
	for i := range list {
		e := q.insertOne(&list[i], now)
		if e != nil {
			ids[i] = e.ID
			wake = wake || e.place == ready
		}
	}
	if wake {
		q.notify.Wake()
	}
	return ids
}

// insertOne adds a job, or returns nil if it was folded into another.
func (q *Queue) insertOne(j *jobs.Job, now time.Time) *entry {
	f := q.function(j.Func)
	key := uniqueKey{j.Func, j.Unique}
	if j.Unique != "" {
		if old := q.unique[key]; old != nil {
			f.advance(now)
			old.again = old.again || old.place == running
			return nil
		}
	}
	q.lastID++
	e := &entry{Job: *j}
	e.ID, e.InsertTime, e.GrabbedUntil, e.Failures, e.Progress, e.Queue = q.lastID, now, time.Time{}, 0, jobs.Progress{}, ""
	if e.RunAfter.IsZero() {
		e.RunAfter = now
	}
	e.Arg = slices.Clone(e.Arg)
	q.jobs[e.ID] = e
	if j.Unique != "" {
		q.unique[key] = e
	}
	f.add(e, now)
	return e
}

// remove takes a job out of the queue.
func (q *Queue) remove(e *entry, now time.Time) {
	q.funcs[e.Func].drop(e, now)
	delete(q.jobs, e.ID)
	if e.Unique != "" {
		delete(q.unique, uniqueKey{e.Func, e.Unique})
	}
}
