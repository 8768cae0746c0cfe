package memqueue

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"wheelhouse/jobs"
)

// record is a job that is done with.
type record struct {
	*entry
	state    jobs.State
	status   int
	finished time.Time
	deleteAt time.Time
	pos      int
}

func (q *Queue) advance() time.Time {
	now := q.now()
	for _, f := range q.funcs {
		f.advance(now)
	}
	return now
}

// Stats is as in [jobs.Inspector].
func (q *Queue) Stats(ctx context.Context) ([]jobs.FuncStats, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.advance()
	list := make([]jobs.FuncStats, 0, len(q.funcs))
	for _, name := range slices.Sorted(maps.Keys(q.funcs)) {
		f := q.funcs[name]
		s := jobs.FuncStats{
			Func: name, Ready: int64(f.waiting), Running: int64(f.running.len()), Delayed: int64(f.delayed.len()),
			Dead: f.records[jobs.StateDead], Done: f.records[jobs.StateDone] + f.records[jobs.StateCancelled], Paused: f.control.Paused,
		}
		for _, l := range f.ready.items {
			for _, e := range l.ready.items {
				if s.OldestDue.IsZero() || e.RunAfter.Before(s.OldestDue) {
					s.OldestDue = e.RunAfter
				}
			}
		}
		list = append(list, s)
	}
	return list, nil
}

// public is an entry as a record. copyArg is for those who get to keep it.
func (e *entry) public() jobs.Record {
	r := jobs.Record{Job: e.Job, Owner: e.owner, Started: e.started}
	r.Arg = slices.Clone(e.Arg)
	switch e.place {
	case ready:
		r.State = jobs.StateReady
	case delayed:
		r.State = jobs.StateDelayed
	case running:
		r.State = jobs.StateRunning
	}
	if e.place != running {
		r.GrabbedUntil = time.Time{}
	}
	if n := len(e.errors); n > 0 {
		r.LastErr = e.errors[n-1].Message
	}
	return r
}

func (r *record) public() jobs.Record {
	p := r.entry.public()
	p.State, p.Status, p.Finished = r.state, r.status, r.finished
	return p
}

// stateOf is the state of a live entry.
func stateOf(e *entry) jobs.State {
	return [...]jobs.State{ready: jobs.StateReady, delayed: jobs.StateDelayed, running: jobs.StateRunning}[e.place]
}

// find lists what matches a filter and pick, the smallest ids first.
func (q *Queue) find(f jobs.Filter, pick func(jobs.State) bool) []jobs.ID {
	var ids []jobs.ID
	look := func(id jobs.ID, e *entry, s jobs.State) {
		if id > f.After && (f.State == "" || f.State == s) && pick(s) && match(&f, e) {
			ids = append(ids, id)
		}
	}
	if len(f.IDs) > 0 {
		for _, id := range f.IDs {
			if e := q.jobs[id]; e != nil {
				look(id, e, stateOf(e))
			} else if r := q.records[id]; r != nil {
				look(id, r.entry, r.state)
			}
		}
	} else {
		for id, e := range q.jobs {
			look(id, e, stateOf(e))
		}
		for id, r := range q.records {
			look(id, r.entry, r.state)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	return ids[:min(len(ids), f.Limit)]
}

func match(f *jobs.Filter, e *entry) bool {
	return (f.Func == "" || f.Func == e.Func) && (f.Unique == "" || f.Unique == e.Unique) &&
		(f.Coalesce == "" || f.Coalesce == e.Coalesce) && (f.Key == "" || f.Key == e.Key)
}

// List is as in [jobs.Inspector].
func (q *Queue) List(ctx context.Context, f jobs.Filter) ([]jobs.Record, error) {
	f, err := f.ForList()
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.advance()
	var list []jobs.Record
	for _, id := range q.find(f, func(jobs.State) bool { return true }) {
		if e := q.jobs[id]; e != nil {
			list = append(list, e.public())
		} else {
			list = append(list, q.records[id].public())
		}
	}
	return list, nil
}

// Show is as in [jobs.Inspector].
func (q *Queue) Show(ctx context.Context, id jobs.ID) (jobs.Record, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.advance()
	var r jobs.Record
	e := q.jobs[id]
	if e != nil {
		r = e.public()
	} else if old := q.records[id]; old != nil {
		e, r = old.entry, old.public()
	} else {
		return r, jobs.ErrNotFound
	}
	r.Errors = slices.Clone(e.errors)
	return r, nil
}

// change does something to what matches a filter, and tells waiters.
func (q *Queue) change(f jobs.Filter, pick func(jobs.State) bool, do func(id jobs.ID, now time.Time)) (int, error) {
	f, err := f.ForChange()
	if err != nil {
		return 0, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.advance()
	ids := q.find(f, pick)
	for _, id := range ids {
		do(id, now)
	}
	if len(ids) > 0 {
		q.notify.Wake()
	}
	return len(ids), nil
}

// Cancel is as in [jobs.Inspector].
func (q *Queue) Cancel(ctx context.Context, f jobs.Filter) (int, error) {
	return q.change(f, func(s jobs.State) bool {
		return s == jobs.StateReady || s == jobs.StateRunning || s == jobs.StateDelayed
	},
		func(id jobs.ID, now time.Time) { q.retire(q.jobs[id], jobs.StateCancelled, 0, now) })
}

// Revive is as in [jobs.Inspector].
func (q *Queue) Revive(ctx context.Context, f jobs.Filter) (int, error) {
	return q.change(f, func(s jobs.State) bool { return s != jobs.StateReady && s != jobs.StateRunning }, func(id jobs.ID, now time.Time) {
		if e := q.jobs[id]; e != nil {
			q.release(e, now, now)
			return
		}
		r := q.records[id]
		q.discard(r)
		j := r.Job
		j.RunAfter = now
		q.insertOne(&j, now)
	})
}

// Delete is as in [jobs.Inspector].
func (q *Queue) Delete(ctx context.Context, f jobs.Filter) (int, error) {
	return q.change(f, func(s jobs.State) bool { return s != jobs.StateRunning }, func(id jobs.ID, now time.Time) {
		if e := q.jobs[id]; e != nil {
			q.remove(e, now)
		} else {
			q.discard(q.records[id])
		}
	})
}

// discard forgets a record.
func (q *Queue) discard(r *record) {
	q.expiry.remove(r)
	delete(q.records, r.ID)
	q.funcs[r.Func].records[r.state]--
}

// Controls is as in [jobs.Inspector].
func (q *Queue) Controls(ctx context.Context) ([]jobs.Control, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var list []jobs.Control
	for _, f := range q.funcs {
		if !f.control.Zero() {
			list = append(list, f.control)
		}
	}
	slices.SortFunc(list, func(a, b jobs.Control) int { return cmp.Compare(a.Func, b.Func) })
	return list, nil
}

// SetControl is as in [jobs.Inspector].
func (q *Queue) SetControl(ctx context.Context, fn string, change func(*jobs.Control)) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := jobs.Control{Func: fn}
	if f := q.funcs[fn]; f != nil {
		c = f.control
	}
	c.Func = fn
	change(&c)
	c.Func = fn
	if err := c.Validate(); err != nil {
		return err
	}
	q.function(fn).control = c
	q.notify.Wake()
	return nil
}
