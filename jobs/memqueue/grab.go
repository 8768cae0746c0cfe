package memqueue

import (
	"context"
	"slices"
	"strings"
	"time"

	"wheelhouse/jobs"
)

// Grab is as in [jobs.Queue].
func (q *Queue) Grab(ctx context.Context, r jobs.GrabRequest) ([]jobs.Job, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	g := grabbing{r: &r, now: q.now()}
	var fs []*function
	for _, name := range r.Funcs {
		if f := q.funcs[name]; f != nil && !slices.Contains(fs, f) {
			f.advance(g.now)
			if f.waiting > 0 {
				fs = append(fs, f)
			}
		}
	}
	for i, f := range fs {
		left := len(fs) - i
		q.take(&g, f, (r.N-len(g.got)+left-1)/left) // a fair share each
	}
	for _, f := range fs { // and what others leave
		q.take(&g, f, r.N-len(g.got))
	}
	return g.got, nil
}

// grabbing is one Grab.
type grabbing struct {
	r   *jobs.GrabRequest
	now time.Time
	got []jobs.Job
}

// take leases up to n jobs of a function.
func (q *Queue) take(g *grabbing, f *function, n int) {
	n = min(n, f.room(g.now))
	if n <= 0 {
		return
	}
	if g.r.Coalesce != "" || len(g.r.IDs) > 0 {
		for _, e := range q.chosen(g.r, f) {
			if n > 0 && f.laneRoom(e.lane, g.now) {
				g.lease(f, e)
				n--
			}
		}
		return
	}
	if g.got == nil {
		g.got = make([]jobs.Job, 0, n)
	}
	var blocked []*lane
	for n > 0 && f.ready.len() > 0 {
		l := f.ready.top()
		e := l.ready.top()
		if g.r.Floor != nil && e.Priority < *g.r.Floor {
			break
		}
		if !f.laneRoom(l, g.now) {
			f.ready.remove(l)
			blocked = append(blocked, l)
			continue
		}
		g.lease(f, e)
		n--
	}
	for _, l := range blocked {
		f.ready.push(l)
	}
}

// chosen lists the ready jobs that a request with Coalesce or IDs wants, in order.
func (q *Queue) chosen(r *jobs.GrabRequest, f *function) []*entry {
	var list []*entry
	want := func(e *entry) {
		if e.Func == f.name && e.place == ready && (r.Floor == nil || e.Priority >= *r.Floor) && coalesces(r, e.Coalesce) {
			list = append(list, e)
		}
	}
	switch {
	case len(r.IDs) > 0:
		for _, id := range r.IDs {
			if e := q.jobs[id]; e != nil && !slices.Contains(list, e) {
				want(e)
			}
		}
	case r.CoalescePrefix:
		for value, group := range f.groups {
			if strings.HasPrefix(value, r.Coalesce) {
				for e := range group {
					want(e)
				}
			}
		}
	default:
		for e := range f.groups[r.Coalesce] {
			want(e)
		}
	}
	slices.SortFunc(list, func(a, b *entry) int {
		if before(a, b) {
			return -1
		}
		return 1
	})
	return list
}

func coalesces(r *jobs.GrabRequest, value string) bool {
	return r.Coalesce == "" || value == r.Coalesce || r.CoalescePrefix && strings.HasPrefix(value, r.Coalesce)
}

// lease hands out a ready job.
func (g *grabbing) lease(f *function, e *entry) {
	f.unplace(e)
	e.GrabbedUntil, e.again, e.Progress = g.now.Add(g.r.Lease), false, jobs.Progress{}
	e.owner, e.started = g.r.Owner, g.now
	f.run(e)
	f.bucket.take(f.control.Rate, g.now)
	e.lane.bucket.take(f.control.RatePerKey, g.now)
	j := e.Job
	j.Arg = slices.Clone(e.Arg)
	g.got = append(g.got, j)
}
